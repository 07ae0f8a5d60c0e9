"""Whatever bytes arrive, the answer is a reply or says what is wrong with them."""

import random

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


MUTANTS = 20_000


def test_twenty_thousand_messages_with_wrong_bytes() -> None:
    draw = random.Random(11)  # noqa: S311
    seeds = [seed.SerializeToString() for seed in SEEDS]
    for _ in range(MUTANTS):
        request = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, 6)):
            at, change = draw.randrange(len(request) + 1), draw.randrange(4)
            if change == 0 and at < len(request):
                request[at] = draw.randrange(256)
            elif change == 1:
                del request[at : at + draw.randint(1, 8)]
            elif change == 2:
                request[at:at] = draw.randbytes(draw.randint(1, 8))
            else:  # a part of another request
                other = draw.choice(seeds)
                start = draw.randrange(len(other))
                request[at:at] = other[start : start + draw.randint(1, 40)]
        _answer(bytes(request))


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
