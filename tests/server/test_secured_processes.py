"""`featurestore serve` with keys and TLS: what is made and revoked while it runs."""

import http.client
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values

from featurestore.definitions import FeatureService
from featurestore.store import FeatureStore
from tests.certificates import Authority
from tests.forked import REAL
from tests.servers import workers_of
from tests.unit.projects import FILE, NOW, rows, view, write

from .calls import lookup

PATIENCE_S = 60
REQUEST = lookup("all", k=Values(int64s=[2]))
PAUSE_S = 0.002
"""Between two calls of a client: some hundred calls a second leave the server time to change."""
KEYS = "auth: api_keys, access_log: true, reload_every_ms: 50, backend: false"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    write(tmp_path / FILE, rows(3))
    configure(tmp_path, f"workers: 2, {KEYS}")
    with FeatureStore(tmp_path) as opened:
        opened.apply([FeatureService(name="all", features=[view()])])
        opened.materialize()
        yield opened


def configure(root: Path, server: str) -> None:
    text = f"project: plant\nclock: {NOW}\nserver: {{{server}}}\n"
    (root / "feature_store.yaml").write_text(text)


class Server:
    """A server process, and what it wrote to standard error by now."""

    def __init__(self, root: Path, program: str | Path, address: str) -> None:
        command = [program, "serve", "--json", "--address", address]
        self._process = subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._process.stdout is not None
        said = ""
        while "\n}" not in said:
            line = self._process.stdout.readline()
            assert line, "".join(self.log)
            said += line
        self.ready: dict[str, Any] = json.loads(said)
        self.port = self.ready["address"].rpartition(":")[2]

    def _read(self) -> None:
        assert self._process.stderr is not None
        self.log.extend(self._process.stderr)

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(PATIENCE_S) == 0
        self._reader.join(PATIENCE_S)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        return [json.loads(line) for line in self.log if line.startswith("{")]


@contextmanager
def serving(
    root: Path, program: str | Path = REAL, address: str = "127.0.0.1:0"
) -> Iterator[Server]:
    server = Server(root, program, address)
    try:
        yield server
    finally:
        server.stop()


class Client:
    """Asks again and again with one key, and counts what it is told."""

    def __init__(self, server: Server, token: str | None) -> None:
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1)]
        )
        self._stub = ServingServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.outcomes: list[str] = []

    def _ask(self) -> None:
        while not self._stop.wait(PAUSE_S):
            try:
                self._stub.GetOnlineFeatures(
                    REQUEST, metadata=self._metadata, timeout=PATIENCE_S, wait_for_ready=True
                )
                self.outcomes.append("OK")
            except grpc.RpcError as error:
                self.outcomes.append(error.code().name)

    def wait_for(self, outcome: str) -> None:
        wait_until(lambda: self.outcomes[-1:] == [outcome])

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._channel.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_revoked_key_ends_and_no_other_call_does(store: FeatureStore, forked: Path) -> None:
    stays = store.api_keys.create("stays", roles=["read_online"], services=["all"])
    ends = store.api_keys.create("ends", roles=["read_online"])
    with serving(store.config.root, forked) as server:
        assert server.ready["asks_for_keys"] is True
        with (
            Client(server, stays.token) as one,
            Client(server, stays.token) as two,
            Client(server, ends.token) as revoked,
        ):
            for client in (one, two, revoked):
                client.wait_for("OK")
            store.api_keys.revoke("ends")
            revoked.wait_for("UNAUTHENTICATED")
            made = store.api_keys.create("later", roles=["read_online"])
            with Client(server, made.token) as later:
                later.wait_for("OK")
            asked = len(one.outcomes)
            wait_until(lambda: len(one.outcomes) > asked + 20)
    assert set(one.outcomes) | set(two.outcomes) == {"OK"}
    first = revoked.outcomes.index("UNAUTHENTICATED")
    # Workers hear of it one after the other, and a client talks to one of them.
    assert set(revoked.outcomes[:first]) == {"OK"}
    assert set(revoked.outcomes[first:]) == {"UNAUTHENTICATED"}
    assert min(len(client.outcomes) for client in (one, two, revoked)) > 20
    told = {line["caller"] for line in server.calls if line["status"] == "OK"}
    assert told == {"stays", "ends", "later"}
    assert {line["key_id"] for line in server.calls if line["cause"] == "revoked key"} == {
        ends.record.id
    }
    log = "".join(server.log)
    for key in (stays, ends, made):
        assert str(key.token).split("_", 2)[2] not in log  # a secret may have "_" itself


def test_every_call_is_a_line_of_the_access_log(store: FeatureStore, forked: Path) -> None:
    key = store.api_keys.create("web", roles=["read_online"])
    with serving(store.config.root, forked) as server, Client(server, key.token) as client:
        wait_until(lambda: len(client.outcomes) > 200)
    assert [line["status"] for line in server.calls] == client.outcomes
    assert {line["entities"] for line in server.calls} == {1}
    assert all(len(line["request_id"]) == 16 for line in server.calls)
    assert len({line["request_id"] for line in server.calls}) == len(client.outcomes)


def test_successors_of_workers_know_the_keys_of_today(store: FeatureStore) -> None:
    configure(store.config.root, f"workers: 1, {KEYS}")
    ends = store.api_keys.create("ends", roles=["read_online"])
    with serving(store.config.root) as server, Client(server, ends.token) as client:
        client.wait_for("OK")
        store.api_keys.revoke("ends")
        client.wait_for("UNAUTHENTICATED")
        [worker] = workers_of(server.pid)
        worker.kill()
        wait_until(lambda: client.outcomes[-1] != "UNAUTHENTICATED" or not worker.is_running())
        asked = len(client.outcomes)
        wait_until(lambda: client.outcomes[asked + 1 :].count("UNAUTHENTICATED") > 5)
        assert "OK" not in client.outcomes[asked:]


def test_nobody_may_call_a_server_without_keys(store: FeatureStore, forked: Path) -> None:
    with serving(store.config.root, forked) as server, Client(server, "fs_x") as client:
        client.wait_for("UNAUTHENTICATED")
    assert any("no keys yet" in line for line in server.log)


def test_a_certificate_lets_its_owner_in_over_an_address_for_all(
    store: FeatureStore, tmp_path: Path, forked: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("server", "DNS:localhost")
    files = f"certificate: {certificate}, key: {key}, client_ca: {authority.certificate}"
    tls = f'http_address: "127.0.0.1:0", tls: {{{files}}}'
    configure(store.config.root, f"workers: 2, {tls}, {KEYS}")
    store.api_keys.create("ada", roles=["read_online"], certificate="ada.example")

    def ask(name: str) -> str:
        own, own_key = authority.sign(name, f"DNS:{name}")
        credentials = grpc.ssl_channel_credentials(
            authority.certificate.read_bytes(), own_key.read_bytes(), own.read_bytes()
        )
        with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
            try:
                ServingServiceStub(channel).GetOnlineFeatures(REQUEST, timeout=PATIENCE_S)
            except grpc.RpcError as error:
                return str(error.code().name)
        return "OK"

    with serving(store.config.root, forked, "0.0.0.0:0") as server:
        assert (server.ready["encrypts"], server.ready["asks_for_keys"]) == (True, True)
        assert ask("ada.example") == "OK"
        assert ask("eve.example") == "UNAUTHENTICATED"
        assert over_http(server, authority, "ada.example") == 200
        assert over_http(server, authority, "eve.example") == 401
    assert [(line["caller"], line["cause"]) for line in server.calls] == [
        ("ada", ""),
        ("", "unknown certificate"),
    ] * 2


def over_http(server: Server, authority: Authority, name: str) -> int:
    """Look up with a certificate; the status."""
    how = ssl.create_default_context(cafile=authority.certificate)
    how.load_cert_chain(*authority.sign(name, f"DNS:{name}"))
    port = int(server.ready["http_address"].rpartition(":")[2])
    connection = http.client.HTTPSConnection("localhost", port, context=how, timeout=PATIENCE_S)
    body = json.dumps({"feature_service": "all", "entities": {"k": [2]}})
    headers = {"Content-Type": "application/json"}
    try:
        connection.request("POST", "/v1/online-features", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_log_that_nobody_reads_holds_up_no_call(store: FeatureStore, forked: Path) -> None:
    key = store.api_keys.create("web", roles=["read_online"])
    process = subprocess.Popen(
        [forked, "serve", "--json", "--address", "127.0.0.1:0"],
        cwd=store.config.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # a pipe of 64 KiB, which nobody empties
        text=True,
    )
    assert process.stdout is not None
    try:
        said = ""
        while "\n}" not in said:
            said += process.stdout.readline()
        port = json.loads(said)["address"].rpartition(":")[2]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = ServingServiceStub(channel)
            for _ in range(1_000):  # of about 300 bytes each
                metadata = (("authorization", f"Bearer {key.token}"),)
                stub.GetOnlineFeatures(REQUEST, metadata=metadata, timeout=PATIENCE_S)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
