"""A real server on loopback, for the tests of the server and of the SDK."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_server.server import FeatureServer

from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import OnlineStore
from featurestore.serving.plan import ServingCatalog
from tests.server import shop


class Serve(Protocol):
    """Starts a server in this process and returns its address; the test's end stops it."""

    def __call__(self, catalog: ServingCatalog, store: OnlineStore, **options: Any) -> str: ...


@pytest.fixture(params=["loop", "pool"])
def fast_lookups(request: pytest.FixtureRequest) -> bool:
    """Whether lookups go through our own loop; every test of a server is run with and without."""
    return bool(request.param == "loop")


@pytest.fixture
def serve(fast_lookups: bool) -> Iterator[Serve]:  # noqa: FBT001 - a fixture
    with ExitStack() as stack:

        def start(catalog: ServingCatalog, store: OnlineStore, **options: Any) -> str:
            server = FeatureServer(catalog, store, fast_lookups=fast_lookups, **options)
            port = server.listen("127.0.0.1:0")
            server.start()
            stack.callback(server.stop, grace_s=5)
            return f"127.0.0.1:{port}"

        yield start


@pytest.fixture
def store() -> OnlineStore:
    filled = MemoryOnlineStore()
    shop.fill(filled)
    return filled


@pytest.fixture
def address(serve: Serve, store: OnlineStore) -> str:
    return serve(shop.catalog(), store)


@pytest.fixture
def dial() -> Iterator[Callable[[str], grpc.Channel]]:
    with ExitStack() as stack:
        yield lambda address: stack.enter_context(grpc.insecure_channel(address))


@pytest.fixture
def stub(address: str, dial: Callable[[str], grpc.Channel]) -> ServingServiceStub:
    return ServingServiceStub(dial(address))
