"""Times as files and spines hold them: naive, nanoseconds, mixed, ambiguous, infinite, far away."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from featurestore.errors import SourceError, SourceTimeError, SpineError
from featurestore.store import FeatureStore
from featurestore.types import List, Timestamp
from tests.unit.projects import (
    FILE,
    NAIVE_US,
    QUICK,
    THEN,
    UTC_US,
    everywhere,
    micros,
    project,
    rows,
    says,
    spine,
    train,
    view,
    write,
)

NEW_YORK = "America/New_York"
LAST = 2**63 - 1
YEAR_10000 = 253_402_300_800_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(root: Path) -> Iterator[FeatureStore]:
    with project(root) as opened:
        yield opened


def naive(*texts: str | None, unit: str = "us") -> pa.Array:
    """Return times without a zone."""
    times = [None if text is None else datetime.fromisoformat(text) for text in texts]
    return pa.array(times, NAIVE_US).cast(pa.timestamp(unit))


def utc(text: str) -> datetime:
    """Return an instant."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def at(*texts: str) -> pa.Table:
    """Return a spine of key 1 at these instants."""
    return spine(*[1] * len(texts), at=pa.array([utc(text) for text in texts], UTC_US))


# --- sources -----------------------------------------------------------------------------------


def test_files_of_one_source_may_hold_times_of_any_kind(store: FeatureStore, root: Path) -> None:
    hours = [
        naive("2024-01-01 01:00"),
        naive("2024-01-01 02:00", unit="ms"),
        naive("2024-01-01 03:00", unit="ns"),
        pa.array([utc("2024-01-01 04:00")], pa.timestamp("ns", tz="Asia/Kathmandu")),
        pa.array([utc("2024-01-01 05:00")], pa.timestamp("ms", tz="UTC")),
        pa.array([date(2024, 1, 2)]),
        pa.nulls(1),
    ]
    for number, times in enumerate(hours):
        write(root / f"data/{number}.parquet", rows(t=times, x=[float(number)]))
    of = view("data")
    wanted = at(*(f"2024-01-01 0{hour}:00" for hour in range(1, 6)), "2024-01-02 00:00")
    assert everywhere(store, of, spine(1)) == [5.0]
    assert train(store, of, wanted) == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_all_naive_times_of_a_source_are_in_its_zone(store: FeatureStore, root: Path) -> None:
    write(root / "data/a.parquet", rows(t=naive("2024-01-01 00:00"), x=[1.0]))
    write(root / "data/b.parquet", rows(t=pa.array([date(2024, 1, 2)]), x=[2.0]))
    of = view("data", reads={"timezone": "Asia/Kathmandu"})  # 5:45 before UTC
    store.apply([of])
    wanted = at(
        "2023-12-31 18:14:59", "2023-12-31 18:15", "2024-01-01 18:14:59", "2024-01-01 18:15"
    )
    assert train(store, of, wanted) == [None, 1.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("Asia/Kathmandu", "1985-12-31 23:00", "1985-12-31 17:30"),  # 5:30 until 1986
        ("Africa/Monrovia", "1971-06-01 00:00", "1971-06-01 00:44:30"),
        ("Pacific/Apia", "2011-12-31 00:00", "2011-12-30 10:00"),  # the day after a day left out
        ("Europe/Dublin", "2024-07-01 12:00", "2024-07-01 11:00"),  # its winter time is the odd one
        ("America/New_York", "1850-01-01 00:00", "1850-01-01 04:56:02"),  # before time zones
        ("Australia/Lord_Howe", "2024-01-01 00:00", "2023-12-31 13:00"),
        ("America/New_York", "9998-07-01 00:00", "9998-07-01 04:00"),
        ("Etc/GMT+12", "2024-01-01 00:00", "2024-01-01 12:00"),
    ],
)
def test_a_zones_history_is_followed(
    store: FeatureStore, root: Path, zone: str, local: str, instant: str
) -> None:
    of = view(reads={"timezone": zone})
    write(root / FILE, rows(t=naive(local)))
    store.apply([of])
    before = utc(instant) - timedelta(microseconds=1)
    assert train(store, of, at(before.isoformat()[:26], instant)) == [None, 1.0]
    local_spine = spine(1, at=naive(local))
    assert train(store, of, local_spine, timezone=zone) == [1.0]


@pytest.mark.parametrize("far", ["0001-01-01", "1883-11-18 12:30", "9999-12-31"])
def test_a_time_of_long_ago_or_never_is_one_among_others(
    store: FeatureStore, root: Path, far: str
) -> None:
    write(root / FILE, rows(2, k=[1, 2], t=naive(far, "2024-01-01")))
    of = view(reads={"timezone": NEW_YORK})
    visible = 1.0 if far < "2024" else None
    store.apply([of])
    assert train(store, of, spine(1, 2)) == [visible, 2.0]
    table = spine(2, 2, at=naive(far, "2024-02-01"))
    assert train(store, of, table, timezone=NEW_YORK) == [2.0 if far > "2024" else None, 2.0]


@pytest.mark.parametrize("column", ["t", "made"])
@pytest.mark.parametrize("how", ["occurs twice", "never occurs"])
def test_an_ambiguous_local_time_is_refused_with_file_column_and_row(
    store: FeatureStore, root: Path, how: str, column: str
) -> None:
    local, hint = {
        "occurs twice": ("2024-11-03 01:30", "ambiguous='earliest' or 'latest'"),
        "never occurs": ("2024-03-10 02:30", "missing='forward'"),
    }[how]
    good = naive("2024-01-01", "2024-01-01", "2024-01-01")
    write(root / "data/a.parquet", rows(3, t=good, made=good))
    bad = {"t": good, "made": good} | {column: naive("2024-01-01", None, local)}
    write(root / "data/b.parquet", rows(3, **bad))
    of = view("data", reads={"timezone": NEW_YORK, "created_timestamp_column": "made"})
    store.apply([of])
    for act in (lambda: train(store, of, spine(1)), store.materialize):
        with pytest.raises(SourceTimeError) as caught:
            act()
        error = caught.value
        assert (error.source, error.column, error.row) == ("readings", column, 2)
        assert error.file == str(root / "data/b.parquet")
        assert says(error, local.replace(" ", "T"), how, NEW_YORK, "row 2", "b.parquet", hint)
    assert [run.status for run in store.registry.runs("plant")] == ["failed"]


def test_an_ambiguous_time_among_a_lists_elements_is_refused(
    store: FeatureStore, root: Path
) -> None:
    times = pa.ListArray.from_arrays([0, 3], naive("2024-01-01", None, "2024-11-03 01:30"))
    write(root / FILE, rows(x=times))
    of = view(features={"x": List(Timestamp)}, reads={"timezone": NEW_YORK})
    store.apply([of])
    with pytest.raises(SourceTimeError) as caught:
        train(store, of, spine(1))
    assert (caught.value.column, caught.value.row) == ("x", 0)
    assert says(caught.value, "2024-11-03T01:30")


@pytest.mark.parametrize(
    ("policy", "local", "instant"),
    [
        ({"ambiguous": "earliest"}, "2024-11-03 01:30", "2024-11-03 05:30"),
        ({"ambiguous": "latest"}, "2024-11-03 01:30", "2024-11-03 06:30"),
        ({"missing": "forward"}, "2024-03-10 02:30", "2024-03-10 07:00"),
    ],
)
def test_a_policy_decides_an_ambiguous_local_time(
    store: FeatureStore, root: Path, policy: dict[str, str], local: str, instant: str
) -> None:
    of = view(reads={"timezone": NEW_YORK, **policy})
    write(root / FILE, rows(t=naive(local)))
    store.apply([of])
    before = utc(instant) - timedelta(microseconds=1)
    assert train(store, of, at(before.isoformat(), instant)) == [None, 1.0]


def test_a_policy_for_one_kind_leaves_the_other_an_error(store: FeatureStore, root: Path) -> None:
    of = view(reads={"timezone": NEW_YORK, "ambiguous": "latest"})
    write(root / FILE, rows(t=naive("2024-03-10 02:30")))
    store.apply([of])
    with pytest.raises(SourceTimeError, match="never occurs"):
        train(store, of, spine(1))


def test_int96_times_of_every_year_are_read(store: FeatureStore, root: Path) -> None:
    years = naive("0001-01-01", "1600-01-01", "2024-01-01 00:00:00.000001", "9999-01-01")
    for number, more in enumerate(({}, {"X": [0] * 4})):  # by the engine, and through Arrow
        columns = rows(4, t=years, x=years) | more
        write(root / FILE, columns, use_deprecated_int96_timestamps=True)
        of = view(name=f"reading{number}", features={"x": Timestamp})
        store.apply([of])
        then = pa.array([utc("9999-02-01")] * 4, UTC_US)
        expected = [t.replace(tzinfo=UTC) for t in years.to_pylist()]
        assert train(store, of, spine(1, 2, 3, 4, at=then)) == expected


# --- infinite and far times --------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", None])
@pytest.mark.parametrize("unit", ["us", "ns"])
def test_the_last_number_of_a_unit_is_a_time_and_not_null(
    store: FeatureStore, root: Path, unit: str, zone: str | None
) -> None:
    last = LAST if unit == "us" else LAST // 1000
    values = micros(LAST, -LAST, unit=unit, zone=zone)
    write(root / FILE, rows(2, t=values, x=values))
    of = view(features={"x": Timestamp})
    store.apply([of])
    then = micros(LAST, LAST)
    found = store.get_historical_features(spine(1, 2, at=then), [of]).to_arrow()["x"]
    assert found.cast(pa.int64()).to_pylist() == [last, -last - (unit == "ns")]
    early = store.get_historical_features(spine(1, 2, at=micros(0, 0)), [of]).to_arrow()["x"]
    assert early.is_null().to_pylist() == [True, False]
    report = store.materialize()[0]
    assert (report.rows_read, report.null_times) == (1, 0)
    assert store.verify().ok


def test_infinite_dates_are_times_too(store: FeatureStore, root: Path) -> None:
    days = pa.array([2**31 - 1, -(2**31) + 1], pa.int32()).view(pa.date32())
    write(root / FILE, rows(2, t=days))
    of = view()
    store.apply([of])
    assert train(store, of, spine(1, 2, at=micros(LAST, LAST))) == [1.0, 2.0]
    assert train(store, of, spine(1, 2)) == [None, 2.0]


def test_a_time_that_no_microseconds_can_say_names_the_file(
    store: FeatureStore, root: Path
) -> None:
    of = view()
    write(root / FILE, rows(t=micros(-(2**62), unit="ms")))
    store.apply([of])
    with pytest.raises(SourceError) as caught:
        train(store, of, spine(1))
    assert caught.value.file == str(root / FILE)


def test_far_times_are_compared_exactly(store: FeatureStore, root: Path) -> None:
    events = [-(2**63) + 2**57, -(2**62), YEAR_10000, 2**62]
    write(root / FILE, rows(4, k=[1] * 4, t=micros(*events)))
    of = view()
    store.apply([of])
    around = [moment for event in events for moment in (event - 1, event)]
    found = train(store, of, spine(*[1] * 8, at=micros(*around)))
    assert found == [None, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]


def test_the_longest_ttl_and_the_farthest_times_do_not_overflow(
    store: FeatureStore, root: Path
) -> None:
    ttl = timedelta(days=365_000)
    events = micros(-(2**63) + 2**57, 0, 2**62)
    write(root / FILE, rows(3, k=[1, 1, 1], t=events, made=micros(LAST, None, 0)))
    of = view(ttl=ttl, reads={"created_timestamp_column": "made"})
    moments = micros(-(2**63), -(2**63) + 2**57, 0, ttl // timedelta(microseconds=1), 2**62, LAST)
    store.apply([of])
    table = spine(*[1] * 6, at=moments)
    assert train(store, of, table) == [None, 1.0, 2.0, 2.0, 3.0, None]
    assert train(store, of, table, mode="as_served") == [None, None, None, None, 3.0, None]
    store.materialize()
    assert store.verify().ok


def test_times_of_years_that_python_does_not_know_are_verified(
    store: FeatureStore, root: Path
) -> None:
    values = micros(YEAR_10000, -(2**62))
    lists = pa.ListArray.from_arrays([0, 2], values)
    write(root / FILE, rows(x=lists, y=values[:1]))
    of = view(features={"x": List(Timestamp), "y": Timestamp})
    store.apply([of])
    store.materialize()
    assert store.verify().ok
    write(root / FILE, rows(x=pa.ListArray.from_arrays([0, 1], values[1:]), y=values[1:]))
    report = store.verify()
    assert dict(report.views[0].differences) == {"source rewritten": 2}
    shown = {e.feature: (e.offline, e.online) for e in report.views[0].examples}
    assert shown["y"] == (str(-(2**62)), str(YEAR_10000))


def test_a_created_time_in_the_future_does_not_hide_what_is_written_until_then(
    root: Path,
) -> None:
    first = rows(2, made=pa.array([THEN, utc("9999-12-31")], UTC_US))
    write(root / "data/a.parquet", first)
    with project(root, online_store="lmdb", clock="2024-06-01T00:00:00Z") as store:
        store.apply([view("data", reads={"created_timestamp_column": "made"})])
        store.materialize()
    correction = rows(x=[10.0], made=pa.array([utc("2024-06-02")], UTC_US))
    write(root / "data/b.parquet", correction)
    with project(root, online_store="lmdb", clock="2024-06-03T00:00:00Z") as store:
        store.materialize_incremental()
        served = store.get_online_features(["reading:x"], {"k": [1, 2]}).to_dict()
        assert served["x"] == [10.0, 2.0]
        assert store.verify().ok


# --- spines ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    """A store of two rows of key 1: 1.0 at `THEN`, 2.0 a minute later."""
    root = tmp_path_factory.mktemp("trained")
    times = pa.array([THEN, THEN + timedelta(minutes=1)], UTC_US)
    write(root / FILE, rows(2, k=[1, 1], t=times))
    with project(root, **QUICK) as opened:
        opened.apply([view()])
        yield opened


def frame(*times: object) -> pd.DataFrame:
    """Return a pandas spine whose times are Python objects."""
    return pd.DataFrame({"k": 1, "event_timestamp": pd.Series(times, dtype=object)})


def test_naive_and_aware_times_side_by_side_are_refused(trained: FeatureStore) -> None:
    with pytest.raises(SpineError) as caught:
        train(trained, view(), frame(THEN, None, THEN.replace(tzinfo=None)))
    assert (caught.value.column, caught.value.row) == ("event_timestamp", 2)
    assert says(caught.value, "'event_timestamp'", "row 2", "with and without a zone")


def test_times_of_several_zones_are_instants(trained: FeatureStore) -> None:
    kathmandu = (THEN + timedelta(minutes=1)).astimezone(ZoneInfo("Asia/Kathmandu"))
    odd = (THEN - timedelta(seconds=1)).astimezone(timezone(timedelta(hours=-3, minutes=-7)))
    table = frame(THEN, THEN.astimezone(ZoneInfo(NEW_YORK)), kathmandu, odd, None, pd.NaT)
    assert train(trained, view(), table) == [1.0, 1.0, 2.0, None, None, None]


@pytest.mark.parametrize(
    "values", [["2024-01-01"], [1_704_067_200], [1.5]], ids=["text", "integer", "float"]
)
def test_a_time_column_of_another_type_is_refused(
    trained: FeatureStore, values: list[object]
) -> None:
    with pytest.raises(SpineError) as caught:
        train(trained, view(), spine(1, at=pa.array(values)))
    assert caught.value.column == "event_timestamp"
    assert says(caught.value, "'event_timestamp'", "not a time", "parse it first")


def test_texts_and_times_in_one_column_are_refused(trained: FeatureStore) -> None:
    with pytest.raises(SpineError) as caught:
        train(trained, view(), frame("2024-01-01", THEN))
    assert caught.value.column == "event_timestamp"


def test_a_spine_without_its_time_column_is_refused(trained: FeatureStore) -> None:
    table = spine(1).rename_columns(["k", "event_time"])
    with pytest.raises(SpineError) as caught:
        train(trained, view(), table)
    assert caught.value.column == "event_timestamp"
    assert says(caught.value, "no column 'event_timestamp'", "did you mean 'event_time'")
    assert train(trained, view(), table, timestamp_field="event_time") == [2.0]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kathmandu"])
def test_a_spines_times_may_have_any_unit_and_stay_as_they_are(
    trained: FeatureStore, unit: str, zone: str | None
) -> None:
    times = pa.array([THEN, None], UTC_US).cast(pa.timestamp(unit, tz=zone))
    table = trained.get_historical_features(spine(1, 1, at=times), [view()]).to_arrow()
    assert table["event_timestamp"].combine_chunks().equals(times)
    assert table["x"].to_pylist() == [1.0, None]


def test_a_spines_nanoseconds_are_rounded_down(trained: FeatureStore) -> None:
    start = int(THEN.timestamp()) * 10**9
    times = micros(start - 1, start, start + 60 * 10**9 - 1, unit="ns")
    assert train(trained, view(), spine(1, 1, 1, at=times)) == [None, 1.0, 1.0]


def test_a_spine_may_hold_dates_and_dictionaries(trained: FeatureStore) -> None:
    days = pa.array([THEN.date(), date(2023, 12, 31)])
    assert train(trained, view(), spine(1, 1, at=days)) == [1.0, None]
    assert train(trained, view(), spine(1, at=days[:1]), timezone="Asia/Kathmandu") == [None]
    coded = pa.array([THEN, THEN], UTC_US).dictionary_encode()
    assert train(trained, view(), spine(1, 1, at=coded)) == [1.0, 1.0]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_the_ends_of_a_unit_are_spine_times_like_any_other(
    trained: FeatureStore, unit: str
) -> None:
    times = micros(LAST, -LAST, None, unit=unit)
    assert train(trained, view(), spine(1, 1, 1, at=times)) == [2.0, None, None]
    local = micros(LAST, -LAST, None, unit=unit, zone=None)
    assert train(trained, view(), spine(1, 1, 1, at=local), timezone=NEW_YORK) == [2.0, None, None]


@pytest.mark.parametrize(
    ("local", "how"), [("2024-11-03 01:30", "occurs twice"), ("2024-03-10 02:30", "never occurs")]
)
def test_an_ambiguous_time_of_a_spine_is_refused_with_its_row(
    trained: FeatureStore, local: str, how: str
) -> None:
    table = spine(1, 1, 1, at=naive("2024-01-02", None, local))
    with pytest.raises(SpineError) as caught:
        train(trained, view(), table, timezone=NEW_YORK)
    assert (caught.value.column, caught.value.row) == ("event_timestamp", 2)
    assert says(caught.value, local.replace(" ", "T"), how, "row 2", NEW_YORK, "zone")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "\0", None, 5])
def test_an_unknown_zone_is_refused_even_if_no_time_needs_it(
    trained: FeatureStore, zone: object
) -> None:
    with pytest.raises(SpineError) as caught:
        train(trained, view(), spine(1), timezone=zone)
    assert says(caught.value, "not an IANA time zone", hint=False)


def test_numpy_and_pandas_times_of_every_unit_are_taken(trained: FeatureStore) -> None:
    for unit in ("s", "ms", "us", "ns"):
        times = np.array(["2024-01-01", "NaT"], f"datetime64[{unit}]")
        table = pd.DataFrame({"k": [1, 1], "event_timestamp": times})
        assert train(trained, view(), table) == [1.0, None]
