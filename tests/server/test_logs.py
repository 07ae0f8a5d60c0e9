"""Logs that machines read, and the ids that connect them with what a caller was told."""

import json
import logging
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.calls import Call, request_id_of
from featurestore_server.logs import JsonFormatter
from google.rpc.error_details_pb2 import ErrorInfo

from featurestore.definitions import FeatureService
from featurestore.errors import StoreError
from featurestore.online.store import OnlineStore
from featurestore.store import FeatureStore
from tests.unit.projects import view

from . import shop
from .calls import Failure, fails, lookup
from .fixtures import Serve
from .http_calls import http_served
from .observed import make_repository, observed, wait_for
from .test_health import MoodyStore

Dial = Callable[[str], grpc.Channel]
ONE = Values(int64s=[1])


def _id_of(failure: Failure) -> str:
    return str(failure.detail(ErrorInfo).metadata["request_id"])


def test_a_caller_that_brings_an_id_gets_it_back(stub: ServingServiceStub) -> None:
    failure = fails(
        lambda: stub.GetOnlineFeatures(
            lookup("chekout", user_id=ONE), metadata=(("x-request-id", "order-7/a"),), timeout=20
        )
    )
    assert _id_of(failure) == "order-7/a"


def test_a_caller_that_brings_none_is_given_one(stub: ServingServiceStub) -> None:
    def ask() -> object:
        return stub.GetOnlineFeatures(lookup("chekout", user_id=ONE), timeout=20)

    first, second = _id_of(fails(ask)), _id_of(fails(ask))
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first != second


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "a\nb", "ä", "x" * 129, b"bytes"])
def test_an_id_that_would_harm_a_log_is_replaced(given: str | bytes) -> None:
    call = Call("/a/b", b"", (("x-request-id", given),))
    assert re.fullmatch("[0-9a-f]{16}", request_id_of(call))
    assert request_id_of(call) == call.request_id


def test_the_longest_id_is_kept() -> None:
    assert request_id_of(Call("/a/b", b"", (("x-request-id", "x" * 128),))) == "x" * 128


def test_an_error_is_logged_under_the_ids_that_the_caller_has(
    serve: Serve, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    store: MoodyStore = MoodyStore()
    shop.fill(store)
    stub = ServingServiceStub(dial(serve(shop.catalog(), store)))
    store.error = StoreError("redis://secret")
    request, given = lookup("checkout", user_id=ONE), (("x-request-id", "mine"),)
    failure = fails(lambda: stub.GetOnlineFeatures(request, metadata=given, timeout=20))
    told = failure.detail(ErrorInfo).metadata
    [record] = [r for r in caplog.records if getattr(r, "request_id", "") == "mine"]
    assert vars(record)["error_id"] == told["error_id"]
    assert "redis://secret" not in failure.everything
    logged = json.loads(JsonFormatter("worker").format(record))
    assert (logged["request_id"], logged["error_id"]) == ("mine", told["error_id"])
    assert "redis://secret" in logged["exception"]


def test_a_line_has_time_level_logger_message_and_process() -> None:
    record = logging.makeLogRecord(
        {"msg": "two\nlines of %s", "args": ("ä",), "name": "x", "levelname": "WARNING"}
    )
    record.created = 1_700_000_000.25
    line = JsonFormatter("parent").format(record)
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "x",
        "message": "two\nlines of ä",
        "process": "parent",
        "pid": record.process,
    }


def test_an_exception_is_one_line() -> None:
    with pytest.raises(ValueError, match="bad") as caught:
        int("bad")
    raised = (caught.type, caught.value, caught.tb)
    record = logging.makeLogRecord({"msg": "failed", "exc_info": raised})
    logged = json.loads(JsonFormatter("worker").format(record))
    assert logged["exception"].startswith("Traceback")
    assert logged["exception"].endswith("'bad'")


def test_every_line_of_a_server_is_json(tmp_path: Path) -> None:
    make_repository(tmp_path, "server: {log_format: json, reload_every_ms: 50}\n")
    with observed(tmp_path) as server, FeatureStore(tmp_path) as store:
        store.apply([FeatureService(name="more", features=[view()])])
        wait_for(lambda: any(line["process"] == "worker" for line in server.log_lines()))
        server.process.terminate()
        server.process.wait(60)
        lines = server.log_lines()
    assert lines[0]["message"].startswith("serving project 'plant'")
    assert lines[-1]["message"].startswith("told to stop")
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line.keys() >= {"time", "level", "logger", "message", "process", "pid"}


def test_errors_over_http_have_the_id_in_header_and_body(store: OnlineStore) -> None:
    wrong = {"feature_service": "chekout", "entities": {"user_id": [1]}}
    with http_served(shop.catalog(), store) as served:
        own = served.client.post(wrong)
        given = served.client.post(wrong, x_request_id="order-7")
    assert given.error["request_id"] == given.headers["x-request-id"] == "order-7"
    assert re.fullmatch("[0-9a-f]{16}", own.error["request_id"])
    assert own.headers["x-request-id"] == own.error["request_id"]
