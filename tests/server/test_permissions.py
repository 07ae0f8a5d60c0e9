"""What each method asks of its caller."""

import pytest
from featurestore_protos.v1 import registry_pb2, serving_pb2, training_pb2, writing_pb2
from featurestore_server.calls import Call, Caller, Gate, Permission
from featurestore_server.errors import PermissionDeniedError, UnauthenticatedError
from featurestore_server.keys import KeyGate
from featurestore_server.permissions import PERMISSIONS, admitted

from featurestore.access import Grant, KeyRecord, Token

TRAINING = "/featurestore.v1.TrainingService/GetHistoricalFeatures"
PUSH = "/featurestore.v1.WritingService/Push"
PROJECT = "/featurestore.v1.RegistryService/GetProject"
DELETE = "/featurestore.v1.RegistryService/DeleteEverything"


def test_every_method_of_the_protos_has_its_permission() -> None:
    files = (serving_pb2, training_pb2, writing_pb2, registry_pb2)
    methods = {
        f"/{service.full_name}/{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == {method for method in PERMISSIONS if method.startswith("/featurestore.")}


def gate_and_call(method: str, *grants: Grant) -> tuple[Gate, Call]:
    token = Token.new()
    record = KeyRecord(
        id=token.id,
        name="ada",
        hash=token.hash.hex(),
        grants=frozenset(grants),
        created_us=0,
        created_by="test",
    )
    return KeyGate([record]), Call(method, b"", [("authorization", f"Bearer {token}")])


READ, OFFLINE, WRITE, ADMIN = Permission


@pytest.mark.parametrize(
    ("method", "service", "grants", "outcome"),
    [
        (TRAINING, "fraud", [Grant(OFFLINE)], "allowed"),
        (TRAINING, "fraud", [Grant(OFFLINE, "fraud")], "allowed"),
        (TRAINING, "fraud", [Grant(OFFLINE, "other")], "denied"),
        (TRAINING, "", [Grant(OFFLINE, "fraud")], "denied"),
        (TRAINING, "", [Grant(OFFLINE)], "allowed"),
        (TRAINING, "fraud", [Grant(READ), Grant(WRITE)], "denied"),
        (PUSH, "", [Grant(WRITE)], "allowed"),
        (PUSH, "", [Grant(READ), Grant(OFFLINE)], "denied"),
        (PUSH, "", [Grant(ADMIN)], "allowed"),
        (PROJECT, "", [Grant(READ, "fraud")], "allowed"),
        (PROJECT, "", [], "allowed"),
        (DELETE, "", [Grant(ADMIN)], "denied"),
    ],
)
def test_a_method_is_for_those_who_may_call_it(
    method: str, service: str, grants: list[Grant], outcome: str
) -> None:
    gate, call = gate_and_call(method, *grants)
    if outcome == "denied":
        with pytest.raises(PermissionDeniedError):
            admitted(gate, call, service=service)
    else:
        assert admitted(gate, call, service=service).name == "ada"
    assert isinstance(call.caller, Caller)


@pytest.mark.parametrize("method", [TRAINING, PUSH, PROJECT, DELETE])
def test_a_stranger_may_call_nothing(method: str) -> None:
    gate, _ = gate_and_call(method, Grant(ADMIN))
    call = Call(method, b"")
    with pytest.raises(UnauthenticatedError):
        admitted(gate, call)
    assert call.caller is None
