"""Reading what is registered."""

import json
from typing import Any

import pytest
from featurestore_protos.v1 import registry_pb2 as messages
from featurestore_sdk import (
    FeatureDescription,
    InvalidRequestError,
    ObjectKind,
    Project,
    RegisteredObject,
)
from google.protobuf.message import Message

from tests.sdk.clients import Connect
from tests.sdk.scripted import Context, Script, Scripted, nobody

SERVICE = "/featurestore.v1.RegistryService/"
USERS = messages.RegisteredObject(
    kind=messages.OBJECT_KIND_FEATURE_VIEW,
    name="users",
    definition_json=json.dumps({"name": "users", "ttl": 60}),
    description="what is known about users",
    owner="risk@example.com",
    tags={"pii": "true"},
)
FOUND = RegisteredObject(
    kind=ObjectKind.FEATURE_VIEW,
    name="users",
    definition={"name": "users", "ttl": 60},
    description="what is known about users",
    owner="risk@example.com",
    tags={"pii": "true"},
)


def _replies(script: Script, *replies: Message) -> Scripted:
    waiting = iter(replies)

    def answer(_: bytes, __: Context) -> bytes:
        return next(waiting).SerializeToString()

    return script(answer)


def test_the_project_of_a_server(script: Script, connect: Connect) -> None:
    server = _replies(script, messages.GetProjectResponse(project="shop", revision=7))
    client = connect(server.address, project="shop", timeout_s=30)
    assert client.get_project() == Project(name="shop", revision=7)
    [(method, request, _)] = server.calls
    assert method == f"{SERVICE}GetProject"
    assert messages.GetProjectRequest.FromString(request).project == "shop"


def test_an_object_by_kind_and_name(script: Script, connect: Connect) -> None:
    server = _replies(script, *[messages.GetObjectResponse(revision=7, object=USERS)] * 2)
    client = connect(server.address, timeout_s=30)
    assert client.get_object("feature_view", "users") == FOUND
    assert client.get_object(ObjectKind.FEATURE_VIEW, "users") == FOUND
    for method, request, _ in server.calls:
        assert method == f"{SERVICE}GetObject"
        assert messages.GetObjectRequest.FromString(request) == messages.GetObjectRequest(
            kind=messages.OBJECT_KIND_FEATURE_VIEW, name="users"
        )


def test_a_list_is_read_to_its_last_page(script: Script, connect: Connect) -> None:
    pages = [
        messages.ListObjectsResponse(objects=[USERS, USERS], next_page_token="more"),  # noqa: S106
        messages.ListObjectsResponse(objects=[USERS]),
    ]
    server = _replies(script, *pages)
    assert connect(server.address, timeout_s=30).list_objects() == [FOUND] * 3
    requests = [messages.ListObjectsRequest.FromString(request) for _, request, _ in server.calls]
    assert [(request.kind, request.page_token) for request in requests] == [(0, ""), (0, "more")]


@pytest.mark.parametrize("kind", ObjectKind)
def test_objects_of_every_kind_are_listed(
    script: Script, connect: Connect, kind: ObjectKind
) -> None:
    number: Any = messages.ObjectKind.Value(f"OBJECT_KIND_{kind.name}")
    message = messages.RegisteredObject(kind=number, name="a")
    server = _replies(script, messages.ListObjectsResponse(objects=[message]))
    [found] = connect(server.address, timeout_s=30).list_objects(str(kind))
    assert (found.kind, found.definition) == (kind, {})
    [(_, request, _)] = server.calls
    assert messages.ListObjectsRequest.FromString(request).kind == number


@pytest.mark.parametrize("kind", ["view", "", "ENTITY", 3])
def test_an_unknown_kind_is_refused_without_a_call(connect: Connect, kind: Any) -> None:
    client = connect(nobody())
    with pytest.raises(InvalidRequestError, match="the kinds are 'entity', 'source'"):
        client.list_objects(kind)
    with pytest.raises(InvalidRequestError):
        client.get_object(kind, "users")


def test_what_a_lookup_takes_and_gives(script: Script, connect: Connect) -> None:
    column = messages.ColumnDescription
    reply = messages.DescribeFeaturesResponse(
        revision=7,
        request_columns=[column(name="user_id", dtype="int64")],
        features=[column(name="b", dtype="list<float32>"), column(name="a", dtype="string")],
    )
    server = _replies(script, reply, reply)
    client = connect(server.address, timeout_s=30)
    found = client.describe_features("checkout")
    assert found == FeatureDescription(
        revision=7,
        request_columns={"user_id": "int64"},
        features={"b": "list<float32>", "a": "string"},
    )
    assert list(found.features) == ["b", "a"]
    client.describe_features(["users:b"], full_feature_names=True)
    by_service, by_name = (
        messages.DescribeFeaturesRequest.FromString(request) for _, request, _ in server.calls
    )
    assert by_service.feature_service == "checkout"
    assert (list(by_name.features.names), by_name.full_feature_names) == (["users:b"], True)


def test_what_names_no_features_is_refused_without_a_call(connect: Connect) -> None:
    with pytest.raises(InvalidRequestError):
        connect(nobody()).describe_features("users:b")
