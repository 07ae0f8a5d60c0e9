"""Cases for offline engines, and the comparison of their answers with the oracle's."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa
from hypothesis import HealthCheck, settings

from featurestore.definitions import Aggregation, Entity, FeatureView, Field, FileSource
from featurestore.offline.engine import OfflineEngine, RowFilter, ScanSummary
from featurestore.offline.scan import open_scan
from featurestore.registry.state import RegistryState
from featurestore.testing.oracle import historical
from featurestore.testing.oracle_rows import SourceRow, count_never_visible, instant, read_source
from featurestore.testing.oracle_windows import with_types_of
from featurestore.testing.plain import PlainTable, difference, from_array, to_array
from featurestore.testing.strategies import History, TrainingCase
from featurestore.testing.text_tables import read_table
from featurestore.time import parse_duration
from featurestore.training.retrieve import retrieve
from featurestore.training.watch import Progress
from featurestore.types import parse_type

DAY: Final = "2024-03-05"
"""Date of the times in text tables that have none."""

ROW_GROUP_ROWS: Final = 2
"""So few, so that engines have row groups to skip."""

FIXTURE_IS_SHARED: Final = settings(
    # A suite runs once for every engine and every way to set one up: a quarter is plenty.
    max_examples=max(10, settings.default.max_examples // 4 if settings.default else 25),
    suppress_health_check=[
        HealthCheck.differing_executors,
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)
"""For properties in suites: engines and stores keep nothing from one example to the next."""


def check_training_set(engine: OfflineEngine, case: TrainingCase) -> None:
    """Make sure that an engine's training set is the oracle's.

    Raises:
        AssertionError: It names the first cell that differs.
    """
    check_training_sets([engine], case)


def check_training_sets(
    engines: Iterable[OfflineEngine], case: TrainingCase, *, row_group_rows: int = ROW_GROUP_ROWS
) -> None:
    """Do the same for several engines: files are written once, and the oracle is asked once.

    Raises:
        AssertionError: It names the engine and the first cell that differs.
    """
    with TemporaryDirectory() as folder:
        case.history.write(Path(folder), row_group_rows=row_group_rows)
        found = [(engine, training_set(engine, case, root=Path(folder))) for engine in engines]
    expected = expected_training_set(case)
    for engine, table in found:
        assert (text := difference(table, expected)) is None, f"{engine.name}: {text}"


def training_set(
    engine: OfflineEngine, case: TrainingCase, *, root: Path, progress: Progress | None = None
) -> pa.Table:
    """Return a case's training set as `engine` computes it from files below `root`."""
    return retrieve(
        entity_df=case.spine.to_arrow(),
        features=[case.history.view],
        state=RegistryState(project="conformance"),
        engine=engine,
        root=root,
        full_feature_names=False,
        timestamp_field="event_timestamp",
        timezone=case.timezone,
        mode=case.mode,
        progress=progress,
    ).to_arrow()


def expected_training_set(case: TrainingCase) -> pa.Table:
    """Return a case's training set as the oracle computes it."""
    history = case.history
    view = with_types_of(history.view, history.files, history.joined)
    rows = historical(
        [view.select()],
        {view.source.name: history.rows, **history.joined_rows},
        case.spine,
        timezone=case.timezone,
        mode=case.mode,
    )
    features = {field.name: field.dtype for field in view.fields}
    return PlainTable({**case.spine.columns, **features}, rows).to_arrow()


def check_latest(engine: OfflineEngine, history: History, wanted: RowFilter) -> None:
    """Make sure that an engine finds the newest row of every entity, and counts what it read.

    Raises:
        AssertionError: It says what differs.
    """
    check_latest_of_each([engine], history, wanted)


def check_latest_of_each(
    engines: Iterable[OfflineEngine], history: History, wanted: RowFilter
) -> None:
    """Do the same for several engines: files are written once, and the oracle is asked once.

    Raises:
        AssertionError: It names the engine and says what differs.
    """
    with TemporaryDirectory() as folder:
        history.write(Path(folder), row_group_rows=ROW_GROUP_ROWS)
        answers = [(e, *latest_rows(e, history, wanted, root=Path(folder))) for e in engines]
    view = with_types_of(history.view, history.files, history.joined)
    joined = history.joined_rows
    rows = [row for row in read_source(view, history.rows, joined) if _passes(row, wanted)]
    best = {row.key: row for row in sorted(rows, key=lambda row: row.rank)}
    expected = _by_key(_latest_table(history.view, list(best.values())))
    created = [row.created_us for row in rows if row.created_us is not None]
    true = (
        len(rows),
        len(best),
        max((row.event_us for row in rows), default=None),
        max(created, default=None),
    )
    skipped = count_never_visible(view, history.rows, joined)
    for engine, found, summary in answers:
        text = difference(_by_key(found), expected)
        assert text is None, f"{engine.name}: {text}"
        told = (summary.rows, summary.entities, summary.max_event_us, summary.max_created_us)
        assert told == true, (
            f"{engine.name}: rows, entities, greatest event and created are {told}, expected {true}"
        )
        counted = summary.null_keys + summary.null_times
        assert counted == skipped, (
            f"{engine.name}: {counted} rows without key or time, expected {skipped}"
        )


def latest_rows(
    engine: OfflineEngine, history: History, wanted: RowFilter, *, root: Path
) -> tuple[pa.Table, ScanSummary]:
    """Return the newest rows that `engine` finds in the files below `root`, and its summary."""
    scan = open_scan(history.view, history.view.feature_names, root)
    latest = engine.latest(scan, wanted)
    with closing(latest):
        batches = list(latest.batches(2))
        assert all(batch.num_rows <= 2 for batch in batches)
        return pa.Table.from_batches(batches, _latest_schema(history.view)), latest.summary


def _passes(row: SourceRow, wanted: RowFilter) -> bool:
    if row.event_us > wanted.until_us:
        return False
    if wanted.after_us is not None and row.event_us <= wanted.after_us:
        return False
    if wanted.created_after_us is None or wanted.or_event_after_us is None:
        return True
    newly_created = row.created_us is None or row.created_us > wanted.created_after_us
    return newly_created or row.event_us > wanted.or_event_after_us


def _latest_schema(view: FeatureView) -> pa.Schema:
    keys = {f"k{n}": dtype for n, dtype in enumerate(view.join_keys.values())}
    features = {f"f{n}": field.dtype for n, field in enumerate(view.fields)}
    return pa.schema(list((keys | {"e": pa.int64(), "c": pa.int64()} | features).items()))


def _latest_table(view: FeatureView, rows: Sequence[SourceRow]) -> pa.Table:
    cells = [
        [*row.key, row.event_us, row.created_us, *(row.values[f.name] for f in view.fields)]
        for row in rows
    ]
    schema = _latest_schema(view)
    columns = zip(*cells, strict=True) if cells else [[] for _ in schema]
    arrays = [to_array(list(c), f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _by_key(table: pa.Table) -> pa.Table:
    keys = [name for name in table.schema.names if name.startswith("k")]
    rows = list(zip(*(from_array(table[name]) for name in keys), strict=True))
    order = sorted(range(len(rows)), key=lambda number: rows[number])
    return table.take(pa.array(order, pa.int64())) if keys else table


def history(
    files: str | Mapping[str, str],
    *,
    keys: Mapping[str, str] | None = None,
    features: Mapping[str, str] | None = None,
    aggregations: Sequence[Aggregation] = (),
    transform: str | None = None,
    ttl: str | None = None,
    **source: Any,
) -> History:
    """Return a history from text tables whose event time is `at` and created time `created`.

    Args:
        files: Path -> table, or the table of the only file.
        keys: Join keys and their types; default `user_id: int64`.
        features: Features and their types; default `score: float64`.
        aggregations: What the view has instead of features.
        transform: The view's transform.
        ttl: The view's ttl, as in "1h".
        source: More fields of the source, such as its `timezone`.
    """
    texts = {"a.parquet": files} if isinstance(files, str) else files
    tables = {path: read_table(text, day=DAY) for path, text in texts.items()}
    dated = any("created" in table.columns for table in tables.values())
    types = {"user_id": "int64"} if keys is None else keys
    join_keys = {name: parse_type(dtype) for name, dtype in types.items()}
    fields = {
        "path": "data/**/*.parquet",
        "timestamp_field": "at",
        "created_timestamp_column": "created" if dated else None,
    }
    schema = {} if aggregations else features or {"score": "float64"}
    view = FeatureView(
        name="profile",
        entities=[Entity(name="user", join_keys=join_keys)] if join_keys else [],
        source=FileSource(name="profiles", **(fields | source)),
        schema=[Field(name=name, dtype=parse_type(dtype)) for name, dtype in schema.items()],
        aggregations=aggregations,
        transform=transform,
        ttl=None if ttl is None else parse_duration(ttl),
    )
    return History(view=view, files=tables, moments=())


def crowded_history(*, rows: int, users: int) -> History:
    """Return a history with very many ties: few event times, and few created times."""
    times = {"at": pa.timestamp("us", tz="UTC"), "created": pa.timestamp("us", tz="UTC")}
    columns = {"user_id": pa.int64(), **times, "score": pa.float64()}
    half = [
        PlainTable(
            columns,
            [
                {
                    "user_id": n * 7 % users,
                    "at": instant(n * 31 % 97),
                    "created": None if n % 11 == 0 else instant(n * 17 % 13),
                    "score": float(n),
                }
                for n in range(first, rows, 2)
            ],
        )
        for first in (0, 1)
    ]
    empty = "user_id: int64 | at: time | created: time | score: float64"
    return replace(history(empty), files={"b.parquet": half[0], "a.parquet": half[1]})


def crowded_spine(*, rows: int, users: int) -> PlainTable:
    """Return a spine for a crowded history, with some users that it does not have."""
    columns = {"user_id": pa.int64(), "event_timestamp": pa.timestamp("us", tz="UTC")}
    cells = [
        {"user_id": n * 5 % users, "event_timestamp": instant(n * 13 % 101)} for n in range(rows)
    ]
    return PlainTable(columns, cells)
