"""`verify` fails where serving and training disagree, and excuses only what it must."""

import decimal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typing_extensions import override

from featurestore.definitions import FeatureView
from featurestore.errors import NotFoundError, SourceError, StoreDataError
from featurestore.monitoring.verify import VerificationReport
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import LatestRows, RowFilter
from featurestore.offline.scan import SourceScan
from featurestore.online.codec import encode_keys, row_codec, tombstone
from featurestore.online.store import EncodedRows, TableId
from featurestore.store import FeatureStore
from featurestore.time import parse_clock, to_micros
from featurestore.types import (
    Binary,
    Bool,
    Date,
    Decimal,
    Float32,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    List,
    String,
    Timestamp,
    UInt8,
    UInt64,
    type_name,
)
from tests.unit.projects import FILE, QUICK, THEN, UTC_US, project, rows, spine, view, write

TABLE = TableId(project="plant", view="reading", generation=1)
DAY = timedelta(days=1)
END = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(root: Path) -> Iterator[FeatureStore]:
    with project(root, **QUICK) as opened:
        yield opened


@pytest.fixture
def filled(store: FeatureStore, root: Path) -> FeatureStore:
    """A store of three entities, materialized once."""
    write(root / FILE, rows(3))
    store.apply([view()])
    store.materialize()
    return store


def plant(
    store: FeatureStore, key: int, values: Sequence[Any], *, at: datetime, of: FeatureView
) -> None:
    """Write a row into the store as it is, whatever is there."""
    types = tuple(type_name(field.dtype) for field in of.fields)
    columns = [pa.array([v], f.dtype) for v, f in zip(values, of.fields, strict=True)]
    event = np.array([to_micros(at)])
    plant_bytes(store, key, row_codec(types).encode(event, None, columns)[0])


def plant_bytes(store: FeatureStore, key: int, value: bytes) -> None:
    """Write the bytes of a row into the store."""
    (encoded,) = encode_keys(["int64"], [pa.array([key])])
    assert encoded is not None
    store.online_store.write(TABLE, EncodedRows(keys=[encoded], values=[value]), overwrite=True)


def stored(store: FeatureStore) -> dict[bytes, bytes]:
    """Return all rows of the store."""
    return dict(row for batch in store.online_store.scan(TABLE) for row in batch)


def only_category(report: VerificationReport) -> str:
    """Return the one category that all differences of a report are in."""
    (verification,) = report.views
    (category,) = verification.differences
    assert {example.category for example in verification.examples} == {category}
    assert report.ok == (category != "DEFECT")
    return category


# --- what fails --------------------------------------------------------------------------------


def test_a_flipped_bit_of_a_stored_value_is_a_defect(filled: FeatureStore) -> None:
    report = filled.verify()
    assert (report.ok, report.cells, report.defects) == (True, 3, 0)
    key, value = sorted(stored(filled).items())[1]
    for place in (1, 5, 8):
        flipped = bytearray(value)
        flipped[-place] ^= 1
        changed = EncodedRows(keys=[key], values=[bytes(flipped)])
        filled.online_store.write(TABLE, changed, overwrite=True)
        report = filled.verify()
        assert only_category(report) == "DEFECT"
        assert (report.ok, report.defects) == (False, 1)
        (example,) = report.views[0].examples
        assert (dict(example.entity), example.feature) == ({"k": 2}, "x")
        assert (example.offline, example.online != 2.0) == (2.0, True)


def test_a_row_that_cannot_be_decoded_is_an_error(filled: FeatureStore) -> None:
    key, value = min(stored(filled).items())
    cut = EncodedRows(keys=[key], values=[value[:-1]])
    filled.online_store.write(TABLE, cut, overwrite=True)
    with pytest.raises(StoreDataError, match="reading"):
        filled.verify()


LONG_DECIMAL = decimal.Decimal("12345678901234567890123456.78")
EVERY_TYPE: dict[str, tuple[pa.DataType, Any, Any]] = {
    "bool": (Bool, True, False),
    "int8": (Int8, -128, 127),
    "int16": (Int16, -(2**15), 1),
    "int32": (Int32, 2**31 - 1, 0),
    "int64": (Int64, 2**53 + 1, 2**53),
    "uint8": (UInt8, 255, 254),
    "uint64": (UInt64, 2**64 - 1, 2**63),
    "float32": (Float32, 0.1, 0.2),
    "float64": (Float64, 0.0, -0.0),
    "not a number": (Float64, float("nan"), None),
    "decimal": (
        Decimal(38, 2),
        decimal.Decimal("123456789012345678901234567890123456.78"),
        decimal.Decimal("0.00"),
    ),
    "text": (String, "é\0🛫", "e\u0301\0🛫"),
    "empty text": (String, "", None),
    "bytes": (Binary, b"\0\xff", b"\0"),
    "day": (Date, datetime(9999, 12, 31, tzinfo=UTC).date(), THEN.date()),
    "time": (Timestamp, THEN, THEN + timedelta(microseconds=1)),
    "integers": (List(Int64), [2**53 + 1, None], [2**53 + 1]),
    "floats": (List(Float32), [0.0, float("nan")], [-0.0, float("nan")]),
    "texts": (List(String), ["", None, "a"], ["", "", "a"]),
    "times": (List(Timestamp), [THEN, None], [THEN, THEN]),
    "empty list": (List(Int64), [], None),
    "null": (Int64, None, 0),
    "null list": (List(Int64), None, []),
}


def test_every_type_is_compared_bit_by_bit(store: FeatureStore, root: Path) -> None:
    of = view(features={name: dtype for name, (dtype, _, _) in EVERY_TYPE.items()})
    good = [value for _, value, _ in EVERY_TYPE.values()]
    count = len(EVERY_TYPE)
    columns = {n: pa.array([value] * count, dtype) for n, (dtype, value, _) in EVERY_TYPE.items()}
    keys = {"k": list(range(count)), "t": pa.array([THEN] * count, UTC_US)}
    write(root / FILE, keys | columns)
    store.apply([of])
    store.materialize()
    for key in range(count):
        plant(store, key, good, at=THEN, of=of)
    report = store.verify()
    assert (report.ok, report.cells) == (True, count**2)
    names = list(EVERY_TYPE)
    for part in (range(12), range(12, count)):  # a report shows 20 examples
        for key in part:
            other = EVERY_TYPE[names[key]][2]
            plant(store, key, [*good[:key], other, *good[key + 1 :]], at=THEN, of=of)
        (verification,) = store.verify().views
        assert verification.defects == len(part)
        found = {(example.entity["k"], example.feature) for example in verification.examples}
        assert found == {(key, names[key]) for key in part}
        for key in part:
            plant(store, key, good, at=THEN, of=of)


class LastFileLoses(DuckDBEngine):
    """Decides ties the wrong way round, but only when it materializes."""

    @override
    def latest(self, scan: SourceScan, rows: RowFilter) -> LatestRows:
        return super().latest(replace(scan, files=scan.files[::-1]), rows)


def test_a_wrong_rule_for_ties_is_a_defect(store: FeatureStore, root: Path) -> None:
    write(root / "data/a.parquet", rows(3))
    write(root / "data/b.parquet", rows(2, x=[10.0, 20.0]))
    store.apply([view("data")])
    store.engine = LastFileLoses()
    store.materialize()
    del store.engine
    report = store.verify()
    assert only_category(report) == "DEFECT"
    assert report.defects == 2
    assert {(e.offline, e.online) for e in report.views[0].examples} == {(10.0, 1.0), (20.0, 2.0)}
    store.materialize(overwrite=True)
    assert store.verify().ok


def test_a_row_planted_in_the_future_is_a_defect(filled: FeatureStore) -> None:
    plant(filled, 2, [99.0], at=END + timedelta(microseconds=1), of=view())
    report = filled.verify()
    assert only_category(report) == "DEFECT"
    (example,) = report.views[0].examples
    assert (example.offline, example.online) == (2.0, 99.0)


def test_a_row_of_an_entity_that_the_source_does_not_know_is_a_defect(
    filled: FeatureStore,
) -> None:
    plant(filled, 77, [99.0], at=THEN, of=view())
    report = filled.verify()
    assert only_category(report) == "DEFECT"
    (example,) = report.views[0].examples
    assert (dict(example.entity), example.offline, example.online) == ({"k": 77}, None, 99.0)


def test_rows_that_are_gone_are_defects(filled: FeatureStore) -> None:
    assert filled.online_store.drop(TABLE) == 3
    report = filled.verify()
    assert only_category(report) == "DEFECT"
    assert report.defects == 3


def test_an_older_row_in_place_of_the_newest_is_a_defect(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows(2, k=[1, 1], t=pa.array([THEN, THEN + DAY], UTC_US)))
    store.apply([view()])
    store.materialize()
    plant(store, 1, [1.0], at=THEN, of=view())
    assert only_category(store.verify()) == "DEFECT"


def test_comparing_nothing_is_no_success(store: FeatureStore, root: Path) -> None:
    assert not store.verify().ok
    write(root / FILE, pa.table(rows()).slice(0, 0))
    store.apply([view()])
    report = store.verify()
    assert (report.ok, report.cells, report.views[0].end) == (False, 0, None)
    store.materialize()
    report = store.verify()
    assert (report.ok, report.cells, report.views[0].end) == (False, 0, "2024-06-01T00:00:00Z")
    assert not store.verify(views=[]).ok
    with pytest.raises(NotFoundError, match="did you mean 'reading'"):
        store.verify(views=["raeding"])


def test_the_generation_that_lookups_read_is_compared(filled: FeatureStore) -> None:
    filled.apply([view(ttl="30000d")])
    plant(filled, 1, [99.0], at=THEN, of=view())
    assert filled.verify().defects == 1, "of the first generation, which lookups read still"
    filled.materialize()
    plant(filled, 1, [99.0], at=THEN, of=view())
    assert filled.verify().ok
    filled.rollback("reading")
    assert filled.verify().defects == 1


def test_what_was_never_materialized_has_nothing_to_compare(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows(3))
    store.apply([view()])
    report = store.verify()
    assert (report.ok, report.cells, report.views[0].end) == (False, 0, None)


def test_a_sample_is_chosen_by_its_seed(filled: FeatureStore) -> None:
    plant(filled, 2, [99.0], at=THEN, of=view())
    reports = [filled.verify(sample=1, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert {(report.cells, report.views[0].entities) for report in reports} == {(1, 1)}
    assert reports[0] == reports[1]
    assert {report.ok for report in reports} == {True, False}
    assert filled.verify(sample=None).defects == filled.verify(sample=3).defects == 1


def test_examples_are_few_and_show_defects_first(store: FeatureStore, root: Path) -> None:
    count = 50
    write(root / FILE, rows(count))
    store.apply([view()])
    store.materialize()
    for key in range(1, count):
        plant_bytes(store, key, tombstone(store.clock.now_micros()))
    plant(store, count, [0.0], at=THEN, of=view())
    (verification,) = store.verify().views
    assert dict(verification.differences) == {"deleted": count - 1, "DEFECT": 1}
    assert len(verification.examples) == 20
    assert verification.examples[0].category == "DEFECT"


# --- what it excuses ---------------------------------------------------------------------------


def test_a_rewritten_source_is_an_excuse(filled: FeatureStore, root: Path) -> None:
    write(root / FILE, rows(3, x=[1.0, 20.0, 3.0]))
    assert only_category(filled.verify()) == "source rewritten"
    filled.materialize()
    assert filled.verify().views[0].differences == {}


def test_a_file_that_went_away_is_an_excuse(store: FeatureStore, root: Path) -> None:
    write(root / "data/a.parquet", rows(2))
    gone = write(root / "data/b.parquet", rows(k=[1], t=pa.array([THEN + DAY], UTC_US), x=[9.0]))
    store.apply([view("data")])
    store.materialize()
    gone.unlink()
    assert only_category(store.verify()) == "source rewritten"
    (root / "data/a.parquet").unlink()
    with pytest.raises(SourceError):
        store.verify()


def test_files_that_came_after_the_run_are_not_looked_at(store: FeatureStore, root: Path) -> None:
    write(root / "data/b.parquet", rows(2))
    store.apply([view("data")])
    store.materialize()
    write(root / "data/a.parquet", rows(k=[1], t=pa.array([THEN + DAY], UTC_US), x=[9.0]))
    report = store.verify()
    assert (report.ok, report.views[0].differences) == (True, {})


def test_a_window_run_beyond_the_last_end_is_an_excuse(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows(2, k=[1, 1], t=pa.array([THEN, THEN + 2 * DAY], UTC_US)))
    store.apply([view()])
    store.materialize(end=THEN + DAY)
    store.materialize(start=THEN + DAY, end=THEN + 3 * DAY)
    assert only_category(store.verify()) == "pushed"
    plant(store, 1, [99.0], at=THEN + 4 * DAY, of=view())
    assert only_category(store.verify()) == "DEFECT"


def test_a_window_run_over_a_late_file_is_an_excuse(store: FeatureStore, root: Path) -> None:
    write(root / "data/a.parquet", rows(2))
    store.apply([view("data")])
    store.materialize()
    write(root / "data/late.parquet", rows(t=pa.array([THEN + DAY], UTC_US), x=[9.0]))
    store.materialize(start=THEN, end=THEN + 2 * DAY)
    assert only_category(store.verify()) == "pushed"
    plant(store, 2, [99.0], at=THEN - DAY, of=view())
    assert dict(store.verify().views[0].differences) == {"pushed": 1, "DEFECT": 1}
    store.materialize(overwrite=True)
    assert store.verify().views[0].differences == {}


def test_a_tie_between_several_runs_is_an_excuse_and_in_one_it_is_none(
    store: FeatureStore, root: Path
) -> None:
    write(root / "data/a.parquet", rows(2))
    store.apply([view("data")])
    store.materialize()
    write(root / "data/b.parquet", rows(x=[10.0]))  # the same key and time: nothing new
    assert store.materialize_incremental()[0].rows_read == 0
    assert only_category(store.verify()) == "tie"
    plant(store, 2, [99.0], at=THEN, of=view())  # this one has no twin
    assert dict(store.verify().views[0].differences) == {"tie": 1, "DEFECT": 1}


def test_pushed_rows_are_an_excuse_whatever_their_times(filled: FeatureStore) -> None:
    """Newer than the run, of the very event that the source has, and of a key it has not."""
    new = {"k": [1, 2, 9], "t": [filled.clock.now(), THEN, THEN], "x": [7.0, 8.0, 9.0]}
    filled.push("reading", new)
    report = filled.verify()
    assert only_category(report) == "pushed"
    assert report.views[0].differences == {"pushed": 3}


def test_a_defect_beside_pushed_and_deleted_rows_is_one(filled: FeatureStore) -> None:
    filled.push("reading", rows(1, x=[7.0]))
    filled.delete_entity({"k": 2})
    key, value = max(stored(filled).items())
    flipped = bytes([*value[:-1], value[-1] ^ 1])
    rows_of_key = EncodedRows(keys=[key], values=[flipped])
    filled.online_store.write(TABLE, rows_of_key, overwrite=True)
    (found,) = filled.verify().views
    assert dict(found.differences) == {"pushed": 1, "deleted": 1, "DEFECT": 1}


def test_what_a_run_should_have_replaced_is_a_defect(filled: FeatureStore) -> None:
    """A pushed row, or a tombstone, that is older than what the last run read."""
    key = min(stored(filled))
    filled.push("reading", rows(1, t=pa.array([THEN - DAY], UTC_US), k=[9], x=[5.0]))
    (pushed,) = (v for k, v in stored(filled).items() if v[:1] == bytes([3]))
    for value in (pushed, tombstone(to_micros(THEN) - 1)):
        planted = EncodedRows(keys=[key], values=[value])
        filled.online_store.write(TABLE, planted, overwrite=True)
        (found,) = filled.verify().views
        assert found.defects == 1


def test_a_deleted_row_is_an_excuse(filled: FeatureStore) -> None:
    plant_bytes(filled, 2, tombstone(filled.clock.now_micros()))
    report = filled.verify()
    assert only_category(report) == "deleted"
    (example,) = report.views[0].examples
    assert (dict(example.entity), example.offline, example.online) == ({"k": 2}, 2.0, None)


def test_a_row_that_the_store_may_have_dropped_is_an_excuse(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows(2, t=pa.array([END - DAY, END - DAY / 2], UTC_US)))
    store.apply([view(ttl="1d")])
    store.materialize()
    assert store.verify().ok
    store.online_store.drop(TABLE)
    store.clock = parse_clock("2024-06-01T23:59:59Z")  # ttl and grace end a second later
    assert dict(store.verify().views[0].differences) == {"DEFECT": 2}
    store.clock = parse_clock("2024-06-02T00:00:00Z")
    assert dict(store.verify().views[0].differences) == {"expired": 1, "DEFECT": 1}
    store.clock = parse_clock("2024-06-02T12:00:00Z")
    report = store.verify()
    assert only_category(report) == "expired"


def test_a_row_beyond_its_ttl_is_withheld_on_both_sides(store: FeatureStore, root: Path) -> None:
    times = pa.array([END - 3 * DAY, END - DAY - timedelta(microseconds=1), END - DAY], UTC_US)
    write(root / FILE, rows(3, t=times))
    store.apply([view(ttl="1d")])
    report = store.materialize()[0]
    assert (report.expired, report.written) == (1, 2)
    verification = store.verify()
    assert (verification.ok, verification.cells) == (True, 3)
    statuses = store.get_online_features([view(ttl="1d")], {"k": [1, 2, 3]}).statuses["x"]
    assert [status.name for status in statuses] == ["NOT_FOUND", "OUTSIDE_MAX_AGE", "PRESENT"]


# --- what stays green --------------------------------------------------------------------------

KEYS: dict[str, dict[str, pa.DataType]] = {
    "integer": {"k": Int64},
    "text": {"s": String},
    "composite": {"y": Binary, "k": Int64, "d": Date, "b": Bool},
    "no entity": {},
}


def batch(number: int, entities: range, *, created: bool) -> dict[str, Any]:
    """Return a day's rows: new ones, late ones, nulls and corrections of yesterday's."""
    today = THEN + number * DAY
    columns: dict[str, list[Any]] = {
        name: [] for name in ("k", "s", "d", "b", "y", "t", "made", "x")
    }
    for key in entities:
        moments = [today + timedelta(hours=key % 5), today - DAY / 2 + timedelta(minutes=key)]
        if created and number:
            moments.append(today - DAY + timedelta(hours=key % 5))
        for place, moment in enumerate(moments):
            value = None if (key + number + place) % 7 == 0 else number + key / 10 + place / 100
            text = "" if key == 0 else f"{'é' * (key % 3)}{key}" * (1 + 200 * (key == 5))
            cells = (key, text, moment.date(), key % 2 == 0, text.encode(), moment, today + DAY)
            for column, cell in zip(columns.values(), (*cells, value), strict=True):
                column.append(cell)
    columns["d"] = [THEN.date()] * len(columns["d"])
    times = {name: pa.array(columns[name], UTC_US) for name in ("t", "made")}
    return columns | times


@pytest.mark.parametrize(
    ("kind", "created"),
    [*((kind, True) for kind in KEYS), ("composite", False)],
)
def test_full_and_incremental_runs_stay_green(
    store: FeatureStore, root: Path, kind: str, *, created: bool
) -> None:
    entities = range(12) if KEYS[kind] else range(1)
    reads = {"lateness": "2d"} if not created else {"created_timestamp_column": "made"}
    of = view("data", keys=KEYS[kind], reads=reads)
    end = THEN
    for number in range(3):
        write(root / f"data/{number}.parquet", batch(number, entities, created=created))
        end = THEN + (number + 1) * DAY
        store.clock = parse_clock(end.isoformat())
        store.apply([of])
        run = store.materialize_incremental()[0]
        assert run.kind == ("incremental" if number else "full")
    report = store.verify(sample=None)
    assert (report.ok, report.views[0].differences) == (True, {})
    assert report.cells == len(entities)
    keys = pa.table(batch(2, entities, created=created)).slice(0, len(entities))
    columns = {name: keys[name] for name in of.join_keys}
    table = pa.table(columns | {"event_timestamp": pa.array([end] * len(entities), UTC_US)})
    trained = store.get_historical_features(table, [of]).to_arrow()["x"]
    assert store.get_online_features([of], columns).to_arrow()["x"].equals(trained)


def test_a_view_that_is_materialized_after_others_is_verified_at_its_own_end(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows(2, k=[1, 1], t=pa.array([THEN, THEN + 2 * DAY], UTC_US)))
    store.apply([view(), view(name="second")])
    store.materialize(end=THEN + DAY, views=["reading"])
    store.materialize(end=THEN + 3 * DAY, views=["second"])
    report = store.verify()
    assert report.ok
    ends = {verification.view: verification.end for verification in report.views}
    assert ends == {"reading": "2024-01-02T00:00:00Z", "second": "2024-01-04T00:00:00Z"}
    served = store.get_online_features(["reading:x"], {"k": [1]}).to_dict()["x"]
    assert (
        served
        == store.get_historical_features(spine(1, at=pa.array([THEN + DAY], UTC_US)), ["reading:x"])
        .to_arrow()["x"]
        .to_pylist()
    )


def test_progress_is_told(filled: FeatureStore) -> None:
    told: list[tuple[str, int, int]] = []
    filled.verify(progress=lambda *facts: told.append(facts))
    assert told == [("reading", 3, 3)]
