"""What is known about a flight before it leaves: the definitions of this repository.

`build_data.py` wrote the files and says when each fact was known. One rule holds for all of them: a
row's `event_timestamp` is that moment, so a training set can only hold what a prediction made an
hour before departure would have seen.
"""

from datetime import timedelta

from featurestore import Entity, FeatureService, FeatureView, Field, FileSource
from featurestore.types import Float64, Int64, String

OWNER = "operations@example.com"

airport = Entity(name="airport", join_keys={"airport": String}, description="By IATA code")
plane = Entity(name="plane", join_keys={"tailnum": String}, description="By tail number")
carrier = Entity(name="carrier", join_keys={"carrier": String}, description="By IATA code")
route = Entity(name="route", join_keys={"origin": String, "dest": String})


def table(name: str) -> FileSource:
    """Return the source that reads what `build_data.py` wrote as `name`."""
    return FileSource(
        name=f"{name}_file", path=f"data/{name}.parquet", timestamp_field="event_timestamp"
    )


# No view reads it: a flight has no features of its own. Its rows are what questions are made of,
# with `featurestore spine events schedule`, or as in `demo.py`.
schedule = FileSource(
    name="schedule",
    path="data/flights.parquet",
    timestamp_field="scheduled_departure",
    description="Every flight, as of the moment at which it is due",
)

weather = FeatureView(
    name="weather",
    description="Hourly observations at New York's three airports, known when the hour is over",
    entities=[airport],
    source=table("weather"),
    ttl=timedelta(hours=3),
    schema=[
        Field(name="temp", dtype=Float64, description="Degrees Fahrenheit"),
        Field(name="dewp", dtype=Float64, description="Dew point, degrees Fahrenheit"),
        Field(name="humid", dtype=Float64, description="Relative humidity, per cent"),
        Field(name="wind_speed", dtype=Float64, description="Miles per hour"),
        Field(name="wind_gust", dtype=Float64, description="Miles per hour; null: none reported"),
        Field(name="precip", dtype=Float64, description="Inches in that hour"),
        Field(name="pressure", dtype=Float64, description="Millibars, at sea level"),
        Field(name="visib", dtype=Float64, description="Miles"),
    ],
    owner=OWNER,
    tags={"origin": "NOAA"},
)

plane_facts = FeatureView(
    name="plane_facts",
    description="The registry's entry; about one flight in six is by a plane that has none",
    entities=[plane],
    source=table("planes"),
    schema=[
        Field(name="manufacturer", dtype=String),
        Field(name="model", dtype=String),
        Field(name="year_built", dtype=Int64),
        Field(name="engines", dtype=Int64),
        Field(name="seats", dtype=Int64),
        Field(name="engine_type", dtype=String),
    ],
    owner=OWNER,
    tags={"origin": "FAA"},
)

last_delays = [
    Field(name="last_dep_delay", dtype=Int64, description="Minutes; known once it has left"),
    Field(name="last_arr_delay", dtype=Int64, description="Minutes; known once it has landed"),
    Field(name="departures_day", dtype=Int64, description="On the day of the last one"),
]

plane_state = FeatureView(
    name="plane_state",
    description="How late this plane last left New York, and last landed coming from there",
    entities=[plane],
    source=table("plane_state"),
    ttl=timedelta(days=1),
    schema=last_delays,
    owner=OWNER,
)

route_state = FeatureView(
    name="route_state",
    description="How late the last flight on this route left, and the last one landed",
    entities=[route],
    source=table("route_state"),
    ttl=timedelta(days=2),
    schema=last_delays,
    owner=OWNER,
)

carrier_state = FeatureView(
    name="carrier_state",
    description="How late this carrier's flights have been leaving New York",
    entities=[carrier],
    source=table("carrier_state"),
    ttl=timedelta(hours=12),
    schema=[
        Field(name="departures_day", dtype=Int64, description="On the day of the last one"),
        Field(name="mean_dep_delay_day", dtype=Float64, description="Minutes, on that day so far"),
        Field(name="mean_dep_delay_last_20", dtype=Float64, description="Minutes"),
        Field(name="late_share_last_20", dtype=Float64, description="15 minutes or more, 0 to 1"),
    ],
    owner=OWNER,
)

departures = FeatureView(
    name="departures",
    description="What left an airport in New York in the hour before its last departure",
    entities=[airport],
    source=table("airport_departures"),
    ttl=timedelta(hours=3),
    schema=[
        Field(name="mean_dep_delay_1h", dtype=Float64, description="Minutes"),
        Field(name="departures_1h", dtype=Int64),
    ],
    owner=OWNER,
)

arrivals = FeatureView(
    name="arrivals",
    description="What landed at an airport, from New York, in the 3 hours before its last one",
    entities=[airport],
    source=table("airport_arrivals"),
    ttl=timedelta(hours=6),
    schema=[
        Field(name="mean_arr_delay_3h", dtype=Float64, description="Minutes"),
        Field(name="arrivals_3h", dtype=Int64),
    ],
    owner=OWNER,
)

# A flight has two airports, so views of an airport are used in roles: the same view, under another
# name, with its key taken from another column. Weather was only recorded in New York: at the
# destination it is null for every flight but one, and a null is what a model should see there.
AT_ORIGIN = {"airport": "origin"}
AT_DEST = {"airport": "dest"}

delay_v1 = FeatureService(
    name="delay_v1",
    description="Will this flight leave at least 15 minutes late? Asked an hour before departure",
    features=[
        weather.with_name("origin_weather").with_join_key_map(AT_ORIGIN),
        weather[["wind_speed", "precip", "visib"]]
        .with_name("dest_weather")
        .with_join_key_map(AT_DEST),
        departures.with_name("origin_departures").with_join_key_map(AT_ORIGIN),
        arrivals.with_name("dest_arrivals").with_join_key_map(AT_DEST),
        plane_facts[["year_built", "engines", "seats"]],
        plane_state,
        carrier_state,
        route_state,
    ],
    owner=OWNER,
)
