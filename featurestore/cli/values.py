"""Values of features and keys as JSON and as text, in the manner of proto3 JSON, and back.

64-bit integers are strings, because most readers of JSON would round them; NaN and the infinities
are strings; bytes are base64; times are RFC 3339 in UTC.
"""

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from featurestore.errors import EntityValueError, RequestError, shown
from featurestore.time import format_instant, instant_text, parse_instant

if TYPE_CHECKING:
    import pyarrow as pa

Json = Any


def json_column(column: "pa.ChunkedArray | pa.Array") -> list[Json]:
    """Return a column of any type as JSON values."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        unit, aware = column.type.unit, column.type.tz is not None
        ticks = column.cast(pa.int64()).to_pylist()
        return [None if t is None else instant_text(t, unit, aware=aware) for t in ticks]
    return [json_value(value, column.type) for value in column.to_pylist()]


def json_value(value: object, dtype: "pa.DataType") -> Json:
    """Return one Python value of an Arrow type as a JSON value; what JSON lacks becomes text."""
    import pyarrow as pa

    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, list):
        inner = getattr(dtype, "value_type", pa.null())
        return [json_value(item, inner) for item in value]
    if isinstance(value, int):
        return str(value) if dtype in (pa.int64(), pa.uint64()) else value
    return _float(value) if isinstance(value, float) else _as_text(value)


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return format_instant(value) if value.tzinfo else value.isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)


def plain_json(value: object) -> Json:
    """Return a Python value whose Arrow type is not known as JSON; integers stay numbers."""
    import pyarrow as pa

    return json_value(value, pa.null())


def _float(value: float) -> Json:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def text(value: Json) -> str:
    """Return a JSON value as people read it; null is `null`."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# --- from the command line ------------------------------------------------------------------------


def entity_row(argument: str, types: Mapping[str, str], *, row: int) -> dict[str, Any]:
    """Return the entity that `--entity` names: `user_id=42`, `a=1,b=2`, or a JSON object.

    Args:
        argument: What the user wrote. Text that holds a comma or quotes needs the JSON form.
        types: Key -> its type, as `types.type_name` writes it; a key that is not in it stays text.
        row: Which entity this is, for messages.

    Raises:
        RequestError: It has neither form.
        EntityValueError: A value is not of its key's type.
    """
    return {
        key: entity_value(value, types.get(key), field=key, row=row)
        for key, value in _pairs(argument).items()
    }


def _pairs(argument: str) -> dict[str, Any]:
    if argument.lstrip().startswith("{"):
        try:
            return dict(json.loads(argument))
        except (ValueError, RecursionError):
            raise RequestError(
                f"--entity {shown(argument)} is not a JSON object.",
                hint="""write --entity user_id=42, or --entity '{"user_id": 42}'""",
            ) from None
    pairs = [part.partition("=") for part in argument.split(",")] if argument else []
    if not all(key and equals for key, equals, _ in pairs):
        raise RequestError(
            f"--entity {shown(argument)} is not key=value.",
            hint="""write --entity user_id=42, or --entity '{"user_id": 42}' for unusual text""",
        )
    return {key: value for key, _, value in pairs}


def entity_value(value: Json, dtype: str | None, *, field: str, row: int) -> object:
    """Return a value of the command line or of JSON as the Python value that a lookup takes.

    Raises:
        EntityValueError: It is not of that type.
    """
    parse = _parser(dtype)
    if parse is None or not isinstance(value, str):
        return value
    try:
        return parse(value)
    except (ValueError, ArithmeticError):
        raise EntityValueError(
            f"{field}: {shown(value)} in entity {row} is not of type {dtype}.",
            field=field,
            row=row,
            hint=_EXAMPLES.get(str(dtype)),
        ) from None


def _parser(dtype: str | None) -> Callable[[str], object] | None:
    if dtype is None:
        return None
    if dtype.startswith("decimal"):
        from decimal import Decimal

        return Decimal
    return int if "int" in dtype and "<" not in dtype else _PARSERS.get(dtype)


def _parse_bool(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value.lower() == "true"


def _parse_bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


def _parse_time(value: str) -> datetime:
    return parse_instant(value).astimezone(UTC)


_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "bool": _parse_bool,
    "binary": _parse_bytes,
    "date32": date.fromisoformat,
    "float32": float,
    "float64": float,
    "timestamp[us, UTC]": _parse_time,
}
_EXAMPLES: Final = {
    "bool": "write true or false",
    "binary": "write it in base64",
    "date32": "write it as 2026-01-31",
    "timestamp[us, UTC]": "write it as 2026-01-31T12:00:00Z",
}
