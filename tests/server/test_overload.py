"""More requests than a server can answer, from a client that does not wait for answers."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.service import LOOKUP_METHOD

from benchmarks import grpc_server, load
from benchmarks.lookup import ask, frame
from featurestore.online.factory import open_store
from tests.server import shop
from tests.server.calls import lookup

SECONDS = float(os.environ.get("FEATURESTORE_OVERLOAD_SECONDS", "5"))
CALLER_WAITS_MS = 500
LEAST_GOODPUT = 0.8
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
            times: _under(
                "overload", port, tmp_path, rate=capacity * times, timeout_ms=CALLER_WAITS_MS
            )
            for times in (1, 2, 5, 10)
        }
        recovered = _under("overload", port, tmp_path, rate=capacity / 2, timeout_ms=500)
    peak = max(capacity, *(each["good"] for each in found.values()))
    for times, each in found.items():
        figures = {name: round(value, 1) for name, value in each.items()}
        print(f"{times:2}x of {capacity:.0f}/s: {each['good'] / peak:.0%} of the peak {figures}")  # noqa: T201
    assert found[5]["good"] >= LEAST_GOODPUT * peak
    assert recovered["good"] >= 0.99 * recovered["sent"]
