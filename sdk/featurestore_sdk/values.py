"""Between lists of Python values and the messages that carry them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate, pairwise
from typing import Any, Final

from featurestore_protos.v1.values_pb2 import Values

from featurestore_sdk.entities import ENTITIES, ROWS, Wording, plain_numpy
from featurestore_sdk.errors import FieldViolation, InvalidRequestError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)
_INT64_MAX: Final = 2**63 - 1
_NULLS_OF_PANDAS: Final = frozenset({"NAType", "NaTType"})

# The field that holds a dtype's values; what is not here is a decimal or a list.
_FIELDS: Final = {
    "bool": "bools",
    "int8": "int32s",
    "int16": "int32s",
    "int32": "int32s",
    "int64": "int64s",
    "uint8": "uint32s",
    "uint16": "uint32s",
    "uint32": "uint32s",
    "uint64": "uint64s",
    "float32": "float32s",
    "float64": "float64s",
    "string": "strings",
    "binary": "binaries",
    "date32": "dates",
    "timestamp[us, UTC]": "timestamps_us",
}


# --- Python to message ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """The column that is dealt with, for errors to name.

    Attributes:
        rows: For the elements of lists the row of each.
    """

    name: str
    wording: Wording
    rows: Sequence[int] | None = None


def encode(name: str, column: Sequence[Any], wording: Wording = ENTITIES) -> Values:
    """Return a column of plain values as a message.

    The type follows from the values: int (above 2**63 - 1: unsigned), float, bool, str, bytes,
    date, datetime (a naive one is in UTC), Decimal; ints among floats become floats. None is null.
    Columns of rows, unlike those of entities, may hold lists of these.

    Raises:
        InvalidRequestError: The values have no common type, or one that such columns cannot have.
    """
    return _encode(_Place(name, wording), column, lists=wording is ROWS)


def _encode(place: _Place, column: Sequence[Any], *, lists: bool) -> Values:
    kinds = set(map(type, column))
    if not kinds <= _ENCODERS.keys() | {type(None)}:
        column = [_plain(place, row, value, lists=lists) for row, value in enumerate(column)]
        kinds = set(map(type, column))
    nullable = type(None) in kinds
    kinds.discard(type(None))
    if kinds == {int, float}:
        kinds = {float}
    if len(kinds) > 1:
        raise _mixed(place, column)
    if not kinds:
        return Values(nulls=b"\1" * len(column))
    message = Values()
    _fill(message, place, column, kinds.pop(), nullable=nullable)
    return message


def _fill(
    message: Values, place: _Place, column: Sequence[Any], kind: type, *, nullable: bool
) -> None:
    encoder, placeholder = _ENCODERS.get(kind, (None, ()))
    if nullable:
        message.nulls = bytes([value is None for value in column])
        column = [placeholder if value is None else value for value in column]
    if encoder is None:
        message.lists.lengths.extend(map(len, column))
        flat = [element for value in column for element in value]
        rows = [row for row, value in enumerate(column) for _ in value]
        elements = _encode(replace(place, rows=rows), flat, lists=False)
        message.lists.elements.MergeFrom(elements)
        return
    try:
        encoder(message, column)
    except (ValueError, OverflowError, TypeError) as error:
        raise _unusable(place, f"the values of {place.name!r} cannot be sent: {error}") from None


def _encode_ints(message: Values, column: Sequence[int]) -> None:
    if max(column) > _INT64_MAX:
        message.uint64s.extend(column)
    else:
        message.int64s.extend(column)


def _encode_floats(message: Values, column: Sequence[float]) -> None:
    if any(type(value) is int and int(float(value)) != value for value in column):
        raise ValueError("an integer among floats has more digits than a float64")
    message.float64s.extend(column)


def micros_of(value: datetime) -> int:
    """Return microseconds since the epoch; a naive time is in UTC."""
    return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def days_of(value: date) -> int:
    """Return days since the epoch."""
    return value.toordinal() - _EPOCH_DAY


def _encode_decimals(message: Values, column: Sequence[Decimal]) -> None:
    if not all(value.is_finite() for value in column):
        raise ValueError("a decimal is NaN or infinite")
    message.decimals.extend(format(value, "f") for value in column)


_ENCODERS: Final[dict[type, tuple[Callable[[Values, Sequence[Any]], None], Any]]] = {
    int: (_encode_ints, 0),
    str: (lambda message, column: message.strings.extend(column), ""),
    bytes: (lambda message, column: message.binaries.extend(column), b""),
    float: (_encode_floats, 0.0),
    bool: (lambda message, column: message.bools.extend(column), False),
    date: (
        lambda message, column: message.dates.extend(map(days_of, column)),
        date(1970, 1, 1),
    ),
    datetime: (
        lambda message, column: message.timestamps_us.extend(map(micros_of, column)),
        _EPOCH,
    ),
    Decimal: (_encode_decimals, Decimal(0)),
}


# A datetime is a date: the narrower comes first. A subclass is not asked how it wants to be
# written: a member of a string enumeration is its value.
_BASES: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (int, int),
    (float, float),
    (str, str.__str__),
    (bytes, bytes),
    (datetime, lambda value: datetime.combine(value.date(), value.timetz())),
    (date, lambda value: date(value.year, value.month, value.day)),
    (Decimal, Decimal),
)


def _plain(place: _Place, row: int, value: Any, *, lists: bool) -> Any:
    """Return a value of a subclass, or a numpy scalar, as the plain value it stands for."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        value = plain_numpy(value)
    if type(value) in _ENCODERS or value is None:
        return value
    if type(value).__name__ in _NULLS_OF_PANDAS:
        return None
    if lists and isinstance(value, list | tuple):
        return list(value)
    for kind, plain in _BASES:
        if isinstance(value, kind):
            return plain(value)
    raise _unusable(place, f"{place.name!r} has a value of type {type(value).__name__}.", row)


def _mixed(place: _Place, column: Sequence[Any]) -> InvalidRequestError:
    first = next(type(value) for value in column if value is not None)
    row = next(i for i, v in enumerate(column) if v is not None and type(v) is not first)
    found = type(column[row]).__name__
    types = f"{first.__name__} and {found}"
    return _unusable(place, f"{place.name!r} has values of types {types}.", row)


def _unusable(place: _Place, message: str, row: int | None = None) -> InvalidRequestError:
    column = f"{place.wording.field}.{place.name}"
    if row is not None and place.rows is not None:
        row = place.rows[row]
    field = column if row is None else f"{column}[{row}]"
    return InvalidRequestError(
        message, violations=[FieldViolation(field=field, description=message)]
    )


# --- Message to Python ---------------------------------------------------------------------------


def stored(values: Values, dtype: str) -> Sequence[Any]:
    """Return the values as they travel, placeholders where they are null.

    Dates are days, timestamps microseconds, decimals text; lists are sequences of the same.
    """
    if dtype.startswith("list<"):
        elements = stored(values.lists.elements, element_type(dtype))
        nulls = values.lists.elements.nulls
        if nulls:
            elements = with_nulls(elements, nulls)
        ends = accumulate(values.lists.lengths, initial=0)
        return [elements[start:end] for start, end in pairwise(ends)]
    sequence: Sequence[Any] = getattr(values, field_of(dtype))
    return sequence


def field_of(dtype: str) -> str:
    """Return the field of a message that holds values of a type that is no list."""
    return "decimals" if dtype.startswith("decimal") else _FIELDS[dtype]


def decode(values: Values, dtype: str) -> list[Any]:
    """Return the values as Python has them; None where they are null.

    Raises:
        OverflowError: A date or time is outside the years 1 to 9999.
    """
    found = list(_converted(stored(values, dtype), dtype))
    if not values.nulls:
        return found
    return with_nulls(found, values.nulls) if found else [None] * len(values.nulls)


def with_nulls(values: Iterable[Any], nulls: bytes) -> list[Any]:
    """Return the values with None where `nulls` has a 1."""
    return [None if null else value for value, null in zip(values, nulls, strict=True)]


def element_type(dtype: str) -> str:
    """Return `float32` for `list<float32>`."""
    return dtype[len("list<") : -1]


def instant(micros: int) -> datetime:
    """Return microseconds since the epoch as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def _converted(values: Sequence[Any], dtype: str) -> Iterable[Any]:
    if dtype.startswith("list<"):
        element = element_type(dtype)
        return (list(_converted(value, element)) for value in values)
    if dtype.startswith("decimal"):
        return (None if value is None else Decimal(value) for value in values)
    if dtype == "date32":
        return (None if v is None else date.fromordinal(v + _EPOCH_DAY) for v in values)
    if dtype == "timestamp[us, UTC]":
        return (None if value is None else instant(value) for value in values)
    return values
