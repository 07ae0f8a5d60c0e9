"""In the process, over gRPC and over HTTP: the same values, statuses and times, bit for bit."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from featurestore_sdk import FeatureStoreClient
from featurestore_server.http.replies import listed_as
from featurestore_server.http.server import HttpServer
from featurestore_server.server import FeatureServer
from hypothesis import given
from hypothesis import strategies as st

from featurestore.functions import FunctionLoader
from featurestore.online.memory import MemoryOnlineStore
from featurestore.serving.on_demand import open_lookup
from featurestore.serving.plan import ServingCatalog
from featurestore.serving.response import OnlineResponse
from featurestore.testing.plain import difference
from featurestore.time import Clock, format_instant, instant_text, to_micros

from . import shop
from .http_calls import Client
from .json_values import from_json, micros, to_json

INTEGERS = {
    name: st.integers(int(np.iinfo(name).min), int(np.iinfo(name).max))
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
}
DAYS = st.integers(-719_162, 2_932_896)  # Python's years, which the comparison needs
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    **INTEGERS,
    "bool": st.booleans(),
    "float32": st.floats(width=32),
    "float64": st.floats(),
    "string": st.text(max_size=20),
    "binary": st.binary(max_size=20),
    "decimal128(38, 2)": st.decimals("-1e30", "1e30", places=2).map(str),
    "date32": DAYS,
    "timestamp[us, UTC]": INTEGERS["int64"],
}
COLUMNS = SCALARS | {
    f"list<{dtype}>": st.lists(st.none() | values, max_size=3) for dtype, values in SCALARS.items()
}
KEYS: dict[str, st.SearchStrategy[Any]] = {
    **INTEGERS,
    "bool": st.booleans(),
    "string": SCALARS["string"],
    "binary": SCALARS["binary"],
    "date32": st.dates(),
}

VALUES_VIEW = shop.view(
    "everything",
    {"id": "int64"},
    {f"c{n}": dtype for n, dtype in enumerate(COLUMNS)},
    ttl=timedelta(days=2),
)
KEYED_VIEWS = {dtype: shop.view(f"by_{dtype}", {"key": dtype}, {"n": "int64"}) for dtype in KEYS}
CATALOG = ServingCatalog(
    project="shop",
    revision=1,
    clock=format_instant(shop.NOW),
    views={v.name: v for v in (VALUES_VIEW, *KEYED_VIEWS.values())},
    services={},
)


class Answer(NamedTuple):
    """What a caller gets, however it asked."""

    table: pa.Table
    statuses: dict[str, list[str]]
    event_times: dict[str, list[int | None]]


class Ways:
    """A server, and the three ways to ask it."""

    def __init__(self, stack: ExitStack) -> None:
        self.store = MemoryOnlineStore()
        server = FeatureServer(CATALOG, self.store)
        grpc_port = server.listen("127.0.0.1:0")
        twin = HttpServer(server.online_features, store_answers=server.store_answers)
        self.http = Client(f"127.0.0.1:{twin.listen('127.0.0.1:0')}")
        server.start()
        stack.callback(server.stop, 5)
        twin.start()
        stack.callback(twin.stop, 5)
        stack.callback(self.http.connection.close)
        self.grpc = stack.enter_context(FeatureStoreClient(f"127.0.0.1:{grpc_port}", timeout_s=30))

    def in_process(self, names: Sequence[str], entities: dict[str, Any]) -> Answer:
        plan = CATALOG.prepare(tuple(names), full_feature_names=False)
        lookup = open_lookup(self.store, plan, Clock(shop.NOW), functions=FunctionLoader())
        found = OnlineResponse(lookup.run(entities))
        return Answer(
            found.to_arrow(),
            {name: [s.name for s in statuses] for name, statuses in found.statuses.items()},
            {
                view: [None if at is None else to_micros(at) for at in times]
                for view, times in found.event_timestamps.items()
            },
        )

    def over_grpc(self, names: Sequence[str], entities: dict[str, Any]) -> Answer:
        found = self.grpc.get_online_features(list(names), entities)
        return Answer(
            found.to_arrow(),
            {name: [s.name for s in statuses] for name, statuses in found.statuses.items()},
            {
                view: [None if at is None else to_micros(at) for at in times]
                for view, times in found.event_timestamps.items()
            },
        )

    def over_http(
        self, names: Sequence[str], entities: dict[str, Any], types: dict[str, str]
    ) -> Answer:
        asked = {name: [to_json(value) for value in column] for name, column in entities.items()}
        found = self.http.post({"features": list(names), "entities": asked}).body
        columns = {n: from_json(types[n], values) for n, values in found["entities"].items()}
        columns |= {n: from_json(f["dtype"], f["values"]) for n, f in found["features"].items()}
        return Answer(
            pa.table(columns),
            {name: feature["statuses"] for name, feature in found["features"].items()},
            {view: micros(times["event_timestamps"]) for view, times in found["views"].items()},
        )

    def agree(self, names: Sequence[str], entities: dict[str, Any], types: dict[str, str]) -> None:
        expected = self.in_process(names, entities)
        for found in (self.over_grpc(names, entities), self.over_http(names, entities, types)):
            assert difference(found.table, expected.table) is None
            assert found[1:] == expected[1:]


@pytest.fixture(scope="module")
def ways() -> Iterator[Ways]:
    with ExitStack() as stack:
        yield Ways(stack)


@given(st.data())
def test_values_of_every_type_are_the_same_however_one_asks(
    ways: Ways, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(1, 4))
    columns = {
        name: data.draw(st.lists(st.none() | COLUMNS[dtype], min_size=rows, max_size=rows))
        for name, dtype in VALUES_VIEW.columns
    }
    ages = data.draw(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=rows, max_size=rows))
    # Each example's rows replace those of the one before, which must not be newer.
    ways.store.drop(VALUES_VIEW.table)
    shop.write(
        ways.store,
        VALUES_VIEW,
        {"id": list(range(rows)), **columns},
        event=[shop.NOW - timedelta(days=age) for age in ages],
    )
    names = [f"everything:{name}" for name, _ in VALUES_VIEW.columns]
    asked = data.draw(st.lists(st.none() | st.integers(0, rows), max_size=5))
    ways.agree(names, {"id": asked}, {"id": "int64"})


@pytest.mark.parametrize("dtype", KEYS)
@given(data=st.data())
def test_keys_of_every_type_mean_the_same_however_one_asks(
    ways: Ways, dtype: str, data: st.DataObject
) -> None:
    view = KEYED_VIEWS[dtype]
    keys = data.draw(st.lists(KEYS[dtype], min_size=1, max_size=4, unique=True))
    stored = [(key - date(1970, 1, 1)).days if isinstance(key, date) else key for key in keys]
    shop.write(ways.store, view, {"key": stored, "n": list(range(len(keys)))})
    asked = data.draw(st.lists(st.none() | st.sampled_from(keys) | KEYS[dtype], max_size=6))
    ways.agree([f"{view.name}:n"], {"key": asked}, {"key": dtype})


@pytest.mark.parametrize("dtype", INTEGERS)
@given(data=st.data())
def test_an_integer_may_be_a_number_or_text(ways: Ways, dtype: str, data: st.DataObject) -> None:
    key = data.draw(INTEGERS[dtype])
    view = KEYED_VIEWS[dtype]
    shop.write(ways.store, view, {"key": [key], "n": [1]})
    asked = {"features": [f"{view.name}:n"], "entities": {"key": [key, str(key)]}}
    assert ways.http.post(asked).body["features"]["n"]["statuses"] == ["PRESENT", "PRESENT"]


@given(
    st.lists(INTEGERS["int64"] | st.integers(-(10**17), 10**17).map(lambda us: us // 1000 * 1000))
)
def test_instants_are_written_together_as_each_alone(instants: list[int]) -> None:
    written = listed_as("timestamp[us, UTC]")
    for some in (instants, [us - us % 1_000_000 for us in instants if abs(us) < 10**16]):
        alone = [instant_text(us, "us", aware=True) for us in some]
        assert written(np.array(some, np.int64)) == alone
