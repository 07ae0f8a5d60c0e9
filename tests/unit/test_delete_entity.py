"""A deleted entity is not found, and only newer rows bring it back."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation, Entity, FeatureView
from featurestore.errors import EntityValueError, NotFoundError, RequestError
from featurestore.materialize.delete import DeletionReport
from featurestore.online.codec import is_tombstone, tombstone
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import EncodedRows, TableId, WriteCounts
from featurestore.store import FeatureStore
from featurestore.testing.store_runner import MovableClock
from featurestore.time import to_micros
from featurestore.types import Int64, String
from tests.unit.projects import FILE, QUICK, UTC_US, project, rows, says, source, view, write

NOW = datetime(2024, 6, 1, tzinfo=UTC)
DAY_MS = 86_400_000


class Recording(MemoryOnlineStore):
    """Remembers what it was told of the rows' remaining time."""

    def __init__(self) -> None:
        super().__init__()
        self.remaining: dict[str, list[int | None]] = {}

    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        self.remaining.setdefault(table.view, []).extend(rows.remaining_ms or [None])
        return super().write(table, rows, overwrite=overwrite)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    with filled(tmp_path) as opened:
        yield opened


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    """A store for tests of what is refused."""
    with filled(tmp_path_factory.mktemp("unchanged")) as opened:
        yield opened


@contextmanager
def filled(root: Path) -> Iterator[FeatureStore]:
    """Views of one key, of two, of another one, of none and of windows, all materialized."""
    write(root / FILE, rows(3, s=["a", "b", "c"]))
    sensor = Entity(name="sensor", join_keys={"k": Int64})
    windows = FeatureView(
        name="windows",
        entities=[sensor],
        source=source(),
        aggregations=[Aggregation("x", ["sum"], windows=[None])],
    )
    pair = Entity(name="pair", join_keys={"k": Int64, "s": String})
    word = Entity(name="word", join_keys={"s": String})
    views = [
        view(),
        view(name="pair", entities=[pair]),
        view(name="word", entities=[word], ttl=timedelta(days=500)),
        view(name="everybody", entities=[]),
        view(name="offline", online=False),
        windows,
    ]
    clock = MovableClock()
    clock.put(to_micros(NOW))
    with FeatureStore(root, config={"project": "plant", **QUICK}, clock=clock) as opened:
        opened.__dict__["online_store"] = Recording()
        opened.apply(views)
        opened.materialize()
        yield opened


def put_clock(store: FeatureStore, at: datetime) -> None:
    assert isinstance(store.clock, MovableClock)
    store.clock.put(to_micros(at))


def statuses(store: FeatureStore, of: str, **keys: Any) -> list[str]:
    found = store.get_online_features([of], {name: [value] for name, value in keys.items()})
    return [status.name for (status,) in found.statuses.values()]


def test_an_entity_is_deleted_from_all_views_about_it(store: FeatureStore) -> None:
    report = store.delete_entity({"k": 1})
    assert report == DeletionReport(
        deleted=("reading", "windows"), kept=(), skipped={"pair": ("s",)}
    )
    assert statuses(store, "reading:x", k=1) == ["NOT_FOUND"]
    assert statuses(store, "windows:x_sum_all", k=1) == ["NOT_FOUND"]
    assert statuses(store, "reading:x", k=2) == ["PRESENT"]
    assert statuses(store, "pair:x", k=1, s="a") == ["PRESENT"]
    assert statuses(store, "word:x", s="a") == ["PRESENT"]


def test_several_keys_delete_what_each_of_them_names(store: FeatureStore) -> None:
    report = store.delete_entity({"k": 1, "s": "b"})
    assert report.deleted == ("pair", "reading", "windows", "word")
    assert statuses(store, "word:x", s="b") == ["NOT_FOUND"]
    assert statuses(store, "pair:x", k=1, s="a") == ["PRESENT"]
    report = store.delete_entity({"k": 1, "s": "a"}, views=["pair"])
    assert (report.deleted, report.skipped) == (("pair",), {})
    assert statuses(store, "pair:x", k=1, s="a") == ["NOT_FOUND"]
    assert statuses(store, "word:x", s="a") == ["PRESENT"]


def test_an_entity_that_was_never_there_stays_away(store: FeatureStore) -> None:
    assert store.delete_entity({"k": 99}).deleted == ("reading", "windows")
    assert store.push("reading", rows(1, k=[99])).kept == 1
    assert statuses(store, "reading:x", k=99) == ["NOT_FOUND"]


def test_older_rows_do_not_revive_it_and_newer_ones_do(store: FeatureStore) -> None:
    store.delete_entity({"k": 1})
    (run, *_) = store.materialize(views=["reading"])
    assert (run.written, run.kept) == (2, 1)
    just_before = pa.array([NOW - timedelta(microseconds=1)], UTC_US)
    assert store.push("reading", rows(1, t=just_before)).kept == 1
    assert statuses(store, "reading:x", k=1) == ["NOT_FOUND"]
    put_clock(store, NOW + timedelta(seconds=1))
    later = pa.array([store.clock.now()], UTC_US)
    assert store.push("reading", rows(1, t=later)).written == 1
    assert statuses(store, "reading:x", k=1) == ["PRESENT"]


def test_windows_that_end_later_bring_it_back(store: FeatureStore) -> None:
    store.delete_entity({"k": 1})
    put_clock(store, NOW + timedelta(seconds=1))
    store.materialize(views=["windows"])
    assert statuses(store, "windows:x_sum_all", k=1) == ["PRESENT"]


def test_a_row_of_the_future_stays_and_the_report_says_so(store: FeatureStore) -> None:
    ahead = pa.array([NOW + timedelta(minutes=4)], UTC_US)
    store.push("reading", rows(1, t=ahead))
    report = store.delete_entity({"k": 1})
    assert (report.deleted, report.kept) == (("windows",), ("reading",))
    put_clock(store, NOW + timedelta(minutes=4))
    assert store.delete_entity({"k": 1}).kept == ()
    assert statuses(store, "reading:x", k=1) == ["NOT_FOUND"]


def test_a_tombstone_is_kept_for_ttl_and_grace_or_the_retention(store: FeatureStore) -> None:
    kept = store.online_store.remaining  # type: ignore[attr-defined]
    store.delete_entity({"k": 1, "s": "a"})
    assert kept["reading"][-1] == 90 * DAY_MS
    assert kept["word"][-1] == 1_000 * DAY_MS
    table = TableId(project="plant", view="reading", generation=1)
    values = [value for batch in store.online_store.scan(table) for _, value in batch]
    assert [v for v in values if is_tombstone(v)] == [tombstone(to_micros(NOW))]


def test_the_retention_is_configured(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1))
    with project(tmp_path, tombstone_retention="5d", **QUICK) as store:
        store.__dict__["online_store"] = Recording()
        store.apply([view()])
        store.delete_entity({"k": 1})
        assert store.online_store.remaining == {"reading": [5 * DAY_MS]}  # type: ignore[attr-defined]


def test_a_deletion_is_an_excuse_and_what_it_does_not_explain_is_a_defect(
    store: FeatureStore,
) -> None:
    store.delete_entity({"k": 1})
    report = store.verify(views=["reading", "windows"])
    assert [dict(v.differences) for v in report.views] == [{"deleted": 1}] * 2
    put_clock(store, NOW + timedelta(seconds=1))
    store.materialize(views=["windows"])
    assert dict(store.verify(views=["windows"]).views[0].differences) == {}
    table = TableId(project="plant", view="windows", generation=1)
    ((key, _), *_) = next(store.online_store.scan(table))
    stale = EncodedRows(keys=[key], values=[tombstone(to_micros(NOW))])
    store.online_store.write(table, stale, overwrite=True)
    assert dict(store.verify(views=["windows"]).views[0].differences) == {"DEFECT": 1}


@pytest.mark.parametrize(
    ("entity", "views", "field", "words"),
    [
        ({"kk": 1}, None, "kk", ("did you mean 'k'",)),
        ({"k": 1, "other": 1}, None, "other", ("no join key",)),
        ({"s": "a"}, ["pair"], "k", ("'pair'", "'k'")),
        ({"s": "a"}, ["word", "reading"], "k", ("'reading'", "'k'")),
        ({"k": None}, None, "k", ("null",)),
        ({"k": float("nan")}, None, "k", ("null",)),
        ({"k": "a"}, None, "k", ("int64",)),
        ({"k": 1.5}, None, "k", ("whole",)),
    ],
)
def test_wrong_keys_are_refused_before_anything_is_deleted(
    unchanged: FeatureStore,
    entity: dict[str, object],
    views: list[str] | None,
    field: str,
    words: tuple[str, ...],
) -> None:
    with pytest.raises(EntityValueError) as caught:
        unchanged.delete_entity(entity, views=views)
    assert caught.value.field == field
    assert says(caught.value, *words, hint=bool(caught.value.hint))
    assert statuses(unchanged, "word:x", s="a") == ["PRESENT"]


def test_an_entity_is_deleted_from_all_generations_that_are_alive(store: FeatureStore) -> None:
    store.apply([view(ttl=timedelta(days=3_000))])
    store.delete_entity({"k": 1}, views=["reading"])
    assert statuses(store, "reading:x", k=1) == ["NOT_FOUND"]
    store.materialize(views=["reading"])
    assert store.status(views=["reading"])[0].served == 2
    assert statuses(store, "reading:x", k=1) == ["NOT_FOUND"]
    assert statuses(store, "reading:x", k=2) == ["PRESENT"]
    store.delete_entity({"k": 2}, views=["reading"])
    store.rollback("reading")
    assert statuses(store, "reading:x", k=2) == ["NOT_FOUND"]


def test_what_cannot_be_deleted_from_says_why(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="about nobody"):
        store.delete_entity({"k": 1}, views=["reading", "everybody"])
    with pytest.raises(RequestError, match="not served online"):
        store.delete_entity({"k": 1}, views=["offline"])
    with pytest.raises(NotFoundError, match="readin"):
        store.delete_entity({"k": 1}, views=["readin"])
    with pytest.raises(RequestError, match="No join key"):
        store.delete_entity({})
    assert statuses(store, "reading:x", k=1) == ["PRESENT"]
