"""A view gets a new meaning: what lookups read, what runs write, and the way back."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typing_extensions import override

from featurestore.definitions import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    OnDemandFeatureView,
)
from featurestore.errors import NotFoundError, RequestError, SourceError, StoreError
from featurestore.online.codec import encode_keys, read_version
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import EncodedRows, ReadRequest, TableId, WriteCounts
from featurestore.registry import ObjectRef, plan_deletion
from featurestore.registry.generations import LiveState, Serving
from featurestore.registry.sql import SqlRegistry
from featurestore.store import FeatureStore
from featurestore.time import Clock, parse_instant
from featurestore.types import Float64, Int32, Int64, String
from tests.unit.projects import (
    FILE,
    NOW,
    QUICK,
    THEN,
    UTC_US,
    project,
    rows,
    says,
    source,
    view,
    write,
)

FIRST = TableId(project="plant", view="reading", generation=1)
TODAY = datetime(2026, 11, 27, tzinfo=UTC)
SQUARE = view(transform="SELECT x * x AS x FROM readings")
WIDE = view(features={"x": Float64, "y": String})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / FILE, rows(3, y=["a", "b", "c"]))
    return tmp_path


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stores begin with."""
    folder = tmp_path_factory.mktemp("applied")
    write(folder / FILE, rows(3, y=["a", "b", "c"]))
    with project(folder, **QUICK) as opened:
        opened.apply([view()])
    return folder


@pytest.fixture
def store(root: Path, applied: Path) -> Iterator[FeatureStore]:
    shutil.copytree(applied, root, dirs_exist_ok=True)
    with project(root, **QUICK) as opened:
        yield opened


@pytest.fixture
def filled(store: FeatureStore) -> FeatureStore:
    store.materialize()
    return store


def at(store: FeatureStore, when: datetime) -> None:
    """Let the registry's wall clock stand at an instant."""
    path = store.config.path(store.settings.registry.path)
    store.registry = SqlRegistry(path, wall_clock=Clock(when))


def served(store: FeatureStore, feature: str = "x", keys: tuple[int, ...] = (1, 2, 3)) -> list[Any]:
    found = store.get_online_features([f"reading:{feature}"], {"k": list(keys)}).to_dict()
    values: list[Any] = found[feature]
    return values


def generations(store: FeatureStore) -> tuple[int, int, int | None]:
    """Return what is served, the newest, and what is kept besides."""
    live = store.live_state().view("reading")
    kept = None if live.kept is None else live.kept.generation
    return live.served.generation, live.newest.generation, kept


def test_lookups_read_the_old_meaning_until_the_new_one_is_complete(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    assert served(filled) == [1.0, 2.0, 3.0]
    reports = filled.materialize()
    assert [(r.generation, r.switched, r.error) for r in reports] == [
        (1, False, None),
        (2, True, None),
    ]
    assert served(filled) == [1.0, 4.0, 9.0]
    assert generations(filled) == (2, 2, 1)


@pytest.mark.parametrize("incremental", [False, True])
def test_a_rollback_finds_what_came_since(
    filled: FeatureStore, root: Path, *, incremental: bool
) -> None:
    filled.apply([SQUARE])
    filled.materialize_incremental() if incremental else filled.materialize()
    later = [THEN + timedelta(days=1)] * 3
    write(root / FILE, rows(3, x=[5.0, 6.0, 7.0], t=pa.array(later, UTC_US)))
    filled.materialize_incremental() if incremental else filled.materialize()
    assert served(filled) == [25.0, 36.0, 49.0]
    back = filled.rollback("reading")
    assert (back.generation, back.kept, back.is_held) == (1, 2, True)
    assert served(filled) == [5.0, 6.0, 7.0]


def test_what_was_rolled_back_is_written_but_not_read_again(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    filled.materialize()
    filled.rollback("reading")
    reports = filled.materialize()
    assert {(r.generation, r.switched) for r in reports} == {(1, False), (2, False)}
    assert served(filled) == [1.0, 2.0, 3.0]
    forth = filled.rollback("reading")
    assert (forth.generation, forth.kept, forth.is_held) == (2, 1, False)
    assert served(filled) == [1.0, 4.0, 9.0]


def test_a_third_meaning_takes_over_from_what_was_rolled_back_to(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    filled.materialize()
    filled.rollback("reading")
    filled.apply([view(transform="SELECT x + 1 AS x FROM readings")])
    assert generations(filled) == (1, 3, 2)
    assert served(filled) == [1.0, 2.0, 3.0]
    filled.materialize()
    assert served(filled) == [2.0, 3.0, 4.0]
    assert generations(filled) == (3, 3, 1)


def test_a_meaning_that_was_never_complete_is_passed_over(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    filled.apply([view(transform="SELECT x + 1 AS x FROM readings")])
    assert generations(filled) == (1, 3, None)
    with pytest.raises(RequestError) as caught:
        filled.rollback("reading")
    assert says(caught.value, "no generation to go back to")
    assert "3 is not complete" in (caught.value.hint or "")
    filled.materialize()
    assert served(filled) == [2.0, 3.0, 4.0]


def test_a_generation_that_ends_earlier_does_not_take_over(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    filled.materialize(end="2024-05-31T23:59:59.999999Z")
    assert generations(filled) == (1, 2, None)
    filled.materialize(start="2020-01-01T00:00:00Z")
    assert generations(filled) == (1, 2, None), "a window says nothing about what came before it"
    filled.materialize_incremental(end=NOW)
    assert generations(filled) == (2, 2, 1)


def test_what_was_never_materialized_is_replaced_at_once(store: FeatureStore) -> None:
    store.apply([WIDE])
    assert generations(store) == (2, 2, None)
    assert served(store, "y") == [None] * 3
    store.materialize()
    assert served(store, "y") == ["a", "b", "c"]


def test_a_kept_generation_ends_with_its_grace(filled: FeatureStore) -> None:
    at(filled, TODAY)
    filled.apply([SQUARE])
    filled.materialize()
    assert generations(filled) == (2, 2, 1)
    at(filled, TODAY + timedelta(hours=24))
    assert generations(filled) == (2, 2, None)
    assert [r.generation for r in filled.materialize()] == [2]
    with pytest.raises(RequestError) as caught:
        filled.rollback("reading")
    assert says(caught.value, "no generation to go back to")
    assert "kept until 2026-11-28" in (caught.value.hint or "")


def test_the_grace_is_configured(root: Path) -> None:
    with project(root, materialization={"generation_grace_ms": "2h"}, **QUICK) as store:
        at(store, TODAY)
        store.apply([view()])
        store.materialize()
        store.apply([SQUARE])
        store.materialize()
        assert store.status()[0].kept_until == TODAY + timedelta(hours=2)


def test_a_deleted_view_leaves_nothing_to_go_back_to(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    filled.materialize()
    gone = plan_deletion([ObjectRef("feature view", "reading")], filled.state())
    filled.apply(gone, allow_destroy=True)
    filled.apply([view()])
    assert generations(filled) == (3, 3, None)
    with pytest.raises(RequestError):
        filled.rollback("reading")
    with pytest.raises(NotFoundError):
        filled.rollback("readings")


def test_an_older_generation_that_cannot_be_read_fails_nothing(
    filled: FeatureStore, root: Path
) -> None:
    write(root / "other.parquet", rows(3, x=[7.0, 8.0, 9.0]))
    filled.apply([view("other.parquet")])
    (root / FILE).unlink()
    old, new = filled.materialize()
    assert old.error is not None
    assert FILE in old.error
    assert (new.generation, new.switched) == (2, True)
    assert served(filled) == [7.0, 8.0, 9.0]
    (root / "other.parquet").unlink()
    with pytest.raises(SourceError):
        filled.materialize()


def test_a_service_is_what_it_was_until_its_view_is_complete(filled: FeatureStore) -> None:
    filled.apply([FeatureService(name="all", features=[view()])])
    filled.apply([FeatureService(name="all", features=[WIDE])])
    asked = {"k": [1]}
    assert filled.get_online_features("all", asked).to_dict() == {"k": [1], "x": [1.0]}
    with pytest.raises(NotFoundError) as caught:
        filled.get_online_features(["reading:y"], asked)
    assert says(caught.value, "an older generation of 'reading' is served", hint=False)
    filled.materialize()
    assert filled.get_online_features("all", asked).to_dict() == {"k": [1], "x": [1.0], "y": ["a"]}
    filled.rollback("reading")
    assert filled.get_online_features("all", asked).to_dict() == {"k": [1], "x": [1.0]}


def test_a_service_that_needs_less_changes_at_once(filled: FeatureStore) -> None:
    filled.apply([WIDE])
    filled.materialize()
    filled.apply([FeatureService(name="all", features=[WIDE])])
    filled.apply([FeatureService(name="all", features=[view()])])
    assert generations(filled) == (2, 3, 1)
    found = filled.get_online_features("all", {"k": [1]}).to_dict()
    assert found == {"k": [1], "x": [1.0]}


def test_a_new_service_waits_for_features_that_are_not_there(filled: FeatureStore) -> None:
    filled.apply([FeatureService(name="all", features=[WIDE])])
    with pytest.raises(NotFoundError) as caught:
        filled.get_online_features("all", {"k": [1]})
    assert says(caught.value, "'all'", "served until the newest is materialized", hint=False)
    filled.materialize()
    assert filled.get_online_features("all", {"k": [1]}).to_dict()["y"] == ["a"]


def test_what_is_computed_fits_what_is_served(filled: FeatureStore, root: Path) -> None:
    def doubled(of: FeatureView, feature: str) -> OnDemandFeatureView:
        return OnDemandFeatureView(name="doubled", sources=[of], features={"two": f"2 * {feature}"})

    filled.apply([FeatureService(name="all", features=[doubled(view(), "x")])])
    asked = {"k": [2]}
    assert filled.get_online_features("all", asked).to_dict()["two"] == [4.0]
    integers = rows(3, x=pa.array([10, 20, 30], pa.int64()))
    write(root / "other.parquet", integers)
    changed = view("other.parquet", features={"x": Int64})
    filled.apply([FeatureService(name="all", features=[doubled(changed, "x")])])
    assert filled.get_online_features("all", asked).to_dict()["two"] == [4.0]
    filled.materialize()
    assert filled.get_online_features("all", asked).to_dict()["two"] == [40]


def test_other_join_keys_wait_as_well(filled: FeatureStore, root: Path) -> None:
    filled.apply([FeatureService(name="all", features=[view()])])
    write(root / "other.parquet", rows(3, u=["a", "b", "c"]))
    changed = view("other.parquet", keys={"u": String})
    filled.apply([FeatureService(name="all", features=[changed])])
    assert filled.get_online_features("all", {"k": [1]}).to_dict()["x"] == [1.0]
    filled.materialize()
    assert filled.get_online_features("all", {"u": ["b"]}).to_dict()["x"] == [2.0]


def test_a_changed_entity_is_a_new_generation_of_its_views(
    filled: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows(3, k=pa.array([1, 2, 3], pa.int32())))
    filled.apply([view(entities=[Entity(name="sensor", join_keys={"k": Int32})])])
    assert generations(filled) == (1, 2, None)
    assert served(filled) == [1.0, 2.0, 3.0]
    live = filled.live_state().view("reading")
    assert live.served.definition.join_keys == {"k": Int64}
    filled.materialize()
    assert served(filled) == [1.0, 2.0, 3.0]
    assert generations(filled) == (2, 2, 1)


def test_windows_become_latest_values_and_the_other_way_round(filled: FeatureStore) -> None:
    windowed = FeatureView(
        name="reading",
        entities=view().entities,
        source=source(),
        aggregations=[Aggregation("x", ["sum"], windows=[None])],
    )
    filled.apply([windowed])
    assert served(filled) == [1.0, 2.0, 3.0]
    filled.materialize()
    assert served(filled, "x_sum_all") == [1.0, 2.0, 3.0]
    filled.rollback("reading")
    assert served(filled) == [1.0, 2.0, 3.0]


def test_history_says_who_switched(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    filled.materialize()
    filled.rollback("reading")
    newest = filled.history()[:2]
    found = [(e.action, e.generation_before, e.generation_after, bool(e.actor)) for e in newest]
    assert found == [("rollback", 2, 1, True), ("switch", 1, 2, True)]


def test_the_stamp_changes_with_whatever_lookups_mean(filled: FeatureStore) -> None:
    stamps = [filled.registry.version("plant")]

    def changes() -> bool:
        stamps.append(filled.registry.version("plant"))
        return stamps[-1] != stamps[-2]

    filled.materialize()
    assert not changes()
    filled.apply([SQUARE])
    assert changes()
    filled.materialize()
    assert changes()
    filled.materialize()
    assert not changes()
    filled.rollback("reading")
    assert changes()
    assert filled.registry.version("nobody") == ((), 0)


def test_status_says_what_is_served(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    [status] = filled.status()
    assert (status.generation, status.served, status.kept) == (2, 1, None)
    assert status.end_us is not None
    filled.materialize()
    filled.rollback("reading")
    [status] = filled.status()
    assert (status.generation, status.served, status.kept, status.is_held) == (2, 1, 2, True)


def test_an_interrupted_run_of_either_generation_goes_on(filled: FeatureStore) -> None:
    filled.apply([SQUARE])
    live = filled.live_state().view("reading")
    assert [v.generation for v in live.written] == [1, 2]
    run = filled._runs(None)
    task = run.tasks(None, None)[0][0]
    online = filled.online_store

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(online, name)

        def write(self, *_args: Any, **_options: Any) -> None:
            raise OSError("full")

    broken: Any = Full()
    with pytest.raises(OSError, match="full"):
        replace(run.materializer, store=broken).run(task)
    [report] = filled.materialize(resume=True)
    assert (report.generation, report.switched) == (1, False)


def test_a_settled_state_has_one_generation_of_each_view(store: FeatureStore) -> None:
    live = LiveState.settled(store.state())
    assert [v.generation for v in live.written] == [1]
    assert not live.view("reading").is_pending
    with pytest.raises(NotFoundError):
        live.view("nothing")


def test_a_generation_is_kept_before_its_end_alone() -> None:
    serving = Serving(generation=2, kept=1, kept_until=TODAY)
    assert serving.kept_at(TODAY - timedelta(microseconds=1)) == 1
    assert serving.kept_at(TODAY) is None
    assert Serving(generation=2).kept_at(TODAY) is None


def test_a_catalog_keeps_what_waits_as_json(filled: FeatureStore) -> None:
    filled.apply([FeatureService(name="all", features=[WIDE])])
    catalog = filled.serving_catalog()
    assert catalog.waiting == ("reading",)
    assert type(catalog).from_json(catalog.to_json()) == catalog
    assert json.loads(catalog.to_json())["switches"] == catalog.switches > 0


def test_better_words_are_no_new_generation(filled: FeatureStore) -> None:
    filled.apply([view(schema=[Field(name="x", dtype=Float64, description="only words")])])
    assert generations(filled) == (1, 1, None)


# --- what no source has ------------------------------------------------------------------------


def pushed(key: int, value: float, **more: Any) -> dict[str, Any]:
    return {"k": key, "t": parse_instant(NOW), "x": value} | more


def test_deleted_entities_stay_deleted(filled: FeatureStore) -> None:
    filled.delete_entity({"k": 2})
    filled.apply([SQUARE])
    assert [r.carried for r in filled.materialize()] == [0, 1]
    assert served(filled) == [1.0, None, 9.0]
    assert filled.verify().ok


def test_pushed_rows_are_taken_over_if_they_mean_the_same(filled: FeatureStore) -> None:
    filled.push("reading", [pushed(1, 10.0), pushed(4, 40.0)])
    filled.apply([view(ttl="3650d")])
    report = filled.materialize()[1]
    assert (report.carried, report.left_pushed, report.switched) == (2, 0, True)
    assert served(filled, keys=(1, 2, 4)) == [10.0, 2.0, 40.0]
    assert filled.verify().ok


def test_a_row_that_is_older_than_the_sources_is_not_taken_over(
    filled: FeatureStore, root: Path
) -> None:
    filled.push("reading", [pushed(1, 10.0, t=THEN + timedelta(days=1))])
    later = pa.array([THEN + timedelta(days=2)] * 3, UTC_US)
    write(root / FILE, rows(3, t=later, x=[5.0, 6.0, 7.0]))
    filled.apply([SQUARE])
    report = filled.materialize()[1]
    assert (report.carried, report.left_pushed, report.switched) == (0, 0, True)
    assert served(filled) == [25.0, 36.0, 49.0]


def test_lookups_wait_for_pushed_rows_that_mean_something_else(filled: FeatureStore) -> None:
    filled.push("reading", [pushed(4, 40.0)])
    filled.apply([SQUARE])
    report = filled.materialize()[1]
    assert (report.left_pushed, report.switched) == (1, False)
    assert served(filled, keys=(2, 4)) == [2.0, 40.0]
    filled.push("reading", [pushed(4, 40.0)])  # it goes to both generations
    report = filled.materialize_incremental()[1]
    assert (report.left_pushed, report.switched) == (0, True)
    assert served(filled, keys=(2, 4)) == [4.0, 1600.0]


def test_pushed_rows_can_be_let_go(filled: FeatureStore) -> None:
    filled.push("reading", [pushed(4, 40.0)])
    filled.apply([SQUARE])
    filled.materialize()
    report = filled.materialize_incremental(drop_pushed=True)[1]
    assert (report.left_pushed, report.switched) == (0, True)
    assert served(filled, keys=(2, 4)) == [4.0, None]


def test_pushed_rows_that_have_expired_are_not_missed(root: Path) -> None:
    with project(root, clock="2024-01-02T00:00:00Z", **QUICK) as store:
        store.apply([view(ttl="1d")])
        store.materialize()
        store.push("reading", [pushed(4, 40.0, t=THEN)])
        store.clock = Clock(datetime(2024, 1, 5, tzinfo=UTC))
        store.apply([view(ttl="1d", transform="SELECT x * x AS x FROM readings")])
        report = store.materialize()[1]
        assert (report.left_pushed, report.switched) == (0, True)


def test_other_join_keys_cannot_take_anything_over(filled: FeatureStore, root: Path) -> None:
    filled.delete_entity({"k": 2})
    write(root / "other.parquet", rows(3, u=["a", "b", "c"]))
    filled.apply([view("other.parquet", keys={"u": String})])
    report = filled.materialize()[1]
    assert (report.left_pushed, report.switched) == (1, False)


def test_a_resumed_run_takes_over_too(filled: FeatureStore) -> None:
    filled.delete_entity({"k": 2})
    filled.apply([SQUARE])
    real = filled.online_store

    class Full(MemoryOnlineStore):
        @override
        def write(
            self, table: TableId, rows: EncodedRows, *, overwrite: bool = False
        ) -> WriteCounts:
            if table.generation == 2:
                raise StoreError("It is full.")
            return real.write(table, rows, overwrite=overwrite)

    filled.online_store = Full()
    with pytest.raises(StoreError):
        filled.materialize()
    filled.online_store = real
    [report] = filled.materialize(resume=True)
    assert (report.generation, report.carried, report.switched) == (2, 1, True)
    assert served(filled) == [1.0, None, 9.0]


def test_a_push_follows_what_others_apply(filled: FeatureStore, root: Path) -> None:
    filled.push("reading", [pushed(1, 10.0)])
    with project(root, **QUICK) as other:
        other.apply([SQUARE])
    filled.push("reading", [pushed(2, 20.0)])
    report = filled.materialize()[1]
    assert report.left_pushed == 1, "the first one, which came before"
    filled.push("reading", [pushed(1, 10.0)])
    filled.materialize()
    assert served(filled) == [100.0, 400.0, 9.0]


def test_a_push_knows_when_a_generation_is_kept_no_longer(filled: FeatureStore) -> None:
    at(filled, TODAY)
    filled.apply([SQUARE])
    filled.materialize()
    filled.push("reading", [pushed(1, 10.0)])
    rows_of_first = dict(row for batch in filled.online_store.scan(FIRST) for row in batch)
    filled.registry._wall_clock = Clock(TODAY + timedelta(hours=25))
    filled.push("reading", [pushed(1, 11.0)])
    assert dict(row for batch in filled.online_store.scan(FIRST) for row in batch) == rows_of_first
    assert served(filled)[0] == 121.0


def test_a_view_that_was_only_pushed_to_keeps_its_rows(store: FeatureStore) -> None:
    store.push("reading", [pushed(4, 40.0)])
    store.apply([view(ttl="3650d")])
    assert (generations(store), served(store, keys=(4,))) == ((1, 2, None), [40.0])
    report = store.materialize()[1]
    assert (report.carried, report.switched) == (1, True)
    assert served(store, keys=(1, 4)) == [1.0, 40.0]


def test_definitions_can_be_applied_without_the_online_store(store: FeatureStore) -> None:
    class Gone(MemoryOnlineStore):
        @override
        def tables(self, project: str) -> list[TableId]:
            raise StoreError("It is gone.")

    store.online_store = Gone()
    store.apply([SQUARE])
    assert generations(store) == (1, 2, None), "who knows what is in there"
    store.online_store = MemoryOnlineStore()
    store.materialize()
    assert served(store) == [1.0, 4.0, 9.0]


def test_rows_of_a_view_that_was_deleted_hold_nothing_back(filled: FeatureStore) -> None:
    gone = plan_deletion([ObjectRef("feature view", "reading")], filled.state())
    filled.apply(gone, allow_destroy=True)
    filled.apply([view()])
    filled.apply([SQUARE])
    assert generations(filled) == (3, 3, None)


@pytest.mark.parametrize("how", ["window", "failed"])
def test_nothing_but_a_run_that_fills_it_lets_lookups_switch(
    filled: FeatureStore, root: Path, how: str
) -> None:
    filled.push("reading", [pushed(4, 40.0)])
    filled.apply([SQUARE])
    assert filled.materialize()[1].left_pushed == 1
    if how == "window":
        filled.materialize(start="2020-01-01T00:00:00Z")
    else:
        (root / FILE).unlink()
        with pytest.raises(SourceError):
            filled.materialize_incremental()
    assert generations(filled) == (1, 2, None)
    assert served(filled, keys=(2, 4)) == [2.0, 40.0]


class Overtaken(MemoryOnlineStore):
    """A store behind whose first write of an application a generation is applied and filled."""

    def __init__(self, store: FeatureStore, to: FeatureView) -> None:
        super().__init__()
        self._feature_store, self._to = store, to
        self.is_armed = False

    @override
    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        if self.is_armed:
            self.is_armed = False
            self._feature_store.apply([self._to])
            self._feature_store.materialize()
        return super().write(table, rows, overwrite=overwrite)


@pytest.fixture
def overtaken(store: FeatureStore) -> Overtaken:
    store.online_store = made = Overtaken(store, SQUARE)
    store.materialize()
    made.is_armed = True
    return made


def test_a_delete_reaches_a_generation_that_overtakes_it(
    store: FeatureStore, overtaken: Overtaken
) -> None:
    assert store.delete_entity({"k": 2}).deleted == ("reading",)
    assert not overtaken.is_armed
    assert generations(store) == (2, 2, 1)
    assert served(store) == [1.0, None, 9.0]


def test_a_push_reaches_a_generation_that_overtakes_it(
    store: FeatureStore, overtaken: Overtaken
) -> None:
    store.push("reading", [pushed(2, 20.0)])
    assert not overtaken.is_armed
    assert generations(store) == (2, 2, 1)
    assert served(store) == [1.0, 400.0, 9.0]


def test_an_entity_is_deleted_while_other_join_keys_wait(filled: FeatureStore, root: Path) -> None:
    write(root / "other.parquet", rows(3, u=["a", "b", "c"]))
    filled.apply([view("other.parquet", keys={"u": String})])
    assert filled.delete_entity({"k": 2}).deleted == ("reading",)
    assert served(filled) == [1.0, None, 3.0]
    write(root / "other.parquet", rows(3, k=["1", "2", "3"]))
    filled.apply([view("other.parquet", keys={"k": String})])
    assert filled.delete_entity({"k": 3}).deleted == ("reading",)
    assert served(filled) == [1.0, None, None]
    assert filled.materialize()[1].left_pushed == 2, "nobody knows who they are in the new keys"


def test_a_tombstone_that_is_over_holds_nothing_back(root: Path) -> None:
    with project(root, clock="2024-01-02T00:00:00Z", **QUICK) as store:
        store.apply([view(ttl="1d")])
        store.materialize()
        store.delete_entity({"k": 2})
        store.clock = Clock(datetime(2024, 3, 1, tzinfo=UTC))
        write(root / "other.parquet", rows(3, u=["a", "b", "c"]))
        store.apply([view("other.parquet", keys={"u": String})])
        report = store.materialize()[1]
        assert (report.left_pushed, report.switched) == (0, True)


def test_all_generations_take_a_pushed_row_with_one_created_time(root: Path) -> None:
    times = pa.array([THEN] * 3, UTC_US)
    write(root / FILE, rows(3, made=times))
    of: dict[str, Any] = {"reads": {"created_timestamp_column": "made"}}
    with project(root, clock="system", **QUICK) as store:
        store.apply([view(**of)])
        store.materialize()
        store.apply([view(**of, transform="SELECT x * x AS x FROM readings")])
        store.push("reading", [{"k": 1, "t": THEN + timedelta(days=1), "x": 10.0}])
        (key,) = encode_keys(["int64"], [[1]])
        tables = [replace(FIRST, generation=number) for number in (1, 2)]
        requests = [ReadRequest(table=table, keys=[key or b""]) for table in tables]
        (first,), (second,) = store.online_store.read(requests)
        assert first is not None
        assert second is not None
        assert read_version(first) == read_version(second)
