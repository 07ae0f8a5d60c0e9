"""From the columns of a lookup to JSON, in columns or in rows.

64-bit integers are text, because JavaScript, and most else that reads JSON, would round them; NaN
and the infinities are text, because JSON has none of them; a null is `null`.
"""

import base64
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from featurestore.serving.lookup import EntityColumn, FeatureColumn, LookupResult, Status, ViewTimes
from featurestore.time import instant_text

Column: TypeAlias = Sequence[Any] | npt.NDArray[Any]
Listed: TypeAlias = Callable[[Column], list[Any]]

# The years 1 to 9999, which RFC 3339 can write.
_FIRST_US: Final = -62_135_596_800_000_000
_LAST_US: Final = 253_402_300_799_999_999
_STATUS_NAMES: Final = ["", *(status.name for status in Status)]


def write_json(document: object) -> bytes:
    """Return JSON in UTF-8."""
    return to_json(document, inf_nan_mode="strings")


def write_reply(result: LookupResult, *, project: str, revision: int, by_row: bool) -> bytes:
    """Return the reply to a lookup as JSON.

    Args:
        result: What was found.
        project: The project that answers.
        revision: The revision of its registry that the answer follows.
        by_row: An object for every entity, instead of an array for every feature.
    """
    keys = {column.name: _key_values(column) for column in result.entity_columns}
    times = {view.name: _times(view) for view in result.views}
    features: dict[str, dict[str, Any]] = {}
    seen, names = None, list[str]()
    for feature in result.features:
        if feature.statuses is not seen:  # features of one view mostly share them
            seen = feature.statuses
            names = [_STATUS_NAMES[status] for status in seen.tolist()]
        features[feature.name] = {
            "dtype": feature.dtype,
            "view": result.views[feature.view_index].name,
            "values": _values(feature),
            "statuses": names,
        }
    head = {
        "project": project,
        "revision": revision,
        "request_timestamp": instant_text(result.request_us, "us", aware=True),
    }
    if by_row:
        return write_json(head | _by_row(keys, features, times))
    event_timestamps = {name: {"event_timestamps": found} for name, found in times.items()}
    return write_json(head | {"entities": keys, "features": features, "views": event_timestamps})


def _by_row(
    keys: dict[str, list[Any]], features: dict[str, dict[str, Any]], times: dict[str, list[Any]]
) -> dict[str, Any]:
    facts = {name: {"dtype": f["dtype"], "view": f["view"]} for name, f in features.items()}
    columns = (
        _rows(keys),
        _rows({name: feature["values"] for name, feature in features.items()}),
        _rows({name: feature["statuses"] for name, feature in features.items()}),
        _rows(times),
    )
    count = max(map(len, columns))
    parts = ("entity", "features", "statuses", "event_timestamps")
    filled = [column or [{}] * count for column in columns]
    rows = [dict(zip(parts, row, strict=True)) for row in zip(*filled, strict=True)]
    return {"features": facts, "rows": rows}


def _rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


# --- columns -------------------------------------------------------------------------------------


def _key_values(column: EntityColumn) -> list[Any]:
    return _with_nulls(listed_as(column.dtype)(column.values), column.valid)


def _values(feature: FeatureColumn) -> list[Any]:
    has_value = feature.has_value
    return _with_nulls(
        listed_as(feature.dtype)(feature.values), None if has_value.all() else has_value
    )


def _times(view: ViewTimes) -> list[Any]:
    found = None if view.found.all() else view.found
    return _with_nulls(_instants(view.event_us), found)


def _with_nulls(values: list[Any], valid: npt.NDArray[np.bool_] | None) -> list[Any]:
    if valid is None:
        return values
    return [value if ok else None for value, ok in zip(values, valid.tolist(), strict=True)]


@lru_cache(maxsize=1_024)
def listed_as(dtype: str) -> Listed:
    """Return what makes JSON values of a column of `dtype`; what stands for a null may be any."""
    if dtype.startswith("list<"):
        elements = listed_as(dtype[len("list<") : -1])
        return lambda column: [None if value is None else elements(value) for value in column]
    if dtype.startswith("decimal"):
        return lambda column: [None if v is None else format(v, "f") for v in column]
    return _LISTED.get(dtype, _plain)


def _plain(column: Column) -> list[Any]:
    return column.tolist() if isinstance(column, np.ndarray) else list(column)


def _integers(column: Column) -> list[Any]:
    return [None if value is None else str(value) for value in _plain(column)]


def _binaries(column: Column) -> list[Any]:
    return [None if value is None else base64.b64encode(value).decode() for value in column]


def _dates(column: Column) -> list[Any]:
    return [None if day is None else _date(day) for day in _plain(column)]


def _date(day: int) -> str:
    return str(np.datetime64(day, "D"))


def _instants(column: Column) -> list[Any]:
    """Return instants as `instant_text` writes them; many at once where all are in its years."""
    if not isinstance(column, np.ndarray) or not len(column) or not _in_years(column):
        return [None if at is None else instant_text(at, "us", aware=True) for at in _plain(column)]
    times = np.ascontiguousarray(column, np.int64).view("M8[us]")
    if not (column % 1_000_000).any():
        return [f"{text}Z" for text in np.datetime_as_string(times, unit="s").tolist()]
    texts: list[str] = np.datetime_as_string(times, unit="us").tolist()
    return [f"{text.rstrip('0').rstrip('.')}Z" for text in texts]


def _in_years(column: npt.NDArray[Any]) -> bool:
    return bool(column.min() >= _FIRST_US and column.max() <= _LAST_US)


_LISTED: Final[dict[str, Listed]] = {
    "int64": _integers,
    "uint64": _integers,
    "binary": _binaries,
    "date32": _dates,
    "timestamp[us, UTC]": _instants,
}
