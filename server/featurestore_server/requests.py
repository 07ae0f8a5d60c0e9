"""From a request message to what a lookup takes."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from itertools import accumulate, pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesRequest
from featurestore_protos.v1.values_pb2 import Values

from featurestore_server.errors import LimitExceededError, MalformedMessageError
from featurestore_server.options import Limits

Column: TypeAlias = Sequence[Any] | npt.NDArray[Any]
Selection: TypeAlias = str | tuple[str, ...]

_MAX_DECIMAL_CHARACTERS: Final = 100
_FEW: Final = 30
"""So many numbers are copied one by one in the time that copying them at once takes to begin."""


def read_selection(request: GetOnlineFeaturesRequest, limits: Limits) -> Selection:
    """Return the feature service's name, or the features' names.

    Raises:
        MalformedMessageError: The request names neither.
        LimitExceededError: It names too many.
    """
    chosen = request.WhichOneof("selection")
    if chosen == "feature_service":
        return request.feature_service
    if chosen is None:
        raise MalformedMessageError(
            "The request names no features.",
            field="selection",
            hint="set feature_service or features",
        )
    names = tuple(request.features.names)
    check_features(names, limits)
    return names


def check_features(names: Sequence[str], limits: Limits) -> None:
    """Raise LimitExceededError if there are too many names of features."""
    if len(names) > limits.max_features:
        raise LimitExceededError(
            f"The request names {len(names):,} features; {limits.max_features:,} are the limit.",
            field="features",
            hint="define a feature service for them, or ask in several requests",
        )


def read_entities(entities: Mapping[str, Values], limits: Limits) -> dict[str, Column]:
    """Return the columns of values by name, as numpy arrays where values have a fixed width.

    Booleans stay a list; dates become `datetime64[D]`, timestamps `datetime64[us]`. Nulls are
    masked in arrays, None in lists.

    Raises:
        MalformedMessageError: A column contradicts itself; the message names it.
        LimitExceededError: There are too many entities.
    """
    columns = {name: read_values(values, f"entities.{name}") for name, values in entities.items()}
    for name, column in columns.items():
        check_entities(len(column), limits, field=f"entities.{name}")
    return columns


def check_entities(count: int, limits: Limits, *, field: str) -> None:
    """Raise LimitExceededError if there are too many entities; `field` is where they are."""
    if count > limits.max_entities:
        raise LimitExceededError(
            f"The request has {count:,} entities; {limits.max_entities:,} are the limit.",
            field=field,
            hint="ask in several requests",
        )


def read_values(values: Values, field: str) -> Column:
    """Return one column; `field` is what messages call it."""
    filled = [descriptor.name for descriptor, _ in values.ListFields()]
    nulls = None
    if filled and filled[-1] == "nulls":  # fields come by number, and it has the highest
        nulls = np.frombuffer(values.nulls, np.uint8) != 0
        filled.pop()
    if len(filled) > 1:
        raise MalformedMessageError(
            f"{field!r} fills several lists: {', '.join(filled)}.",
            field=field,
            hint="put all values of a column into one list",
        )
    if not filled:
        return _only_nulls(nulls, field)
    column = _READERS[filled[0]](values, field)
    return column if nulls is None else _with_nulls(column, nulls, field)


def _only_nulls(nulls: npt.NDArray[np.bool_] | None, field: str) -> Column:
    if nulls is None:
        return []
    if not nulls.all():
        raise MalformedMessageError(
            f"{field!r} has no values, and says that not all of them are null.", field=field
        )
    return [None] * len(nulls)


def _with_nulls(column: Column, nulls: npt.NDArray[np.bool_], field: str) -> Column:
    if len(nulls) != len(column):
        raise MalformedMessageError(
            f"{field!r} has {len(column):,} values and {len(nulls):,} null marks.",
            field=field,
            hint="send one byte per value in nulls, or none",
        )
    if isinstance(column, np.ndarray):
        masked: npt.NDArray[Any] = np.ma.MaskedArray(column, nulls)
        return masked
    return [None if null else v for v, null in zip(column, nulls.tolist(), strict=True)]


def _read_decimals(values: Values, field: str) -> list[Decimal]:
    return [_read_decimal(text, f"{field}[{row}]") for row, text in enumerate(values.decimals)]


def _read_decimal(text: str, field: str) -> Decimal:
    if len(text) <= _MAX_DECIMAL_CHARACTERS:
        with contextlib.suppress(InvalidOperation):
            return Decimal(text)
    raise MalformedMessageError(f"{field!r} is no decimal.", field=field)


def _read_lists(values: Values, field: str) -> list[Any]:
    if values.lists.elements.HasField("lists"):
        raise MalformedMessageError(f"{field!r} has lists of lists.", field=field)
    column = read_values(values.lists.elements, f"{field}.elements")
    elements = column.tolist() if isinstance(column, np.ndarray) else column
    ends = list(accumulate(values.lists.lengths, initial=0))
    if ends[-1] != len(elements):
        raise MalformedMessageError(
            f"{field!r} has {len(elements):,} elements, and lists of {ends[-1]:,}.", field=field
        )
    return [elements[start:end] for start, end in pairwise(ends)]


def _numbers(field: str, width: str, unit: str | None = None) -> Callable[[Values, str], Column]:
    dtype = np.dtype(width)
    final = dtype if unit is None else np.dtype(f"datetime64[{unit}]")

    def read(values: Values, _: str) -> Column:
        numbers = getattr(values, field)
        if len(numbers) < _FEW:
            return np.fromiter(numbers, dtype, len(numbers)).astype(final, copy=False)
        return np.array(numbers, dtype).astype(final, copy=False)

    return read


_READERS: Final[Mapping[str, Callable[[Values, str], Column]]] = {
    "bools": lambda values, _: list(values.bools),
    "int32s": _numbers("int32s", "i4"),
    "int64s": _numbers("int64s", "i8"),
    "uint32s": _numbers("uint32s", "u4"),
    "uint64s": _numbers("uint64s", "u8"),
    "float32s": _numbers("float32s", "f4"),
    "float64s": _numbers("float64s", "f8"),
    "strings": lambda values, _: list(values.strings),
    "binaries": lambda values, _: list(values.binaries),
    "decimals": _read_decimals,
    "dates": _numbers("dates", "i8", "D"),
    "timestamps_us": _numbers("timestamps_us", "i8", "us"),
    "lists": _read_lists,
}
