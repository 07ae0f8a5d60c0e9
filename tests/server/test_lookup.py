"""Lookups over the wire, as a client without our SDK sees them."""

from datetime import timedelta

import pytest
from featurestore_protos.v1.serving_pb2 import (
    FeatureColumn,
    FeatureStatus,
    GetOnlineFeaturesResponse,
)
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values

from featurestore.time import to_micros

from .calls import lookup
from .shop import DAY, NOW

PRESENT = FeatureStatus.FEATURE_STATUS_PRESENT
NULL_VALUE = FeatureStatus.FEATURE_STATUS_NULL_VALUE
NOT_FOUND = FeatureStatus.FEATURE_STATUS_NOT_FOUND
OUTSIDE_MAX_AGE = FeatureStatus.FEATURE_STATUS_OUTSIDE_MAX_AGE


def _ask(
    stub: ServingServiceStub,
    features: str | list[str],
    *,
    full_feature_names: bool = False,
    **entities: Values,
) -> GetOnlineFeaturesResponse:
    request = lookup(features, full_feature_names=full_feature_names, project="", **entities)
    return stub.GetOnlineFeatures(request, timeout=10)


def _feature(response: GetOnlineFeaturesResponse, name: str) -> FeatureColumn:
    [found] = [column for column in response.features if column.name == name]
    return found


def test_a_feature_service_answers_with_its_columns_in_order(stub: ServingServiceStub) -> None:
    response = _ask(stub, "checkout", user_id=Values(int64s=[1]))
    assert [(c.name, c.dtype) for c in response.entities] == [("user_id", "int64")]
    assert [(c.name, c.dtype) for c in response.features] == [
        ("credit", "float64"),
        ("country", "string"),
        ("visits", "int64"),
        ("rate", "float32"),
    ]
    assert list(_feature(response, "credit").values.float64s) == [1.5]
    assert list(_feature(response, "country").values.strings) == ["AT"]
    assert list(_feature(response, "visits").values.int64s) == [10]
    assert list(_feature(response, "rate").values.float32s) == [0.25]


def test_features_by_name_come_in_the_order_asked(stub: ServingServiceStub) -> None:
    names = ["users:visits", "rates:rate", "users:credit"]
    response = _ask(stub, names, user_id=Values(int64s=[1]))
    assert [column.name for column in response.features] == ["visits", "rate", "credit"]


def test_full_names_name_the_view(stub: ServingServiceStub) -> None:
    response = _ask(stub, ["users:visits"], full_feature_names=True, user_id=Values(int64s=[1]))
    assert [column.name for column in response.features] == ["users__visits"]


def test_a_reply_says_who_answered_and_when(stub: ServingServiceStub) -> None:
    response = _ask(stub, "checkout", user_id=Values(int64s=[1]))
    assert (response.project, response.revision) == ("shop", 7)
    assert response.request_timestamp_us == to_micros(NOW)


def test_each_status_and_the_values_that_go_with_it(stub: ServingServiceStub) -> None:
    users = Values(int64s=[1, 2, 3, 4, 0], nulls=b"\0\0\0\0\1")
    credit = _feature(_ask(stub, "checkout", user_id=users), "credit")
    assert list(credit.statuses) == [PRESENT, NULL_VALUE, OUTSIDE_MAX_AGE, NOT_FOUND, NOT_FOUND]
    assert list(credit.values.float64s) == [1.5, 0, 0, 0, 0]
    assert credit.values.nulls == b"\0\1\1\1\1"


def test_a_value_that_is_too_old_does_not_leave_the_server(stub: ServingServiceStub) -> None:
    response = _ask(stub, "checkout", user_id=Values(int64s=[3]))
    assert list(_feature(response, "visits").values.int64s) == [0]
    assert list(_feature(response, "country").values.strings) == [""]


def test_a_column_without_nulls_has_no_null_marks(stub: ServingServiceStub) -> None:
    response = _ask(stub, "checkout", user_id=Values(int64s=[1, 2]))
    assert _feature(response, "visits").values.nulls == b""
    assert response.entities[0].values.nulls == b""


def test_event_times_say_when_each_row_took_effect(stub: ServingServiceStub) -> None:
    response = _ask(stub, "checkout", user_id=Values(int64s=[1, 4, 3]))
    users, rates = response.views
    assert (users.name, rates.name) == ("users", "rates")
    assert list(users.event_timestamps_us) == [
        to_micros(NOW - timedelta(hours=1)),
        0,
        to_micros(NOW - DAY) - 1,
    ]
    assert users.found == b"\1\0\1"
    assert (list(rates.event_timestamps_us), rates.found) == ([to_micros(NOW)] * 3, b"")
    assert [column.view for column in response.features] == [0, 0, 0, 1]


def test_order_and_duplicates_are_kept(stub: ServingServiceStub) -> None:
    response = _ask(stub, "checkout", user_id=Values(int64s=[2, 1, 2, 1]))
    assert list(response.entities[0].values.int64s) == [2, 1, 2, 1]
    assert list(_feature(response, "visits").values.int64s) == [20, 10, 20, 10]


def test_no_entities_are_no_failure(stub: ServingServiceStub) -> None:
    response = _ask(stub, "checkout", user_id=Values())
    assert [len(column.statuses) for column in response.features] == [0, 0, 0, 0]


def test_a_key_of_several_columns(stub: ServingServiceStub) -> None:
    response = _ask(
        stub,
        ["prices:price"],
        item=Values(strings=["tea", "tea"]),
        country=Values(strings=["AT", "CH"]),
    )
    price = _feature(response, "price")
    assert list(price.values.decimals) == ["9.90", "0"]
    assert list(price.statuses) == [PRESENT, NOT_FOUND]


def test_one_view_in_two_roles(stub: ServingServiceStub) -> None:
    response = _ask(
        stub,
        "transfer",
        full_feature_names=True,
        from_id=Values(int64s=[1]),
        to_id=Values(int64s=[4]),
    )
    assert [c.name for c in response.entities] == ["from_id", "to_id"]
    assert list(_feature(response, "sender__credit").statuses) == [PRESENT]
    assert list(_feature(response, "receiver__credit").statuses) == [NOT_FOUND]
    assert [view.name for view in response.views] == ["sender", "receiver"]


@pytest.mark.parametrize(
    "values",
    [
        Values(int64s=[1]),
        Values(int32s=[1]),
        Values(uint32s=[1]),
        Values(uint64s=[1]),
        Values(float64s=[1.0]),
        Values(float32s=[1.0]),
    ],
)
def test_a_whole_number_is_one_however_it_is_sent(stub: ServingServiceStub, values: Values) -> None:
    response = _ask(stub, "checkout", user_id=values)
    assert list(response.entities[0].values.int64s) == [1]
    assert list(_feature(response, "visits").values.int64s) == [10]


def test_a_date_is_a_key(stub: ServingServiceStub) -> None:
    response = _ask(stub, ["calendar:holiday"], day=Values(dates=[19_787, 19_788]))
    assert list(_feature(response, "holiday").values.bools) == [True, False]
    assert list(response.entities[0].values.dates) == [19_787, 19_788]


def test_the_project_may_be_named(stub: ServingServiceStub) -> None:
    request = lookup("checkout", project="shop", user_id=Values(int64s=[1]))
    assert stub.GetOnlineFeatures(request, timeout=10).project == "shop"
