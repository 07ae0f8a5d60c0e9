"""A server as operators watch it: its metrics and its log, and calls that both tell of."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from featurestore.definitions import FeatureService
from featurestore.store import FeatureStore
from tests.unit.projects import FILE, NOW, rows, view, write

from .calls import lookup

PATIENCE_S = 60
PROGRAM = str(Path(sys.executable).with_name("featurestore"))
METHOD = "/featurestore.v1.ServingService/GetOnlineFeatures"
Found = TypeVar("Found")


def make_repository(root: Path, settings: str = "") -> None:
    """A project "plant" with a service "all" of x, for k = 1, 2 and 3; x of 3 is null."""
    write(root / FILE, rows(3, x=[1.0, 2.0, None]))
    (root / "feature_store.yaml").write_text(f"project: plant\nclock: {NOW}\n{settings}")
    with FeatureStore(root) as store:
        store.apply([FeatureService(name="all", features=[view()])])
        store.materialize()


@dataclass
class Observed:
    """A running server."""

    process: "subprocess.Popen[str]"
    ready: Mapping[str, Any]
    log: Path
    channel: grpc.Channel = field(init=False)

    def __post_init__(self) -> None:
        self.channel = grpc.insecure_channel(self.ready["address"])
        self.stub = ServingServiceStub(self.channel)

    def ask(self, service: str, *keys: int, **options: Any) -> Any:
        """Look up entities; what fails is returned."""
        request = lookup(service, k=Values(int64s=keys))
        try:
            return self.stub.GetOnlineFeatures(
                request, timeout=PATIENCE_S, wait_for_ready=True, **options
            )
        except grpc.RpcError as error:
            return error

    def scrape(self, path: str = "/metrics") -> str:
        url = f"http://{self.ready['metrics_address']}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as reply:
            text: str = reply.read().decode()
            return text

    def families(self) -> dict[str, Metric]:
        """What a scrape says, by the names that queries use."""
        return families_in(self.scrape())

    def value(self, name: str, **labels: str) -> float:
        """One sample; 0 if there is none with these labels."""
        samples = (s for family in self.families().values() for s in family.samples)
        return sum(s.value for s in samples if s.name == name and s.labels == labels)

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def families_in(text: str) -> dict[str, Metric]:
    """Metrics by name: a counter's ends with _total."""
    found = text_string_to_metric_families(text)
    return {f"{f.name}_total" if f.type == "counter" else f.name: f for f in found}


@contextmanager
def observed(root: Path, *options: str, **environment: str) -> Iterator[Observed]:
    """Serve the repository, with metrics."""
    command = [PROGRAM, "--json", "serve", "--address", "127.0.0.1:0", *options]
    settings = {"FEATURESTORE_SERVER__METRICS_ADDRESS": "127.0.0.1:0", **environment}
    log = root / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | settings,
        )
    assert process.stdout is not None
    try:
        server = Observed(process, json.loads(_document(process)), log)
        with server.channel:
            yield server
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def _document(process: "subprocess.Popen[str]") -> str:
    """The JSON with which a server says that it is ready, which ends with a line of its own."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    return "".join(lines)


def wait_for(condition: Callable[[], Found]) -> Found:
    """Wait until something is true, and return it: workers report once a second."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
