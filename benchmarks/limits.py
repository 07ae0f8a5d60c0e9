"""The limits: what the machine does with the same data when nothing is computed.

python -m benchmarks.limits JOB ARGUMENTS_JSON REPORT_PATH
"""

from __future__ import annotations

import random
import socket
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from benchmarks import calls
from benchmarks.data import parquet, quiet_duckdb
from benchmarks.errors import WrongAnswerError
from benchmarks.job import serve_jobs
from benchmarks.process import own_peak_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PAIRS_A_COMMAND = 500
COMMANDS_A_TRIP = 20
BARE_REQUESTS = 64
OK = b"+OK\r\n"
Item = TypeVar("Item")
ReadRows: TypeAlias = "Callable[[Sequence[bytes]], list[bytes | None]]"


def scan(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read every needed column of the history, write as many rows as the spine has.

    The rows are those of every ``one_in``-th key: of each vector of rows some are kept, so that no
    column of it can be left unread, and that part of the history is as long as the spine.
    """
    import_module("pyarrow")  # outside of the timing: DuckDB does it at its first result
    view = arguments["views"][0]
    source = parquet(Path(view["history"]))
    columns = ", ".join(["user_id", "event_timestamp", *view["features"]])
    query = f"SELECT {columns} FROM {source} WHERE user_id % {arguments['one_in']} = 0"  # noqa: S608
    target = arguments["target"]
    with quiet_duckdb() as connection:
        started = time.perf_counter()
        if target:
            connection.sql(query).write_parquet(target)
        else:
            connection.sql(query).to_arrow_table()
        return {"seconds": time.perf_counter() - started, "peak_mb": own_peak_mb()}


def mset(arguments: dict[str, Any]) -> dict[str, Any]:
    """Store prepared keys and values with pipelined MSET commands: no comparison, no encoding."""
    import pyarrow as pa

    with pa.OSFile(arguments["pairs"]) as file:
        table = pa.ipc.open_file(file).read_all()
    pairs = list(zip(table["key"].to_pylist(), table["value"].to_pylist(), strict=True))
    commands = [_mset_command(group) for group in _groups(pairs, PAIRS_A_COMMAND)]
    trips = [(b"".join(group), len(group)) for group in _groups(commands, COMMANDS_A_TRIP)]
    host, _, port = arguments["redis"].partition(":")
    with socket.create_connection((host, int(port))) as connection:
        started = time.perf_counter()
        for commands_bytes, count in trips:
            connection.sendall(commands_bytes)
            _read_oks(connection, count)
        return {"seconds": time.perf_counter() - started}


def _groups(items: Sequence[Item], length: int) -> Iterator[Sequence[Item]]:
    return (items[first : first + length] for first in range(0, len(items), length))


def _mset_command(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    words = [b"MSET", *(word for pair in pairs for word in pair)]
    parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)]
    return b"".join(parts)


def _read_oks(connection: socket.socket, count: int) -> None:
    wanted = OK * count
    answer = b""
    while len(answer) < len(wanted):
        answer += connection.recv(65_536)
        if not wanted.startswith(answer):
            raise RuntimeError(f"Redis answered {answer[:200]!r}")


def bare_rows(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read so many stored rows by their keys, from everywhere, with the store's own client."""
    keys, read = _bare_redis(arguments) if arguments["redis"] else _bare_lmdb(arguments)
    random.Random(7).shuffle(keys)  # noqa: S311 - no secret
    requests = list(_groups(keys, arguments["rows"]))[:BARE_REQUESTS]
    if None in read(requests[0]):
        raise WrongAnswerError("A row that is there was not found.")
    return calls.timed(read, requests, arguments["seconds"])


def _bare_redis(arguments: dict[str, Any]) -> tuple[list[bytes], ReadRows]:
    import redis

    host, _, port = arguments["redis"].partition(":")
    client = redis.Redis(host=host, port=int(port))
    keys = [key for key in client.scan_iter(count=10_000) if key.endswith(b"}")]
    return keys, lambda wanted: client.execute_command("MGET", *wanted)  # type: ignore[no-untyped-call]


def _bare_lmdb(arguments: dict[str, Any]) -> tuple[list[bytes], ReadRows]:
    import lmdb

    environment = lmdb.open(f"{arguments['repository']}/data/online", readonly=True)
    with environment.begin() as transaction:
        keys = [key for key in transaction.cursor().iternext(values=False) if key[:1] == b"r"]

    def read(wanted: Sequence[bytes]) -> list[bytes | None]:
        with environment.begin() as transaction:
            return list(map(transaction.get, wanted))

    return keys, read


JOBS = {job.__name__: job for job in (scan, mset, bare_rows)}

if __name__ == "__main__":
    serve_jobs(JOBS)
