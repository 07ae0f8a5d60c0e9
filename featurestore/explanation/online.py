"""What the online store has of an entity, beside what training sees, and why they differ."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.explanation.model import OnlineFeature, OnlineRow, ViewExplanation
from featurestore.explanation.recomputed import same_bits
from featurestore.explanation.rows import Reason, Value, time_text
from featurestore.monitoring.differences import Excuses
from featurestore.offline.as_of import as_of
from featurestore.offline.engine import Mode, OfflineEngine
from featurestore.offline.scan import event_as_feature, open_scan
from featurestore.offline.windows.join import windows_as_of
from featurestore.online.codec import (
    NO_ENTITY,
    encode_keys,
    is_pushed,
    is_tombstone,
    read_version,
)
from featurestore.online.layout import TOMBSTONE
from featurestore.online.store import OnlineStore, ReadRequest, TableId
from featurestore.registry.generations import LiveView
from featurestore.registry.runs import Watermark
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.state import RegisteredView
from featurestore.serving.catalog import serving_view
from featurestore.serving.lookup import Lookup, LookupResult, Status
from featurestore.serving.plan import whole_view_plan
from featurestore.serving.response import feature_array
from featurestore.time import MICROSECOND, Clock
from featurestore.types import type_name

MAX_RUNS = 10_000


@dataclass(frozen=True, kw_only=True)
class OnlineSide:
    """Looks entities up as a request does, and into the bytes behind it.

    Attributes:
        project: The project.
        store: The online store.
        registry: Knows how far views are materialized.
        engine: Computes what training sees at the end of the last run.
        clock: Says what is expired.
        root: Folder of the repository.
        at_us: The moment that is explained.
        mode: What training is asked for at that moment; see `FeatureStore.explain`.
    """

    project: str
    store: OnlineStore
    registry: SqlRegistry
    engine: OfflineEngine
    clock: Clock
    root: Path
    at_us: int
    mode: Mode

    def beside(self, view: LiveView, explained: ViewExplanation, keys: pa.Table) -> ViewExplanation:
        """Return an explanation with what the store has of the same entity.

        Args:
            view: The view, with the generation that lookups read.
            explained: What training sees.
            keys: One row of its join keys `k0..`.
        """
        if not view.newest.definition.online:
            found = OnlineRow(
                state="not served", generation=None, why="the view is not served online"
            )
            return replace(explained, online=found)
        if view.served.definition.join_keys != view.newest.definition.join_keys:
            why = f"generation {view.served.generation}, which is served, has other join keys"
            found = OnlineRow(state="not served", generation=view.served.generation, why=why)
            return replace(explained, online=found)
        return replace(explained, online=_Entity(self, view, explained, keys).row())


@dataclass(frozen=True)
class _Entity:
    """One entity of one generation of a view."""

    side: OnlineSide
    live: LiveView
    explained: ViewExplanation
    keys: pa.Table

    @property
    def view(self) -> RegisteredView:
        """The view as lookups read it."""
        return self.live.served

    @property
    def _definition(self) -> FeatureView:
        return self.view.definition

    @property
    def _table(self) -> TableId:
        return TableId(
            project=self.side.project,
            view=self._definition.name,
            generation=self.view.generation,
        )

    def row(self) -> OnlineRow:
        """Return what is stored and served, and how it goes with training."""
        stored, result = self._stored(), self._look_up()
        watermark = self.side.registry.watermark(
            self.side.project, self._definition.name, self.view.generation
        )
        features = self._features(result)
        why, is_defect = self._why(stored, result, watermark, features)
        event_us, created_us = (None, None) if stored is None else read_version(stored)
        return OnlineRow(
            state=_state(stored),
            generation=self.view.generation,
            schema_id=None if stored is None else _schema_id(stored),
            event_us=event_us,
            created_us=created_us,
            size=None if stored is None else len(stored),
            materialized_until_us=None if watermark is None else watermark.end_us,
            request_us=result.request_us,
            stored=self._decoded(stored),
            features=features,
            why=why,
            is_defect=is_defect,
        )

    def _stored(self) -> bytes | None:
        names = self.keys.column_names
        if any(self.keys.column(name).null_count for name in names):
            return None
        types = [type_name(dtype) for dtype in self._definition.join_keys.values()]
        columns = [self.keys.column(name) for name in names]
        encoded = encode_keys(types, columns) if names else [NO_ENTITY]
        request = ReadRequest(table=self._table, keys=[key for key in encoded if key is not None])
        return self.side.store.read([request])[0][0]

    def _look_up(self) -> LookupResult:
        plan = whole_view_plan(serving_view(self.view, self.side.project))
        lookup = Lookup(self.side.store, plan, Clock(self.side.clock.now()))
        names = zip(self._definition.join_keys, self.keys.column_names, strict=True)
        return lookup.run({name: self.keys.column(alias) for name, alias in names})

    def _features(self, result: LookupResult) -> dict[str, OnlineFeature]:
        found = {}
        for feature in result.features:
            expected = self.explained.values.get(feature.name)
            if expected is None:
                continue
            value = feature_array(feature)[0]
            is_same = value.type == expected.scalar.type and same_bits(expected.scalar, value)
            status = Status(int(feature.statuses[0])).name
            found[feature.name] = OnlineFeature(value=Value(value), status=status, agrees=is_same)
        return found

    def _decoded(self, stored: bytes | None) -> dict[str, Value]:
        """Return the values in the stored row, those that may not be served, too."""
        if stored is None or is_tombstone(stored):
            return {}
        view = replace(serving_view(self.view, self.side.project), ttl_us=None)
        lookup = Lookup(self.side.store, whole_view_plan(view), self.side.clock)
        names = zip(self._definition.join_keys, self.keys.column_names, strict=True)
        result = lookup.run({name: self.keys.column(alias) for name, alias in names})
        return {
            feature.name: Value(feature_array(feature)[0])
            for feature in result.features
            if feature.name in self.explained.values
        }

    # --- why ---------------------------------------------------------------------------------

    def _why(
        self,
        stored: bytes | None,
        result: LookupResult,
        watermark: Watermark | None,
        features: Mapping[str, OnlineFeature],
    ) -> tuple[str, bool]:
        """Return what is the same or why it is not, and whether nothing excuses that."""
        if missing := [name for name in self.explained.values if name not in features]:
            return f"generation {self.view.generation}, which is served, has no {missing[0]}", False
        if all(feature.agrees for feature in features.values()):
            return "the same values as in training", False
        if self.live.is_pending:
            served, newest = self.view.generation, self.live.newest.generation
            return f"generation {served} is served, with another meaning, until {newest} is", False
        if stored is not None and (said := _of_stored(stored, result, features)):
            return said, False
        if watermark is None:
            return "the view was never materialized", False
        return self._since(stored, watermark, features)

    def _since(
        self,
        stored: bytes | None,
        watermark: Watermark,
        features: Mapping[str, OnlineFeature],
    ) -> tuple[str, bool]:
        """Tell what time did from what nothing excuses, by training at the end of the last run."""
        end = time_text(watermark.end_us)
        then, event_us = self._training_at(watermark.end_us)
        is_then = all(_is(then[name], features[name].value) for name in features)
        if self._is_by_mode(watermark.end_us, features, is_then=is_then):
            return (
                "online serves complete history, and as_served leaves out what was not yet written"
                f" by {time_text(self.side.at_us)}, or nobody knows when"
            ), False
        if is_then:
            if watermark.end_us < self.side.at_us:
                return f"materialized until {end}, and training sees what came after that", False
            if watermark.end_us > self.side.at_us:
                return f"materialized until {end}, after the moment that is explained", False
            return f"materialized until {end}; the source's files have changed just now", False
        runs = self.side.registry.runs(
            self.side.project, view=self._definition.name, limit=MAX_RUNS
        )
        excuses = Excuses.of(
            self.view,
            watermark,
            runs,
            now_us=self.side.clock.now_micros(),
            age_us=_age_us(watermark),
        )
        category = excuses.category(
            stored, expected_event_us=event_us, is_tie=lambda *_: self._has_ties()
        )
        said = {
            "DEFECT": f"a defect: it is not what training sees at {end}, when the last run ended",
            "source rewritten": f"files that the last run (until {end}) read were changed since",
            "tie": "rows with the same times differ, and several runs wrote: the last one stands",
            "expired": "expired: the store has dropped the row since",
            "pushed": "another run or an application wrote a row beyond the last full run",
        }
        return said.get(category, category), category == "DEFECT"

    def _is_by_mode(
        self, end_us: int, features: Mapping[str, OnlineFeature], *, is_then: bool
    ) -> bool:
        """Whether the mode alone makes the difference.

        So it is where training without it sees the online values at the moment explained, or did
        at the end of the last run, with nothing come since that training with it sees.
        """
        if self.side.mode == "complete":
            return False
        complete, _ = self._training_at(self.side.at_us)
        if all(_is(complete[name], features[name].value) for name in features):
            return True
        if not is_then or end_us > self.side.at_us:
            return False
        served, _ = self._training_at(end_us, self.side.mode)
        return all(_is(served[name], self.explained.values[name]) for name in features)

    def _has_ties(self) -> bool:
        ties = (Reason.TIE, Reason.NANOSECONDS)
        return any(each.reason in ties for each in self.explained.passed_over)

    def _training_at(
        self, end_us: int, mode: Mode = "complete"
    ) -> tuple[dict[str, pa.Scalar], int | None]:
        """Return what training sees at an instant, and the event time of its row."""
        names = list(self.explained.values)
        definition = self._definition
        at = pa.array(np.array([end_us], dtype=np.int64))
        spine = self.keys.add_column(0, "q", at) if self.keys.num_columns else pa.table({"q": at})
        scan = open_scan(definition, names, self.side.root, as_served=mode == "as_served")
        if definition.aggregations:
            by_name = {feature.name: feature for feature in definition.window_features}
            wanted = [by_name[name] for name in names]
            found = windows_as_of(self.side.engine, scan, wanted, spine, mode=mode)
            return {n: c[0] for n, c in zip(names, found.columns, strict=True)}, end_us
        scan = event_as_feature(scan)
        found = as_of(self.side.engine, scan, spine, ttl_us=definition.ttl_us, mode=mode)
        *values, events = found.columns
        return {n: c[0] for n, c in zip(names, values, strict=True)}, events.cast(pa.int64())[
            0
        ].as_py()


def _of_stored(
    stored: bytes, result: LookupResult, features: Mapping[str, OnlineFeature]
) -> str | None:
    """Return why a stored row may well differ from what training sees; None if it may not."""
    event = time_text(read_version(stored)[0])
    if is_tombstone(stored):
        return f"deleted at {event}"
    statuses = {feature.status for feature in features.values()}
    if Status.OUTSIDE_MAX_AGE.name in statuses:
        asked = time_text(result.request_us)
        return f"expired: at the request ({asked}) the stored row of {event} is older than the ttl"
    return f"pushed by an application: event time {event}" if is_pushed(stored) else None


def _is(expected: pa.Scalar, found: Value) -> bool:
    return expected.type == found.scalar.type and same_bits(expected, found.scalar)


def _age_us(watermark: Watermark) -> int:
    """Return the real time since the last run, which is what a store counts down by."""
    if watermark.updated_at is None:
        return 0
    return max(0, (datetime.now(UTC) - watermark.updated_at) // MICROSECOND)


def _state(stored: bytes | None) -> str:
    if stored is None:
        return "none"
    if is_tombstone(stored):
        return "deleted"
    return "pushed" if is_pushed(stored) else "row"


def _schema_id(stored: bytes) -> str | None:
    """Return the schema id of a stored row; see `featurestore.online.layout`."""
    if stored[:1] == bytes([TOMBSTONE]):
        return None
    return f"{int.from_bytes(stored[1:3], 'little'):04x}"
