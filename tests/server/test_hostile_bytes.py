"""Whatever bytes arrive, the answer is a reply or says what is wrong with them."""

import pytest
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesResponse
from featurestore_protos.v1.values_pb2 import Lists, Values
from featurestore_server.calls import Call
from featurestore_server.server import FeatureServer
from featurestore_server.service import LOOKUP_METHOD
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import NotFoundError, RequestError
from featurestore.online.memory import MemoryOnlineStore

from . import shop
from .calls import lookup

STORE = MemoryOnlineStore()
shop.fill(STORE)
ONLINE_FEATURES = FeatureServer(shop.catalog(), STORE).online_features

SEEDS = [
    lookup("checkout", user_id=Values(int64s=[1, 2, 3], nulls=b"\0\1\0")),
    lookup(["users:credit", "rates:rate"], user_id=Values(float64s=[1.0, float("nan")])),
    lookup(["prices:price"], item=Values(strings=["tea"]), country=Values(strings=["AT"])),
    lookup(["calendar:holiday"], day=Values(dates=[19_787])),
    lookup("types", id=Values(decimals=["1"])),
    lookup("types", id=Values(lists=Lists(lengths=[1], elements=Values(int64s=[1])))),
    lookup("types", id=Values(timestamps_us=[1])),
]


def _answer(request: bytes) -> None:
    try:
        reply = ONLINE_FEATURES.answer(Call(LOOKUP_METHOD, request))
    except (RequestError, NotFoundError):
        return
    GetOnlineFeaturesResponse.FromString(reply)


@given(st.binary(max_size=200))
def test_random_bytes(request_bytes: bytes) -> None:
    _answer(request_bytes)


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    st.integers(0, 10_000),
)
def test_requests_with_wrong_bytes(
    seed: object, changes: list[tuple[int, int]], length: int
) -> None:
    request = bytearray(seed.SerializeToString())  # type: ignore[attr-defined]
    for position, value in changes:
        request[position % len(request)] = value
    _answer(bytes(request[: length % (len(request) + 1) or None]))


@given(
    st.dictionaries(st.sampled_from(["user_id", "item", "day", "id", ""]) | st.text(), st.none()),
    st.data(),
)
def test_columns_of_any_shape(names: dict[str, None], data: st.DataObject) -> None:
    lists = [d.name for d in Values.DESCRIPTOR.fields if d.name not in ("lists", "nulls")]
    columns = {}
    for name in names:
        field = data.draw(st.sampled_from(lists))
        value = {"strings": "1", "decimals": "1", "binaries": b"1"}.get(field, 1)
        count = data.draw(st.integers(0, 3))
        nulls = data.draw(st.binary(max_size=3))
        columns[name] = Values(nulls=nulls)
        getattr(columns[name], field).extend([value] * count)
    features = data.draw(st.sampled_from(["checkout", "types", "transfer"]))
    request = lookup(features)
    for name, values in columns.items():
        request.entities[name].CopyFrom(values)
    _answer(request.SerializeToString())


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_the_seeds_are_requests(seed: object) -> None:
    _answer(seed.SerializeToString())  # type: ignore[attr-defined]
