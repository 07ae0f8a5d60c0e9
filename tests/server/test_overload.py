"""More requests than a server can answer, from a client that does not wait for answers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.service import LOOKUP_METHOD
from google.rpc.error_details_pb2 import RetryInfo

from benchmarks import grpc_server, load
from benchmarks.lookup import ask, frame
from featurestore.online.factory import open_store
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import ReadRequest
from tests.server import shop
from tests.server.calls import Dial, Failure, lookup
from tests.server.fixtures import Serve

SECONDS = float(os.environ.get("FEATURESTORE_OVERLOAD_SECONDS", "10"))
CALLER_WAITS_MS = 500
LEAST_GOODPUT = 0.8
LEAST_WITHOUT_THROTTLE = 0.6
"""At twice the capacity, of clients that send whatever they are asked for."""
ENTITIES = 100

SERVER = """
import json, sys
from pathlib import Path
from featurestore_server import ServeOptions, serve
options = json.loads(Path(sys.argv[1]).read_text())
serve(ServeOptions(address=f"127.0.0.1:{sys.argv[2]}", **options))
"""


@contextmanager
def _serving(folder: Path) -> Iterator[int]:
    """One worker over an LMDB store, on its own core where there are two; its port."""
    store = {"type": "lmdb", "path": str(folder / "online")}
    with closing(open_store("lmdb", path=folder / "online")) as filled:
        shop.fill(filled)
    options = folder / "options.json"
    catalog = shop.catalog().to_json()
    options.write_text(json.dumps({"catalog_json": catalog, "online_store": store}))

    def command(port: int) -> list[str]:
        return [sys.executable, "-c", SERVER, str(options), str(port)]

    service = LOOKUP_METHOD.split("/")[1]
    with grpc_server.serving(command, folder, service=service, core=0) as (_, port):
        yield port


def _under(job: str, port: int, folder: Path, **more: float) -> dict[str, Any]:
    """What the load generator reports, from a process of its own."""
    body, report = folder / "body", folder / f"{job}.json"
    request = lookup("checkout", user_id=Values(int64s=list(range(ENTITIES)))).SerializeToString()
    reply = ask(f"127.0.0.1:{port}", request)
    body.write_bytes(frame(request))
    arguments = {
        "port": port,
        "method": LOOKUP_METHOD,
        "body": str(body),
        "reply_bytes": len(reply),
        "seconds": SECONDS,
        "warmup_s": 1,
        **more,
    }
    command = [sys.executable, "-m", "benchmarks.load", job, json.dumps(arguments), str(report)]
    subprocess.run(command, check=True)
    found: dict[str, Any] = json.loads(report.read_text())
    return found


@pytest.mark.proof
def test_goodput_holds_under_overload(tmp_path: Path) -> None:
    with _serving(tmp_path) as port:
        job = "h2load" if load.h2load_is_installed() else "closed_loop"
        capacity = _under(job, port, tmp_path, seconds=int(SECONDS))["rate"]
        found = {
            (throttled, times): _under(
                "overload",
                port,
                tmp_path,
                rate=capacity * times,
                timeout_ms=CALLER_WAITS_MS,
                throttled=throttled,
            )
            for throttled in (True, False)
            for times in (1, 2, 5, 10)
        }
        recovered = _under("overload", port, tmp_path, rate=capacity / 2, timeout_ms=500)
    peak = max(capacity, *(each["good"] for each in found.values()))
    for (throttled, times), each in found.items():
        clients = "of our clients" if throttled else "of clients that send all"
        figures = {name: round(value, 1) for name, value in each.items()}
        print(f"{times:2}x of {capacity:.0f}/s {clients}: {each['good'] / peak:.0%} {figures}")  # noqa: T201
    assert found[True, 5]["good"] >= LEAST_GOODPUT * peak
    assert found[True, 10]["good"] >= LEAST_GOODPUT * peak
    assert found[False, 2]["good"] >= LEAST_WITHOUT_THROTTLE * peak
    assert recovered["good"] >= 0.99 * recovered["sent"]


class Slow(MemoryOnlineStore):
    """A store that takes a moment for each trip."""

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> list[list[bytes | None]]:
        if any(not key.startswith(b"\0") for request in requests for key in request.keys):
            time.sleep(0.03)
        return super().read(requests, until=until)


def test_a_server_that_is_asked_for_more_than_it_can_do_says_so_early(
    serve: Serve, dial: Dial
) -> None:
    # Each of many callers asks again as soon as it has an answer; one thread answers them.
    store = Slow()
    shop.fill(store)
    channel = dial(serve(shop.catalog(), store, threads=1))
    stub = ServingServiceStub(channel)
    request = lookup("checkout", user_id=Values(int64s=[1]))
    refused: list[Failure] = []
    answered: list[int] = []
    end = time.monotonic() + 2

    def ask(_: int) -> None:
        while time.monotonic() < end:
            try:
                answered.append(len(stub.GetOnlineFeatures(request, timeout=20).features))
            except grpc.RpcError as error:
                refused.append(Failure(error))
                time.sleep(0.05)

    with ThreadPoolExecutor(120) as callers:
        list(callers.map(ask, range(120)))
    reasons = [failure.reason for failure in refused if failure.code.name == "UNAVAILABLE"]
    assert "OVERLOADED" in reasons
    first = next(failure for failure in refused if failure.code.name == "UNAVAILABLE")
    assert first.detail(RetryInfo).retry_delay.ToMilliseconds() > 0
    assert answered
    time.sleep(0.5)
    for _ in range(5):  # it is over
        assert stub.GetOnlineFeatures(request, timeout=20).features
