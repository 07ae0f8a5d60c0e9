"""Does serving return what training would see? The law of SEMANTICS, section 6, on users' data.

Each view is compared at the end of its own last run: what `get_historical_features` computes from
the sources for (entity, end), beside what a lookup at that instant returns, value by value.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.monitoring.differences import Excuses, differing_cells, shown_value
from featurestore.offline.as_of import as_of
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.scan import SourceScan, event_as_feature, only_files, open_scan
from featurestore.offline.windows.join import windows_as_of
from featurestore.online.codec import decode_key, encode_keys
from featurestore.online.store import OnlineStore, ReadRequest, TableId
from featurestore.registry.runs import Watermark
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.state import RegisteredView
from featurestore.serving.catalog import serving_view
from featurestore.serving.lookup import Lookup
from featurestore.serving.plan import whole_view_plan
from featurestore.serving.response import feature_array
from featurestore.time import MICROSECOND, Clock, format_instant, from_micros
from featurestore.types import type_name

Progress = Callable[[str, int, int], None]
CHUNK_ROWS = 500_000
MAX_EXAMPLES = 20


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One cell that differs.

    Attributes:
        entity: Join key -> value.
        feature: The feature.
        offline: What the sources say.
        online: What the lookup returned; None for null or nothing.
        category: "pushed", "deleted", "expired", "source rewritten", "tie" or "DEFECT".
    """

    entity: Mapping[str, Any]
    feature: str
    offline: Any
    online: Any
    category: str


@dataclass(frozen=True, kw_only=True)
class ViewVerification:
    """What was compared in one view.

    Attributes:
        view: The view.
        end: End of its last run, RFC 3339; None if it was never materialized.
        entities: Entities compared.
        cells: Values compared.
        differences: Category -> cells.
        examples: Some of them, defects first.
    """

    view: str
    end: str | None
    entities: int = 0
    cells: int = 0
    differences: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Difference, ...] = ()

    @property
    def defects(self) -> int:
        """Cells that differ without an excuse."""
        return self.differences.get("DEFECT", 0)


@dataclass(frozen=True, kw_only=True)
class VerificationReport:
    """What was compared in all views."""

    views: tuple[ViewVerification, ...]

    @property
    def cells(self) -> int:
        """Values compared."""
        return sum(view.cells for view in self.views)

    @property
    def defects(self) -> int:
        """Cells that differ without an excuse."""
        return sum(view.defects for view in self.views)

    @property
    def ok(self) -> bool:
        """Whether something was compared and nothing differs without an excuse."""
        return self.cells > 0 and self.defects == 0


def verify(
    views: Sequence[RegisteredView],
    *,
    project: str,
    engine: OfflineEngine,
    store: OnlineStore,
    registry: SqlRegistry,
    root: Path,
    now_us: int,
    sample: int | None,
    seed: int,
    progress: Progress | None,
) -> VerificationReport:
    """Compare views; see `FeatureStore.verify`."""
    results = []
    for view in views:
        name = view.definition.name
        watermark = registry.watermark(project, name, view.generation)
        if watermark is None:
            results.append(ViewVerification(view=name, end=None))
            continue
        runs = registry.runs(project, view=name, limit=10_000)
        check = _ViewCheck(
            view=view,
            table=TableId(project=project, view=name, generation=view.generation),
            engine=engine,
            store=store,
            watermark=watermark,
            scan=_scan_of_run(view.definition, watermark, root),
            excuses=Excuses.of(view, watermark, runs, now_us=now_us, age_us=_age_us(watermark)),
        )
        results.append(check.run(sample=sample, seed=seed, progress=progress))
    return VerificationReport(views=tuple(results))


def _age_us(watermark: Watermark) -> int:
    """Return the real time since the last run, which is what a store counts down by."""
    if watermark.updated_at is None:
        return 0
    return max(0, (datetime.now(UTC) - watermark.updated_at) // MICROSECOND)


def _scan_of_run(view: FeatureView, watermark: Watermark, root: Path) -> SourceScan:
    """Return a scan of the files that the last run read: what came later it cannot know.

    Where none of them is left (a repository that was moved), of those that are there now.
    """
    scan = open_scan(view, view.feature_names, root)
    if not view.aggregations:
        scan = event_as_feature(scan)
    known = only_files(scan, {file.path for file in watermark.source_files})
    parts = (known, *(join.scan for join in known.joins))
    return known if all(part.files for part in parts) else scan


@dataclass(frozen=True, kw_only=True)
class _ViewCheck:
    """The comparison of one view."""

    view: RegisteredView
    table: TableId
    engine: OfflineEngine
    store: OnlineStore
    watermark: Watermark
    scan: SourceScan
    excuses: Excuses

    def run(self, *, sample: int | None, seed: int, progress: Progress | None) -> ViewVerification:
        """Compare all entities, or a sample."""
        definition = self.view.definition
        counts: Counter[str] = Counter()
        examples: list[Difference] = []
        entities = 0
        keys = self._keys(sample, seed)
        for start in range(0, keys.num_rows, CHUNK_ROWS):
            chunk = keys.slice(start, CHUNK_ROWS)
            for difference in self._compare(chunk):
                counts[difference.category] += 1
                examples.append(difference)
                examples = sorted(examples, key=_defects_first)[:MAX_EXAMPLES]
            entities += chunk.num_rows
            if progress is not None:
                progress(definition.name, entities, keys.num_rows)
        return ViewVerification(
            view=definition.name,
            end=format_instant(from_micros(self.watermark.end_us)),
            entities=entities,
            cells=entities * len(definition.fields),
            differences=dict(counts),
            examples=tuple(examples),
        )

    def _keys(self, sample: int | None, seed: int) -> pa.Table:
        """Return the entities to compare: those of the source, and those only the store knows."""
        names = [c.alias for c in self.scan.keys]
        if not names:
            return pa.table({"one": pa.nulls(1)})
        batches = [*self.engine.keys(self.scan), *self._stored_keys(names)]
        schema = pa.schema([(c.alias, c.dtype) for c in self.scan.keys])
        table = pa.Table.from_batches(batches, schema=schema)
        table = table.group_by(names, use_threads=False).aggregate([]).select(names)
        table = table.sort_by([(name, "ascending") for name in names])
        if sample is None or table.num_rows <= sample:
            return table
        chosen = np.random.default_rng(seed).choice(table.num_rows, sample, replace=False)
        return table.take(pa.array(np.sort(chosen)))

    def _stored_keys(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        types = [c.dtype for c in self.scan.keys]
        texts = [type_name(t) for t in types]
        for rows in self.store.scan(self.table, batch_rows=10_000):
            decoded = [k for k in (decode_key(texts, key) for key, _ in rows) if k is not None]
            columns = zip(*decoded, strict=True) if decoded else ([] for _ in names)
            arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
            yield pa.record_batch(arrays, names=names)

    def _compare(self, keys: pa.Table) -> Iterator[Difference]:
        end = self.watermark.end_us
        definition = self.view.definition
        spine = keys.drop_columns(["one"]) if "one" in keys.column_names else keys
        spine = spine.add_column(0, "q", pa.array(np.full(keys.num_rows, end, dtype=np.int64)))
        offline, events = self._offline(spine)
        online = self._look_up(keys)
        stored: list[bytes | None] | None = None
        for feature, (expected, found) in enumerate(zip(offline, online, strict=True)):
            for row in differing_cells(expected, found):
                stored = stored or self._stored(keys)
                event = events[row].cast(pa.int64()).as_py()
                yield Difference(
                    entity={c.name: shown_value(keys.column(c.alias)[row]) for c in self.scan.keys},
                    feature=definition.feature_names[feature],
                    offline=shown_value(expected[row]),
                    online=shown_value(found[row]),
                    category=self.excuses.category(
                        stored[row],
                        expected_event_us=event,
                        is_tie=partial(self._is_tie, keys.slice(row, 1)),
                    ),
                )

    def _offline(self, spine: pa.Table) -> tuple[list[pa.ChunkedArray], pa.ChunkedArray]:
        """Return what training sees of each entity: its features, and the event time of its row."""
        view = self.view.definition
        if view.aggregations:
            windows = view.window_features
            found = windows_as_of(self.engine, self.scan, windows, spine, mode="complete")
            return found.columns, spine.column("q")
        found = as_of(self.engine, self.scan, spine, ttl_us=view.ttl_us, mode="complete")
        *features, events = found.columns
        return features, events

    def _is_tie(self, key: pa.Table, event_us: int, created_us: int | None) -> bool:
        (encoded,) = self._encoded(key)
        return (encoded, event_us, created_us) in self._ties

    @cached_property
    def _ties(self) -> set[tuple[bytes, int, int | None]]:
        found = set()
        for batch in self.engine.ties(self.scan):
            table = pa.Table.from_batches([batch])
            times = zip(table["e"].to_pylist(), table["c"].to_pylist(), strict=True)
            for key, (event, created) in zip(self._encoded(table), times, strict=True):
                found.add((key, event, created))
        return found

    def _look_up(self, keys: pa.Table) -> list[pa.Array]:
        """Return the features as a lookup at the end of the last run returns them."""
        plan = whole_view_plan(serving_view(self.view, self.table.project))
        clock = Clock(from_micros(self.watermark.end_us))
        lookup = Lookup(self.store, plan, clock, max_entities=CHUNK_ROWS)
        columns = {c.name: keys.column(c.alias) for c in self.scan.keys}
        return [feature_array(feature) for feature in lookup.run(columns).features]

    def _stored(self, keys: pa.Table) -> list[bytes | None]:
        return [*self.store.read([ReadRequest(table=self.table, keys=self._encoded(keys))])[0]]

    def _encoded(self, keys: pa.Table) -> list[bytes]:
        types = [type_name(c.dtype) for c in self.scan.keys]
        encoded = encode_keys(types, [keys.column(c.alias) for c in self.scan.keys])
        return [key for key in encoded if key is not None]


def _defects_first(difference: Difference) -> bool:
    return difference.category != "DEFECT"
