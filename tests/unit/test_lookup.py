"""Online lookups: what is asked for becomes one read, and every value gets its status."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import (
    ConfigError,
    EntityValueError,
    NameCollisionError,
    NotFoundError,
    RequestError,
    StoreDataError,
)
from featurestore.online.codec import RowCodec, encode_keys, tombstone
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import EncodedRows, ReadRequest, TableId
from featurestore.serving.lookup import Lookup, LookupResult, Status
from featurestore.serving.plan import (
    LookupPlan,
    ServingCatalog,
    ServingSelection,
    ServingService,
    ServingView,
    whole_view_plan,
)
from featurestore.serving.response import OnlineResponse
from featurestore.time import Clock, from_micros
from featurestore.types import parse_type

DAY = 86_400_000_000
NOW = 20_000 * DAY
CLOCK = Clock(from_micros(NOW))


def view(
    name: str, keys: Mapping[str, str], columns: Mapping[str, str], *, ttl_us: int | None = None
) -> ServingView:
    return ServingView(
        name=name,
        table=TableId(project="shop", view=name, generation=1),
        ttl_us=ttl_us,
        keys=tuple(keys.items()),
        columns=tuple(columns.items()),
    )


def select(
    of: ServingView,
    *features: str,
    alias: str | None = None,
    keys: Mapping[str, str] | None = None,
) -> ServingSelection:
    return ServingSelection(
        view=of.name,
        alias=alias,
        features=features or None,
        key_columns=tuple((key, (keys or {}).get(key, key)) for key, _ in of.keys),
    )


USERS = view(
    "users",
    {"user_id": "int64"},
    {"credit": "float64", "country": "string", "visits": "int32"},
    ttl_us=DAY,
)
WEATHER = view("weather", {"airport": "string"}, {"wind": "float32", "temp": "float32"})
ROUTES = view("routes", {"origin": "string", "dest": "string"}, {"delay": "float64"})
RATES = view("rates", {}, {"rate": "float64"})
SMALL = view("small", {"user_id": "int8"}, {"level": "int64"})
VIEWS = (USERS, WEATHER, ROUTES, RATES, SMALL)

SERVICES = (
    ServingService(name="fraud", selections=(select(USERS, "visits", "credit"), select(RATES))),
    ServingService(
        name="delay",
        selections=(
            select(WEATHER, "wind", alias="from_weather", keys={"airport": "origin"}),
            select(ROUTES),
            select(WEATHER, "wind", alias="to_weather", keys={"airport": "dest"}),
        ),
    ),
)


def catalog(*views: ServingView) -> ServingCatalog:
    return ServingCatalog(
        project="shop",
        revision=3,
        clock="system",
        views={v.name: v for v in views or VIEWS},
        services={service.name: service for service in SERVICES},
    )


def write(
    store: MemoryOnlineStore,
    of: ServingView,
    rows: Sequence[tuple[Any, ...]],
    *,
    event_us: int | Sequence[int] = NOW,
) -> None:
    """Store rows of join keys followed by features."""
    columns = list(zip(*rows, strict=True))
    keys = encode_keys([t for _, t in of.keys], columns[: len(of.keys)])
    features = [
        pa.array(values, parse_type(dtype))
        for values, (_, dtype) in zip(columns[len(of.keys) :], of.columns, strict=True)
    ]
    event = np.broadcast_to(np.asarray(event_us, np.int64), len(rows))
    values = RowCodec([t for _, t in of.columns]).encode(event, None, features)
    assert None not in keys
    store.write(of.table, EncodedRows(keys=[k for k in keys if k], values=values))


@pytest.fixture
def store() -> MemoryOnlineStore:
    made = MemoryOnlineStore()
    write(
        made,
        USERS,
        [(1, 1.5, "AT", 10), (2, None, "CH", 20), (3, 3.5, None, 30)],
        event_us=[NOW - 1, NOW - DAY, NOW - DAY - 1],
    )
    write(made, WEATHER, [("JFK", 5.0, 21.0), ("LAX", 7.0, 30.0)])
    write(made, ROUTES, [("JFK", "LAX", 12.5), ("LAX", "JFK", -3.0)])
    write(made, RATES, [(0.25,)])
    write(made, SMALL, [(1, 100)])
    return made


def run(
    store: MemoryOnlineStore,
    features: Any,
    columns: Mapping[str, Any],
    *,
    full: bool = False,
    count: int | None = None,
) -> LookupResult:
    plan = catalog().prepare(features, full_feature_names=full)
    return Lookup(store, plan, CLOCK).run(columns, count=count)


def shown(result: LookupResult) -> dict[str, list[tuple[Any, str]]]:
    """Feature -> value and status of each entity."""
    response = OnlineResponse(result)
    values = response.to_dict()
    return {
        name: list(zip(values[name], [s.name for s in statuses], strict=True))
        for name, statuses in response.statuses.items()
    }


# --- plans ---------------------------------------------------------------------------------------


def names(plan: LookupPlan) -> list[str]:
    return [output.name for output in plan.outputs]


def test_a_service_gives_its_features_in_its_order() -> None:
    plan = catalog().prepare("fraud")
    assert names(plan) == ["visits", "credit", "rate"]
    assert plan.columns == (("user_id", "int64"),)
    assert [read.wanted for read in plan.reads] == [(2, 0), (0,)]


def test_a_list_gives_its_features_in_its_order_with_one_read_per_view() -> None:
    plan = catalog().prepare(["users:visits", "rates:rate", "users:credit"])
    assert names(plan) == ["visits", "rate", "credit"]
    assert [(read.table.view, read.wanted) for read in plan.reads] == [
        ("users", (2, 0)),
        ("rates", (0,)),
    ]


def test_a_selection_without_features_takes_all_in_schema_order() -> None:
    assert names(catalog().prepare([select(USERS)])) == ["credit", "country", "visits"]
    assert names(whole_view_plan(USERS)) == ["credit", "country", "visits"]


def test_join_keys_come_in_the_order_of_their_first_use() -> None:
    plan = catalog().prepare(["routes:delay", "weather:wind", "users:credit"])
    assert [name for name, _ in plan.columns] == ["origin", "dest", "airport", "user_id"]


def test_full_names_begin_with_the_role() -> None:
    plan = catalog().prepare("delay", full_feature_names=True)
    assert names(plan) == ["from_weather__wind", "routes__delay", "to_weather__wind"]
    assert [read.role for read in plan.reads] == ["from_weather", "routes", "to_weather"]


@pytest.mark.parametrize(
    ("features", "name", "suggestion"),
    [
        ("fruad", "fruad", "fraud"),
        (["user:credit"], "user", "users"),
        (["users:credits"], "credits", "credit"),
        (["usres"], "usres", "users"),
        ([select(view("userz", {}, {}))], "userz", "users"),
    ],
)
def test_what_is_not_there_is_named_with_a_suggestion(
    features: Any, name: str, suggestion: str
) -> None:
    with pytest.raises(NotFoundError) as caught:
        catalog().prepare(features)
    assert caught.value.name == name
    assert suggestion in caught.value.suggestions


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (["users:credit", "rates:rate", "users:credit"], "users:credit is asked for twice"),
        ([select(USERS), "users:visits"], "users:visits is asked for twice"),
        ([], "No feature is asked for"),
        ("users:credit", "names one feature"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(features: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        catalog().prepare(features)


def test_two_columns_of_one_name_are_refused_whatever_their_case() -> None:
    with pytest.raises(NameCollisionError) as caught:
        catalog().prepare("delay")
    assert caught.value.names == ("wind", "wind")
    clash = view("clash", {"k": "int64"}, {"Credit": "int64", "USER_ID": "int64"})
    both = catalog(USERS, clash)
    for feature in ("Credit", "USER_ID"):
        with pytest.raises(NameCollisionError, match="differ only by case"):
            both.prepare(["users:credit", f"clash:{feature}"])
        plan = both.prepare(["users:credit", f"clash:{feature}"], full_feature_names=True)
        assert names(plan) == ["users__credit", f"clash__{feature}"]


def test_one_role_cannot_stand_for_two_views_or_two_choices_of_keys() -> None:
    for other in (
        select(WEATHER, "wind", alias="routes", keys={"airport": "origin"}),
        select(ROUTES, keys={"origin": "dest", "dest": "origin"}),
    ):
        with pytest.raises(NameCollisionError, match="by the name 'routes'"):
            catalog().prepare([select(ROUTES), other])


def test_a_column_is_a_key_of_one_kind() -> None:
    other = select(WEATHER, "wind", keys={"airport": "user_id"})
    with pytest.raises(RequestError, match="'user_id' is a key of type int64 in 'users'"):
        catalog().prepare([select(USERS), other])


def test_a_catalog_survives_json() -> None:
    original = catalog()
    text = original.to_json()
    assert ServingCatalog.from_json(text) == original
    assert ServingCatalog.from_json(text).prepare("fraud") == original.prepare("fraud")
    json.loads(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 99}', "null"])
def test_what_is_no_catalog_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        ServingCatalog.from_json(text)


# --- values and statuses -------------------------------------------------------------------------


def test_each_value_has_its_status(store: MemoryOnlineStore) -> None:
    result = run(store, [select(USERS)], {"user_id": [1, 2, 3, 4, None]})
    late, gone = "OUTSIDE_MAX_AGE", "NOT_FOUND"
    assert shown(result) == {
        "credit": [
            (1.5, "PRESENT"),
            (None, "NULL_VALUE"),
            (None, late),
            (None, gone),
            (None, gone),
        ],
        "country": [("AT", "PRESENT"), ("CH", "PRESENT"), (None, late), (None, gone), (None, gone)],
        "visits": [(10, "PRESENT"), (20, "PRESENT"), (None, late), (None, gone), (None, gone)],
    }


def test_statuses_are_the_numbers_of_the_protocol() -> None:
    assert {status.name: int(status) for status in Status} == {
        "PRESENT": 1,
        "NULL_VALUE": 2,
        "NOT_FOUND": 3,
        "OUTSIDE_MAX_AGE": 4,
    }


def test_what_is_withheld_is_not_in_the_buffers(store: MemoryOnlineStore) -> None:
    result = run(store, [select(USERS)], {"user_id": [3, 1]})
    credit, country, visits = (list(feature.values) for feature in result.features)
    assert (credit, country, visits) == ([0.0, 1.5], [None, "AT"], [0, 10])


@pytest.mark.parametrize(
    ("age_us", "status"),
    [
        (DAY - 1, Status.PRESENT),
        (DAY, Status.PRESENT),
        (DAY + 1, Status.OUTSIDE_MAX_AGE),
        (0, Status.PRESENT),
        # A clock that was put back, or a push from a machine whose clock is ahead.
        (-1, Status.PRESENT),
        (-400 * DAY, Status.PRESENT),
    ],
)
def test_a_row_is_served_until_its_age_is_beyond_the_ttl(age_us: int, status: Status) -> None:
    store = MemoryOnlineStore()
    write(store, USERS, [(1, 1.5, "AT", 10)], event_us=NOW - age_us)
    result = run(store, ["users:credit"], {"user_id": [1]})
    assert result.features[0].statuses.tolist() == [status]
    assert result.views[0].event_us.tolist() == [NOW - age_us]
    assert result.views[0].found.tolist() == [True]


def test_a_view_without_ttl_serves_rows_of_any_age() -> None:
    store = MemoryOnlineStore()
    write(store, WEATHER, [("JFK", 5.0, 21.0)], event_us=-(2**62))
    assert shown(run(store, ["weather:wind"], {"airport": ["JFK"]})) == {"wind": [(5.0, "PRESENT")]}


def test_a_deleted_row_is_not_found(store: MemoryOnlineStore) -> None:
    (key,) = encode_keys(["int64"], [[1]])
    assert key is not None
    store.write(USERS.table, EncodedRows(keys=[key], values=[tombstone(NOW)]))
    result = run(store, ["users:credit"], {"user_id": [1, 2]})
    assert [f.statuses.tolist() for f in result.features] == [[3, 2]]
    assert result.views[0].found.tolist() == [False, True]


def test_entities_come_as_asked_and_duplicates_stay(store: MemoryOnlineStore) -> None:
    result = run(store, ["users:visits"], {"user_id": [2, 1, 9, 1]})
    assert OnlineResponse(result).to_dict() == {
        "user_id": [2, 1, 9, 1],
        "visits": [20, 10, None, 10],
    }


def test_a_view_under_two_roles_is_read_by_two_keys(store: MemoryOnlineStore) -> None:
    result = run(store, "delay", {"origin": ["JFK", "LAX"], "dest": ["LAX", "JFK"]}, full=True)
    assert OnlineResponse(result).to_dict() == {
        "origin": ["JFK", "LAX"],
        "dest": ["LAX", "JFK"],
        "from_weather__wind": [5.0, 7.0],
        "routes__delay": [12.5, -3.0],
        "to_weather__wind": [7.0, 5.0],
    }
    assert [v.name for v in result.views] == ["from_weather", "routes", "to_weather"]
    assert [f.view_index for f in result.features] == [0, 1, 2]


def test_a_null_part_makes_the_key_null(store: MemoryOnlineStore) -> None:
    result = run(store, ["routes:delay"], {"origin": ["JFK", None], "dest": [None, "LAX"]})
    assert shown(result) == {"delay": [(None, "NOT_FOUND")] * 2}


def test_a_view_without_entity_answers_for_everybody(store: MemoryOnlineStore) -> None:
    assert shown(run(store, ["rates:rate"], {})) == {"rate": [(0.25, "PRESENT")]}
    assert shown(run(store, ["rates:rate"], {}, count=3)) == {"rate": [(0.25, "PRESENT")] * 3}
    result = run(store, "fraud", {"user_id": [1, 9]})
    assert shown(result)["rate"] == [(0.25, "PRESENT")] * 2


def test_no_entity_at_all_is_an_empty_answer(store: MemoryOnlineStore) -> None:
    result = run(store, "fraud", {"user_id": []})
    assert len(result) == 0
    assert OnlineResponse(result).to_dict() == {
        "user_id": [],
        "visits": [],
        "credit": [],
        "rate": [],
    }
    assert OnlineResponse(result).to_arrow().num_rows == 0


def test_a_key_of_two_widths_is_compared_with_each(store: MemoryOnlineStore) -> None:
    features = ["users:visits", "small:level"]
    result = run(store, features, {"user_id": [1]})
    assert OnlineResponse(result).to_dict() == {"user_id": [1], "visits": [10], "level": [100]}
    assert result.entity_columns[0].dtype == "int64"
    with pytest.raises(EntityValueError, match="int8, but row 1 is outside"):
        run(store, features, {"user_id": [1, 300]})


def test_a_row_that_cannot_be_read_fails_the_lookup_by_its_view(store: MemoryOnlineStore) -> None:
    (key,) = encode_keys(["int64"], [[1]])
    assert key is not None
    store.write(USERS.table, EncodedRows(keys=[key], values=[b"\x07" * 40]), overwrite=True)
    with pytest.raises(StoreDataError, match="'users'"):
        run(store, ["users:credit"], {"user_id": [1]})


class CountingStore(MemoryOnlineStore):
    """A memory store that counts its round trips and the keys read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> list[list[bytes | None]]:
        self.reads.append(sum(len(request.keys) for request in requests))
        return super().read(requests, until=until)


def test_one_lookup_is_one_read() -> None:
    store = CountingStore()
    run(store, "delay", {"origin": ["JFK", None], "dest": ["LAX", "JFK"]}, full=True)
    assert store.reads == [1 + 1 + 2]
    run(store, "delay", {"origin": [], "dest": []}, full=True)
    assert store.reads == [4]


# --- requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "field", "words"),
    [
        ({}, "user_id", "'user_id' is missing"),
        ({"userid": [1]}, "user_id", "is missing from the request.\n.*'userid'"),
        ({"user_id": [1], "x": [2]}, "x", "'x' is not a join key"),
        ({"user_id": ["1"]}, "user_id", "row 0 holds a str"),
        ({"user_id": [1, True]}, "user_id", "row 1 holds a bool"),
        ({"user_id": 1}, "user_id", "takes a list of values"),
        ({"user_id": "1"}, "user_id", "takes a list of values"),
    ],
)
def test_a_request_with_wrong_fields_fails_by_name(
    store: MemoryOnlineStore, columns: Mapping[str, Any], field: str, words: str
) -> None:
    with pytest.raises(EntityValueError, match=words) as caught:
        run(store, "fraud", columns)
    assert caught.value.field == field


def test_an_unknown_field_comes_with_a_suggestion(store: MemoryOnlineStore) -> None:
    columns = {"origin": ["JFK"], "dest": ["LAX"], "orgin": ["JFK"]}
    with pytest.raises(EntityValueError, match="did you mean 'origin'") as caught:
        run(store, ["routes:delay"], columns)
    assert caught.value.suggestions == ("origin",)


def test_columns_of_different_lengths_are_refused(store: MemoryOnlineStore) -> None:
    with pytest.raises(EntityValueError, match="'dest' has 1 values and 'origin' has 2"):
        run(store, ["routes:delay"], {"origin": ["JFK", "LAX"], "dest": ["LAX"]})


def test_too_many_entities_are_refused_before_they_are_looked_at(store: MemoryOnlineStore) -> None:
    plan = catalog().prepare(["users:credit"])
    lookup = Lookup(store, plan, CLOCK, max_entities=2)
    assert len(lookup.run({"user_id": [1, 2]})) == 2
    with pytest.raises(RequestError, match="3 entities; 2 are allowed"):
        lookup.run({"user_id": [1, 2, "never looked at"]})
    everybody = Lookup(store, catalog().prepare(["rates:rate"]), CLOCK, max_entities=2)
    with pytest.raises(RequestError, match="3 entities"):
        everybody.run({}, count=3)


@pytest.mark.parametrize(
    "column",
    [
        [1, 2, 9],
        (1, 2, 9),
        np.array([1, 2, 9], np.int16),
        np.array([1.0, 2.0, 9.0]),
        pa.array([1, 2, 9]),
        pa.chunked_array([[1], [2, 9]]),
        pl.Series([1, 2, 9]),
        pd.Series([1, 2, 9]),
    ],
)
def test_entities_may_come_in_any_column(store: MemoryOnlineStore, column: Any) -> None:
    result = run(store, ["users:visits"], {"user_id": column})
    assert OnlineResponse(result).to_dict() == {"user_id": [1, 2, 9], "visits": [10, 20, None]}


# --- a model in plain Python ---------------------------------------------------------------------

TIMES = st.sampled_from([NOW - DAY - 1, NOW - DAY, NOW - DAY + 1, NOW - 1, NOW, NOW + 1, 0])
STORED = st.dictionaries(
    st.integers(0, 5), st.tuples(TIMES, st.none() | st.integers(-(2**31), 2**31 - 1)), max_size=6
)


@given(STORED, st.sets(st.integers(0, 5)), st.lists(st.none() | st.integers(-1, 6)))
def test_a_lookup_agrees_with_its_definition(
    stored: dict[int, tuple[int, int | None]], deleted: set[int], asked: list[int | None]
) -> None:
    store = MemoryOnlineStore()
    rows = [(key, None, None, visits) for key, (_, visits) in stored.items()]
    if rows:
        write(store, USERS, rows, event_us=[event for event, _ in stored.values()])
    for key in encode_keys(["int64"], [list(deleted)]):
        assert key is not None
        stone = EncodedRows(keys=[key], values=[tombstone(NOW + 5)])
        store.write(USERS.table, stone)

    def expected(key: int | None) -> tuple[int | None, str]:
        if key is None or key not in stored or key in deleted:
            return None, "NOT_FOUND"
        event, visits = stored[key]
        if event < NOW - DAY:
            return None, "OUTSIDE_MAX_AGE"
        return visits, "NULL_VALUE" if visits is None else "PRESENT"

    found = shown(run(store, ["users:visits"], {"user_id": asked}))
    assert found == {"visits": [expected(key) for key in asked]}


# --- responses -----------------------------------------------------------------------------------

INSTANT = datetime(2024, 2, 29, 12, 30, 0, 1, UTC)
SAMPLES: dict[str, tuple[Any, Any]] = {
    "bool": (True, False),
    "int8": (-128, 127),
    "int64": (-(2**63), 2**53 + 1),
    "uint64": (2**64 - 1, 0),
    "float32": (0.5, -0.0),
    "float64": (0.1, float("-inf")),
    "string": ("", "🛫"),
    "binary": (b"", b"\xff\x00"),
    "decimal128(38, 2)": (Decimal("0.01"), Decimal("-123456789012345678901234567890123456.78")),
    "date32": (date(1, 1, 1), date(9999, 12, 31)),
    "timestamp[us, UTC]": (INSTANT, datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)),
    "list<bool>": ([True, None], []),
    "list<int64>": ([2**53 + 1], [None, 1]),
    "list<uint64>": ([2**64 - 1], [0]),
    "list<float32>": ([0.5, None], []),
    "list<string>": (["a", None, ""], []),
    "list<binary>": ([b"\xff"], [None]),
    "list<decimal128(5, 2)>": ([Decimal("1.50"), None], []),
    "list<date32>": ([date(2024, 2, 29)], [None]),
    "list<timestamp[us, UTC]>": ([INSTANT], [None, INSTANT]),
}
TYPES = view("types", {"id": "int64"}, {f"t{i}": t for i, t in enumerate(SAMPLES)})


@pytest.fixture
def every_type() -> OnlineResponse:
    store = MemoryOnlineStore()
    columns = list(zip(*SAMPLES.values(), strict=True))
    rows = [(1, *columns[0]), (2, *columns[1]), (3, *[None] * len(SAMPLES))]
    write(store, TYPES, rows)
    plan = whole_view_plan(TYPES)
    return OnlineResponse(Lookup(store, plan, CLOCK).run({"id": [1, 2, 3, 4]}))


def test_a_dictionary_has_python_values(every_type: OnlineResponse) -> None:
    found = every_type.to_dict()
    for number, (first, second) in enumerate(SAMPLES.values()):
        values = found[f"t{number}"]
        assert values == [first, second, None, None]
        assert type(values[0]) is type(first)


def test_rows_are_the_columns_turned(every_type: OnlineResponse) -> None:
    rows = every_type.to_rows()
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert rows[1]["t8"] == SAMPLES["decimal128(38, 2)"][1]
    assert set(rows[3].values()) == {4, None}


def test_an_arrow_table_has_the_declared_types(every_type: OnlineResponse) -> None:
    table = every_type.to_arrow()
    assert table.schema.types == [pa.int64(), *map(parse_type, SAMPLES)]
    for number, samples in enumerate(SAMPLES.values()):
        assert table.column(f"t{number}").to_pylist() == [*samples, None, None]


def test_frames_have_the_same_values(every_type: OnlineResponse) -> None:
    table = every_type.to_arrow()
    polars = every_type.to_polars()
    assert polars.columns == table.column_names
    assert polars["t2"].to_list() == [-(2**63), 2**53 + 1, None, None]
    pandas = every_type.to_pandas()
    assert pa.Table.from_pandas(pandas, schema=table.schema, preserve_index=False) == table
    assert str(pandas["t1"].dtype) == "int8[pyarrow]"


def test_arrow_keeps_the_bits_of_a_nan() -> None:
    store = MemoryOnlineStore()
    numbers = view("numbers", {}, {"x": "float64", "xs": "list<float64>"})
    bits = np.array([0x7FF0_0000_0000_0001, 0xFFF8_0000_DEAD_BEEF], np.uint64)
    floats = bits.view(np.float64)
    values = RowCodec(["float64", "list<float64>"]).encode(
        np.array([NOW]), None, [pa.array(floats[:1]), pa.array([floats])]
    )
    (key,) = encode_keys([], [])
    assert key is not None
    store.write(numbers.table, EncodedRows(keys=[key], values=values))
    table = OnlineResponse(Lookup(store, whole_view_plan(numbers), CLOCK).run({})).to_arrow()
    assert table.column("x").null_count == 0
    assert table.column("x").to_numpy().view(np.uint64).tolist() == bits[:1].tolist()
    (elements,) = table.column("xs").to_numpy()
    assert elements.view(np.uint64).tolist() == bits.tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zero_keeps_its_sign_in_arrow_beside_a_null(dtype: str) -> None:
    store = MemoryOnlineStore()
    numbers = view("numbers", {"id": "int64"}, {"xs": f"list<{dtype}>"})
    write(store, numbers, [(1, [None, -0.0]), (2, [-0.0, 0.0])])
    found = Lookup(store, whole_view_plan(numbers), CLOCK).run({"id": [1, 2]})
    lists = OnlineResponse(found).to_arrow().column("xs").to_pylist()
    assert str(lists) == "[[None, -0.0], [-0.0, 0.0]]"  # as numbers, both zeros are equal


def test_a_reply_says_when_and_from_where(store: MemoryOnlineStore) -> None:
    response = OnlineResponse(run(store, "fraud", {"user_id": [1, 3, 9]}))
    assert response.request_timestamp == from_micros(NOW)
    micro = timedelta(microseconds=1)
    day = timedelta(days=1)
    assert response.event_timestamps["users"] == [
        response.request_timestamp - micro,
        response.request_timestamp - day - micro,
        None,
    ]
    assert response.feature_views == {"visits": "users", "credit": "users", "rate": "rates"}
    assert response.dtypes == {
        "user_id": "int64",
        "visits": "int32",
        "credit": "float64",
        "rate": "float64",
    }
    assert (response.entity_names, response.feature_names) == (
        ("user_id",),
        ("visits", "credit", "rate"),
    )
    assert len(response) == 3
    assert "3 entities x 3 features" in repr(response)


def test_statuses_and_times_can_stand_beside_the_values(store: MemoryOnlineStore) -> None:
    response = OnlineResponse(run(store, ["users:visits"], {"user_id": [1, 9]}))
    found = response.to_dict(include_statuses=True, include_event_timestamps=True)
    assert found == {
        "user_id": [1, 9],
        "visits": [10, None],
        "visits__status": ["PRESENT", "NOT_FOUND"],
        "visits__event_timestamp": [from_micros(NOW - 1), None],
    }


def test_an_added_column_takes_no_features_name() -> None:
    store = MemoryOnlineStore()
    clash = view("clash", {}, {"a": "int64", "a__status": "int64"})
    response = OnlineResponse(Lookup(store, whole_view_plan(clash), CLOCK).run({}))
    assert response.to_dict() == {"a": [None], "a__status": [None]}
    with pytest.raises(NameCollisionError, match="a__status"):
        response.to_dict(include_statuses=True)


def test_a_time_beyond_pythons_years_is_exact_in_arrow() -> None:
    store = MemoryOnlineStore()
    far = view("far", {}, {"at": "timestamp[us, UTC]"})
    values = RowCodec(["timestamp[us, UTC]"]).encode(
        np.array([NOW]), None, [pa.array([2**62]).cast(parse_type("timestamp[us, UTC]"))]
    )
    (key,) = encode_keys([], [])
    assert key is not None
    store.write(far.table, EncodedRows(keys=[key], values=values))
    response = OnlineResponse(Lookup(store, whole_view_plan(far), CLOCK).run({}))
    assert response.to_arrow().column("at").cast(pa.int64()).to_pylist() == [2**62]
    with pytest.raises(OverflowError):
        response.to_dict()
