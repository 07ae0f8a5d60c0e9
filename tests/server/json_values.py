"""JSON values of replies as Arrow, and plain values as JSON of requests: a client's side of it."""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from featurestore.time import format_instant
from featurestore.types import parse_type


def to_json(value: object) -> Any:
    """A Python value as JSON of a request."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, date | Decimal):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def columns_to_json(columns: Mapping[str, Sequence[object]]) -> dict[str, list[Any]]:
    return {name: [to_json(value) for value in values] for name, values in columns.items()}


def from_json(dtype: str, values: Sequence[Any]) -> pa.Array:
    """A column of a reply as Arrow."""
    target = parse_type(dtype)
    if pa.types.is_list(target):
        lists = [None if v is None else [_plain(dtype[5:-1], item) for item in v] for v in values]
        carried = pa.list_(_carried(target.value_type))
        return pa.array(lists, carried).cast(target)
    return pa.array([_plain(dtype, v) for v in values], _carried(target)).cast(target)


def _carried(target: pa.DataType) -> pa.DataType:
    if pa.types.is_date32(target):
        return pa.int32()
    return pa.int64() if pa.types.is_timestamp(target) else target


def _plain(dtype: str, value: Any) -> Any:
    read = READERS.get(dtype.partition("(")[0])
    return value if read is None or value is None else read(value)


def _long(text: object) -> int:
    assert isinstance(text, str)
    return int(text)


def _micros(text: str) -> int:
    if text.endswith(" us since 1970"):
        return int(text.removesuffix(" us since 1970"))
    return int(np.datetime64(text.removesuffix("Z"), "us").astype(np.int64))


READERS: dict[str, Callable[[Any], Any]] = {
    "int64": _long,
    "uint64": _long,
    "float32": float,
    "float64": float,
    "decimal128": Decimal,
    "binary": lambda text: base64.b64decode(text, validate=True),
    "date32": lambda text: int(np.datetime64(text, "D").astype(np.int64)),
    "timestamp[us, UTC]": _micros,
}


def micros(texts: Sequence[str | None]) -> list[int | None]:
    """Instants of a reply in microseconds."""
    return [None if text is None else _micros(text) for text in texts]
