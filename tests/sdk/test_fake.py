"""The fake server, which answers as the real one does."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from featurestore_sdk import (
    AccessDeniedError,
    ClientClosedError,
    ClientError,
    DeadlineExceededError,
    FeatureStoreClient,
    FieldViolation,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    Project,
    RetryPolicy,
    ServerError,
    Status,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedByServerError,
)
from featurestore_sdk.testing import FakeCall, FakeFeatureStore

from tests.sdk.clients import Connect
from tests.server import shop

AT = datetime(2024, 3, 5, 11, tzinfo=UTC)


@pytest.fixture
def fast_lookups() -> bool:
    return True  # both paths of the real server answer alike


@pytest.fixture
def fake() -> Iterator[FakeFeatureStore]:
    """The shop that the tests of the server serve."""
    with FakeFeatureStore(project="shop") as started:
        for view in (shop.USERS, shop.PRICES, shop.RATES, shop.CALENDAR):
            started.add_view(view.name, dict(view.keys), dict(view.columns))
        started.add_service(
            "checkout", ["users:credit", "users:country", "users:visits", "rates:rate"]
        )
        started.put(
            "users",
            {"user_id": 1},
            {"credit": 1.5, "country": "AT", "visits": 10},
            event_timestamp=AT,
        )
        started.put("users", {"user_id": 2}, {"country": "CH", "visits": 20})
        old = dict.fromkeys(["credit", "country", "visits"], Status.OUTSIDE_MAX_AGE)
        started.put("users", {"user_id": 3}, {"credit": 3.5, "visits": 30}, statuses=old)
        started.put("rates", {}, {"rate": 0.25})
        started.put("prices", {"item": "tea", "country": "AT"}, {"price": Decimal("9.90")})
        started.put("calendar", {"day": date(2024, 3, 5)}, {"holiday": True})
        yield started


@pytest.fixture
def client(fake: FakeFeatureStore, connect: Connect) -> FeatureStoreClient:
    return connect(fake.address, timeout_s=30)


# --- As the real one does ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "entities"),
    [
        ("checkout", {"user_id": [1, 2, 3, 4, None, 1]}),
        (["rates:rate", "users:visits"], {"user_id": [1.0, 2.0]}),
        (["rates:rate"], {}),
        (["rates:rate"], [{}, {}]),
        (["prices:price"], {"item": ["tea", "tea", None], "country": ["AT", "CH", "AT"]}),
        (["calendar:holiday"], {"day": [date(2024, 3, 5), date(2024, 3, 6)]}),
    ],
)
@pytest.mark.parametrize("full_feature_names", [False, True])
def test_a_fake_answers_as_the_real_server(
    client: FeatureStoreClient,
    address: str,
    features: Any,
    entities: Any,
    *,
    full_feature_names: bool,
) -> None:
    found, real = (
        one.get_online_features(features, entities, full_feature_names=full_feature_names)
        for one in (client, _real(address))
    )
    assert found.to_dict() == real.to_dict()
    assert found.dtypes == real.dtypes
    assert found.statuses == real.statuses
    assert found.feature_views == real.feature_views
    assert found.entity_names == real.entity_names
    assert found.event_timestamps.keys() == real.event_timestamps.keys()


@pytest.mark.parametrize(
    ("features", "entities"),
    [
        ("chekout", {"user_id": [1]}),
        (["user:credit"], {"user_id": [1]}),
        (["users:credits"], {"user_id": [1]}),
        (["users:credit", "users:credit"], {"user_id": [1]}),
        ([], {"user_id": [1]}),
        (["users"], {"user_id": [1]}),
        ("checkout", {}),
        ("checkout", {"usr_id": [1]}),
        ("checkout", {"user_id": [1], "usr_id": [1]}),
        ("checkout", {"user_id": ["one"]}),
        ("checkout", {"user_id": [1.0, 1.5]}),
        ("checkout", {"user_id": [1, 2**63]}),
        ("checkout", {"user_id": [True]}),
        (["prices:price"], {"item": ["tea"], "country": ["AT", "CH"]}),
        (["prices:price"], {"item": [1], "country": ["AT"]}),
        (["calendar:holiday"], {"day": [AT]}),
        (["users:country", "prices:country"], {"user_id": [1]}),
    ],
)
def test_a_fake_refuses_what_the_real_server_refuses(
    client: FeatureStoreClient, address: str, features: Any, entities: Any
) -> None:
    errors = []
    for one in (client, _real(address)):
        with pytest.raises(ClientError) as caught:
            one.get_online_features(features, entities)
        errors.append(caught.value)
    found, real = errors
    assert (type(found), found.code, found.reason) == (type(real), real.code, real.reason)
    if isinstance(real, InvalidRequestError) and isinstance(found, InvalidRequestError):
        assert [v.field for v in found.violations] == [v.field for v in real.violations]
        assert found.suggestions == real.suggestions
    if isinstance(real, NotFoundError) and isinstance(found, NotFoundError):
        assert (found.kind, found.name) == (real.kind, real.name)
        assert found.suggestions[:1] == real.suggestions[:1]


def _real(address: str) -> FeatureStoreClient:
    return FeatureStoreClient(address, timeout_s=30)


def test_another_project_is_an_error(fake: FakeFeatureStore, connect: Connect) -> None:
    client = connect(fake.address, project="other")
    with pytest.raises(NotFoundError) as caught:
        client.get_project()
    assert (caught.value.kind, caught.value.name) == ("project", "other")


def test_a_fake_is_ready(client: FeatureStoreClient) -> None:
    client.wait_ready(30)


def test_event_times_are_those_of_the_rows(client: FeatureStoreClient) -> None:
    found = client.get_online_features(["users:visits"], {"user_id": [1, 4]})
    assert found.event_timestamps == {"users": [AT, None]}


def test_every_type_can_be_served(fake: FakeFeatureStore, client: FeatureStoreClient) -> None:
    values: dict[str, Any] = {
        "int8": -128,
        "uint64": 2**64 - 1,
        "float32": 0.5,
        "string": "ü",
        "binary": b"\0",
        "decimal128(5, 2)": Decimal("-1.50"),
        "date32": date(2024, 3, 5),
        "timestamp[us, UTC]": AT,
        "list<float32>": [0.5, None],
        "list<date32>": [date(2024, 3, 5)],
        "list<string>": [],
    }
    names = {f"f{number}": dtype for number, dtype in enumerate(values)}
    fake.add_view("types", {"id": "string"}, names)
    fake.put("types", {"id": "a"}, dict(zip(names, values.values(), strict=True)))
    found = client.get_online_features([f"types:{name}" for name in names], {"id": ["a", "b"]})
    rows = found.to_rows()
    assert list(rows[0].values()) == ["a", *values.values()]
    assert list(rows[1].values()) == ["b", *[None] * len(values)]
    assert found.to_arrow().num_rows == 2


@pytest.mark.parametrize(
    ("view", "key", "values", "kind"),
    [
        ("user", {"user_id": 1}, {}, NotFoundError),
        ("users", {"user_id": 1}, {"credits": 1.0}, NotFoundError),
        ("users", {"user_id": "one"}, {}, InvalidRequestError),
        ("users", {}, {}, InvalidRequestError),
        ("users", {"user_id": 1, "other": 1}, {}, InvalidRequestError),
        ("users", {"user_id": 1}, {"credit": "much"}, InvalidRequestError),
        ("users", {"user_id": 1}, {"visits": 2**63}, InvalidRequestError),
    ],
)
def test_what_cannot_be_served_is_refused_when_it_is_put(
    fake: FakeFeatureStore, view: str, key: Any, values: Any, kind: type[ClientError]
) -> None:
    with pytest.raises(kind):
        fake.put(view, key, values)


def test_request_fields_of_a_service_are_needed(
    fake: FakeFeatureStore, client: FeatureStoreClient
) -> None:
    fake.add_service("scored", ["users:credit"], request_fields={"amount": "float64"})
    found = client.get_online_features("scored", {"user_id": [1], "amount": [2]})
    assert found.to_dict() == {"user_id": [1], "credit": [1.5]}
    with pytest.raises(InvalidRequestError, match="'amount' is missing"):
        client.get_online_features("scored", {"user_id": [1]})
    with pytest.raises(InvalidRequestError, match="'amount'"):
        client.get_online_features("scored", {"user_id": [1], "amount": ["much"]})
    with pytest.raises(NotFoundError):
        fake.add_service("wrong", ["users:nothing"])


# --- Failing, and looking back -------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError(
            "wrong",
            violations=[FieldViolation(field="entities.a[1]", description="is odd")],
            suggestions=["b"],
            reason="ENTITY_VALUE_INVALID",
        ),
        NotFoundError("none", kind="feature", name="a:b", suggestions=["a:c"], reason="X"),
        UnauthenticatedError("who?"),
        AccessDeniedError("no"),
        LimitExceededError("much"),
        UnavailableError("gone", retry_after_s=0.25),
        DeadlineExceededError("late"),
        UnsupportedByServerError("old"),
        ServerError("broken", metadata={"error_id": "0123"}),
    ],
)
def test_a_fake_fails_as_it_is_told(
    fake: FakeFeatureStore, connect: Connect, error: ClientError
) -> None:
    client = connect(fake.address, timeout_s=30, retry=RetryPolicy(attempts=1))
    fake.fail_next(error)
    with pytest.raises(type(error)) as caught:
        client.get_project()
    facts = {**vars(error), **vars(caught.value)}
    for name in ("code", "reason", "metadata"):  # those that a server adds
        facts.pop(name)
    assert {name: getattr(error, name) for name in facts} == facts
    assert caught.value.metadata.items() >= error.metadata.items()
    assert client.get_project() == Project(name="shop", revision=5)


def test_a_client_gets_over_failures_that_pass(
    fake: FakeFeatureStore, client: FeatureStoreClient
) -> None:
    fake.fail_next(UnavailableError("gone"), times=2)
    assert client.get_project().name == "shop"
    assert len(fake.calls) == 3
    fake.fail_next(UnavailableError("gone"), times=None)
    with pytest.raises(UnavailableError, match="gone"):
        client.get_project()
    assert len(fake.calls) == 8


def test_failures_come_in_the_order_in_which_they_are_told(
    fake: FakeFeatureStore, client: FeatureStoreClient
) -> None:
    fake.fail_next(ServerError("one"))
    fake.fail_next(ServerError("two"))
    for message in ("one", "two"):
        with pytest.raises(ServerError, match=message):
            client.get_project()
    client.get_project()


def test_no_server_sends_what_only_a_client_knows(fake: FakeFeatureStore) -> None:
    with pytest.raises(ValueError, match="no server sends a ClientClosedError"):
        fake.fail_next(ClientClosedError("closed"))


def test_calls_are_recorded(fake: FakeFeatureStore, connect: Connect) -> None:
    client = connect(fake.address, timeout_s=30, api_key="fs_test")
    client.get_online_features("checkout", [{"user_id": 1}, {"user_id": None}])
    with pytest.raises(NotFoundError):
        client.get_online_features(["user:credit"], {"user_id": [1]}, full_feature_names=True)
    lookup = {
        "features": "checkout",
        "full_feature_names": False,
        "entities": {"user_id": [1, None]},
    }
    wrong = {
        "features": ["user:credit"],
        "full_feature_names": True,
        "entities": {"user_id": [1]},
    }
    assert fake.calls == [
        FakeCall(method="get_online_features", arguments=lookup, api_key="fs_test"),
        FakeCall(method="get_online_features", arguments=wrong, api_key="fs_test"),
    ]


def test_pushed_rows_are_served(fake: FakeFeatureStore, client: FeatureStoreClient) -> None:
    rows = {"user_id": [7, 8], "at": [AT, AT], "credit": [7.5, None]}
    assert client.push("users", rows, append=True).written == 2
    found = client.get_online_features(["users:credit"], {"user_id": [7, 8]})
    assert found.statuses == {"credit": [Status.PRESENT, Status.NULL_VALUE]}
    assert fake.calls[0].arguments == {"view": "users", "rows": rows, "append": True}
    with pytest.raises(NotFoundError):
        client.push("user", rows)
    with pytest.raises(InvalidRequestError):
        client.push("users", {"credit": [1.0]})


def test_what_is_registered_can_be_read(client: FeatureStoreClient) -> None:
    assert client.get_project() == Project(name="shop", revision=5)
    described = client.describe_features("checkout")
    assert described.request_columns == {"user_id": "int64"}
    assert described.features == {
        "credit": "float64",
        "country": "string",
        "visits": "int64",
        "rate": "float32",
    }
    assert [found.name for found in client.list_objects("feature_service")] == ["checkout"]
    assert len(client.list_objects()) == 5
    assert client.get_object("feature_view", "users").definition["name"] == "users"
    with pytest.raises(NotFoundError):
        client.get_object("entity", "users")


def test_a_training_set_is_the_one_that_was_given(
    fake: FakeFeatureStore, client: FeatureStoreClient
) -> None:
    spine = pa.table({"user_id": [1, 2], "event_timestamp": [AT, AT]})
    job = client.get_historical_features(spine, "checkout")
    with pytest.raises(ServerError, match="answer_training"):
        job.to_arrow()
    table = spine.append_column("credit", pa.array([1.5, None]))
    fake.answer_training(table)
    assert job.to_arrow().equals(table)
    assert fake.calls[-1].arguments["spine"].equals(spine)
    fake.fail_next(UnavailableError("gone"))
    assert job.to_arrow().equals(table)


# --- Its life ------------------------------------------------------------------------------------


def test_a_fake_brings_its_clients(fake: FakeFeatureStore) -> None:
    client = fake.client(timeout_s=30, project="shop")
    assert client.get_project().name == "shop"

    async def one() -> str:
        async with fake.async_client(timeout_s=30) as twin:
            return (await twin.get_project()).name

    assert asyncio.run(one()) == "shop"


def test_a_fake_closes_its_clients_and_is_gone() -> None:
    with FakeFeatureStore() as fake:
        client, address = fake.client(), fake.address
    with pytest.raises(ClientClosedError):
        client.get_project()
    with pytest.raises(RuntimeError):
        _ = fake.address
    with (
        FeatureStoreClient(address, retry=RetryPolicy(attempts=1)) as late,
        pytest.raises(UnavailableError),
    ):
        late.get_project()
