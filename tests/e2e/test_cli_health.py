"""`featurestore health` against a gRPC server that says what a test wants."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from featurestore.cli import exits

from .command_line import Repository, make_repository

SERVICE = "featurestore.v1.ServingService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_repository(tmp_path_factory.mktemp("health") / "repo")


@pytest.fixture
def servicer() -> health.HealthServicer:
    return health.HealthServicer()


@pytest.fixture
def port(servicer: health.HealthServicer) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    found = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield found
    server.stop(None).wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - it is only asked
def test_a_server_that_takes_calls_is_healthy(repo: Repository, port: int, host: str) -> None:
    asked = repo.succeed("health", "--address", f"{host}:{port}")
    assert asked.out == f"SERVING: 127.0.0.1:{port}\n"


def test_a_service_that_takes_no_calls_is_not(
    repo: Repository, servicer: health.HealthServicer, port: int
) -> None:
    servicer.set(SERVICE, NOT_SERVING)
    address = f"127.0.0.1:{port}"
    asked = repo.run("health", "--address", address, "--service", SERVICE)
    assert (asked.code, asked.out) == (exits.ERROR, f"NOT_SERVING: {SERVICE} at {address}\n")
    assert repo.run("health", "--address", address).code == exits.OK
    servicer.set(SERVICE, SERVING)
    assert repo.run("health", "--address", address, "--service", SERVICE).code == exits.OK


def test_a_service_that_nobody_has_is_unknown(repo: Repository, port: int) -> None:
    asked = repo.run("health", "--address", f"127.0.0.1:{port}", "--service", "no.Such")
    assert (asked.code, asked.out.split(":")[0]) == (exits.ERROR, "SERVICE_UNKNOWN")


def test_where_nobody_listens_there_is_no_health(repo: Repository, tmp_path: Path) -> None:
    asked = repo.run("health", "--address", f"unix:{tmp_path}/s", "--timeout", "1", "--json")
    assert asked.code == exits.ERROR
    assert asked.document["status"] == "UNREACHABLE"
    assert asked.document["detail"] in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}


def test_the_address_is_that_of_the_repository(
    repo: Repository, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURESTORE_SERVER__ADDRESS", f"127.0.0.1:{port}")
    assert repo.succeed("health", "--json").document == {
        "schema_version": 1,
        "address": f"127.0.0.1:{port}",
        "service": "",
        "status": "SERVING",
        "detail": "",
    }
