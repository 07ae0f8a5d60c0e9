"""A lookup's reply for Python users: dictionaries, rows, Arrow, Polars, pandas."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from featurestore.errors import NameCollisionError
from featurestore.online.layout import Array, column_type
from featurestore.serving.lookup import FeatureColumn, LookupResult, Status
from featurestore.time import EPOCH, MICROSECOND, from_micros

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_EPOCH_DAY: Final = date(1970, 1, 1)
_PRESENT: Final = int(Status.PRESENT)


@dataclass(frozen=True)
class OnlineResponse:
    """The reply to one lookup: n entities in the order asked, join keys first, then features."""

    result: LookupResult

    def __len__(self) -> int:
        return len(self.result)

    def __repr__(self) -> str:
        return (
            f"<OnlineResponse: {len(self)} entities x {len(self.result.features)} features"
            f" at {self.request_timestamp.isoformat()}>"
        )

    @property
    def entity_names(self) -> tuple[str, ...]:
        """The join keys' names."""
        return tuple(key.name for key in self.result.entity_columns)

    @property
    def dtypes(self) -> Mapping[str, str]:
        """Column -> its type, such as `int64` or `list<float32>`."""
        keys = {key.name: key.dtype for key in self.result.entity_columns}
        return keys | {feature.name: feature.dtype for feature in self.result.features}

    @property
    def feature_views(self) -> Mapping[str, str]:
        """Feature -> the view or role it comes from."""
        views = self.result.views
        return {feature.name: views[feature.view_index].name for feature in self.result.features}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names, in the order asked."""
        return tuple(feature.name for feature in self.result.features)

    @property
    def statuses(self) -> Mapping[str, list[Status]]:
        """Feature -> what each of its values is."""
        return {
            feature.name: [Status(status) for status in feature.statuses.tolist()]
            for feature in self.result.features
        }

    @property
    def event_timestamps(self) -> Mapping[str, list[datetime | None]]:
        """View or role -> event time of the row served, None where there is none."""
        return {
            view.name: [
                from_micros(us) if found else None
                for us, found in zip(view.event_us.tolist(), view.found.tolist(), strict=True)
            ]
            for view in self.result.views
        }

    @property
    def request_timestamp(self) -> datetime:
        """The clock's time that decided what is expired."""
        return from_micros(self.result.request_us)

    def to_dict(
        self, *, include_statuses: bool = False, include_event_timestamps: bool = False
    ) -> dict[str, list[Any]]:
        """Return column -> n Python values.

        A value is None unless it is PRESENT; a window of an entity that is NOT_FOUND has what an
        empty window has.

        Args:
            include_statuses: Add `{feature}__status` with the status's name.
            include_event_timestamps: Add `{feature}__event_timestamp`.

        Raises:
            NameCollisionError: A feature has the name of an added column.
            OverflowError: A date or time is outside Python's years 1 to 9999; `to_arrow()` has it.
        """
        columns: dict[str, list[Any]] = {
            key.name: _python_values(key.dtype, key.values, key.valid)
            for key in self.result.entity_columns
        }
        seen, is_complete = None, False
        for feature in self.result.features:
            if feature.statuses is not seen:  # features of one view mostly share them
                seen = feature.statuses
                codes = seen.tobytes()
                is_complete = codes.count(_PRESENT) == len(codes)
            present = None if is_complete else feature.has_value
            columns[feature.name] = _python_values(feature.dtype, feature.values, present)
        if include_statuses:
            for name, statuses in self.statuses.items():
                _add(columns, f"{name}__status", [status.name for status in statuses])
        if include_event_timestamps:
            times = list(self.event_timestamps.values())
            for feature in self.result.features:
                name = f"{feature.name}__event_timestamp"
                _add(columns, name, list(times[feature.view_index]))
        return columns

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a dictionary per entity."""
        columns = self.to_dict()
        if not columns:
            return [{} for _ in range(len(self))]
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def to_arrow(self) -> "pa.Table":
        """Return an Arrow table with the declared types; null as in `to_dict`."""
        import pyarrow as pa

        keys = [(k.name, _arrow(k.dtype, k.values, k.valid)) for k in self.result.entity_columns]
        features = [(f.name, feature_array(f)) for f in self.result.features]
        return pa.table(
            [array for _, array in (*keys, *features)],
            names=[name for name, _ in (*keys, *features)],
        )

    def to_polars(self) -> "pl.DataFrame":
        """Return a Polars data frame."""
        import polars as pl

        return pl.DataFrame(self.to_arrow())

    def to_pandas(self) -> "pd.DataFrame":
        """Return a pandas data frame with Arrow-backed types.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        from featurestore.frames import to_pandas

        return to_pandas(self.to_arrow())


def _add(columns: dict[str, list[Any]], name: str, values: list[Any]) -> None:
    if name in columns:
        raise NameCollisionError(f"There is a feature called {name!r} already.", names=[name])
    columns[name] = values


def feature_array(feature: FeatureColumn) -> "pa.Array":
    """Return a feature as an Arrow array of its declared type, null where it has no value."""
    return _arrow(feature.dtype, feature.values, feature.has_value)


def _arrow(dtype: str, values: Array | list[Any], valid: Array | None) -> "pa.Array":
    import pyarrow as pa

    from featurestore.types import parse_type

    arrow_type = parse_type(dtype)
    if isinstance(values, np.ndarray):
        storage = pa.array(values, mask=None if valid is None else ~valid)
        return storage if storage.type == arrow_type else storage.cast(arrow_type)
    if pa.types.is_list(arrow_type):
        return _lists(arrow_type, dtype[len("list<") : -1], values)
    return pa.array(values, arrow_type)


def _lists(arrow_type: "pa.DataType", element: str, values: list[Any]) -> "pa.Array":
    """Return lists as Arrow; elements go from numpy to Arrow, bit for bit, where they can."""
    import pyarrow as pa

    lengths = [0 if value is None else len(value) for value in values]
    offsets = pa.array(np.cumsum([0, *lengths]), pa.int32())
    null = pa.array([value is None for value in values], pa.bool_())
    given = [value for value in values if value is not None]
    elements = _arrow(element, *_flat(element, given))
    return pa.ListArray.from_arrays(offsets, elements, arrow_type, mask=null)


def _flat(element: str, lists: list[Any]) -> tuple[Array | list[Any], Array | None]:
    """Return the elements of all lists one after another, and which are valid."""
    kind = column_type(element)
    if not kind.is_number:
        return [item for value in lists for item in value], None
    if not lists:
        return np.zeros(0, kind.fixed), None
    valid = [[item is not None for item in value] for value in lists]
    parts = [
        value
        if isinstance(value, np.ndarray)
        else np.array([0 if v is None else v for v in value], kind.fixed)
        for value in lists
    ]
    return np.concatenate(parts), np.array([ok for oks in valid for ok in oks], bool)


def _python_values(dtype: str, values: Array | list[Any], valid: Array | None) -> list[Any]:
    if valid is None and isinstance(values, np.ndarray) and dtype not in _CONVERT:
        numbers: list[Any] = values.tolist()
        return numbers
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if dtype.startswith("list<"):
        element = dtype[len("list<") : -1]
        return [None if v is None else _python_values(element, v, None) for v in plain]
    if (convert := _CONVERT.get(dtype)) is not None:
        plain = [None if v is None else convert(v) for v in plain]
    if valid is None:
        return plain
    return [v if ok else None for v, ok in zip(plain, valid.tolist(), strict=True)]


def _instant(micros: int) -> datetime:
    """Return an instant; Python's ends are the years 1 and 9999, beyond which it has none."""
    return EPOCH + micros * MICROSECOND


def _day(days: int) -> date:
    return _EPOCH_DAY + timedelta(days=days)


_CONVERT: Final = {"timestamp[us, UTC]": _instant, "date32": _day}
