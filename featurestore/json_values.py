"""Values of features and keys as JSON and as text, in the manner of proto3 JSON.

64-bit integers are strings, because most readers of JSON would round them; NaN and the infinities
are strings; bytes are base64; times are RFC 3339 in UTC.
"""

import base64
import json
import math
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from featurestore.time import format_instant, instant_text

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
