"""What the access log says, and what it does when nobody reads it."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from featurestore_server import access_log
from featurestore_server.access_log import AccessLog, WitnessedGate
from featurestore_server.calls import Call, Caller, OpenGate, request_id_of
from featurestore_server.errors import PermissionDeniedError, UnauthenticatedError

from featurestore.errors import FunctionError, NotFoundError

METHOD = "/featurestore.v1.ServingService/GetOnlineFeatures"
SECRET = "fs_0123456789ab_secret"  # noqa: S105


def call(service: str = "fraud", **more: object) -> Call:
    made = Call(
        METHOD,
        b"\x01entity-42",
        (("authorization", f"Bearer {SECRET}"), ("x-request-id", "r-1")),
        peer=lambda: "ipv4:10.0.0.7:5",
    )
    made.service = service
    for name, value in more.items():
        setattr(made, name, value)
    return made


def reader_of(descriptor: int, lines: list[str]) -> threading.Thread:
    """Start to read lines, until nobody writes any more."""

    def read() -> None:
        with os.fdopen(descriptor) as log:
            lines.extend(log)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


@contextmanager
def reading() -> Iterator[tuple[AccessLog, list[str]]]:
    """An access log, and its lines once the block has ended."""
    read, write = os.pipe()
    log = AccessLog(write, now=lambda: 1_700_000_000.25)
    lines: list[str] = []
    reader = reader_of(read, lines)
    try:
        yield log, lines
    finally:
        log.close()
        os.close(write)
        reader.join(20)


def test_a_line_says_who_asked_for_what_and_nothing_else() -> None:
    with reading() as (log, lines):
        log.ended(call(caller=Caller("ada", key_id="0123"), entities=3), None)
    [line] = map(json.loads, lines)
    assert line.pop("duration_ms") >= 0
    assert line == {
        "time": "2023-11-14T22:13:20.250Z",
        "request_id": "r-1",
        "caller": "ada",
        "key_id": "0123",
        "peer": "ipv4:10.0.0.7:5",
        "method": METHOD,
        "feature_service": "fraud",
        "entities": 3,
        "status": "OK",
        "reason": "",
        "cause": "",
    }
    assert "secret" not in lines[0]
    assert "entity-42" not in lines[0]


@pytest.mark.parametrize(
    ("error", "status", "reason", "cause"),
    [
        (PermissionDeniedError("no"), "PERMISSION_DENIED", "PERMISSION_DENIED", ""),
        (NotFoundError("feature service", "x"), "NOT_FOUND", "NOT_FOUND", ""),
        (FunctionError(SECRET, function="a:b"), "INTERNAL", "FUNCTION_FAILED", ""),
        (ValueError(SECRET), "INTERNAL", "INTERNAL", ""),
        (
            UnauthenticatedError("no", cause="expired key", key_id="0123"),
            "UNAUTHENTICATED",
            "UNAUTHENTICATED",
            "expired key",
        ),
    ],
)
def test_a_line_says_why_a_call_failed(
    error: Exception, status: str, reason: str, cause: str
) -> None:
    with reading() as (log, lines):
        log.ended(call(), error)
    [line] = map(json.loads, lines)
    assert (line["status"], line["reason"], line["cause"]) == (status, reason, cause)
    assert line["key_id"] == ("0123" if cause else "")
    assert SECRET not in lines[0]


@pytest.mark.parametrize("service", ["x" * 10_000, "\n" * 1_000, "🛫" * 1_000, '"\\' * 500])
def test_a_line_is_one_line_and_short_whatever_the_caller_asks_for(service: str) -> None:
    with reading() as (log, lines):
        log.ended(call(service), None)
        log.ended(call(service), None)
    assert len(lines) == 2
    assert max(map(len, lines)) < 4_096
    assert all(service.startswith(json.loads(line)["feature_service"]) for line in lines)


def test_lines_of_several_processes_do_not_mix() -> None:
    read, write = os.pipe()
    logs = [AccessLog(write) for _ in range(4)]
    lines: list[str] = []
    reader = reader_of(read, lines)
    for number in range(2_000):
        logs[number % 4].ended(call("s" * (number % 128)), None)
    for log in logs:
        log.close()
    os.close(write)
    reader.join(20)
    assert len([json.loads(line) for line in lines]) == 2_000


def test_lines_that_nobody_reads_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "WAITING_LINES", 100)
    read, write = os.pipe()
    log = AccessLog(write)
    sent = 2_000  # of 300 bytes: a pipe takes 64 KiB
    for _ in range(sent):
        log.ended(call(), None)
    lines: list[str] = []
    reader = reader_of(read, lines)
    log.ended(call(), None)
    log.close()
    os.close(write)
    reader.join(20)
    dropped = sum(json.loads(line).get("dropped", 0) for line in lines)
    # Nobody can tell in the last line what was dropped after it.
    assert 0 < dropped <= sent + 1 - len(lines)
    assert len(lines) >= 100


@pytest.mark.parametrize("given", ["order-17", "9f86-4c65.a:b_c/d+e=f@g", "x" * 128])
def test_an_id_of_the_caller_is_taken(given: str) -> None:
    assert request_id_of(Call(METHOD, b"", (("x-request-id", given),))) == given


@pytest.mark.parametrize("given", ["x" * 129, "", "a b", "a\nb", '"', "ü", b"bytes"])
def test_an_id_that_should_not_stand_in_a_log_is_replaced(given: str | bytes) -> None:
    asked = Call(METHOD, b"", (("x-request-id", given),))
    assert request_id_of(asked) == request_id_of(asked) != given


def test_calls_without_an_id_get_one_each() -> None:
    ids = {request_id_of(Call(METHOD, b"")) for _ in range(100)}
    assert len(ids) == 100
    assert {len(each) for each in ids} == {16}


def test_the_address_of_a_caller_who_left_is_known() -> None:
    addresses = iter(["ipv4:10.0.0.7:5", ""])
    asked = Call(METHOD, b"", peer=lambda: next(addresses))
    WitnessedGate(OpenGate()).admit(asked)
    assert (asked.peer(), asked.peer()) == ("ipv4:10.0.0.7:5", "ipv4:10.0.0.7:5")
