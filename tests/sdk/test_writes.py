"""Pushing rows."""

from datetime import UTC, date, datetime
from typing import Any

import grpc
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from featurestore_protos.v1.values_pb2 import Lists, Values
from featurestore_protos.v1.writing_pb2 import PushRequest, PushResponse
from featurestore_sdk import (
    InvalidRequestError,
    PushResult,
    RetryPolicy,
    UnavailableError,
)
from google.rpc.error_details_pb2 import ErrorInfo

from tests.sdk.clients import Connect
from tests.sdk.scripted import Context, Script, fail, nobody

AT = datetime(2024, 3, 5, 12, tzinfo=UTC)
METHOD = "/featurestore.v1.WritingService/Push"
REPLY = PushResponse(rows=5, written=1, kept=2, filtered=1, expired=1, missed_generations=[2, 3])


def _answer(_: bytes, __: Context) -> bytes:
    return REPLY.SerializeToString()


def test_rows_are_pushed_and_counted(script: Script, connect: Connect) -> None:
    server = script(_answer)
    client = connect(server.address, project="shop", timeout_s=30)
    found = client.push("users", [{"user_id": 1, "at": AT, "credit": None}])
    assert found == PushResult(
        rows=5, written=1, kept=2, filtered=1, expired=1, missed_generations=(2, 3)
    )
    [(method, request, _)] = server.calls
    assert method == METHOD
    assert PushRequest.FromString(request) == PushRequest(
        project="shop",
        view="users",
        columns={
            "user_id": Values(int64s=[1]),
            "at": Values(timestamps_us=[1_709_640_000_000_000]),
            "credit": Values(nulls=b"\1"),
        },
    )


ROWS = {"id": [1, 2], "country": ["AT", None]}


@pytest.mark.parametrize(
    "make", [dict, pa.table, pl.DataFrame, lambda c: pd.DataFrame(c, dtype=object)]
)
def test_rows_in_every_form(script: Script, connect: Connect, make: Any) -> None:
    server = script(_answer)
    connect(server.address, timeout_s=30).push("users", make(ROWS))
    [(_, request, _)] = server.calls
    columns = PushRequest.FromString(request).columns
    assert columns["id"] == Values(int64s=[1, 2])
    assert columns["country"] == Values(strings=["AT", ""], nulls=b"\0\1")


@pytest.mark.parametrize(
    "lists",
    [
        [[1.5, 2.5], [], None],
        [(1.5, 2.5), (), None],
        [np.array([1.5, 2.5]), np.array([], np.float64), None],
        pl.Series([[1.5, 2.5], [], None]),
        pa.array([[1.5, 2.5], [], None]),
    ],
)
def test_rows_may_hold_lists(script: Script, connect: Connect, lists: Any) -> None:
    server = script(_answer)
    connect(server.address, timeout_s=30).push("users", {"scores": lists})
    [(_, request, _)] = server.calls
    assert PushRequest.FromString(request).columns["scores"] == Values(
        lists=Lists(lengths=[2, 0, 0], elements=Values(float64s=[1.5, 2.5])), nulls=b"\0\0\1"
    )


@pytest.mark.parametrize(
    ("rows", "fields"),
    [
        ({"a": [1, "x"]}, ["columns.a[1]"]),
        ({"a": [[1], 2]}, ["columns.a[1]"]),
        ({"a": [[1, 2], None, ["x"]]}, ["columns.a[2]"]),
        ({"a": [[[1]]]}, ["columns.a[0]"]),
        ({"a": [date(2024, 3, 5), object()]}, ["columns.a[1]"]),
        ([{"a": 1}, {"b": 1}], ["columns.a[1]", "columns.b[1]"]),
        ({"a": 1}, ["columns.a"]),
        ([], []),
        (7, []),
    ],
)
def test_what_cannot_be_pushed_is_refused_without_a_call(
    connect: Connect, rows: Any, fields: list[str]
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        connect(nobody()).push("users", rows)
    assert [violation.field for violation in caught.value.violations] == fields
    assert caught.value.code is None


@pytest.mark.parametrize(("append", "calls"), [(False, 5), (True, 1)])
def test_only_a_push_that_does_not_append_is_repeated(
    script: Script, connect: Connect, *, append: bool, calls: int
) -> None:
    def gone(_: bytes, context: Context) -> bytes:
        info = ErrorInfo(domain="featurestore", reason="ONLINE_STORE_UNAVAILABLE")
        return fail(context, grpc.StatusCode.UNAVAILABLE, "gone", info)

    server = script(gone)
    with pytest.raises(UnavailableError):
        connect(server.address, timeout_s=30).push("users", {"id": [1]}, append=append)
    assert len(server.calls) == calls


@pytest.mark.parametrize(("append", "calls"), [(False, 2), (True, 1)])
def test_an_append_that_may_have_arrived_is_not_repeated(
    script: Script, connect: Connect, *, append: bool, calls: int
) -> None:
    def die(_: bytes, __: Context) -> bytes:
        servers[0].server.stop(None)
        return REPLY.SerializeToString()

    servers = [script(die), script(_answer)]
    client = connect([server.address for server in servers], timeout_s=30)
    if append:
        with pytest.raises(UnavailableError):
            client.push("users", {"id": [1]}, append=True)
    else:
        client.push("users", {"id": [1]})
    assert sum(len(server.calls) for server in servers) == calls


def test_an_append_that_never_left_is_made_elsewhere(script: Script, connect: Connect) -> None:
    server = script(_answer)
    client = connect([nobody(), server.address], timeout_s=30, retry=RetryPolicy(attempts=1))
    assert client.push("users", {"id": [1]}, append=True).rows == 5
    assert len(server.calls) == 1
