"""A lookup's reply for Python users: dictionaries, rows, Arrow, Polars, pandas."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from featurestore.online.layout import Array
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
        """Return column -> n Python values; None unless a value is PRESENT.

        Args:
            include_statuses: Add `{feature}__status` with the status's name.
            include_event_timestamps: Add `{feature}__event_timestamp`.
        """
        columns: dict[str, list[Any]] = {
            key.name: _python_values(key.dtype, key.values, key.valid)
            for key in self.result.entity_columns
        }
        for feature in self.result.features:
            present = feature.statuses == _PRESENT
            columns[feature.name] = _python_values(feature.dtype, feature.values, present)
        if include_statuses:
            for name, statuses in self.statuses.items():
                columns[f"{name}__status"] = [status.name for status in statuses]
        if include_event_timestamps:
            times = list(self.event_timestamps.values())
            for feature in self.result.features:
                columns[f"{feature.name}__event_timestamp"] = times[feature.view_index]
        return columns

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a dictionary per entity."""
        columns = self.to_dict()
        if not columns:
            return [{} for _ in range(len(self))]
        rows = zip(*columns.values(), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def to_arrow(self) -> "pa.Table":
        """Return an Arrow table with the declared types; null unless a value is PRESENT."""
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


def feature_array(feature: FeatureColumn) -> "pa.Array":
    """Return a feature as an Arrow array of its declared type, null unless PRESENT."""
    return _arrow(feature.dtype, feature.values, feature.statuses == _PRESENT)


def _arrow(dtype: str, values: Array | list[Any], valid: Array | None) -> "pa.Array":
    import pyarrow as pa

    from featurestore.types import parse_type

    arrow_type = parse_type(dtype)
    if isinstance(values, np.ndarray):
        mask = None if valid is None else ~valid
        storage = pa.array(values, mask=mask)
        return storage if storage.type == arrow_type else storage.cast(arrow_type)
    return pa.array(values, arrow_type)


def _python_values(dtype: str, values: Array | list[Any], valid: Array | None) -> list[Any]:
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if dtype.startswith("list<"):
        element = dtype[len("list<") : -1]
        return [None if v is None else _python_values(element, v, None) for v in plain]
    convert = _CONVERT.get(dtype)
    if convert is not None:
        plain = [None if v is None else convert(v) for v in plain]
    if valid is None or bool(valid.all()):
        return plain
    return [v if ok else None for v, ok in zip(plain, valid.tolist(), strict=True)]


def _instant(micros: int) -> datetime:
    """Return an instant; Python's ends are the years 1 and 9999, beyond which it has none."""
    return EPOCH + micros * MICROSECOND


def _day(days: int) -> date:
    return _EPOCH_DAY + timedelta(days=days)


_CONVERT: Final = {"timestamp[us, UTC]": _instant, "date32": _day}
