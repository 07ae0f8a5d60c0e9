"""Spines: from events, from grids, sampled, deduplicated, labelled; and what they refuse."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore import (
    Aggregation,
    Entity,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    InRange,
    OnDemandFeatureView,
    RequestSource,
    RowCount,
    Sql,
)
from featurestore.errors import (
    DefinitionError,
    NameCollisionError,
    NotFoundError,
    OutputError,
    RequestError,
    SourceOutsideRootsError,
    SourceSchemaError,
    SpineError,
)
from featurestore.spines import Spine
from featurestore.spines.plain_columns import without_views
from featurestore.spines.row_hash import row_hashes
from featurestore.types import Float64, Int64, String
from tests.unit.projects import UTC_US

ENGINES = ("duckdb", "polars")
USER = Entity(name="user", join_keys={"user_id": Int64})
ORDERS = FileSource(
    name="orders",
    path="orders.parquet",
    timestamp_field="at",
    created_timestamp_column="made",
    dedup_keys=["order_id"],
)
RETURNS = FileSource(
    name="returns",
    path="returns.parquet",
    timestamp_field="returned_at",
    lateness=timedelta(days=1),
)
PAID = FeatureView(
    name="paid",
    entities=[USER],
    source=ORDERS,
    transform="SELECT *, cents / 100.0 AS euros FROM source WHERE status <> 'test'",
    aggregations=[Aggregation("euros", ["sum"], ["7d"])],
)
STATUS = FeatureView(
    name="last_status", entities=[USER], source=ORDERS, schema=[Field(name="status", dtype=String)]
)


def day(number: int, hour: int = 0) -> datetime:
    """Return a time of January 2026."""
    return datetime(2026, 1, number, hour, tzinfo=UTC)


def orders() -> pa.Table:
    """Return five orders: b was corrected, c was a test, e has no user."""
    rows = [
        ("a", 1, day(1), day(1), 1_000, "paid"),
        ("b", 1, day(3), day(3), 2_000, "paid"),
        ("b", 1, day(4), day(5), 2_500, "paid"),
        ("c", 2, day(5), day(5), 3_000, "test"),
        ("d", 2, day(8, 12), day(9), 4_000, "paid"),
        ("e", None, day(9), day(9), 5_000, "paid"),
    ]
    names = ("order_id", "user_id", "at", "made", "cents", "status")
    types = (pa.string(), pa.int64(), UTC_US, UTC_US, pa.int64(), pa.string())
    columns = zip(*rows, strict=True)
    return pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)})


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tests begin with: the orders and three returns."""
    folder = tmp_path_factory.mktemp("applied")
    pq.write_table(orders(), folder / "orders.parquet")
    returned = pa.table(
        {
            "user_id": pa.array([1, 1, 2], pa.int64()),
            "returned_at": pa.array([day(2), day(10), day(20)], UTC_US),
            "reason": ["size", "late", "late"],
        }
    )
    pq.write_table(returned, folder / "returns.parquet")
    with reopened(folder, "polars") as store:
        store.apply([PAID, STATUS, RETURNS])
    return folder


def reopened(folder: Path, engine: str) -> FeatureStore:
    config = {"project": "shop", "clock": "2026-02-01T00:00:00Z", "offline_store": engine}
    return FeatureStore(folder, config=config)


def opened(folder: Path, engine: str, applied: Path) -> FeatureStore:
    """Return a store in a copy of that folder."""
    return reopened(shutil.copytree(applied, folder, dirs_exist_ok=True), engine)


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path, applied: Path) -> Iterator[FeatureStore]:
    with opened(tmp_path, request.param, applied) as found:
        yield found


@pytest.fixture
def any_store(tmp_path: Path, applied: Path) -> Iterator[FeatureStore]:
    """Where the engine does not matter: Polars starts in no time."""
    with opened(tmp_path, "polars", applied) as found:
        yield found


def rows_of(spine: Spine) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in spine.to_arrow().to_pylist()]


def asked(store: FeatureStore, *rows: tuple[int | None, datetime | None]) -> Spine:
    """Return a spine of these users and times."""
    keys, times = zip(*rows, strict=True)
    table = {"user_id": pa.array(keys, pa.int64()), "event_timestamp": pa.array(times, UTC_US)}
    return store.spines.from_table(pa.table(table), keys=["user_id"])


# ---- events


def test_a_views_events_are_its_rows_behind_the_transform_each_once(store: FeatureStore) -> None:
    spine = store.spines.from_events("paid", columns=["euros"])
    assert rows_of(spine) == [(1, day(1), 10.0), (1, day(4), 25.0), (2, day(8, 12), 40.0)]
    assert spine.keys == ("user_id",)


def test_a_sources_events_need_its_keys_and_may_carry_its_times(store: FeatureStore) -> None:
    spine = store.spines.from_events(
        "orders", keys=["user_id", "status"], columns=["at"], start=day(1), end=day(5), offset="-1h"
    )
    hour = timedelta(hours=1)
    assert rows_of(spine) == [
        (1, "paid", day(4) - hour, day(4)),
        (2, "test", day(5) - hour, day(5)),
    ]
    step = spine.origin["steps"][0]
    assert (step["interval"], step["offset"], step["files"]) == (
        "(start, end]",
        "-1h",
        ["orders.parquet"],
    )


def test_a_spine_ends_now(store: FeatureStore) -> None:
    store.clock = type(store.clock)(day(4))
    assert [row[1] for row in rows_of(store.spines.from_events("paid", end=day(30)))] == [
        day(1),
        day(4),
    ]


def test_events_are_refused_by_name(any_store: FeatureStore) -> None:
    spines = any_store.spines
    with pytest.raises(NotFoundError, match="returns"):
        spines.from_events("return")
    with pytest.raises(RequestError, match="which of its columns are keys"):
        spines.from_events("orders")
    with pytest.raises(RequestError, match="keys of its own: user_id"):
        spines.from_events("paid", keys=["status"])
    with pytest.raises(SpineError, match="more than 2 events"):
        spines.from_events("paid", max_rows=2)
    with pytest.raises(RequestError, match="not before the end"):
        spines.from_events("paid", start=day(2), end=day(2))
    with pytest.raises(SourceSchemaError, match="no column 'reasons'"):
        spines.from_events("returns", keys=["user_id"], columns=["reasons"])
    with pytest.raises(NameCollisionError, match="'USER_ID'"):
        spines.from_events("paid", timestamp_field="USER_ID")
    with pytest.raises(SpineError, match="offset"):
        spines.from_events("paid", offset="an hour")


def test_a_view_and_a_source_of_one_name_are_told_apart(any_store: FeatureStore) -> None:
    any_store.apply(
        [FeatureView(name="orders", entities=[USER], source=ORDERS, schema=STATUS.fields)]
    )
    with pytest.raises(RequestError, match="source/orders"):
        any_store.spines.from_events("orders")
    assert any_store.spines.from_events("view/orders").num_rows == 4
    assert any_store.spines.from_events("source/orders", keys=["order_id"]).num_rows == 5


def test_sources_outside_the_roots_are_not_read(any_store: FeatureStore, tmp_path: Path) -> None:
    spine = asked(any_store, (1, day(1)))
    any_store.source_roots = (tmp_path / "elsewhere",)
    makes: list[Callable[[], object]] = [
        lambda: any_store.spines.from_events("paid"),
        lambda: any_store.spines.from_grid("paid", start=day(1), end=day(2), every="1d"),
        lambda: any_store.spines.from_table(spine).label("n", "returns", window="1d"),
        lambda: any_store.spines.from_table(spine).label_as_of(
            "s", "last_status:status", after="1d"
        ),
    ]
    for make in makes:
        with pytest.raises(SourceOutsideRootsError):
            make()


# ---- grids


def test_an_entity_is_there_from_its_first_event_on(store: FeatureStore) -> None:
    grid = store.spines.from_grid("paid", start=day(4), end=day(9, 12), every="2d")
    assert rows_of(grid) == [(1, day(4)), (1, day(6)), (1, day(8))]
    ever = store.spines.from_grid(
        "paid", start=day(4), end=day(9, 12), every="2d", before_first_event=True
    )
    assert ever.num_rows == 3, "whose first event comes after the grid is not there"
    longer = store.spines.from_grid(
        "paid", start=day(4), end=day(10), every="2d", before_first_event=True
    )
    assert rows_of(longer)[4:] == [(2, day(4)), (2, day(6)), (2, day(8)), (2, day(10))]


def test_days_follow_the_clock_on_the_wall_and_hours_do_not(any_store: FeatureStore) -> None:
    def new_york(every: str, start: str, end: str) -> list[str]:
        grid = any_store.spines.from_grid(
            entities={"user_id": [1]},
            start=start,
            end=end,
            every=every,
            timezone="America/New_York",
        )
        zone = pl.col("event_timestamp").dt.convert_time_zone("America/New_York")
        return grid.to_polars().select(zone.dt.strftime("%m-%d %H:%M"))["event_timestamp"].to_list()

    any_store.clock = type(any_store.clock)(datetime(2027, 1, 1, tzinfo=UTC))
    days = new_york("1d", "2026-03-07", "2026-03-09T00:00")
    assert days == ["03-07 00:00", "03-08 00:00", "03-09 00:00"]
    assert new_york("12h", "2026-03-07T12:00", "2026-03-08T13:00") == [
        "03-07 12:00",
        "03-08 00:00",
        "03-08 13:00",
    ]
    assert new_york("1d", "2026-03-07T02:30", "2026-03-09T03:00") == [
        "03-07 02:30",
        "03-08 03:00",
        "03-09 02:30",
    ]
    assert new_york("1mo", "2026-01-31", "2026-04-30") == [
        "01-31 00:00",
        "02-28 00:00",
        "03-31 00:00",
        "04-30 00:00",
    ]


def test_grids_are_refused_before_they_are_made(any_store: FeatureStore) -> None:
    def grid(**changes: Any) -> Spine:
        given: dict[str, Any] = {"entities": {"k": [1, 2]}, "every": "1d"}
        given |= {"start": day(1), "end": day(3)}
        return any_store.spines.from_grid(**(given | changes))

    assert grid().num_rows == 6
    with pytest.raises(SpineError, match="6 rows: 2 entities at 3 moments"):
        grid(max_rows=5)
    with pytest.raises(SpineError, match="1,000,000 moments"):
        grid(every="1us")
    for every in ("0d", "1", "fortnight", "0mo"):
        with pytest.raises(SpineError, match="no distance"):
            grid(every=every)
    with pytest.raises(SpineError, match="before its start"):
        grid(end=datetime(2025, 1, 1, tzinfo=UTC))
    with pytest.raises(SpineError, match="Atlantis"):
        grid(timezone="Atlantis")
    with pytest.raises(RequestError, match="keys of a view or source, or of entities"):
        grid(of="paid")
    assert grid(end="2030-01-01").origin["steps"][0]["end"] == "2026-02-01T00:00:00Z"


# ---- fewer rows


def test_a_hash_is_what_it_has_always_been() -> None:
    """Samples of a seed must not change with a version: these numbers are for good."""
    columns = [
        pa.chunked_array([pa.array([1, None, -1], pa.int64())]),
        pa.chunked_array([["a", "long enough for three words", ""]]),
        pa.chunked_array([pa.array([day(1), day(2), None], UTC_US)]),
    ]
    assert row_hashes(columns, 3, seed=7).tolist() == HASHES
    narrow = [columns[0].cast(pa.int8()), columns[1].cast(pa.large_string()), columns[2]]
    assert row_hashes(narrow, 3, seed=7).tolist() == HASHES


HASHES = [4222237266012846882, 13245995664253510444, 6966700473727536886]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"x" * 9_000, b"x" * 8_999 + b"y", b"x" * 9_000]),
        pa.array(["ab", "abc", "ab"], pa.string_view()),
        pa.array([1.5, float("nan"), 1.5]),
        pa.array([[1], [2], [1]]),
        pa.array([True, None, True]),
        pa.array(["b", "a", "b"]).dictionary_encode(),
        pa.array(["b", "a", "b"], pa.string_view()).dictionary_encode(),
        pa.array([["b"], ["a"], ["b"]], pa.list_(pa.string_view())),
        pa.array([0.0, 1.0, -0.0]),
        pa.array([day(1).date(), day(2).date(), day(1).date()]),
        pa.array([Decimal("1.5"), Decimal(2), Decimal("1.5")], pa.decimal32(5, 2)),
        pa.array([Decimal("1.5"), Decimal(2), Decimal("1.5")], pa.decimal64(12, 2)),
        pa.array([b"0" * 16, b"1" * 16, b"0" * 16], pa.uuid()),
        pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3]), pa.array(["a", "b", "a"])),
    ],
)
def test_rows_of_any_type_are_told_apart(any_store: FeatureStore, column: pa.Array) -> None:
    plain = without_views(pa.table({"k": column}))
    first, second, third = row_hashes([plain["k"]], 3, seed=0).tolist()
    assert first == third != second
    times = pa.array([day(1)] * 3, UTC_US)
    table = pa.table({"k": column, "event_timestamp": times})
    assert any_store.spines.from_table(table, keys=["k"]).deduplicate().num_rows == 2


def test_columns_that_cannot_be_held_or_written_are_named(
    any_store: FeatureStore, tmp_path: Path
) -> None:
    rows = {"user_id": [1, 1], "event_timestamp": pa.array([day(1)] * 2, UTC_US)}
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2]), pa.array([1]))
    with pytest.raises(SpineError, match=r"'odd' is struct<runs: run_end_encoded"):
        any_store.spines.from_table(
            pa.table(rows | {"odd": pa.StructArray.from_arrays([runs], ["runs"])}), keys=[]
        )
    for odd in (
        pa.array([{}, {}], pa.struct([])),
        pa.array([pa.MonthDayNano([1, 2, 3])] * 2),
        pa.array([2**62] * 2, pa.timestamp("s")),
    ):
        spine = any_store.spines.from_table(pa.table(rows | {"odd": odd}), keys=["user_id"])
        with pytest.raises(OutputError, match=r"odd\.parquet cannot be written"):
            spine.sample(2, by="odd").write_parquet(tmp_path / "odd.parquet")
        assert not list(tmp_path.glob("odd*"))


def test_a_sample_is_about_as_large_as_its_share_and_holds_the_smaller_one(
    any_store: FeatureStore,
) -> None:
    any_store.clock = type(any_store.clock)(datetime(2026, 12, 1, tzinfo=UTC))
    grid = any_store.spines.from_grid(
        entities={"user_id": list(range(100))}, start=day(1), end=day(31), every="6h"
    )
    tenth, fifth = (grid.sample(fraction=f, seed=5) for f in (0.1, 0.2))
    assert abs(tenth.num_rows / grid.num_rows - 0.1) < 0.01
    assert set(rows_of(tenth)) <= set(rows_of(fifth))
    assert set(rows_of(tenth)) != set(rows_of(grid.sample(fraction=0.1, seed=6)))
    per_user = grid.sample(3, by="user_id").to_polars()["user_id"].value_counts()["count"]
    assert per_user.to_list() == [3] * 100
    assert grid.sample(10, seed=1).origin["steps"][-1] == {
        "step": "sample",
        "n": 10,
        "seed": 1,
        "by": [],
        "rows_before": 12_100,
        "rows": 10,
    }


def test_labels_do_not_change_the_sample(any_store: FeatureStore) -> None:
    spine = any_store.spines.from_events("paid")
    labelled = spine.label("n", "returns", window="2d")
    assert [r[:2] for r in rows_of(labelled.sample(2, seed=9))] == rows_of(spine.sample(2, seed=9))


def test_samples_are_refused(any_store: FeatureStore) -> None:
    spine = asked(any_store, (1, day(1)))
    for arguments in ({}, {"n": 1, "fraction": 0.5}, {"n": -1}, {"fraction": 1.5}):
        with pytest.raises(SpineError):
            spine.sample(**arguments)
    with pytest.raises(SpineError, match="seed"):
        spine.sample(1, seed=-1)
    with pytest.raises(SpineError, match="did you mean 'user_id'"):
        spine.sample(1, by="user")


def test_conflicting_labels_are_named(any_store: FeatureStore) -> None:
    table = pa.table(
        {"k": [1, 1, 1], "event_timestamp": [day(1)] * 3, "late": [float("nan"), float("nan"), 0.0]}
    )
    spine = any_store.spines.from_table(table, keys=["k"], labels=["late"])
    with pytest.raises(SpineError, match=r"Rows 0 and 2 .* label 'late'") as caught:
        spine.deduplicate()
    assert (caught.value.column, caught.value.row) == ("late", 2)
    assert spine.deduplicate(conflicts="keep").num_rows == 1
    assert spine.deduplicate(conflicts="drop").num_rows == 0
    unmarked = any_store.spines.from_table(table, keys=["k"])
    assert unmarked.deduplicate(keep="last").to_arrow()["late"].to_pylist() == [0.0]
    with pytest.raises(SpineError, match="keep is one of"):
        spine.deduplicate(keep="best")  # type: ignore[arg-type]


# ---- labels


def test_a_label_counts_what_comes_after_and_is_null_while_it_is_not_known(
    store: FeatureStore,
) -> None:
    spine = asked(
        store,
        (1, day(2)),  # the return of that moment is no answer
        (1, day(1)),
        (2, day(5)),  # q + 14d is the 19th, up to which all is known
        (2, day(5, 1)),  # one hour too late to know
        (9, day(1)),  # nobody returned anything: known, and none
        (None, day(1)),
        (1, None),
    ).label("returned", "returns", window="14d")
    assert spine.to_arrow()["returned"].to_pylist() == [1, 2, 0, None, 0, None, None]
    assert spine.labels == ("returned",)
    step = spine.origin["steps"][-1]
    counts = step["mature"], step["immature"], step["without_key_or_time"]
    assert (counts, step["complete_until"]) == ((4, 1, 2), "2026-01-19T00:00:00Z")


def test_a_label_begins_behind_its_moment_and_ends_with_its_window(store: FeatureStore) -> None:
    us, returned = timedelta(microseconds=1), day(10)
    moments = [
        returned,
        returned - us,
        returned - timedelta(days=2),
        returned - timedelta(days=2) - us,
    ]
    found = asked(store, *((1, q) for q in moments)).label("n", "returns", window="2d")
    assert found.to_arrow()["n"].to_pylist() == [0, 1, 1, 0]


def test_a_label_is_mature_to_the_microsecond(store: FeatureStore) -> None:
    us, complete = timedelta(microseconds=1), day(19)
    moments = [complete - timedelta(days=2), complete - timedelta(days=2) + us]
    found = asked(store, *((1, q) for q in moments)).label("n", "returns", window="2d")
    assert found.to_arrow()["n"].to_pylist() == [0, None]


def test_immature_rows_are_left_out_or_refused(store: FeatureStore) -> None:
    spine = asked(store, (1, day(1)), (1, day(18)), (None, day(1)))
    assert rows_of(spine.label("n", "returns", window="5d", immature="drop")) == [
        (1, day(1), 1),
        (None, day(1), None),
    ]
    with pytest.raises(SpineError, match="1 of 3 rows, the first of them row 1") as caught:
        spine.label("n", "returns", window="5d", immature="raise")
    assert "complete until 2026-01-19T00:00:00Z" in str(caught.value)
    surely = spine.label("n", "returns", window="5d", complete_until=day(31), immature="raise")
    assert surely.to_arrow()["n"].to_pylist() == [1, 0, None]
    with pytest.raises(RequestError, match="after now"):
        spine.label("n", "returns", window="5d", complete_until="2026-02-02")
    with pytest.raises(SpineError, match="immature"):
        spine.label("n", "returns", window="5d", immature="zero")  # type: ignore[arg-type]


def test_a_source_without_events_makes_no_label_mature(store: FeatureStore) -> None:
    pq.write_table(
        pq.read_table(store.config.root / "returns.parquet").slice(0, 0),
        store.config.root / "returns.parquet",
    )
    assert (
        asked(store, (1, day(1))).label("n", "returns", window="1d").to_arrow()["n"][0].as_py()
        is None
    )


def test_events_that_have_not_taken_place_yet_complete_nothing(store: FeatureStore) -> None:
    store.clock = type(store.clock)(day(11))
    found = asked(store, (1, day(8)), (1, day(9))).label("n", "returns", window="1d")
    assert found.origin["steps"][-1]["complete_until"] == "2026-01-09T00:00:00Z"
    assert found.to_arrow()["n"].to_pylist() == [0, None]


def test_labels_take_a_views_transform_and_its_corrections(store: FeatureStore) -> None:
    spine = asked(store, (1, day(1)), (2, day(4))).label(
        "spent", "paid", window="3d", aggregation="sum", column="euros", empty=0
    )
    assert spine.to_arrow()["spent"].to_pylist() == [25.0, 0.0]
    exists = spine.label(
        "late", "returns", window="14d", aggregation="exists", where="reason = 'late'"
    )
    assert exists.to_arrow()["late"].to_pylist() == [True, False]


def test_a_value_as_of_later_may_be_a_label(store: FeatureStore) -> None:
    spine = asked(store, (2, day(5)), (2, day(8)), (9, day(1))).label_as_of(
        "status_then", "last_status:status", after="12h"
    )
    assert spine.to_arrow()["status_then"].to_pylist() == ["test", "paid", None]
    with pytest.raises(RequestError, match="has windows"):
        spine.label_as_of("x", "paid:euros_sum_7d", after="1d")
    with pytest.raises(RequestError, match="write 'view:feature'"):
        spine.label_as_of("x", "last_status", after="1d")


def test_keys_may_be_called_otherwise(store: FeatureStore) -> None:
    table = pa.table({"buyer": [1, 2], "event_timestamp": [day(1), day(1)]})
    spine = store.spines.from_table(table, keys=["buyer"])
    mapped = spine.label("a", "returns", window="14d", join_key_map={"user_id": "buyer"})
    mapped = mapped.label_as_of(
        "b", "last_status:status", after="1d", join_key_map={"user_id": "buyer"}
    )
    assert rows_of(mapped) == [(1, day(1), 2, "paid"), (2, day(1), 0, None)]
    with pytest.raises(SourceSchemaError, match="no column 'buyer'"):
        spine.label("a", "returns", window="14d")
    with pytest.raises(SpineError, match="no column 'user_id'"):
        spine.label("a", "paid", window="14d")


def test_labels_are_refused_by_what_is_wrong_with_them(any_store: FeatureStore) -> None:
    spine = asked(any_store, (1, day(1)))
    with pytest.raises(NameCollisionError, match=r"USER_ID|user_id"):
        spine.label("USER_ID", "returns", window="1d")
    for window in ("0d", "-1d", "soon", timedelta(0)):
        with pytest.raises(SpineError, match="window"):
            spine.label("n", "returns", window=window)
    with pytest.raises(DefinitionError, match="median"):
        spine.label("n", "returns", window="1d", aggregation="medain", column="reason")
    with pytest.raises(SpineError, match="name"):
        spine.label("a:b", "returns", window="1d")
    for empty in (float("nan"), float("-inf")):
        with pytest.raises(SpineError, match=f"empty={empty}"):
            spine.label("n", "paid", window="1d", aggregation="sum", column="euros", empty=empty)
    with pytest.raises(NotFoundError):
        spine.label("n", "refunds", window="1d")


# ---- what becomes of a spine


def test_a_label_is_never_what_a_feature_is_asked_by(store: FeatureStore) -> None:
    request = RequestSource(name="request", schema=[Field(name="n", dtype=Int64)])
    double = OnDemandFeatureView(name="double", sources=[request], features={"twice": "n * 2"})
    store.apply([double])
    spine = asked(store, (1, day(1))).label("n", "returns", window="1d")
    with pytest.raises(RequestError, match=r"'n' of the spine is a label.*request field"):
        store.get_historical_features(spine, ["double:twice"])
    role = STATUS.with_join_key_map({"user_id": "n"})
    with pytest.raises(RequestError, match=r"'n' of the spine is a label.*join key"):
        store.get_historical_features(spine, [role])
    marked = store.spines.from_table(
        spine.to_arrow().append_column("t", spine.to_arrow()["event_timestamp"]), labels=["t"]
    )
    with pytest.raises(RequestError, match="the spine's time"):
        store.get_historical_features(marked, ["last_status:status"], timestamp_field="t")
    named_so = FeatureView(
        name="v", entities=[USER], source=ORDERS, schema=[Field(name="status", dtype=String)]
    )
    carried = store.spines.from_events("paid", labels=["status"])
    with pytest.raises(NameCollisionError):
        store.get_historical_features(carried, [named_so])


def test_a_spine_is_taken_as_it_is_and_its_marks_travel(
    store: FeatureStore, tmp_path: Path
) -> None:
    spine = store.spines.from_events("paid").label("n", "returns", window="2d").sample(2, seed=1)
    file = spine.write_parquet(tmp_path / "spine.parquet")
    for given in (spine, file, spine.to_arrow()):
        job = store.get_historical_features(given, ["paid:euros_sum_7d"])
        assert (job.labels, job.spine_origin) == (("n",), spine.origin)
        assert job.to_arrow().column_names == ["user_id", "event_timestamp", "n", "euros_sum_7d"]
        job.write_parquet(tmp_path / "train.parquet")
        again = store.spines.from_table(tmp_path / "train.parquet", keys=["user_id"])
        assert again.labels == ("n",)
    read = store.spines.from_table(file)
    assert (read.origin, read.keys, rows_of(read)) == (spine.origin, ("user_id",), rows_of(spine))
    assert read.to_pandas().shape == (2, 3)
    assert repr(read) == "Spine(2 rows, keys user_id, labels n)"


@pytest.mark.parametrize(
    "origin",
    [
        b"{",
        b"[1]",
        b'{"keys": 7}',
        b'{"keys": ["nobody"]}',
        b'{"keys": ["user_id"], "steps": NaN}',
        b'{"keys": ["user_id"], "steps": [{"empty": 1e999}]}',
        b"[" * 100_000,
    ],
)
def test_what_a_file_says_of_itself_is_not_believed(
    any_store: FeatureStore, tmp_path: Path, origin: bytes
) -> None:
    table = pa.table({"user_id": [1], "event_timestamp": [day(1)]})
    file = tmp_path / "spine.parquet"
    pq.write_table(table.replace_schema_metadata({"featurestore.spine": origin}), file)
    with pytest.raises(SpineError, match=r"keys|'nobody'"):
        any_store.spines.from_table(file)
    assert any_store.spines.from_table(file, keys=["user_id"]).num_rows == 1
    assert any_store.get_historical_features(file, ["paid:euros_sum_7d"]).num_rows == 1


def test_a_table_becomes_a_spine_of_instants(store: FeatureStore) -> None:
    frame = pl.DataFrame({"user_id": [1], "when": [datetime(2026, 1, 1)]})  # noqa: DTZ001
    spine = store.spines.from_table(
        frame, keys=["user_id"], timestamp_field="when", timezone="Europe/Berlin"
    )
    assert rows_of(spine) == [(1, datetime(2025, 12, 31, 23, tzinfo=UTC))]
    labelled = spine.label("n", "returns", window="3d")
    assert labelled.to_arrow()["n"].to_pylist() == [1]
    job = store.get_historical_features(labelled, ["paid:euros_sum_7d"], timestamp_field="when")
    assert job.num_rows == 1
    with pytest.raises(SpineError, match="no column 'who'"):
        store.spines.from_table(frame, keys=["who"], timestamp_field="when")


# ---- contracts

PRICED = FileSource(
    name="priced",
    path="priced.parquet",
    timestamp_field="at",
    contract=[InRange("tax", min=0, policy="quarantine")],
)
PRICES = FeatureView(
    name="prices",
    entities=[USER],
    source=PRICED,
    aggregations=[Aggregation("price", ["sum"], [None], closed="right")],
    contract=[InRange("price", max=100, policy="quarantine"), RowCount(min=1)],
)
LAST_PRICE = FeatureView(
    name="last_price",
    entities=[USER],
    source=PRICED,
    transform="SELECT *, price AS cost FROM source",
    schema=[Field(name="cost", dtype=Float64)],
    contract=[
        Sql("small", "cost * 1000000000000000000 <= 100000000000000000000", policy="quarantine")
    ],
)


def priced(folder: Path, engine: str) -> FeatureStore:
    """Return a store over five prices, of which the second and the third are in quarantine."""
    rows = pa.table(
        {
            "user_id": pa.array([1, 1, 2, 1, None], pa.int64()),
            "at": pa.array([day(1), day(2), day(3), day(4), day(5)], UTC_US),
            "price": pa.array([10, 1_000, 5, 20, 7], pa.int32()),
            "tax": pa.array([0, 0, -1, None, 0], pa.int64()),
        }
    )
    pq.write_table(rows, folder / "priced.parquet")
    config = {"project": "shop", "clock": "2026-02-01T00:00:00Z", "offline_store": engine}
    store = FeatureStore(folder, config=config)
    store.apply([PRICES, LAST_PRICE])
    return store


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_in_quarantine_are_in_no_label_event_or_grid(engine: str, tmp_path: Path) -> None:
    with priced(tmp_path, engine) as store:
        spine = asked(store, (1, day(1) - timedelta(days=1)), (2, day(1)))
        until = day(20)
        for view, column in (("prices", "price"), ("last_price", "cost")):
            carried = store.spines.from_events(view, columns=[column])
            assert rows_of(carried) == [(1, day(1), 10), (1, day(4), 20)]
            assert rows_of(store.spines.from_events(view)) == [(1, day(1)), (1, day(4))]
            grid = store.spines.from_grid(view, start=day(6), end=day(6), every="1d")
            assert rows_of(grid) == [(1, day(6))]
            total = spine.label(
                "n",
                view,
                window="9d",
                aggregation="sum",
                column=column,
                empty=0,
                complete_until=until,
            )
            assert total.to_arrow()["n"].to_pylist() == [30, 0]
            count = spine.label("n", view, window="9d", complete_until=until)
            assert count.to_arrow()["n"].to_pylist() == [2, 0]
        later = asked(store, (1, day(9)), (2, day(9)))
        features = ["prices:price_sum_all", "last_price:cost"]
        found = store.get_historical_features(later, features).to_arrow()
        assert found["price_sum_all"].to_pylist()[0] == 30
        assert found["cost"].to_pylist() == [20.0, None]
        of_source = store.spines.from_events("priced", keys=["user_id"])
        assert rows_of(of_source) == [(1, day(1)), (1, day(2)), (1, day(4))]


@pytest.mark.parametrize("engine", ENGINES)
def test_only_what_can_be_somebodys_event_makes_labels_mature(engine: str, tmp_path: Path) -> None:
    with priced(tmp_path, engine) as store:
        path = tmp_path / "priced.parquet"
        bad = pa.table(
            {
                "user_id": pa.array([None, 1, 1], pa.int64()),
                "at": pa.array([day(20), day(21), day(22)], UTC_US),
                "price": pa.array([1, 1_000, 1], pa.int32()),
                "tax": pa.array([0, 0, -1], pa.int64()),
            }
        )
        pq.write_table(pa.concat_tables([pq.read_table(path), bad]), path)
        spine = asked(store, (1, day(1)), (1, day(3, 1)))
        for found in (
            spine.label("n", "prices", window="3d"),
            spine.label("n", "last_price", window="3d"),
            spine.label_as_of("n", "last_price:cost", after="3d"),
        ):
            assert found.origin["steps"][-1]["complete_until"] == "2026-01-04T00:00:00Z"
            assert [row[-1] is None for row in rows_of(found)] == [False, True]
        of_source = spine.label("n", "priced", window="3d").origin["steps"][-1]
        assert of_source["complete_until"] == "2026-01-21T00:00:00Z"  # its view's rule is no rule


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_that_a_transform_leaves_out_have_arrived_all_the_same(
    engine: str, tmp_path: Path, applied: Path
) -> None:
    tested = FeatureView(
        name="tested",
        entities=[USER],
        source=ORDERS,
        transform="""SELECT source.* FROM source ASOF JOIN returns
            ON source.user_id = returns.user_id AND source."at" >= returns.returned_at
            WHERE source.status = 'none'""",
        joins=[RETURNS],
        aggregations=[Aggregation("cents", ["sum"], ["7d"])],
        online=False,
    )
    with opened(tmp_path, engine, applied) as store:
        spine = asked(store, (1, day(1)))
        step = spine.label("n", tested, window="1d").origin["steps"][-1]
        assert step["complete_until"] == "2026-01-08T12:00:00Z"
        path = tmp_path / "returns.parquet"
        keys = pa.array([1, None, None], pa.int64())  # what is left of the returns is of day 2
        pq.write_table(pq.read_table(path).set_column(0, "user_id", keys), path)
        step = spine.label("n", tested, window="1d").origin["steps"][-1]
        assert step["complete_until"] == "2026-01-01T00:00:00Z"
