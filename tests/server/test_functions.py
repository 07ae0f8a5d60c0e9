"""Python functions in a server: only below its own roots, and silent about what fails in them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_sdk import FeatureStoreClient, ServerError
from featurestore_server import ServeOptions, Supervisor, WorkerError

from featurestore.definitions import FeatureService, Field, OnDemandFeatureView, RequestSource
from featurestore.errors import FunctionChangedError, FunctionLoadError
from featurestore.functions import FunctionLoader
from featurestore.online.memory import MemoryOnlineStore
from featurestore.serving.plan import ServingCatalog
from featurestore.store import FeatureStore
from featurestore.types import Float64, String

from .calls import Dial, Failure, lookup
from .fixtures import Serve

MODULE = """
import pyarrow as pa
import pyarrow.compute as pc

def text(batch: pa.RecordBatch) -> pa.RecordBatch:
    print("on standard output")
    if pc.any(pc.less(batch["amount"], 0)).as_py():
        raise ValueError("password=secret")
    text = pc.binary_join_element_wise(batch["amount"].cast("string"), "EUR", " ")
    return pa.record_batch({"text": text})
"""
REQUEST = RequestSource(name="request", schema=[Field(name="amount", dtype=Float64)])
PRICED = OnDemandFeatureView(
    name="priced",
    sources=[REQUEST],
    function="pricing:text",
    schema=[Field(name="text", dtype=String)],
)
TWICE = OnDemandFeatureView(name="twice", sources=[REQUEST], features={"twice": "2 * amount"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    folder.mkdir()
    (folder / "pricing.py").write_text(MODULE)
    return folder


@pytest.fixture
def catalog(root: Path) -> Iterator[ServingCatalog]:
    config = {"project": "shop", "online_store": "memory", "functions": "functions"}
    with FeatureStore(root.parent, config=config) as store:
        store.apply([FeatureService(name="prices", features=[PRICED]), TWICE])
        yield store.serving_catalog()


def test_what_a_function_says_goes_into_the_log_and_not_over_the_network(
    serve: Serve,
    dial: Dial,
    catalog: ServingCatalog,
    root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = serve(catalog, MemoryOnlineStore(), functions=FunctionLoader([root]))
    stub = ServingServiceStub(dial(address))
    failure = failing(stub, amount=-1.0)
    assert failure.code.name == "INTERNAL"
    assert "Error id" in failure.message
    for private in ("secret", "ValueError", "pricing", str(root)):
        assert private not in failure.everything
    assert "password=secret" in caplog.text
    assert str(root / "pricing.py") in caplog.text


def failing(stub: ServingServiceStub, *, amount: float) -> Failure:
    import grpc

    with pytest.raises(grpc.RpcError) as caught:
        stub.GetOnlineFeatures(lookup("prices", amount=Values(float64s=[amount])), timeout=10)
    return Failure(caught.value)


def test_a_request_that_fails_in_a_function_harms_no_other(
    serve: Serve, catalog: ServingCatalog, root: Path
) -> None:
    address = serve(catalog, MemoryOnlineStore(), functions=FunctionLoader([root]))
    with FeatureStoreClient(address) as client:
        with pytest.raises(ServerError, match="function of an on-demand feature failed"):
            client.get_online_features("prices", {"amount": [1.0, -1.0]})
        good = client.get_online_features("prices", {"amount": [1.0, None]})
        assert good.to_dict()["text"] == ["1 EUR", None]
        other = client.get_online_features(["twice:twice"], {"amount": [-1.0]})
        assert other.to_dict()["twice"] == [-2.0]


@pytest.mark.parametrize(
    ("roots", "error"), [([], FunctionLoadError), (["elsewhere"], FunctionLoadError)]
)
def test_a_server_that_cannot_load_a_function_does_not_start(
    serve: Serve, catalog: ServingCatalog, root: Path, roots: list[str], error: type[Exception]
) -> None:
    loader = FunctionLoader([root.parent / name for name in roots])
    with pytest.raises(error, match="pricing:text"):
        serve(catalog, MemoryOnlineStore(), functions=loader)


def test_a_server_does_not_start_with_another_module_than_was_applied(
    serve: Serve, catalog: ServingCatalog, root: Path
) -> None:
    (root / "pricing.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(FunctionChangedError):
        serve(catalog, MemoryOnlineStore(), functions=FunctionLoader([root]))


@pytest.fixture
def options(catalog: ServingCatalog, tmp_path: Path) -> Callable[..., ServeOptions]:
    def make(**more: Any) -> ServeOptions:
        settings = {"type": "lmdb", "path": str(tmp_path / "online")}
        return ServeOptions(
            catalog_json=catalog.to_json(),
            online_store=settings,
            address="127.0.0.1:0",
            grace_s=5,
            **more,
        )

    return make


def test_worker_processes_load_functions_below_their_roots(
    options: Callable[..., ServeOptions], root: Path
) -> None:
    with (
        Supervisor(options(function_roots=(str(root),))) as supervisor,
        FeatureStoreClient(supervisor.address, timeout_s=30) as client,
    ):
        found = client.get_online_features("prices", {"amount": [2.5]})
        assert found.to_dict()["text"] == ["2.5 EUR"]


def test_worker_processes_without_roots_say_what_is_missing(
    options: Callable[..., ServeOptions],
) -> None:
    with pytest.raises(WorkerError, match="names no folder of functions") as caught:
        Supervisor(options()).start()
    assert "functions: {roots" in str(caught.value.hint)
