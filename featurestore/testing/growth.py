"""The law of materialization: online at T is what training says of T (SEMANTICS, section 6).

A growth is a source that only grows, and runs in between: full ones, incremental ones, ranges, with
ends in any order. New rows are honest: they are no older than the source's lateness allows, and
share their key, event and created time with no row of an earlier file.

    @given(growth=growths())
    def test_my_store_keeps_the_law(growth: Growth) -> None:
        check_law(growth, my_runner())
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import pyarrow as pa
from hypothesis import strategies as st

from featurestore.definitions import Entity, FeatureView, Field, FileSource
from featurestore.testing.oracle_rows import Files, Key, SourceRow, instant, read_source
from featurestore.testing.plain import PlainTable, Row, difference
from featurestore.testing.runners import Runner, play_step
from featurestore.testing.scenario import Append, LookUp, Materialize, Scenario, Train
from featurestore.types import Float64, Int64, Timestamp, parse_type


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """A source that grows, and the runs in between.

    Attributes:
        view: The view.
        first: Rows that are there from the start, in the file `0.parquet`.
        steps: What comes then; the last is a run that ends at `end_us`, which none exceeds.
        end_us: T, also the time of all runs.
        keys: Every key of the source, and some that it does not have.
        joined: Rows of what the view joins that are there from the start.
    """

    view: FeatureView
    first: PlainTable
    steps: Sequence[Append | Materialize]
    end_us: int
    keys: Sequence[Key]
    joined: Mapping[str, PlainTable] = field(default_factory=dict)

    def scenario(self) -> Scenario:
        """Return the same as a scenario without steps."""
        view = self.view
        return Scenario(
            id="growth",
            name="A source grows and is materialized.",
            now_us=self.end_us,
            entities={entity.name: entity for entity in view.entities},
            sources={source.name: source for source in (view.source, *view.joins)},
            views={view.name: view},
            services={},
            files={
                name: {"0.parquet": table}
                for name, table in {view.source.name: self.first, **self.joined}.items()
            },
            steps=(),
        )


def check_law(growth: Growth, runner: Runner, expected: Runner) -> None:
    """Make sure that a lookup at T says what `runner` and `expected` say in training of T.

    Raises:
        AssertionError: It names the first cell that differs.
    """
    for player in (runner, expected):
        player.start(growth.scenario())
    for step in growth.steps:
        play_step(step, runner)
        play_step(step, expected)
    features = tuple(f"{growth.view.name}:{name}" for name in growth.view.feature_names)
    entities = PlainTable(
        growth.view.join_keys,
        [dict(zip(growth.view.join_keys, key, strict=True)) for key in growth.keys],
    )
    found = runner.look_up(LookUp(features=features, entities=entities)).table
    for trainer in (runner, expected):
        training = trainer.train(
            Train(features=features, spine=_at(entities, growth.end_us), expected=None)
        )
        wanted = training.drop_columns(["event_timestamp"])
        assert (text := difference(found, wanted)) is None, text


def _at(entities: PlainTable, at_us: int) -> PlainTable:
    columns = {**entities.columns, "event_timestamp": pa.timestamp("us", tz="UTC")}
    return PlainTable(
        columns, [{**row, "event_timestamp": instant(at_us)} for row in entities.rows]
    )


KEYS: Final[tuple[dict[str, str], ...]] = (
    {"id": "int64"},
    {"id": "int32", "name": "string"},
    {},
)
_KEY_VALUES: Final[dict[str, tuple[object, ...]]] = {"id": (1, 2, 3, 4, 5), "name": ("a", "b")}
BASE_US: Final = 1_709_640_000_000_000
_US: Final = timedelta(microseconds=1)


@st.composite
def growths(draw: st.DrawFn) -> Growth:
    """Draw a source, how it grows, and the runs in between; all within a few microseconds."""
    view = draw(_views())
    shift = draw(st.sampled_from((0, -9)))
    tables = [draw(batches(view, number, shift)) for number in range(draw(st.integers(2, 4)))]
    first, *later = _honest(view, tables)
    end = draw(st.integers(3, 7))
    runs = st.lists(_runs(end), min_size=1, max_size=2)
    steps: list[Append | Materialize] = []
    for number, table in enumerate(later, start=1):
        steps += draw(runs)
        steps.append(Append(source=view.source.name, file=f"{number}.parquet", rows=table))
    steps += draw(st.lists(_runs(end), max_size=1))
    # A full run would make good what those before it left out.
    incremental = draw(st.sampled_from((True, True, True, False)))
    steps.append(Materialize(end_us=BASE_US + end, incremental=incremental))
    keys = asked_keys(view, {"0.parquet": [row for t in (first, *later) for row in t.rows]})
    return Growth(view=view, first=first, steps=steps, end_us=BASE_US + end, keys=keys)


_RATES: Final = FileSource(name="rates", path="data/rates/*.parquet", timestamp_field="quoted")
_JOINED: Final = (
    "SELECT events.*, score * rates.rate AS product, rates.rate AS rate"
    " FROM events ASOF {} rates ON {}events.event >= rates.quoted"
)


@st.composite
def join_growths(draw: st.DrawFn) -> Growth:
    """Draw a growth whose view joins rates as of its rows' times; rates come late, at any time."""
    plain = draw(growths())
    equal = draw(
        st.sampled_from(("", "events.id = rates.id AND " if "id" in plain.view.join_keys else ""))
    )
    sql = _JOINED.format(draw(st.sampled_from(("LEFT JOIN", "JOIN"))), equal)
    fields = [Field(name=name, dtype=Float64) for name in ("score", "product", "rate")]
    view = FeatureView(
        name=plain.view.name,
        entities=plain.view.entities,
        source=plain.view.source,
        joins=[_RATES],
        transform=sql,
        schema=[Field(name="row", dtype=Int64), *fields],
        ttl=plain.view.ttl,
    )
    steps: list[Append | Materialize] = []
    for number, step in enumerate(plain.steps):
        if draw(st.booleans()):
            file = f"{number + 1}.parquet"
            steps.append(Append(source="rates", file=file, rows=draw(_rates(number + 1))))
        steps.append(step)
    return replace(plain, view=view, steps=steps, joined={"rates": draw(_rates(0))})


@st.composite
def _rates(draw: st.DrawFn, number: int) -> PlainTable:
    cells: dict[str, st.SearchStrategy[object]] = {
        "id": st.sampled_from([1, 2, 3, None]),
        "quoted": st.sampled_from([*(instant(BASE_US + us) for us in range(-1, 8)), None]),
    }
    rows = draw(st.lists(st.fixed_dictionaries(cells), max_size=4))
    columns = {"id": parse_type("int32"), "quoted": Timestamp, "rate": Float64}
    return PlainTable(columns, [{**row, "rate": 100.0 * number + n} for n, row in enumerate(rows)])


@st.composite
def _views(draw: st.DrawFn) -> FeatureView:
    dated = draw(st.sampled_from((True, True, False)))
    keys = {name: parse_type(dtype) for name, dtype in draw(st.sampled_from(KEYS)).items()}
    lateness_us, ttl_us = (
        draw(st.sampled_from((0, 2, 9))),
        draw(st.sampled_from((None, None, 1, 3))),
    )
    source = FileSource(
        name="events",
        path="data/events/*.parquet",
        timestamp_field="event",
        created_timestamp_column="created" if dated else None,
        lateness=lateness_us * _US,
    )
    return FeatureView(
        name="growing",
        entities=[Entity(name="thing", join_keys=keys)] if keys else [],
        source=source,
        schema=[Field(name="row", dtype=Int64), Field(name="score", dtype=Float64)],
        ttl=None if ttl_us is None else ttl_us * _US,
    )


@st.composite
def batches(draw: st.DrawFn, view: FeatureView, number: int, shift: int) -> PlainTable:
    """Draw the rows of one file; created times go up from file to file, but not by much.

    They begin `shift` microseconds after the events, which may be long before them.
    """
    dated = view.source.created_timestamp_column is not None
    columns = {**view.join_keys, "event": Timestamp, "row": Int64, "score": Float64}
    cells: dict[str, st.SearchStrategy[object]] = {
        name: st.sampled_from([*_KEY_VALUES[name] * 3, None]) for name in view.join_keys
    }
    # Without created times only the events can go up from file to file.
    events = range(8) if dated else range(2 * number, 2 * number + 4)
    cells["event"] = st.sampled_from([*(instant(BASE_US + us) for us in events), None])
    cells["score"] = st.sampled_from([0.5, None])
    if view.source.dedup_keys is not None:
        columns["event_id"] = Int64
        cells["event_id"] = st.sampled_from([1, 2, 3, None])
    if dated:
        columns["created"] = Timestamp
        created = [instant(BASE_US + shift + 3 * number + us) for us in range(-2, 3)]
        cells["created"] = st.sampled_from([*created, None, None])
    rows = draw(st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=6))
    numbered = [{**row, "row": 10 * number + n} for n, row in enumerate(rows)]
    return PlainTable(columns, [{name: row[name] for name in columns} for row in numbered])


@st.composite
def _runs(draw: st.DrawFn, last: int) -> Materialize:
    end = draw(st.integers(1, last))
    kind = draw(st.sampled_from(("incremental", "range", "full")))
    start = draw(st.integers(0, end - 1)) if kind == "range" else None
    return Materialize(
        start_us=None if start is None else BASE_US + start,
        end_us=BASE_US + end,
        incremental=kind == "incremental",
    )


def _honest(view: FeatureView, tables: Sequence[PlainTable]) -> list[PlainTable]:
    """Return the tables without the rows that come later than the source says they can."""
    earlier: list[SourceRow] = []
    honest = []
    for table in tables:
        rows = [row for row in table.rows if _may_come(view, row, earlier)]
        honest.append(PlainTable(table.columns, rows))
        earlier += read_source(view, {"": rows})
    return honest


def _may_come(view: FeatureView, row: Row, earlier: Sequence[SourceRow]) -> bool:
    lateness_us = view.source.lateness // _US
    for new in read_source(view, {"": [row]}):
        if any(_version(new) == _version(old) for old in earlier):
            return False
        if view.source.created_timestamp_column is None:
            return all(new.event_us > old.event_us - lateness_us for old in earlier)
        return new.created_us is None or all(
            new.created_us > old.created_us - lateness_us
            for old in earlier
            if old.created_us is not None
        )
    return True


def _version(row: SourceRow) -> tuple[object, ...]:
    return (row.key, row.event_us, row.created_us)


def asked_keys(view: FeatureView, files: Files) -> list[Key]:
    """Return every key of a source, mixtures that may be unknown, and one of nulls."""
    known = list({row.key: None for row in read_source(view, files)})
    mixed = [(*a[:1], *b[1:]) for a in known for b in known[:2]] if len(view.join_keys) > 1 else []
    asked = [*known, *mixed, tuple(None for _ in view.join_keys)]
    return asked if view.join_keys else [()]
