"""What every way in tells the gate and the observers about a call."""

import time
from collections.abc import Callable

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.calls import Call, Caller, Gate, Observer, Permission
from featurestore_server.errors import PermissionDeniedError, UnauthenticatedError
from featurestore_server.service import LOOKUP_METHOD

from featurestore.errors import NotFoundError
from featurestore.online.store import OnlineStore

from . import shop
from .calls import Dial, fails, lookup
from .fixtures import Serve

ONE = Values(int64s=[1, 2])


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[Call, Exception | None]] = []

    def ended(self, call: Call, error: Exception | None) -> None:
        self.ends.append((call, error))

    def wait_for(self, count: int) -> None:
        until = time.monotonic() + 10
        while len(self.ends) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.ends) == count


class Doorman(Gate):
    """Knows one caller, who may look up one service."""

    def admit(self, call: Call) -> Caller:
        if ("who", "ada") in tuple(call.metadata):
            return Caller("ada")
        raise UnauthenticatedError("Who is it?")

    def authorize(self, caller: Caller, permission: Permission, *, service: str = "") -> None:
        assert caller.name == "ada"
        if (permission, service) != (Permission.READ_ONLINE, "checkout"):
            raise PermissionDeniedError(f"{caller.name} may not look up {service!r}.")


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def stub(
    serve: Serve, store: OnlineStore, dial: Callable[[str], grpc.Channel], notes: Notes
) -> ServingServiceStub:
    return ServingServiceStub(dial(serve(shop.catalog(), store, gate=Doorman(), observer=notes)))


ADA = (("who", "ada"),)


def test_an_observer_is_told_what_was_asked(stub: ServingServiceStub, notes: Notes) -> None:
    stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), metadata=ADA, timeout=20)
    notes.wait_for(1)
    [(call, error)] = notes.ends
    assert error is None
    assert (call.method, call.service, call.entities) == (LOOKUP_METHOD, "checkout", 2)
    assert call.caller == Caller("ada")
    assert 0 < call.came <= call.began
    assert 0 < call.deadline - time.time() < 21
    assert call.peer().startswith(("ipv4:", "ipv6:"))
    assert list(call.identities()) == []  # there is no certificate


@pytest.mark.parametrize(
    ("features", "metadata", "code", "kind"),
    [
        ("checkout", (), "UNAUTHENTICATED", UnauthenticatedError),
        (["rates:rate"], ADA, "PERMISSION_DENIED", PermissionDeniedError),
        ("unknown", ADA, "PERMISSION_DENIED", PermissionDeniedError),  # nobody learns what there is
    ],
)
def test_the_gate_is_asked_before_anything_else(  # noqa: PLR0917 - fixtures
    stub: ServingServiceStub,
    notes: Notes,
    features: str | list[str],
    metadata: tuple[tuple[str, str], ...],
    code: str,
    kind: type[Exception],
) -> None:
    request = lookup(features, user_id=ONE)
    failed = fails(lambda: stub.GetOnlineFeatures(request, metadata=metadata, timeout=20))
    assert (failed.code.name, failed.reason) == (code, code)
    notes.wait_for(1)
    assert isinstance(notes.ends[0][1], kind)


def test_an_observer_is_told_of_failures(
    serve: Serve, store: OnlineStore, dial: Dial, notes: Notes
) -> None:
    stub = ServingServiceStub(dial(serve(shop.catalog(), store, observer=notes)))
    fails(lambda: stub.GetOnlineFeatures(lookup("chekout", user_id=ONE), timeout=20))
    notes.wait_for(1)
    assert isinstance(notes.ends[0][1], NotFoundError)
