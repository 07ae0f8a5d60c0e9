"""The data of the flights template: rows are stamped when they were known, losses are counted."""

import hashlib
import importlib.util
import io
import shutil
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from featurestore.errors import MissingExtraError

from .built import TEMPLATES, built_template

NEW_YORK = ZoneInfo("America/New_York")
FLIGHTS = 336_776


@pytest.fixture(scope="module")
def build_data() -> Iterator[ModuleType]:
    name = "flights_build_data"
    spec = importlib.util.spec_from_file_location(name, TEMPLATES / "flights" / "build_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_template(tmp_path_factory, "flights")


@pytest.fixture(scope="module")
def raw(build_data: ModuleType) -> pl.DataFrame:
    """The package's flights as they are: columns that the builder does not read, and delays."""
    with zipfile.ZipFile(build_data.raw_folder() / "flights.csv.zip") as archive:
        content = io.BytesIO(archive.read("flights.csv"))
    columns = ["dep_time", "sched_arr_time", "dep_delay", "time_hour"]
    table = pl.read_csv(content, columns=columns, null_values="NA")
    return table.with_row_index("flight_id")


@pytest.fixture(scope="module")
def flights(build_data: ModuleType, raw: pl.DataFrame) -> pl.DataFrame:
    """The flights as the builder places them in time, with the raw columns it does not read."""
    placed = build_data.read_flights(build_data.raw_folder())
    unread = raw.select("flight_id", "dep_time", "sched_arr_time", "time_hour")
    joined: pl.DataFrame = placed.join(unread, on="flight_id", validate="1:1")
    return joined


def read(repo: Path, table: str) -> pl.DataFrame:
    return pl.read_parquet(repo / "data" / f"{table}.parquet")


def before(rows: pl.DataFrame, event: str, moment: datetime) -> int:
    """Return how many rows, which are in the order of an event, had taken place by a moment."""
    return int(rows[event].search_sorted(moment, side="right"))


def minutes(hhmm: str) -> pl.Expr:
    return (pl.col(hhmm) // 100 * 60 + pl.col(hhmm) % 100) % 1440


def wall_minutes(instant: str, zone: str) -> pl.Expr:
    local = pl.col(instant).dt.convert_time_zone(zone)
    return local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute()


# ---- instants


def test_every_departure_reads_dep_time_on_the_clocks_of_new_york(flights: pl.DataFrame) -> None:
    left = flights.drop_nulls("departure")
    assert left.height == 328_521
    assert left.filter(
        wall_minutes("departure", "America/New_York") != minutes("dep_time")
    ).is_empty()


def test_a_delay_is_real_minutes_also_in_the_night_the_clocks_change(
    build_data: ModuleType,
) -> None:
    flight = pl.DataFrame(
        {"year": 2013, "month": 3, "day": 9, "sched_dep_time": 2355, "dep_delay": 180}
    )
    left = build_data.with_departure(flight).row(0, named=True)
    assert left["departure"] == datetime(2013, 3, 10, 4, 55, tzinfo=UTC) + timedelta(hours=3)
    assert left["departure"].astimezone(NEW_YORK).hour == 3  # not 2, which that night lacked


def test_scheduled_departures_fall_in_the_utc_hour_that_the_package_states(
    flights: pl.DataFrame,
) -> None:
    stated = pl.col("time_hour").str.to_datetime(time_zone="UTC")
    assert flights.filter(pl.col("scheduled").dt.truncate("1h") != stated).is_empty()


def test_every_flight_has_an_arrival_or_a_counted_reason(flights: pl.DataFrame) -> None:
    reasons = dict(flights["no_arrival"].drop_nulls().value_counts().iter_rows())
    assert reasons == {"cancelled": 8_255, "unrecorded": 458, "diverted": 717, "clock_change": 2}
    assert flights["arrival"].is_null().equals(flights["no_arrival"].is_not_null())
    assert flights["arrival"].count() + sum(reasons.values()) == flights.height == FLIGHTS


def test_no_plane_lands_before_departure_plus_air_time(flights: pl.DataFrame) -> None:
    landed = flights.drop_nulls("arrival")
    earliest = pl.col("departure") + pl.duration(minutes="air_time")
    assert landed.filter(pl.col("arrival") < earliest).is_empty()
    assert landed.filter(pl.col("arrival") > earliest + pl.duration(hours=4)).is_empty()


@pytest.mark.parametrize(
    ("arr_time", "air_time", "reason", "arrival"),
    [
        (830, 227, None, datetime(2013, 1, 1, 13, 30, tzinfo=UTC)),
        (804, 227, None, datetime(2013, 1, 1, 13, 4, tzinfo=UTC)),
        (803, 227, "too_early", None),
        (None, 227, "unrecorded", None),
        (830, None, "diverted", None),
    ],
)
def test_an_arrival_that_cannot_be_is_dropped_with_its_reason(
    build_data: ModuleType,
    arr_time: int | None,
    air_time: int | None,
    reason: str | None,
    arrival: datetime | None,
) -> None:
    flight = pl.DataFrame(
        {
            "departure": [datetime(2013, 1, 1, 9, 17, tzinfo=UTC)],
            "arr_time": [arr_time],
            "air_time": [air_time],
        },
        schema_overrides={"arr_time": pl.Int64, "air_time": pl.Int64},
    )
    placed = build_data.with_arrival(flight, "America/New_York").row(0, named=True)
    assert (placed["no_arrival"], placed["arrival"]) == (reason, arrival)


def test_local_times_that_occur_twice_or_never_are_not_guessed(flights: pl.DataFrame) -> None:
    dropped = flights.filter(pl.col("no_arrival") == "clock_change").sort("scheduled")
    rows = dropped.select("month", "day", "dest", "arr_time").rows()
    assert rows == [(3, 9, "PBI", 203), (11, 2, "LAX", 114)]


def test_arrivals_agree_with_the_schedule_they_were_not_computed_from(
    flights: pl.DataFrame,
) -> None:
    """Arrival minus its delay is the scheduled arrival: by the clock, and by the usual duration."""
    landed = flights.drop_nulls("arrival").with_columns(
        due=pl.col("arrival") - pl.duration(minutes="arr_delay")
    )
    for (zone,), group in landed.partition_by("zone", as_dict=True).items():
        odd = group.filter(wall_minutes("due", str(zone)) != minutes("sched_arr_time"))
        assert odd.filter(~pl.col("month").is_in([3, 11])).is_empty()
        assert odd.height <= 5  # due before the clocks were changed, landed after
    block = (pl.col("due") - pl.col("scheduled")).dt.total_minutes()
    usual = block.median().over("origin", "dest")
    assert landed.filter((block - usual).abs() >= 50).height == 3  # a wrong hour would add more


def test_flights_to_puerto_rico_arrive_by_its_clock_all_year(flights: pl.DataFrame) -> None:
    landed = flights.filter(pl.col("dest").is_in(["BQN", "PSE", "SJU", "STT"])).drop_nulls(
        "arrival"
    )
    assert landed.height == 7_537
    assert landed["month"].n_unique() == 12
    four_hours_behind = (pl.col("arrival") - timedelta(hours=4)).dt
    clock = four_hours_behind.hour().cast(pl.Int64) * 60 + four_hours_behind.minute()
    assert landed.filter(clock != minutes("arr_time")).is_empty()


def test_a_flight_west_lands_where_python_puts_it(flights: pl.DataFrame) -> None:
    one = (pl.col("month") == 1) & (pl.col("day") == 1)
    flight = flights.filter(one & (pl.col("carrier") == "UA") & (pl.col("flight") == 1545))
    departure = datetime(2013, 1, 1, 5, 17, tzinfo=NEW_YORK).astimezone(UTC)
    arrival = datetime(2013, 1, 1, 8, 30, tzinfo=ZoneInfo("America/Chicago")).astimezone(UTC)
    assert flight.select("departure", "arrival").row(0) == (departure, arrival)


# ---- what was known


def test_weather_is_known_when_its_hour_is_over(repo: Path, build_data: ModuleType) -> None:
    stated = pl.read_csv(build_data.raw_folder() / "weather.csv", columns=["time_hour"])
    hours = stated["time_hour"].str.to_datetime(time_zone="UTC")
    known = read(repo, "weather")["event_timestamp"]
    assert known.sort().equals((hours + timedelta(hours=1)).sort(), check_names=False)


def test_the_hour_that_new_york_repeats_is_two_hours_of_weather(repo: Path) -> None:
    """The local day of 2013-11-03 has 25 hours, of which the package lacks the first."""
    weather = read(repo, "weather").with_columns(
        pl.col("event_timestamp").dt.offset_by("-1h").dt.convert_time_zone("America/New_York")
    )
    day = weather.filter(pl.col("event_timestamp").dt.date() == date(2013, 11, 3))
    for hours in day.partition_by("airport"):
        local = hours["event_timestamp"].dt.hour()
        assert (hours["event_timestamp"].n_unique(), local.n_unique()) == (24, 23)
        assert local.to_list().count(1) == 2


def test_a_key_has_one_row_per_instant(repo: Path) -> None:
    keys = {
        "weather": ["airport"],
        "planes": ["tailnum"],
        "plane_state": ["tailnum"],
        "carrier_state": ["carrier"],
        "route_state": ["origin", "dest"],
        "airport_departures": ["airport"],
        "airport_arrivals": ["airport"],
    }
    for table, key in keys.items():
        rows = read(repo, table).select(*key, "event_timestamp")
        assert rows.null_count().sum_horizontal().item() == 0, table
        assert not rows.is_duplicated().any(), table


@pytest.mark.parametrize(
    ("table", "keys"), [("plane_state", ["tailnum"]), ("route_state", ["origin", "dest"])]
)
def test_last_delays_are_those_of_flights_that_have_left_or_landed(
    repo: Path, flights: pl.DataFrame, table: str, keys: list[str]
) -> None:
    columns = ["departure", "arrival", "dep_delay", "arr_delay"]
    known = flights.select(*keys, *columns).drop_nulls(keys)
    by_key = known.partition_by(keys, as_dict=True, include_key=False)
    for row in read(repo, table).sample(300, seed=1).iter_rows(named=True):
        mine = by_key[tuple(row[key] for key in keys)]
        left = mine.filter(pl.col("departure") <= row["event_timestamp"])
        landed = mine.filter(pl.col("arrival") <= row["event_timestamp"])
        newest = left.filter(pl.col("departure") == pl.col("departure").max())
        assert row["last_dep_delay"] in newest["dep_delay"].to_list()
        newest = landed.filter(pl.col("arrival") == pl.col("arrival").max())
        assert row["last_arr_delay"] in (newest["arr_delay"].to_list() or [None])
        days = left["departure"].dt.convert_time_zone("America/New_York").dt.date()
        assert row["departures_day"] == (days == days.max()).sum()


def test_a_carriers_delays_are_those_of_departures_so_far(
    repo: Path, flights: pl.DataFrame
) -> None:
    left = flights.drop_nulls("departure").sort("departure", maintain_order=True)
    by_carrier = left.partition_by("carrier", as_dict=True)
    for row in read(repo, "carrier_state").sample(200, seed=2).iter_rows(named=True):
        mine = by_carrier[row["carrier"],]
        so_far = mine.head(before(mine, "departure", row["event_timestamp"]))
        local = row["event_timestamp"].astimezone(NEW_YORK)
        midnight = local.replace(hour=0, minute=0).astimezone(UTC)
        today = so_far.filter(pl.col("departure") >= midnight)["dep_delay"]
        assert row["departures_day"] == len(today)
        assert row["mean_dep_delay_day"] == pytest.approx(today.mean())
        # More than one may have left in the minute of the twentieth last: any of them counts.
        if so_far["departure"].tail(21).is_unique().all():
            last = so_far["dep_delay"].tail(20)
            assert row["mean_dep_delay_last_20"] == pytest.approx(last.mean())
            assert row["late_share_last_20"] == pytest.approx((last >= 15).mean())


@pytest.mark.parametrize(
    ("table", "columns", "hours"),
    [
        ("airport_departures", ("origin", "departure", "dep_delay"), 1),
        ("airport_arrivals", ("dest", "arrival", "arr_delay"), 3),
    ],
)
def test_recent_delays_at_an_airport_are_those_of_the_last_hours(
    repo: Path, flights: pl.DataFrame, table: str, columns: tuple[str, str, str], hours: int
) -> None:
    airport, event, delay = columns
    known = flights.drop_nulls(event).sort(event)
    by_airport = known.partition_by(airport, as_dict=True)
    for row in read(repo, table).sample(300, seed=3).iter_rows(named=True):
        now = row["event_timestamp"]
        here = by_airport[row["airport"],]
        since = before(here, event, now - timedelta(hours=hours))
        window = here[delay][since : before(here, event, now)]
        assert row[f"{event}s_{hours}h"] == len(window) > 0
        assert row[f"mean_{delay}_{hours}h"] == pytest.approx(window.mean(), abs=1e-9)


# ---- the question


def test_no_flight_has_left_when_its_lateness_is_predicted(
    repo: Path, flights: pl.DataFrame
) -> None:
    assert flights.filter(
        pl.col("departure") <= pl.col("scheduled") - pl.duration(hours=1)
    ).is_empty()
    questions = read(repo, "flights")
    asked = questions.select(pl.col("event_timestamp") + pl.duration(hours=1)).to_series()
    assert asked.equals(questions["scheduled_departure"], check_names=False)


def test_cancelled_flights_stay_and_have_no_label(repo: Path, raw: pl.DataFrame) -> None:
    late = read(repo, "flights")["late"]
    assert len(late) == FLIGHTS
    assert late.null_count() == raw["dep_delay"].null_count() == 8_255
    assert late.sum() == (raw["dep_delay"] >= 15).sum()


# ---- the folder


def test_building_again_writes_the_same_bytes_and_reports_what_was_dropped(
    repo: Path, build_data: ModuleType, tmp_path: Path
) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = sorted((folder / "data").iterdir())
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}

    again = shutil.copytree(repo, tmp_path / "again")
    assert build_data.is_built(again)
    for file in (again / "data").iterdir():
        file.write_bytes(b"")
    report = build_data.build(again)
    assert digests(again) == digests(repo)
    assert len(digests(repo)) == 8

    assert report.rows["data/flights.parquet"] == FLIGHTS
    assert report.arrivals + sum(report.no_arrival.values()) == FLIGHTS
    assert report.no_arrival["too_early"] == 0
    for name, rows in report.rows.items():
        assert pl.scan_parquet(repo / name).select(pl.len()).collect().item() == rows
    text = "\n".join(report.lines())
    assert "717 landed elsewhere first" in text
    assert "2 the local arrival time occurs twice or never" in text


def test_an_empty_folder_is_not_built(tmp_path: Path, build_data: ModuleType) -> None:
    assert not build_data.is_built(tmp_path)


def test_a_missing_data_package_says_what_to_install(build_data: ModuleType) -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'featurestore\[demo\]'"):
        build_data.raw_folder("nycflights1913")
