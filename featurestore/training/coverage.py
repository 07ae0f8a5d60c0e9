"""How much of a spine a view covers, measured while its features are joined."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.definitions.aggregation import ROWS, WindowFeature
from featurestore.definitions.functions import parse_function
from featurestore.offline.as_of import winners
from featurestore.offline.engine import Mode, OfflineEngine, ScanReader
from featurestore.offline.scan import event_as_feature
from featurestore.offline.spine_keys import number_keys
from featurestore.offline.timeline import NOBODY, Ints
from featurestore.statistics import FeatureCoverage, MissingRows, ViewCoverage
from featurestore.statistics.grid import IntegerLadder
from featurestore.statistics.numbers import CHUNK_VALUES, Numbers
from featurestore.statistics.units import Unit, numbers_as
from featurestore.training.task import JoinTask

MICROS: Final = 1_000_000
_AGES: Final = Unit(
    numbers=numbers_as(np.int64),
    ladder=IntegerLadder.of_ticks(MICROS),
    shown=lambda micros: micros / MICROS,
    number=lambda seconds: round(seconds * MICROS),
    mean=lambda mean: float(mean / MICROS),
    per_unit=MICROS,
)
_FAR_FUTURE: Final = 253_402_300_799_999_999
"""The end of the year 9999."""


class LatestCoverage:
    """Coverage by a view's latest values.

    Args:
        task: The view that is joined.
        names: Position of a feature -> the result's column.
    """

    def __init__(self, task: JoinTask, names: Mapping[int, str]) -> None:
        self.task = replace(task, scan=event_as_feature(task.scan))
        self._names = names
        self._null_keys = self._found = 0
        self._values = dict.fromkeys(names, 0)
        self._missing = MissingRows(expired=0, not_yet=0, unknown_key=0)
        self._ages = Numbers(_AGES.ladder, distinct=False)

    def explain_missing(
        self, engine: OfflineEngine, reader: ScanReader, ordinals: Ints, mode: Mode
    ) -> None:
        """Find out why some rows of the spine have no winner.

        It asks again for these rows alone: without a ttl, and then at the end of all times.

        Args:
            engine: Computes winners.
            reader: Reads the source.
            ordinals: The winners of all rows of the spine.
            mode: As they were found.
        """
        scan, keys, ttl_us = self.task.scan, self.task.keys, self.task.ttl_us
        rest = keys.filter(pa.array((ordinals == NOBODY) & _has_key(keys)))
        expired = 0
        if ttl_us is not None and rest.num_rows:
            numbered = number_keys(rest)
            found = winners(engine, reader, scan, numbered, ttl_us=None, mode=mode) != NOBODY
            expired, rest = int(found.sum()), rest.filter(pa.array(~found))
        known = 0
        if rest.num_rows:
            future = pa.array(np.full(rest.num_rows, _FAR_FUTURE))
            late = number_keys(rest.set_column(rest.schema.get_field_index("q"), "q", future))
            found = winners(engine, reader, scan, late, ttl_us=None, mode="complete") != NOBODY
            known = int(found.sum())
        unknown = rest.num_rows - known
        self._missing = MissingRows(expired=expired, not_yet=known, unknown_key=unknown)

    def add(self, features: pa.Table, keys: pa.Table) -> None:
        """Look at some rows of the spine: the features joined to them, and their keys and times."""
        events = features.column(features.num_columns - 1)
        times = keys.column("q").filter(events.is_valid())
        ages = pc.subtract(times, events.drop_null().cast(pa.int64())).to_numpy()
        for start in range(0, len(ages), CHUNK_VALUES):
            self._ages.add(ages[start : start + CHUNK_VALUES])
        self._found += len(ages)
        self._null_keys += keys.num_rows - int(_has_key(keys).sum())
        for number in self._values:
            column = features.column(number)
            self._values[number] += len(column) - column.null_count

    def report(self) -> ViewCoverage:
        """Return what was seen."""
        return ViewCoverage(
            rows=self.task.keys.num_rows,
            null_keys=self._null_keys,
            found=self._found,
            missing=self._missing,
            age=self._ages.spread(_AGES),
            features={
                name: FeatureCoverage(found=self._found, values=self._values[number])
                for number, name in self._names.items()
            },
        )


class WindowCoverage:
    """Coverage by a view's windows: events are counted beside the features."""

    def __init__(self, task: JoinTask, names: Mapping[int, str]) -> None:
        self._names = names
        self._null_keys = 0
        self._counts: dict[object, int] = {}
        counts: list[WindowFeature] = []
        for feature in task.windows:
            key = _window(feature)
            if key not in self._counts:
                self._counts[key] = len(task.windows) + len(counts)
                counts.append(_count_of(feature))
        self._windows = task.windows
        self.task = replace(task, windows=(*task.windows, *counts))
        self._found = dict.fromkeys(self._counts, 0)
        self._values = dict.fromkeys(names, 0)

    def explain_missing(
        self, engine: OfflineEngine, reader: ScanReader, ordinals: Ints, mode: Mode
    ) -> None:
        """Do nothing: a window without events is no row that is missing."""

    def add(self, features: pa.Table, keys: pa.Table) -> None:
        """See `LatestCoverage.add`."""
        for key, number in self._counts.items():
            self._found[key] += pc.sum(pc.greater(features.column(number), 0)).as_py() or 0
        self._null_keys += keys.num_rows - int(_has_key(keys).sum())
        for number in self._values:
            column = features.column(number)
            self._values[number] += len(column) - column.null_count

    def report(self) -> ViewCoverage:
        """Return what was seen."""
        return ViewCoverage(
            rows=self.task.keys.num_rows,
            null_keys=self._null_keys,
            features={
                name: FeatureCoverage(
                    found=self._found[_window(self._windows[number])], values=self._values[number]
                )
                for number, name in self._names.items()
            },
        )


Coverage = LatestCoverage | WindowCoverage


def coverage_of(task: JoinTask, names: Mapping[int, str]) -> Coverage:
    """Return what measures a view's coverage; its `task` is to be joined in place of `task`."""
    return (WindowCoverage if task.windows else LatestCoverage)(task, names)


def _window(feature: WindowFeature) -> tuple[int | None, str, str | None]:
    return feature.window_us, feature.closed, feature.where


def _count_of(feature: WindowFeature) -> WindowFeature:
    """Return the feature that counts the events in another's window."""
    return replace(feature, name="", column=ROWS, function=parse_function("count"), empty=None)


def _has_key(keys: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Return of each row of a spine whether it has a whole key and a time."""
    whole = np.ones(keys.num_rows, dtype=np.bool_)
    for column in keys.columns:
        if column.null_count:
            whole &= column.is_valid().to_numpy()
    return whole
