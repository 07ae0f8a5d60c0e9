"""Explains one view's features for one entity at one moment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.definitions.aggregation import WindowFeature
from featurestore.explanation import words
from featurestore.explanation.details import RowDetails, Times, times_of
from featurestore.explanation.key_rows import (
    LOWEST,
    KeyRows,
    Unusable,
    read_left_out,
    read_rows,
    read_unusable,
)
from featurestore.explanation.left_out import possible_causes
from featurestore.explanation.model import ViewExplanation, WindowExplanation
from featurestore.explanation.recomputed import same_bits, same_window
from featurestore.explanation.rows import PassedOver, Reason, SourceRow, Value
from featurestore.explanation.verdicts import (
    Verdicts,
    closest,
    closest_left_out,
    judge_latest,
    listed,
)
from featurestore.explanation.windows import WindowRows
from featurestore.offline.as_of import fetch, winners
from featurestore.offline.engine import Mode, OfflineEngine, ScanReader
from featurestore.offline.scan import SourceScan
from featurestore.offline.spine_keys import number_keys
from featurestore.offline.timeline import NOBODY
from featurestore.training.query import ViewJoin
from featurestore.training.task import JoinTask

MAX_OTHERS = 3
"""So many rows are shown of each reason for which rows are passed over."""


@dataclass(frozen=True, kw_only=True)
class ViewQuestion:
    """What is asked of one view.

    Attributes:
        join: The view as it is used, and its features.
        task: The same as a training set joins it, with the key of one row.
        values: Feature -> its value in a training set.
        at_us: The moment.
        mode: See `FeatureStore.explain`.
        engine: Reads the source.
        root: Folder of the repository.
        max_rows: So many rows of a window are shown.
        defects: Where to say what does not add up.
    """

    join: ViewJoin
    task: JoinTask
    values: Mapping[str, pa.Scalar]
    at_us: int
    mode: Mode
    engine: OfflineEngine
    root: Path
    max_rows: int
    defects: list[str] = field(default_factory=list)

    @property
    def scan(self) -> SourceScan:
        """The view's source."""
        return self.task.scan

    @property
    def key(self) -> pa.Table | None:
        """The entity's key as readers take it, None if a part of it is null."""
        parts = self.task.keys.drop_columns(["q"])
        if any(column.null_count for column in parts.columns):
            return None
        names = ["g", *parts.column_names]
        return pa.table([pa.array([0], pa.int32()), *parts.columns], names=names)

    def explain(self) -> ViewExplanation:
        """Find the rows behind the values, and make sure that they are."""
        unusable = read_unusable(self.scan, self.key, threads=self.engine.threads)
        columns = [column.alias for column in self.scan.features] if self.task.windows else []
        with self.engine.reader(self.scan) as reader:
            if self.key is None:
                rows = left_out = KeyRows.none()
            else:
                rows = read_rows(reader, self.key, columns)
                left_out = read_left_out(self.engine, self.scan, self.key, rows)
            found = _Found(self, reader, rows, left_out, unusable)
            return found.windows() if self.task.windows else found.latest()


@dataclass
class _Found:
    """The rows of the entity, while they are explained."""

    asked: ViewQuestion
    reader: ScanReader
    rows: KeyRows
    left_out: KeyRows
    unusable: Unusable

    def latest(self) -> ViewExplanation:
        """Explain a view with a schema: one row answers for all features."""
        asked = self.asked
        ttl_us = asked.task.ttl_us
        verdicts = judge_latest(self.rows, at_us=asked.at_us, ttl_us=ttl_us, mode=asked.mode)
        shown = self._described([verdicts], most_rows=1)
        chosen = None
        if len(verdicts.answering):
            chosen = shown[int(self.rows.ordinals[verdicts.answering[-1]])]
        self._check_latest(verdicts)
        passed_over = (*self._passed_over(verdicts, shown, ttl_us), *self._never_seen(shown))
        return self._explanation(
            verdict=words.latest_verdict(self._facts(passed_over, shown), chosen),
            rule=words.latest_rule(asked.scan, asked.mode, ttl_us),
            ttl_us=ttl_us,
            chosen=chosen,
            passed_over=passed_over,
            notes=words.latest_notes(chosen, asked.at_us, asked.mode),
        )

    def windows(self) -> ViewExplanation:
        """Explain a view with aggregations: each window of a column has rows of its own."""
        asked = self.asked
        rows = self._window_rows
        groups: dict[object, list[WindowFeature]] = {}
        for feature in asked.task.windows:
            cell = (feature.column, feature.dtype, feature.window_us, feature.closed, feature.where)
            groups.setdefault(cell, []).append(feature)
        judged = [(features, rows.judge(features[0])) for features in groups.values()]
        chosen = [rows.deciding(features, verdicts, asked.values) for features, verdicts in judged]
        shown = self._described(
            [v for _, v in judged],
            most_rows=asked.max_rows,
            besides=[row for positions in chosen for row in positions.values()],
        )
        windows = tuple(
            self._window(f, v, d, shown) for (f, v), d in zip(judged, chosen, strict=True)
        )
        for features, verdicts in judged:
            self._check_window(features, verdicts)
        return self._explanation(
            verdict=words.window_verdict(self._facts((), shown), windows),
            rule=words.window_rule(asked.scan, asked.mode),
            ttl_us=None,
            windows=windows,
            passed_over=self._never_seen(shown),
            notes=(),
        )

    def _explanation(
        self,
        *,
        verdict: str,
        rule: str,
        ttl_us: int | None,
        passed_over: tuple[PassedOver, ...],
        notes: tuple[str, ...],
        chosen: SourceRow | None = None,
        windows: tuple[WindowExplanation, ...] = (),
    ) -> ViewExplanation:
        asked, selection = self.asked, self.asked.join.selection
        transform = selection.view.row_transform
        keys = zip(asked.scan.keys, asked.task.keys.drop_columns(["q"]).columns, strict=True)
        return ViewExplanation(
            role=selection.name,
            view=selection.view.name,
            source=asked.scan.source.name,
            files=len(asked.scan.files),
            source_rows=asked.scan.row_count,
            keys={column.name: Value(values[0]) for column, values in keys},
            key_columns=selection.key_columns,
            transform=None if transform is None else transform.sql,
            ttl_us=ttl_us,
            entity_rows=len(self.rows),
            verdict=verdict,
            rule=rule,
            values={name: Value(scalar) for name, scalar in asked.values.items()},
            chosen=chosen,
            windows=windows,
            passed_over=passed_over,
            notes=notes,
        )

    def _facts(
        self, passed_over: Sequence[PassedOver], shown: Mapping[int, SourceRow]
    ) -> words.Facts:
        asked = self.asked
        keys = asked.task.keys.drop_columns(["q"])
        named = zip(asked.scan.keys, keys.columns, strict=True)
        return words.Facts(
            source=asked.scan.source.name,
            key=tuple((column.name, Value(values[0]).text) for column, values in named),
            is_null_key=asked.key is None,
            at_us=asked.at_us,
            mode=asked.mode,
            ttl_us=asked.task.ttl_us,
            rows=len(self.rows),
            left_out=len(self.left_out),
            causes=self._causes(shown),
            null_times=len(self.unusable.null_times),
            passed_over=tuple(passed_over),
        )

    # --- windows -----------------------------------------------------------------------------

    @property
    def _window_rows(self) -> WindowRows:
        asked = self.asked
        return WindowRows(rows=self.rows, scan=asked.scan, at_us=asked.at_us, mode=asked.mode)

    def _window(
        self,
        features: Sequence[WindowFeature],
        verdicts: Verdicts,
        chosen: Mapping[str, int],
        shown: Mapping[int, SourceRow],
    ) -> WindowExplanation:
        asked, first = self.asked, features[0]
        newest = verdicts.answering[::-1][: asked.max_rows]
        length = first.window_us
        return WindowExplanation(
            features=tuple(feature.name for feature in features),
            column=first.column,
            start_us=None if length is None else asked.at_us - length,
            end_us=asked.at_us,
            closed=first.closed,
            where=first.where,
            count=len(verdicts.answering),
            rows=tuple(
                _with_values(shown[int(o)], first.row_columns) for o in self.rows.ordinals[newest]
            ),
            deciding={
                name: _with_values(shown[int(self.rows.ordinals[n])], first.row_columns)
                for name, n in chosen.items()
            },
            passed_over=tuple(
                PassedOver(
                    reason=each.reason,
                    why=each.why,
                    count=each.count,
                    rows=tuple(_with_values(row, first.row_columns) for row in each.rows),
                )
                for each in self._passed_over(verdicts, shown, None, first)
            ),
        )

    @property
    def _details(self) -> RowDetails:
        asked = self.asked
        return RowDetails(
            engine=asked.engine,
            reader=self.reader,
            view=asked.join.view,
            scan=asked.scan,
            root=asked.root,
        )

    # --- rows --------------------------------------------------------------------------------

    def _described(
        self, found: Sequence[Verdicts], *, most_rows: int, besides: Sequence[int] = ()
    ) -> dict[int, SourceRow]:
        """Return all rows that are shown, by their ordinals."""
        details = self._details
        positions = {*listed(found, most_rows=most_rows, most_others=MAX_OTHERS), *besides}
        there = {int(self.rows.ordinals[n]): self.rows.times(n) for n in positions}
        others: dict[int, Times] = {
            int(self.left_out.ordinals[n]): self.left_out.times(n)
            for n in self._closest_left_out.tolist()
        }
        never = times_of(
            ordinal
            for ordinals in (self.unusable.null_times, self.unusable.null_keys)
            for ordinal in ordinals[:MAX_OTHERS].tolist()
        )
        known = details.describe(there, others)
        return known | {
            ordinal: SourceRow(place=details.place(ordinal), event_us=None, created_us=None)
            for ordinal in never
        }

    def _passed_over(
        self,
        verdicts: Verdicts,
        shown: Mapping[int, SourceRow],
        ttl_us: int | None,
        window: WindowFeature | None = None,
    ) -> tuple[PassedOver, ...]:
        asked = self.asked
        return tuple(
            PassedOver(
                reason=reason,
                why=words.why(
                    reason,
                    asked.at_us,
                    ttl_us=ttl_us,
                    window=window,
                    unknown=float(np.mean(self.rows.created[positions] == LOWEST)),
                ),
                count=len(positions),
                rows=tuple(
                    shown[int(o)]
                    for o in self.rows.ordinals[closest(reason, positions, MAX_OTHERS)]
                ),
            )
            for reason, positions in verdicts.passed_over.items()
        )

    def _never_seen(self, shown: Mapping[int, SourceRow]) -> tuple[PassedOver, ...]:
        """Return the rows that no moment sees: left out, or without key or time."""
        found = {
            Reason.FILTERED: (
                len(self.left_out),
                self.left_out.ordinals[self._closest_left_out],
            ),
            Reason.NULL_TIME: (len(self.unusable.null_times), self.unusable.null_times),
            Reason.NULL_KEY: (len(self.unusable.null_keys), self.unusable.null_keys),
        }
        return tuple(
            PassedOver(
                reason=reason,
                why=words.why(reason, self.asked.at_us, causes=self._causes(shown)),
                count=count,
                rows=tuple(shown[int(ordinal)] for ordinal in ordinals[:MAX_OTHERS]),
            )
            for reason, (count, ordinals) in found.items()
            if count
        )

    @property
    def _closest_left_out(self) -> npt.NDArray[np.int64]:
        return closest_left_out(self.left_out, self.asked.at_us, MAX_OTHERS)

    def _causes(self, shown: Mapping[int, SourceRow]) -> str:
        """Return what leaves rows out: of a few rows what does, else what may."""
        ordinals = self.left_out.ordinals
        if len(ordinals) > MAX_OTHERS:
            return ", or ".join(possible_causes(self.asked.join.view))
        return ", or ".join(dict.fromkeys(shown[int(o)].left_out or "" for o in ordinals[::-1]))

    # --- checks ------------------------------------------------------------------------------

    def _check_latest(self, verdicts: Verdicts) -> None:
        """Compare with the engine: the same row, and the values of a training set in it."""
        asked = self.asked
        found = (
            int(self.rows.ordinals[verdicts.answering[-1]]) if len(verdicts.answering) else NOBODY
        )
        (winner,) = winners(
            asked.engine,
            self.reader,
            asked.scan,
            number_keys(asked.task.keys),
            ttl_us=asked.task.ttl_us,
            mode=asked.mode,
        ).tolist()
        if winner != found:
            details = self._details
            self._defect(
                f"a training set takes {_told(details, winner)}, but by the rules"
                f" {_told(details, found)} answers"
            )
        table = None
        if found != NOBODY:
            table = fetch(self.reader, asked.scan, np.array([found], dtype=np.int64), threads=1)
        for column in asked.scan.features:
            name, value = column.name, asked.values[column.name]
            here = pa.scalar(None, column.dtype) if table is None else table.column(column.alias)[0]
            if not same_bits(value, here):
                self._defect(
                    f"{name} is {Value(value)} in a training set, and {Value(here)} in its row"
                )

    def _check_window(self, features: Sequence[WindowFeature], verdicts: Verdicts) -> None:
        """Compare each value of a training set with what the rows found add up to."""
        values = self._window_rows.values(features[0], verdicts)
        for feature in features:
            value = self.asked.values[feature.name]
            if not same_window(feature, value, values, len(verdicts.answering)):
                self._defect(
                    f"{feature.name} is {Value(value)} in a training set, which its"
                    f" {len(verdicts.answering):,} rows do not make"
                )

    def _defect(self, text: str) -> None:
        self.asked.defects.append(f"{self.asked.join.selection.name}: {text}")


def _told(details: RowDetails, ordinal: int) -> str:
    return "no row" if ordinal == NOBODY else str(details.place(ordinal))


def _with_values(row: SourceRow, names: Sequence[str]) -> SourceRow:
    """Return a row with the values of one window's columns alone."""
    return SourceRow(
        place=row.place,
        event_us=row.event_us,
        created_us=row.created_us,
        values={name: row.values[name] for name in names if name in row.values},
        read=row.read,
        joined=row.joined,
    )
