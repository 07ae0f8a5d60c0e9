"""Explanations: roles, keys, transforms, what is computed, the online side, and the alarms."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typing_extensions import override

from featurestore.definitions import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    InRange,
    OnDemandFeatureView,
    RequestSource,
    Sql,
)
from featurestore.errors import EntityValueError, NotFoundError, RequestError
from featurestore.explanation.key_rows import GREATEST
from featurestore.explanation.model import Explanation
from featurestore.explanation.rows import Reason, SourceRow
from featurestore.offline.engine import Mode, ScanReader
from featurestore.offline.polars import PolarsEngine
from featurestore.offline.scan import SourceScan
from featurestore.online.codec import encode_keys, row_codec, tombstone
from featurestore.online.store import EncodedRows, TableId
from featurestore.store import FeatureStore
from featurestore.time import parse_clock, to_micros
from featurestore.types import Float64, Int64, String
from tests.unit.projects import FILE, UTC_US, micros, project, says, source, view, write

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NOON = datetime(2024, 1, 10, 12, tzinfo=UTC)
CREATED = {"created_timestamp_column": "made"}
TABLE = TableId(project="plant", view="reading", generation=1)


# How rows are explained is shared; that engines name the same rows, `tests/property` shows in every
# run. Here the one that starts faster plays in each, both of them in the proof.
@pytest.fixture(params=[pytest.param("duckdb", marks=pytest.mark.proof), "polars"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
    with project(tmp_path, offline_store={"type": request.param}) as opened:
        yield opened


def times(*instants: datetime | None) -> pa.Array:
    return pa.array(instants, UTC_US)


def place(row: SourceRow | None) -> tuple[str, int] | None:
    return None if row is None else (row.place.file, row.place.row)


def reasons(found: Explanation) -> dict[str, int]:
    return {each.reason.value: each.count for each in found.views[0].passed_over}


def why_not(found: Explanation, reason: Reason) -> list[tuple[str, int] | None]:
    (each,) = (each for each in found.views[0].passed_over if each.reason is reason)
    return [place(row) for row in each.rows]


# --- the row that answers ------------------------------------------------------------------------


def versions(root: Path) -> FeatureView:
    """Write one row for every way to be passed over, in two files, and return a view of them."""
    first = {
        "k": [1, 1, 1, None, 1],
        "t": times(NOON - DAY, NOON - 40 * DAY, NOON, NOON, None),
        "made": times(NOON - DAY, NOON, NOON - HOUR, NOON, NOON),
        "x": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
    second = {
        "k": [1, 1, 2],
        "t": times(NOON, NOON + HOUR, NOON),
        "made": times(NOON + HOUR, NOON + HOUR, NOON),
        "x": [6.0, 7.0, 8.0],
    }
    write(root / "data/a.parquet", first)
    write(root / "data/b.parquet", second)
    return view("data/*.parquet", reads=CREATED, ttl=30 * DAY)


def test_the_row_that_answers_is_named_and_all_others_are_accounted_for(
    store: FeatureStore, tmp_path: Path
) -> None:
    found = explained(store, versions(tmp_path), {"k": 1}, at=NOON)
    assert (found.value, place(found.views[0].chosen)) == (6.0, ("data/b.parquet", 0))
    assert reasons(found) == {
        "later": 1,
        "expired": 1,
        "corrected": 1,
        "older": 1,
        "null_time": 1,
        "null_key": 1,
    }
    assert why_not(found, Reason.CORRECTED) == [("data/a.parquet", 2)]
    assert why_not(found, Reason.NULL_TIME) == [("data/a.parquet", 4)]
    assert why_not(found, Reason.NULL_KEY) == [("data/a.parquet", 3)]
    assert "written 1h after" in found.views[0].notes[0]


def test_as_served_leaves_out_what_had_not_been_written(
    store: FeatureStore, tmp_path: Path
) -> None:
    found = explained(store, versions(tmp_path), {"k": 1}, at=NOON, mode="as_served")
    assert (found.value, place(found.views[0].chosen)) == (3.0, ("data/a.parquet", 2))
    assert why_not(found, Reason.NOT_WRITTEN) == [("data/b.parquet", 0)]
    assert found.views[0].notes == (
        "created before its event took place: is its event time right?",
    )


def test_among_equal_times_the_last_row_of_the_last_file_answers(
    store: FeatureStore, tmp_path: Path
) -> None:
    columns = {"k": [1, 1], "t": times(NOON, NOON), "x": [1.0, 2.0]}
    write(tmp_path / "data/a.parquet", columns)
    write(tmp_path / "data/b.parquet", columns)
    found = explained(store, view("data/*.parquet"), {"k": 1}, at=NOON)
    assert place(found.views[0].chosen) == ("data/b.parquet", 1)
    assert why_not(found, Reason.TIE)[0] == ("data/b.parquet", 0)
    assert reasons(found) == {"tie": 3}


@pytest.mark.parametrize(
    ("entity", "at", "words"),
    [
        ({"k": 9}, NOON, "no row with k=9"),
        ({"k": None}, NOON, "null"),
        ({"k": 1}, NOON - 80 * DAY, "all rows are later"),
        ({"k": 1}, NOON + 80 * DAY, "expired"),
    ],
)
def test_nothing_has_a_reason(
    store: FeatureStore, tmp_path: Path, entity: dict[str, Any], at: datetime, words: str
) -> None:
    found = explained(store, versions(tmp_path), entity, at=at)
    assert (found.value, found.views[0].chosen) == (None, None)
    assert words in found.views[0].verdict


def test_nanoseconds_that_rounding_took_are_told_from_the_order_of_rows(
    store: FeatureStore, tmp_path: Path
) -> None:
    nanos = to_micros(NOON) * 1_000 - 1_000
    instants = micros(nanos + 900, nanos + 300, nanos + 900, unit="ns")
    write(tmp_path / FILE, {"k": [1, 1, 1], "t": instants, "x": [1.0, 2.0, 3.0]})
    found = explained(store, view(), {"k": 1}, at=NOON)
    assert place(found.views[0].chosen) == (FILE, 2)
    assert {
        each.why: [row.place.row for row in each.rows] for each in found.views[0].passed_over
    } == {
        "tie: same times to the microsecond, and earlier by nanoseconds": [1],
        "tie: same times, and earlier in the order of files and rows": [0],
    }
    write(tmp_path / FILE, {"k": [1, 1], "t": instants[:2], "x": [1.0, 2.0]})
    found = explained(store, view(), {"k": 1}, at=NOON)
    assert (place(found.views[0].chosen), reasons(found)) == ((FILE, 0), {"nanoseconds": 1})
    assert "the last of those with the newest times" in found.views[0].verdict


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ([NOON - HOUR, NOON - HOUR], "written before the row that answers"),
        ([None, None], "nobody knows when it was written"),
        (
            [None, NOON - HOUR],
            "written before the row that answers, or nobody knows when it was written",
        ),
    ],
)
def test_a_correction_claims_no_more_than_is_known_of_when_rows_were_written(
    store: FeatureStore, tmp_path: Path, made: list[datetime | None], said: str
) -> None:
    columns = {"k": [1, 1, 1], "t": times(NOON, NOON, NOON), "x": [1.0, 2.0, 3.0]}
    write(tmp_path / FILE, {**columns, "made": times(*made, NOON)})
    found = explained(store, view(reads=CREATED), {"k": 1}, at=NOON)
    (corrected,) = (e for e in found.views[0].passed_over if e.reason is Reason.CORRECTED)
    assert corrected.why == f"corrected: same event time, and {said}"


ABOVE = InRange("x", max=10, name="too_large", policy="quarantine")
BELOW = InRange("x", min=0, name="negative", policy="quarantine")


def verdict(found: Explanation) -> str:
    assert found.value is None
    return found.views[0].verdict


@pytest.mark.parametrize("of_source", [False, True])
def test_a_row_in_quarantine_that_would_have_answered_is_the_reason(
    store: FeatureStore, tmp_path: Path, *, of_source: bool
) -> None:
    write(
        tmp_path / FILE,
        {"k": [1, 1, 2], "t": times(NOON - DAY, NOON + DAY, NOON + DAY), "x": [99.0, 1.0, -1.0]},
    )
    contract = [BELOW, ABOVE]
    of = view(reads={"contract": contract}) if of_source else view(contract=contract)
    found = explained(store, of, {"k": 1}, at=NOON)
    assert verdict(found) == (
        "nothing: the newest row by 2024-01-10T12:00:00Z is left out: in quarantine by too_large"
    )
    assert found.views[0].passed_over[-1].why == "left out: in quarantine by too_large"
    only = explained(store, of, {"k": 2}, at=NOON)
    assert verdict(only) == "nothing: all rows of k=2 (1) are left out: in quarantine by negative"


def test_each_row_that_is_left_out_says_why_and_those_by_the_moment_come_first(
    store: FeatureStore, tmp_path: Path
) -> None:
    instants = times(*(NOON + n * HOUR for n in (-2, -1, 1, 2, 3)))
    write(tmp_path / FILE, {"k": [1] * 5, "t": instants, "x": [99.0, -1.0, 99.0, 99.0, 99.0]})
    found = explained(store, view(contract=[BELOW, ABOVE]), {"k": 1}, at=NOON)
    assert why_not(found, Reason.FILTERED) == [(FILE, 1), (FILE, 0), (FILE, 2)]
    (left_out,) = found.views[0].passed_over
    assert left_out.why == "left out: in quarantine by one or more of negative, too_large"
    told = [row.to_document()["left_out"] for row in left_out.rows]
    assert told == [f"in quarantine by {name}" for name in ("negative", "too_large", "too_large")]
    assert "row 1  x=-1.0; in quarantine by negative" in str(found)
    assert verdict(found).endswith("is left out: in quarantine by negative")


@pytest.mark.parametrize(
    ("newest", "mode", "said"),
    [
        ({"x": 99.0}, "complete", "nothing: the newest row by 2024-01-10T12:00:00Z is left out"),
        ({"made": NOON + DAY}, "as_served", "nothing: not yet written by 2024-01-10T12:00:00Z"),
        ({"made": None}, "as_served", "the newest row was written nobody knows when"),
        (
            {"x": 99.0, "made": NOON + DAY},
            "as_served",
            "in quarantine by too_large, and not yet written by 2024-01-10T12:00:00Z",
        ),
        ({"t": NOON - 4 * DAY}, "complete", "nothing: expired; the newest row was 4d old"),
        (
            {"t": NOON - 4 * DAY, "x": 99.0},
            "complete",
            "nothing: expired; the newest row was 4d old; left out: in quarantine by too_large",
        ),
    ],
)
def test_the_newest_row_decides_why_there_is_nothing(
    store: FeatureStore, tmp_path: Path, newest: dict[str, Any], mode: str, said: str
) -> None:
    row: dict[str, Any] = {"t": NOON - DAY, "made": NOON - DAY, "x": 1.0} | newest
    write(
        tmp_path / FILE,
        {
            "k": [1, 1],
            "t": times(NOON - 35 * DAY, row["t"]),
            "made": times(NOON - 35 * DAY, row["made"]),
            "x": [1.0, row["x"]],
        },
    )
    of = view(reads=CREATED, ttl=3 * DAY, contract=[ABOVE])
    assert said in verdict(explained(store, of, {"k": 1}, at=NOON, mode=mode))


def test_a_row_that_came_too_late_goes_before_an_older_one_in_quarantine(
    store: FeatureStore, tmp_path: Path
) -> None:
    instants = times(NOON - 2 * DAY, NOON - DAY)
    made = times(NOON - 2 * DAY, NOON + DAY)
    write(tmp_path / FILE, {"k": [1, 1], "t": instants, "made": made, "x": [99.0, 1.0]})
    of = view(reads=CREATED, contract=[ABOVE])
    found = explained(store, of, {"k": 1}, at=NOON, mode="as_served")
    assert verdict(found).startswith("nothing: not yet written by 2024-01-10T12:00:00Z")


def test_a_rule_that_another_guards_is_not_blamed(tmp_path: Path) -> None:
    write(tmp_path / FILE, {"k": [1], "t": times(NOON), "x": [0]})
    rules = [Sql("guard", "x <> 0"), Sql("guarded", "6 // x > 1")]
    contract = [rule.model_copy(update={"policy": "quarantine"}) for rule in rules]
    of = view(features={"x": Int64}, contract=contract)
    with project(tmp_path, offline_store={"type": "duckdb"}) as store:
        found = explained(store, of, {"k": 1}, at=NOON)
    assert verdict(found).endswith("is left out: in quarantine by guard")


def test_windows_say_what_leaves_all_rows_out(store: FeatureStore, tmp_path: Path) -> None:
    write(tmp_path / FILE, {"k": [1], "t": times(NOON), "x": [99.0]})
    of = view(schema=(), aggregations=[Aggregation("x", ["sum"], ["1d"])], contract=[ABOVE])
    found = explained(store, of, {"k": 1}, at=NOON + HOUR)
    assert found.views[0].verdict == (
        "nothing: all rows of k=1 (1) are left out: in quarantine by too_large; windows are empty"
    )


def test_the_transform_a_join_and_rules_are_told_apart(store: FeatureStore, tmp_path: Path) -> None:
    write(
        tmp_path / FILE,
        {
            "k": [1, 2, 3, 4, 5],
            "t": times(*[NOON] * 5),
            "cents": [200, 200, 5_000, 5_000, 0],
            "state": ["ok", "lost", "ok", "test", "ok"],
        },
    )
    write(
        tmp_path / "rates.parquet",
        {"state": ["ok", "test", "lost"], "t": times(*[NOON - DAY] * 3), "rate": [1.0, 1.0, -1.0]},
    )
    positive = InRange("rate", min=0, name="positive", policy="quarantine")
    of = view(
        online=False,
        joins=[source("rates.parquet", name="rates", contract=[positive])],
        reads={"contract": [InRange("cents", min=1, name="paid", policy="quarantine")]},
        contract=[BELOW, ABOVE],
        transform="SELECT k, readings.t, cents / 100 * r.rate AS x FROM readings"
        " ASOF JOIN rates AS r ON readings.state = r.state AND readings.t >= r.t"
        " WHERE readings.state <> 'test'",
    )
    said = [verdict(explained(store, of, {"k": key}, at=NOON)) for key in range(2, 6)]
    assert [text.partition(" is left out: ")[2] for text in said] == [
        "no row of r (but for those in quarantine by positive) to join",
        "in quarantine by too_large",
        "the transform's WHERE is not true",
        "in quarantine by paid",
    ]


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (NOON - timedelta(microseconds=1), "later"),
        (NOON, None),
        (NOON + 2 * HOUR, None),
        (NOON + 2 * HOUR + timedelta(microseconds=1), "expired"),
    ],
)
def test_both_ends_of_a_ttl_are_exact_to_the_microsecond(
    store: FeatureStore, tmp_path: Path, at: datetime, reason: str | None
) -> None:
    write(tmp_path / FILE, {"k": [1], "t": times(NOON), "x": [1.0]})
    found = explained(store, view(ttl=2 * HOUR), {"k": 1}, at=at)
    assert (found.value, reasons(found)) == ((1.0, {}) if reason is None else (None, {reason: 1}))


def test_keys_that_folders_name_are_told_from_null_ones(
    store: FeatureStore, tmp_path: Path
) -> None:
    columns = {"t": times(NOON, None), "x": [1.0, 2.0]}
    write(tmp_path / "data/k=1/a.parquet", columns)
    write(tmp_path / "data/k=2/a.parquet", columns)
    write(tmp_path / "data/k=__HIVE_DEFAULT_PARTITION__/a.parquet", columns)
    found = explained(store, view("data"), {"k": 2}, at=NOON)
    assert place(found.views[0].chosen) == ("data/k=2/a.parquet", 0)
    assert reasons(found) == {"null_time": 1, "null_key": 2}
    assert why_not(found, Reason.NULL_TIME) == [("data/k=2/a.parquet", 1)]


def test_a_view_without_an_entity_is_asked_without_one(store: FeatureStore, tmp_path: Path) -> None:
    write(tmp_path / FILE, {"t": times(NOON, NOON + HOUR), "x": [1.0, 2.0]})
    found = explained(store, view(keys={}), at=NOON + DAY)
    assert (found.value, place(found.views[0].chosen)) == (2.0, (FILE, 1))


def explained(
    store: FeatureStore, of: FeatureView, entity: dict[str, Any] | None = None, **options: Any
) -> Explanation:
    """Explain the features of a view that is applied first; the layouts must hold, too."""
    store.apply([of])
    found = store.explain(of, entity, **options)
    assert found.ok, found.defects
    assert max(map(len, str(found).splitlines())) <= 100
    json.dumps(found.to_document(), allow_nan=False)
    return found


# --- how features are used -----------------------------------------------------------------------


def flights(root: Path) -> FeatureView:
    keys = {"airport": String, "runway": Int64}
    write(
        root / FILE,
        {
            "airport": ["JFK", "LAX"],
            "runway": [1, 1],
            "t": times(NOON, NOON),
            "x": [1.0, 2.0],
        },
    )
    return view(keys=keys)


def test_roles_of_one_view_have_rows_of_their_own(store: FeatureStore, tmp_path: Path) -> None:
    weather = flights(tmp_path)
    roles = [
        weather.with_name("here").with_join_key_map({"airport": "origin"}),
        weather.with_name("there").with_join_key_map({"airport": "dest"}),
    ]
    trip = FeatureService(name="trip", features=roles)
    store.apply([weather, trip])
    found = store.explain("trip", {"origin": "JFK", "dest": "LAX", "runway": 1}, at=NOON)
    assert [(f.name, f.value.python) for f in found.features] == [("here:x", 1.0), ("there:x", 2.0)]
    assert [place(view.chosen) for view in found.views] == [(FILE, 0), (FILE, 1)]
    assert found.view("there").key_columns == {"airport": "dest", "runway": "runway"}
    assert "airport from dest" in str(found)


REQUEST = RequestSource(name="request", schema=[Field(name="amount", dtype=Float64)])


def test_an_expression_shows_its_inputs_and_their_rows(store: FeatureStore, tmp_path: Path) -> None:
    write(tmp_path / FILE, {"k": [1, 1], "t": times(NOON, NOON - DAY), "x": [2.0, 3.0]})
    ratio = OnDemandFeatureView(
        name="ratio", sources=[view(), REQUEST], features={"share": "amount / x", "y": "x + 1"}
    )
    store.apply([view(), ratio])
    found = store.explain("ratio:share", {"k": 1}, at=NOON, request={"amount": 5.0})
    (share,) = found.features
    assert (share.value.python, share.how, found.ok) == (2.5, "amount / x", True)
    told = [(each.name, each.origin, each.value.python) for each in share.inputs]
    assert told == [("amount", "request", 5.0), ("x", "reading:x", 2.0)]
    assert place(found.view("reading").chosen) == (FILE, 0)


def test_a_function_shows_what_it_got(tmp_path: Path) -> None:
    write(tmp_path / FILE, {"k": [1], "t": times(NOON), "x": [2.0]})
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions/risk.py").write_text(
        "import pyarrow as pa\nimport pyarrow.compute as pc\n"
        "def double(batch: pa.RecordBatch) -> pa.RecordBatch:\n"
        "    return pa.record_batch({'twice': pc.multiply(batch['x'], batch['amount'])})\n"
    )
    risk = OnDemandFeatureView(
        name="risk",
        sources=[view(), REQUEST],
        function="risk:double",
        schema=[Field(name="twice", dtype=Float64)],
    )
    with project(tmp_path, functions="functions") as store:
        store.apply([view(), risk])
        store.materialize()
        request = {"amount": 4.0}
        found = store.explain("risk:twice", {"k": 1}, at=NOON, request=request, online=True)
    (twice,) = found.features
    assert (twice.value.python, twice.how) == (8.0, "risk:double(x, amount)")
    assert [each.value.python for each in twice.inputs] == [2.0, 4.0]
    assert twice.online is not None
    assert (twice.online.value.python, twice.online.agrees) == (8.0, True)


@pytest.mark.parametrize(
    ("entity", "request_fields", "error", "words"),
    [
        ({"K": 1}, {}, EntityValueError, ["'K' is not a join key", "did you mean 'k'"]),
        ({}, {}, EntityValueError, ["'k' (int64) is missing"]),
        ({"k": "x"}, {}, EntityValueError, ["'k' is int64"]),
        ({"k": 1}, {"amount": 1.0}, EntityValueError, ["'amount'", "they take none"]),
        ({"k": 1, "amount": 1.0}, {}, EntityValueError, ["'amount' is not a join key"]),
    ],
)
def test_what_is_missing_unknown_or_wrong_is_refused_by_name(
    tmp_path: Path,
    entity: dict[str, Any],
    request_fields: dict[str, Any],
    error: type[EntityValueError],
    words: Sequence[str],
) -> None:
    write(tmp_path / FILE, {"k": [1], "t": times(NOON), "x": [2.0]})
    with project(tmp_path) as store:
        store.apply([view()])
        with pytest.raises(error) as caught:
            store.explain("reading:x", entity, request=request_fields)
        assert says(caught.value, *words, hint=bool(caught.value.hint))
        with pytest.raises(NotFoundError, match="did you mean 'reading'"):
            store.explain("readin:x", {"k": 1})
        with pytest.raises(RequestError, match="RFC 3339"):
            store.explain("reading:x", {"k": 1}, at="tomorrow")


# --- transforms, joins, windows ------------------------------------------------------------------


def test_a_transform_shows_the_row_before_and_behind_it_and_what_it_left_out(
    store: FeatureStore, tmp_path: Path
) -> None:
    write(
        tmp_path / FILE,
        {
            "k": [1, 1, 1],
            "t": times(NOON, NOON + HOUR, NOON - HOUR),
            "cents": [100, 900, 50],
            "state": ["ok", "test", "ok"],
        },
    )
    write(
        tmp_path / "rates.parquet",
        {"state": ["ok", "ok"], "t": times(NOON - DAY, NOON + DAY), "rate": [0.5, 0.9]},
    )
    rates = source("rates.parquet", name="rates")
    of = view(
        joins=[rates],
        transform="SELECT k, readings.t, cents / 100 * rates.rate AS x FROM readings"
        " ASOF LEFT JOIN rates ON readings.state = rates.state AND readings.t >= rates.t"
        " WHERE readings.state <> 'test'",
    )
    found = explained(store, of, {"k": 1}, at=NOON + 2 * HOUR)
    chosen = found.views[0].chosen
    assert chosen is not None
    assert (place(chosen), chosen.values["x"].python) == ((FILE, 0), 0.5)
    assert {name: value.python for name, value in chosen.read.items()} == {
        "cents": 100,
        "state": "ok",
    }
    (joined,) = chosen.joined
    assert joined.place is not None
    assert (joined.place.file, joined.place.row) == ("rates.parquet", 0)
    assert joined.values["rate"].python == 0.5
    assert why_not(found, Reason.FILTERED) == [(FILE, 1)]
    text = " ".join(str(found).split())
    assert "left out: the transform's WHERE is not true" in text
    assert "x=0.25; from state=ok, cents=50; joined rates: rates.parquet row 0" in text


@pytest.mark.parametrize(
    ("closed", "interval", "held"),
    [
        ("left", "[2024-01-09T12:00:00Z, 2024-01-10T12:00:00Z)", [1, 0]),
        ("right", "(2024-01-09T12:00:00Z, 2024-01-10T12:00:00Z]", [2, 1]),
        ("both", "[2024-01-09T12:00:00Z, 2024-01-10T12:00:00Z]", [2, 1, 0]),
        ("neither", "(2024-01-09T12:00:00Z, 2024-01-10T12:00:00Z)", [1]),
    ],
)
def test_a_window_lists_its_rows_and_says_which_ends_belong_to_it(
    store: FeatureStore, tmp_path: Path, closed: Any, interval: str, held: list[int]
) -> None:
    write(
        tmp_path / FILE,
        {
            "k": [1, 1, 1, 1, 1],
            "t": times(NOON - DAY, NOON - HOUR, NOON, NOON - HOUR, NOON - 2 * DAY),
            "x": [1.0, 2.0, 4.0, None, 9.0],
            "s": ["ok"] * 5,
        },
    )
    of = view(
        schema=(),
        aggregations=[
            Aggregation("x", ["sum", "count"], ["1d"], where="s = 'ok'", name="x", closed=closed)
        ],
    )
    found = explained(store, of, {"k": 1}, at=NOON)
    (window,) = found.views[0].windows
    assert (window.interval, window.features) == (interval, ("x_sum_1d", "x_count_1d"))
    assert [row.place.row for row in window.rows] == held
    assert {e.reason for e in window.passed_over} >= {Reason.NULL_VALUE, Reason.BEFORE}
    assert found.value == sum({0: 1.0, 1: 2.0, 2: 4.0}[row] for row in held)


def test_a_long_window_lists_the_newest_rows_and_counts_the_rest(
    store: FeatureStore, tmp_path: Path
) -> None:
    write(
        tmp_path / FILE,
        {
            "k": [1] * 5_000,
            "t": times(*(NOON - timedelta(seconds=n) for n in range(5_000))),
            "x": np.arange(5_000.0),
        },
    )
    of = view(schema=(), aggregations=[Aggregation("x", ["sum"], [None])])
    found = explained(store, of, {"k": 1}, at=NOON + DAY, max_rows=2)
    (window,) = found.views[0].windows
    assert (window.count, [row.place.row for row in window.rows]) == (5_000, [0, 1])
    assert "and 4,998 more" in str(found)
    assert len(json.dumps(found.to_document())) < 5_000


def test_first_last_min_and_max_name_the_row_that_has_the_value(
    store: FeatureStore, tmp_path: Path
) -> None:
    write(
        tmp_path / FILE,
        {
            "k": [1] * 5,
            "t": times(*(NOON - n * HOUR for n in (3, 1, 4, 2, 5))),
            "x": [7.0, 2.0, 9.0, 9.0, float("nan")],
        },
    )
    functions = ["first", "last", "min", "max", "sum"]
    of = view(
        schema=(),
        aggregations=[
            Aggregation("x", functions, ["5h", None]),
            Aggregation("*", ["count"], ["1h"], name="rows"),
        ],
    )
    found = explained(store, of, {"k": 1}, at=NOON + HOUR / 2, max_rows=0)
    five, everything, rows = found.views[0].windows
    named = {name: row.place.row for name, row in five.deciding.items()}
    assert named == {"x_first_5h": 2, "x_last_5h": 1, "x_min_5h": 1, "x_max_5h": 2}
    assert (five.rows, five.count, rows.deciding) == ((), 4, {})
    assert {name: row.place.row for name, row in everything.deciding.items()} == {
        "x_first_all": 4,
        "x_last_all": 1,
        "x_min_all": 4,
        "x_max_all": 4,
    }
    with pytest.raises(RequestError, match="below 0"):
        store.explain(of, {"k": 1}, max_rows=-1)


# --- hostile names and values --------------------------------------------------------------------


def test_nothing_that_comes_from_data_becomes_html_or_breaks_a_terminal(
    store: FeatureStore, tmp_path: Path
) -> None:
    evil = "<script>alert(1)</script>\x1b[2J\n</td>" + "A" * 5_000
    name = "<img src=x onerror=alert(1)>"
    write(tmp_path / "<b>.parquet", {"k": [evil], "t": times(NOON), name: [evil]})
    of = view("<b>.parquet", keys={"k": String}, features={name: String})
    found = explained(store, of, {"k": evil}, at=NOON)
    shown, text = found._repr_html_(), str(found)
    assert "<script" not in shown
    assert "<img" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;" in shown
    assert "\x1b" not in text + shown
    assert len(text) < 5_000
    assert found.features[0].value.python == evil


# --- alarms --------------------------------------------------------------------------------------


class LyingEngine(PolarsEngine):
    """Reads rows of training sets otherwise than those of explanations.

    Args:
        lie: Changes what a training set is made of.
    """

    def __init__(self, lie: Any) -> None:
        super().__init__()
        self._lie = lie

    @contextlib.contextmanager
    @override
    def reader(self, scan: SourceScan) -> Iterator[ScanReader]:
        with super().reader(scan) as reader:
            honest = reader.rows

            def rows(keys: pa.Table, columns: Any = (), **bounds: Any) -> Iterator[pa.RecordBatch]:
                for batch in honest(keys, columns, **bounds):
                    yield batch if bounds["until_us"] == GREATEST else self._lie(batch)

            reader.rows = rows  # type: ignore[method-assign]
            yield reader


def lying(root: Path, lie: Any) -> FeatureStore:
    store = project(root)
    store.__dict__["engine"] = LyingEngine(lie)
    return store


def reversed_created(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return rows of which the one created first would win a tie."""
    created = pa.array(-batch.column("c").to_numpy())
    return batch.set_column(batch.schema.names.index("c"), "c", created)


def test_a_wrong_rule_for_ties_in_training_is_a_defect(tmp_path: Path) -> None:
    of = versions(tmp_path)
    store = lying(tmp_path, reversed_created)
    store.apply([of])
    found = store.explain("reading:x", {"k": 1}, at=NOON)
    assert not found.ok
    assert "row 2 of data/a.parquet, but by the rules row 0 of data/b.parquet" in found.defects[0]
    assert "x is 3.0 in a training set, and 6.0 in its row" in found.defects[1]
    assert str(found).startswith("DEFECT")
    assert found.to_document()["ok"] is False


def test_a_row_that_a_window_lacks_in_training_is_a_defect(tmp_path: Path) -> None:
    write(tmp_path / FILE, {"k": [1, 1], "t": times(NOON, NOON - HOUR), "x": [1.0, 2.0]})
    of = view(schema=(), aggregations=[Aggregation("x", ["sum", "max"], ["7d"])])
    store = lying(tmp_path, lambda batch: batch.filter(pc.equal(batch.column("f0"), 1.0)))
    store.apply([of])
    found = store.explain(of, {"k": 1}, at=NOON + HOUR)
    assert found.defects[0].startswith(
        "reading: x_sum_7d is 1.0 in a training set, which its 2 rows"
    )


# --- online --------------------------------------------------------------------------------------


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[FeatureStore]:
    """A store with rows of January, materialized up to June: the ttl is a year."""
    with project(tmp_path) as store:
        write(tmp_path / FILE, {"k": [1, 1], "t": times(NOON, NOON - DAY), "x": [1.0, 2.0]})
        store.apply([view(ttl=365 * DAY)])
        yield store


def online_why(store: FeatureStore, **options: Any) -> tuple[bool, str]:
    found = store.explain("reading:x", {"k": 1}, online=True, **options)
    online = found.views[0].online
    assert online is not None
    assert found.ok is not online.is_defect
    return online.agrees, online.why


def plant(store: FeatureStore, value: bytes) -> None:
    (key,) = encode_keys(["int64"], [pa.array([1])])
    assert key is not None
    store.online_store.write(TABLE, EncodedRows(keys=[key], values=[value]), overwrite=True)


def test_the_online_store_agrees_or_says_why_not(filled: FeatureStore) -> None:
    assert online_why(filled) == (False, "the view was never materialized")
    filled.materialize()
    assert online_why(filled) == (True, "the same values as in training")
    agrees, why = online_why(filled, at=NOON - HOUR)
    assert (agrees, "after the moment that is explained" in why) == (False, True)
    filled.push("reading", [{"k": 1, "t": NOON + DAY, "x": 5.0}])
    agrees, why = online_why(filled)
    assert (agrees, why) == (False, "pushed by an application: event time 2024-01-11T12:00:00Z")
    plant(filled, tombstone(to_micros(NOON + 2 * DAY)))
    assert "deleted at 2024-01-12T12:00:00Z" in online_why(filled)[1]


def test_a_stored_value_that_nothing_excuses_is_a_defect(filled: FeatureStore) -> None:
    filled.materialize()
    event = np.array([to_micros(NOON)])
    plant(filled, row_codec(("float64",)).encode(event, None, [pa.array([1.5])])[0])
    agrees, why = online_why(filled)
    assert (agrees, "a defect" in why) == (False, True)
    found = filled.explain("reading:x", {"k": 1}, online=True)
    online = found.views[0].online
    assert online is not None
    assert (online.stored["x"].python, online.generation, online.state) == (1.5, 1, "row")
    assert (online.event_us, online.created_us) == (to_micros(NOON), None)
    assert "online" in found.defects[0]


def test_a_row_that_is_too_old_now_is_shown_though_it_is_not_served(tmp_path: Path) -> None:
    with project(tmp_path, clock="2024-01-10T13:00:00Z") as store:
        write(tmp_path / FILE, {"k": [1], "t": times(NOON), "x": [1.0]})
        store.apply([view(ttl=2 * HOUR)])
        store.materialize()
        store.clock = parse_clock("2024-01-10T15:00:00Z")
        agrees, why = online_why(store, at=NOON)
        online = store.explain("reading:x", {"k": 1}, at=NOON, online=True).views[0].online
    assert (agrees, why.startswith("expired: at the request (2024-01-10T15:00:00Z)")) == (
        False,
        True,
    )
    assert online is not None
    assert (online.stored["x"].python, online.features["x"].value.python) == (1.0, None)


def test_later_rows_of_the_source_are_told_from_defects(
    filled: FeatureStore, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    write(folder / "a.parquet", {"k": [1], "t": times(NOON), "x": [1.0]})
    filled.apply([view("data/*.parquet", name="reading")])
    filled.materialize(end=NOON + HOUR)
    write(folder / "b.parquet", {"k": [1], "t": times(NOON + DAY), "x": [2.0]})
    agrees, why = online_why(filled)
    assert (agrees, "training sees what came after that" in why) == (False, True)


@pytest.mark.parametrize("made", [None, NOON + HOUR])
@pytest.mark.parametrize("of_windows", [False, True])
def test_as_served_is_set_beside_complete_history(
    store: FeatureStore, tmp_path: Path, made: datetime | None, *, of_windows: bool
) -> None:
    columns = {"k": [1, 1], "t": times(NOON - DAY, NOON - HOUR), "x": [1.0, 2.0]}
    write(tmp_path / FILE, {**columns, "made": times(NOON - DAY, made)})
    sums = {"schema": (), "aggregations": [Aggregation("x", ["sum"], ["7d"])]}
    of = view(reads=CREATED, **(sums if of_windows else {"ttl": 365 * DAY}))
    store.apply([of])

    def beside(end: datetime, at: datetime, mode: Mode) -> str:
        store.materialize(end=end)
        online = store.explain(of, {"k": 1}, at=at, online=True, mode=mode).views[0].online
        assert online is not None
        assert not online.is_defect
        return online.why

    for end in (NOON, NOON + HOUR / 2):
        assert beside(end, NOON, "as_served") == (
            "online serves complete history, and as_served leaves out what was not yet written"
            " by 2024-01-10T12:00:00Z, or nobody knows when"
        )
    assert beside(NOON + HOUR, NOON + HOUR, "complete") == "the same values as in training"
    early = NOON - 2 * HOUR
    assert "after the moment that is explained" in beside(NOON + 2 * HOUR, early, "as_served")


def test_what_came_since_is_no_reason_where_as_served_does_not_see_it(
    store: FeatureStore, tmp_path: Path
) -> None:
    columns = {"k": [1, 1, 1], "t": times(NOON - DAY, NOON - HOUR, NOON + HOUR)}
    made = times(NOON - DAY, NOON + DAY, NOON + DAY)
    write(tmp_path / FILE, {**columns, "made": made, "x": [1.0, 2.0, 3.0]})
    of = view(reads=CREATED)
    store.apply([of])
    store.materialize(end=NOON)

    def why(mode: Mode) -> str:
        at = NOON + 2 * HOUR
        online = store.explain(of, {"k": 1}, at=at, online=True, mode=mode).views[0].online
        assert online is not None
        return online.why

    assert "online serves complete history" in why("as_served")
    assert "training sees what came after that" in why("complete")
    write(tmp_path / FILE, {**columns, "made": times(*[NOON - DAY] * 3), "x": [1.0, 2.0, 3.0]})
    assert "training sees what came after that" in why("as_served")


def test_windows_are_set_beside_what_was_computed_at_the_last_run(
    store: FeatureStore, tmp_path: Path
) -> None:
    write(tmp_path / FILE, {"k": [1, 1], "t": times(NOON, NOON - DAY), "x": [1.0, 2.0]})
    of = view(schema=(), aggregations=[Aggregation("x", ["sum"], ["2d"])])
    store.apply([of])
    store.materialize(end=NOON + HOUR)
    assert store.explain(of, {"k": 1}, at=NOON + HOUR, online=True).views[0].online.agrees  # type: ignore[union-attr]
    online = store.explain(of, {"k": 1}, at=NOON, online=True).views[0].online
    assert online is not None
    assert (online.agrees, online.is_defect) == (False, False)
    assert online.features["x_sum_2d"].value.python == 3.0


def test_a_view_that_is_not_served_says_so(store: FeatureStore, tmp_path: Path) -> None:
    write(tmp_path / FILE, {"k": [1], "t": times(NOON), "x": [1.0]})
    found = explained(store, view(online=False), {"k": 1}, online=True)
    online = found.views[0].online
    assert online is not None
    assert (online.state, online.agrees) == ("not served", True)


def test_keys_that_two_views_declare_differently_are_read_for_both(
    store: FeatureStore, tmp_path: Path
) -> None:
    write(tmp_path / FILE, {"k": pa.array([1], pa.int32()), "t": times(NOON), "x": [1.0]})
    wide = view()
    narrow = FeatureView(
        name="narrow",
        entities=[Entity(name="small", join_keys={"k": pa.int32()})],
        source=FileSource(name="again", path=FILE, timestamp_field="t"),
        schema=[Field(name="x", dtype=Float64)],
    )
    store.apply([wide, narrow])
    found = store.explain([narrow, wide], {"k": 1}, at=NOON)
    assert [f.value.python for f in found.features] == [1.0, 1.0]


def test_a_generation_that_is_still_served_is_told_from_a_defect(
    filled: FeatureStore, tmp_path: Path
) -> None:
    filled.materialize()
    write(tmp_path / "other.parquet", {"k": [1], "t": times(NOON), "x": [9.0]})
    filled.apply([view("other.parquet", ttl=365 * DAY)])
    agrees, why = online_why(filled)
    assert (agrees, why) == (
        False,
        "generation 1 is served, with another meaning, until 2 is",
    )
