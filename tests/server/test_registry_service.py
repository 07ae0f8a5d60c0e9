"""The registry over gRPC: what is applied, page by page, and what lookups take and give."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from featurestore_protos.v1 import registry_pb2
from featurestore_protos.v1.registry_pb2 import (
    DescribeFeaturesRequest,
    GetObjectRequest,
    GetProjectRequest,
    ListObjectsRequest,
    RegisteredObject,
)
from featurestore_protos.v1.registry_pb2_grpc import RegistryServiceStub
from featurestore_protos.v1.serving_pb2 import FeatureList

from featurestore.definitions import FeatureService, OnDemandFeatureView, RequestSource
from featurestore.definitions.field import Field
from featurestore.store import FeatureStore
from featurestore.types import Float64
from tests.unit.projects import project, rows, view, write

from .backend_calls import served
from .calls import fails

VIEW = registry_pb2.OBJECT_KIND_FEATURE_VIEW
SOURCE = registry_pb2.OBJECT_KIND_SOURCE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    write(tmp_path / "secret/rows.parquet", rows(3))
    with project(tmp_path) as opened:
        reading = view("secret", owner="ops@example.com", tags={"pii": "no"}, description="Now")
        request = RequestSource(name="request", schema=[Field(name="most", dtype=Float64)])
        ratio = OnDemandFeatureView(
            name="ratio", sources=[reading, request], features={"share": "x / most"}
        )
        more = [view("secret", name=f"more_{n}") for n in range(5)]
        service = FeatureService(name="readings_v1", features=[ratio, reading])
        opened.apply([reading, request, ratio, service, *more])
        yield opened


@pytest.fixture
def stub(store: FeatureStore) -> Iterator[RegistryServiceStub]:
    with served(store) as address, grpc.insecure_channel(address) as channel:
        yield RegistryServiceStub(channel)


def test_the_project_is_described(stub: RegistryServiceStub) -> None:
    found = stub.GetProject(GetProjectRequest(project="plant"), timeout=20)
    assert (found.project, found.revision) == ("plant", 1)
    failure = fails(lambda: stub.GetProject(GetProjectRequest(project="shop"), timeout=20))
    assert failure.reason == "PROJECT_NOT_FOUND"


def _all(stub: RegistryServiceStub, **asked: Any) -> list[RegisteredObject]:
    found: list[RegisteredObject] = []
    token = ""
    while True:
        page = stub.ListObjects(ListObjectsRequest(page_token=token, **asked), timeout=20)
        found += page.objects
        token = page.next_page_token
        if not token:
            return found


@pytest.mark.parametrize("page_size", [1, 2, 7, 0, 2**32 - 1])
def test_every_object_is_listed_once_by_kind_then_by_name(
    page_size: int, stub: RegistryServiceStub, store: FeatureStore
) -> None:
    found = [(o.kind, o.name) for o in _all(stub, page_size=page_size)]
    assert found == sorted(found)
    assert [name for _, name in found] == [d.name for d in store.state().definitions]
    views = _all(stub, page_size=page_size, kind=VIEW)
    assert [o.name for o in views] == [*(f"more_{n}" for n in range(5)), "reading"]


def test_a_token_holds_while_objects_come_and_go(
    stub: RegistryServiceStub, store: FeatureStore
) -> None:
    first = stub.ListObjects(ListObjectsRequest(kind=VIEW, page_size=2), timeout=20)
    store.apply([view("secret", name=name) for name in ("aaa", "more_9")])
    request = ListObjectsRequest(kind=VIEW, page_token=first.next_page_token)
    rest = stub.ListObjects(request, timeout=20)
    assert [o.name for o in first.objects] == ["more_0", "more_1"]
    assert [o.name for o in rest.objects] == ["more_2", "more_3", "more_4", "more_9", "reading"]
    assert (first.revision, rest.revision) == (1, 2)


@pytest.mark.parametrize(
    "token", ["x", "bm9uZQ==", "WzEsIDJd", "W10=", "bnVsbA==", "Ü", "[" * 9_999]
)
def test_a_token_that_was_never_given_is_refused(token: str, stub: RegistryServiceStub) -> None:
    request = ListObjectsRequest(page_token=token)
    failure = fails(lambda: stub.ListObjects(request, timeout=20))
    assert (failure.reason, failure.fields) == ("MESSAGE_MALFORMED", ["page_token"])


def test_an_object_is_its_document_without_paths(
    stub: RegistryServiceStub, store: FeatureStore
) -> None:
    found = stub.GetObject(GetObjectRequest(kind=VIEW, name="reading"), timeout=20)
    assert (found.revision, found.object.kind, found.object.owner) == (1, VIEW, "ops@example.com")
    assert (found.object.description, dict(found.object.tags)) == ("Now", {"pii": "no"})
    assert json.loads(found.object.definition_json) == (
        store.get_feature_view("reading").to_document()
    )
    listed = _all(stub)
    assert all("secret" not in o.definition_json for o in listed)
    [source] = [json.loads(o.definition_json) for o in listed if o.kind == SOURCE]
    assert source == {
        k: v for k, v in store.get_source("readings").to_document().items() if k != "path"
    }


def test_what_is_not_there_is_not_found(stub: RegistryServiceStub) -> None:
    failure = fails(lambda: stub.GetObject(GetObjectRequest(kind=VIEW, name="readin"), timeout=20))
    assert failure.reason == "FEATURE_VIEW_NOT_FOUND"
    assert "'reading'" in failure.message
    for kind in (0, 99):
        request = GetObjectRequest(kind=kind, name="reading")  # type: ignore[arg-type]
        failure = fails(lambda request=request: stub.GetObject(request, timeout=20))  # type: ignore[misc]
        assert failure.fields == ["kind"]


def test_features_are_described_as_a_lookup_takes_and_gives_them(
    stub: RegistryServiceStub,
) -> None:
    request = DescribeFeaturesRequest(feature_service="readings_v1")
    found = stub.DescribeFeatures(request, timeout=20)
    assert [(c.name, c.dtype) for c in found.request_columns] == [
        ("k", "int64"),
        ("most", "float64"),
    ]
    assert [(c.name, c.dtype) for c in found.features] == [("share", "float64"), ("x", "float64")]
    request = DescribeFeaturesRequest(
        features=FeatureList(names=["reading:x"]), full_feature_names=True
    )
    found = stub.DescribeFeatures(request, timeout=20)
    assert [(c.name, c.dtype) for c in found.features] == [("reading__x", "float64")]
    failure = fails(
        lambda: stub.DescribeFeatures(DescribeFeaturesRequest(feature_service="x"), timeout=20)
    )
    assert failure.reason == "FEATURE_SERVICE_NOT_FOUND"
    failure = fails(lambda: stub.DescribeFeatures(DescribeFeaturesRequest(), timeout=20))
    assert failure.fields == ["selection"]
