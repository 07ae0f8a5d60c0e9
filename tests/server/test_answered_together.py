"""Calls that came together are answered as each would be alone."""

from typing import Any

import pytest
from featurestore_protos.v1 import serving_pb2
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesRequest
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.calls import Call
from featurestore_server.options import Limits
from featurestore_server.service import FEW_ENTITIES, LOOKUP_METHOD, OnlineFeatures
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import StoreDataError
from featurestore.functions import FunctionLoader
from featurestore.online.codec import encode_keys
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import EncodedRows
from featurestore.serving.lookup import Lookup

from . import shop
from .calls import lookup


def _served(store: MemoryOnlineStore) -> OnlineFeatures:
    return OnlineFeatures(
        shop.catalog(),
        store,
        limits=Limits(),
        store_answers=lambda: True,
        functions=FunctionLoader([]),
    )


@pytest.fixture(scope="module")
def served() -> OnlineFeatures:
    store = MemoryOnlineStore()
    shop.fill(store)
    return _served(store)


def _ids(values: list[int | None]) -> Values:
    nulls = bytes(value is None for value in values)
    return Values(int64s=[value or 0 for value in values], nulls=nulls if 1 in nulls else b"")


# 1 is complete, 2 has nulls, 3 is too old, 4 is not there.
ids = st.lists(st.sampled_from([1, 2, 3, 4, None]), max_size=FEW_ENTITIES + 2).map(_ids)
requests = st.one_of(
    ids.map(lambda values: lookup("checkout", user_id=values)),
    ids.map(lambda values: lookup("types", id=values)),
    ids.map(lambda values: lookup("transfer", from_id=values, to_id=values)),
    st.just(lookup("nothing", user_id=Values(int64s=[1]))),
    st.just(lookup("checkout", wrong=Values(int64s=[1]))),
    st.integers(0, 2).map(
        lambda count: GetOnlineFeaturesRequest(
            features=serving_pb2.FeatureList(names=["rates:rate"]), entity_count=count
        )
    ),
)


def _told(answer: bytes | Exception) -> Any:
    return answer if isinstance(answer, bytes) else (type(answer), str(answer))


@settings(max_examples=max(60, settings().max_examples))
@given(asked=st.lists(requests, max_size=8))
def test_every_call_gets_what_it_would_get_alone(
    served: OnlineFeatures, asked: list[GetOnlineFeaturesRequest]
) -> None:
    messages = [request.SerializeToString() for request in asked]
    alone = [served.answer_all([Call(LOOKUP_METHOD, message)])[0] for message in messages]
    together = served.answer_all([Call(LOOKUP_METHOD, message) for message in messages])
    assert [_told(answer) for answer in together] == [_told(answer) for answer in alone]


def test_a_row_that_cannot_be_read_fails_the_calls_that_ask_for_it_alone() -> None:
    store = MemoryOnlineStore()
    shop.fill(store)
    [key] = encode_keys(["int64"], [shop.arrow("int64", [9])])
    assert key is not None
    store.write(shop.USERS.table, EncodedRows(keys=[key], values=[b"\x01" * 40]))
    served = _served(store)
    calls = [
        Call(LOOKUP_METHOD, lookup("checkout", user_id=_ids([user])).SerializeToString())
        for user in (1, 9, 2)
    ]
    first, broken, last = served.answer_all(calls)
    assert isinstance(broken, StoreDataError)
    assert isinstance(first, bytes)
    assert isinstance(last, bytes)
    assert [call.entities for call in calls] == [1, 0, 1]


def test_small_calls_for_the_same_are_decoded_once(
    served: OnlineFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    together = Lookup.answer_together

    def counted(self: Lookup, questions: Any, answers: Any) -> Any:
        sizes.append([question.size for question in questions])
        return together(self, questions, answers)

    monkeypatch.setattr(Lookup, "answer_together", counted)
    asked = [[1], [2, 3], [1] * (FEW_ENTITIES + 1), [4]]
    messages = [lookup("checkout", user_id=_ids([*user])) for user in asked]
    served.answer_all([Call(LOOKUP_METHOD, m.SerializeToString()) for m in messages])
    assert sizes == [[1, 2, 1]]  # a large one is decoded where its rows lie
