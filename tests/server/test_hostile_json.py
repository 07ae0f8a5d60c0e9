"""Whatever bytes arrive over HTTP, the answer is JSON: a reply, or what is wrong with them."""

import json
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any, TypeVar

import pytest
from featurestore_server.calls import Call
from featurestore_server.http.requests import JSON
from featurestore_server.server import FeatureServer
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import NotFoundError, RequestError
from featurestore.online.memory import MemoryOnlineStore

from . import shop
from .http_calls import AS_JSON, PATH, Client, http_served

STORE = MemoryOnlineStore()
shop.fill(STORE)
ONLINE_FEATURES = FeatureServer(shop.catalog(), STORE).online_features

SEEDS = [
    {"feature_service": "checkout", "entities": {"user_id": [1, "2", None]}},
    {"feature_service": "checkout", "entities": [{"user_id": 1}, {"user_id": 2}]},
    {"features": ["prices:price"], "entities": {"item": ["té\u0000"], "country": ["AT"]}},
    {"features": ["calendar:holiday"], "entities": [{"day": "2024-03-05"}]},
    {"feature_service": "types", "entities": {"id": [1.0, 1e300, -0.0]}, "project": "shop"},
    {"features": ["rates:rate"], "entity_count": 3, "full_feature_names": True, "format": "rows"},
]
TEXTS = [json.dumps(seed).encode() for seed in SEEDS]
T = TypeVar("T")


def many(bodies: st.SearchStrategy[T]) -> st.SearchStrategy[list[T]]:
    """Each example holds many bodies: what is looked for is rare, and one costs little."""
    return st.lists(bodies, min_size=30, max_size=60)


def _answer(body: bytes) -> None:
    [answer] = ONLINE_FEATURES.answer_all([Call(PATH, body)], JSON)
    if isinstance(answer, bytes):
        json.loads(answer, parse_constant=_no_constant)
    elif not isinstance(answer, RequestError | NotFoundError):
        raise answer


def _no_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


@given(many(st.binary(max_size=200)))
def test_random_bytes(bodies: list[bytes]) -> None:
    for body in bodies:
        _answer(body)


MUTATIONS = st.tuples(
    st.sampled_from(TEXTS),
    st.lists(
        st.tuples(
            st.integers(0, 200),
            st.integers(0, 3),
            st.sampled_from(
                [
                    b'"',
                    b"{",
                    b"]",
                    b"null",
                    b"1e999",
                    b"-",
                    b"\\ud800",
                    b"\xff",
                    b",",
                    b"NaN",
                    b"[[",
                ]
            )
            | st.binary(min_size=1, max_size=2),
        ),
        min_size=1,
        max_size=4,
    ),
)


def _mutated(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    body = bytearray(seed)
    for position, removed, added in changes:
        at = position % (len(body) + 1)
        body[at : at + removed] = added
    return bytes(body)


@given(many(MUTATIONS))
def test_requests_with_wrong_bytes(cases: list[tuple[bytes, list[tuple[int, int, bytes]]]]) -> None:
    for seed, changes in cases:
        _answer(_mutated(seed, changes))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10)
    | st.sampled_from(
        ["NaN", "1", "2024-03-05", "2024-03-05T00:00:00Z", "AA==", "checkout", "types"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
COLUMNS = st.dictionaries(
    st.sampled_from(["user_id", "item", "country", "day", "id", "from_id", "to_id"]),
    VALUES | st.lists(SCALARS, max_size=3),
    max_size=3,
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "project": st.just("shop") | VALUES,
        "feature_service": st.sampled_from(["checkout", "types", "transfer"]) | VALUES,
        "features": st.lists(st.sampled_from(["prices:price", "calendar:holiday", "rates:rate"]))
        | VALUES,
        "entities": COLUMNS | st.lists(COLUMNS, max_size=3) | VALUES,
        "full_feature_names": VALUES,
        "entity_count": st.integers(-1, 10) | VALUES,
        "format": st.sampled_from(["rows", "columns"]) | VALUES,
    },
)


@given(st.lists(REQUESTS, min_size=10, max_size=20))
def test_documents_of_any_shape(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        _answer(json.dumps(document).encode())


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with http_served(shop.catalog(), STORE) as (client, *_):
        yield client


@given(st.lists(MUTATIONS, min_size=3, max_size=6))
def test_a_server_stays_alive_and_says_nothing_private(
    client: Client, cases: list[tuple[bytes, list[tuple[int, int, bytes]]]]
) -> None:
    for seed, changes in cases:
        reply = client.request("POST", PATH, _mutated(seed, changes), AS_JSON)
        if reply.status != 200:
            assert reply.status in (400, 404)
            assert "Traceback" not in reply.error["message"]


@given(
    st.dictionaries(
        st.sampled_from(["Origin", "X-Timeout-Ms", "Content-Encoding", "Authorization", "Expect"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")),
        max_size=3,
    )
)
def test_headers_of_any_kind_are_answered(client: Client, headers: dict[str, str]) -> None:
    try:
        reply = client.request("POST", PATH, TEXTS[0], AS_JSON | headers)
    except HTTPException:
        raise AssertionError(headers) from None
    assert reply.status in (200, 400, 403, 415)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_the_seeds_are_requests(text: bytes) -> None:
    [answer] = ONLINE_FEATURES.answer_all([Call(PATH, text)], JSON)
    # One of the numbers of the fifth is no int64.
    assert isinstance(answer, bytes) or text == TEXTS[4]
