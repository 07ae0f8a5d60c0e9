"""Values of columns as a profile holds them, and as JSON.

In a profile they are Python values: int, float, Decimal, bool, str, bytes, date, datetime. A time
that Python has no datetime for is the text that `time.instant_text` writes. JSON is that of proto3:
64-bit integers, decimals, NaN and infinities are text, bytes base64, times RFC 3339.
"""

import base64
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from featurestore.time import as_utc, instant_text

PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_LOCAL_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - of times that have no zone
_WIDE: Final = ("int64", "uint64")


def day(days: int) -> date | str:
    """Return days since 1970 as a date, or as text where Python has none."""
    try:
        return date.fromordinal(_EPOCH_DAY + days)
    except (ValueError, OverflowError):
        return f"{days} days since 1970"


def moment(ticks: int, unit: str, *, aware: bool) -> datetime | str:
    """Return a time as a datetime, in UTC or without a zone, or as text where Python has none."""
    micros, rest = divmod(ticks * 1_000_000, PER_SECOND[unit])
    if not rest:
        try:
            local = _LOCAL_EPOCH + timedelta(microseconds=micros)
        except OverflowError:
            return instant_text(ticks, unit, aware=aware)
        return local.replace(tzinfo=UTC) if aware else local
    return instant_text(ticks, unit, aware=aware)


def to_json(value: object, dtype: str) -> Any:
    """Return a value of a column of this type, as `types.type_name` writes it, as JSON."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value) if dtype in _WIDE else value
    if isinstance(value, float):
        return value if math.isfinite(value) else _UNUSUAL.get(value, "NaN")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else str(value)


def from_json(value: Any, dtype: str) -> Any:
    """Return what `to_json` wrote.

    Raises:
        ValueError: It cannot have written this.
    """
    if value is None:
        return None
    try:
        return _parser(dtype)(value)
    except (TypeError, ArithmeticError) as error:
        raise ValueError(f"{str(value)[:80]!r} is not a value of type {dtype}") from error


def _parser(dtype: str) -> Callable[[Any], Any]:
    if "<" in dtype:
        return _same
    if dtype.startswith("decimal"):
        return Decimal
    return int if "int" in dtype else _PARSERS.get(dtype, _same)


def _same(value: Any) -> Any:
    return value


def _date(text: str) -> date | str:
    return text if text.endswith("1970") and " " in text else date.fromisoformat(text)


def _time(text: str) -> datetime | str:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    found = as_utc(found) if found.tzinfo else found
    return found if to_json(found, "") == text else text


_UNUSUAL: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}
_PARSERS: Final[dict[str, Callable[[Any], Any]]] = {
    "float32": float,
    "float64": float,
    "date32": _date,
    "binary": base64.b64decode,
    "timestamp[us, UTC]": _time,
}
