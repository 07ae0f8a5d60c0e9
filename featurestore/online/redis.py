"""Redis or Valkey as a store: one string per row, compared and written by a script in the server.

A row's key is the table's digest and, in braces, the entity bytes: `0123456789A{...}`. On a cluster
the braces put all rows of one entity on one node. A hash per project, the catalogue, tells which
table a digest stands for.
"""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, Unpack

from featurestore.errors import ConfigError, StoreUnavailableError
from featurestore.online.redis_address import RedisOptions, read_address
from featurestore.online.redis_checks import check_sentinels, check_server
from featurestore.online.redis_commands import (
    ROWS_PER_CALL,
    SCRIPT,
    add_commands,
    catalogue_key,
    chosen_rows,
    chunks_of,
    label_command,
    part_of,
    row_prefix,
    script_command,
)
from featurestore.online.redis_connection import Channel, Connections, NoScriptError
from featurestore.online.redis_patience import patiently
from featurestore.online.redis_reads import pack_reads
from featurestore.online.redis_replies import expected_reply
from featurestore.online.redis_sentinel import Sentinels, primary_server
from featurestore.online.store import (
    Capabilities,
    EncodedRows,
    Finding,
    Pace,
    ReadRequest,
    TableId,
    WriteCounts,
)
from featurestore.online.tables import check_rows, read_label, table_digest

FIRST_CALLS: Final = 4
"""Calls sent before the first is answered."""
CALLS_UNDER_WAY: Final = 16
"""Calls sent ahead later on: a thread that encodes rows may keep the interpreter for milliseconds,
and the server should not wait meanwhile."""
KEYS_PER_READ: Final = 10_000
MANY_KEYS: Final = 32
"""So many values cost more to take apart than to find out that they need not be."""
KEYS_PER_SCAN: Final = 1_000

_MAX_SCRIPT_LOADS: Final = 3


class RedisOnlineStore:
    """Rows in a Redis (6.2 or newer) or Valkey server, or in the primary that Sentinels name.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://...` for TLS, `unix://...`, or
            `redis+sentinel://host:26379,host:26379/name`.
        options: How to reach it.

    Raises:
        ConfigError: URL or options cannot be used.
        MissingExtraError: On import, when the client is not installed.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(shared=True, expires=True)

    def __init__(self, url: str, **options: Unpack[RedisOptions]) -> None:
        self._address = address = read_address(url, options)
        if address.kind == "cluster":
            raise ConfigError("A cluster is opened with RedisClusterOnlineStore.")
        self._sentinels = Sentinels(address) if address.kind == "sentinel" else None
        server = address.servers[0]
        if self._sentinels:
            server = primary_server(address, self._sentinels)
        self._connections = Connections(server)
        self._failover_s = address.options["failover_timeout_ms"] / 1000
        self._wait = address.options["wait_replicas"], address.options["wait_timeout_ms"]
        self._script_id = b""

    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        """Store rows, atomically one by one; see `OnlineStore.write`."""
        check_rows(table, rows)
        if not rows.keys:
            return WriteCounts(written=0, kept=0)
        if self._sentinels is None:
            try:
                return self._write_once(table, rows, overwrite=overwrite)
            except StoreUnavailableError:
                self._look_anew()
                raise
        # Rows that were written already are written again: a row replaces its equal.
        return patiently(
            lambda: self._write_once(table, rows, overwrite=overwrite),
            wait_s=self._failover_s,
            before_another=self._look_anew,
        )

    def _write_once(self, table: TableId, rows: EncodedRows, *, overwrite: bool) -> WriteCounts:
        prefix, offered, added = row_prefix(table), len(rows.keys), 0
        with self._connections.channel() as channel:
            channel.send_ahead(label_command(table))
            if not overwrite and offered > ROWS_PER_CALL:
                added, rows = _add(channel, prefix, rows)
            written = added + self._write(channel, prefix, rows, b"1" if overwrite else b"0")
            channel.wait(*self._wait)
        return WriteCounts(written=written, kept=offered - written)

    def _look_anew(self) -> None:
        """Forget what may not hold for another primary, or for a server that was started again."""
        self._connections.drop_idle()
        self._script_id = b""

    def _write(self, channel: Channel, prefix: bytes, rows: EncodedRows, option: bytes) -> int:
        chunks = chunks_of(rows.values)
        counts: list[int] = []
        loads = 0
        while len(counts) < len(chunks):
            if loads or not self._script_id:
                self._script_id = channel.call("SCRIPT", "LOAD", SCRIPT)
            if loads == _MAX_SCRIPT_LOADS:
                message = f"Redis at {self._connections.address} keeps dropping scripts."
                raise StoreUnavailableError(message, hint="try again; writing again does no harm")
            loads += 1
            counts += self._run(channel, prefix, rows, option, chunks[len(counts) :])
        return sum(counts)

    def _run(
        self, channel: Channel, prefix: bytes, rows: EncodedRows, option: bytes, chunks: list[slice]
    ) -> list[int]:
        """Return how many rows each call wrote, up to the first that did not find the script.

        Later calls may have found it, because somebody else loaded it: they are made again, as the
        rows of one write are applied in order.
        """
        counts: list[int | None] = []
        for sent, chunk in enumerate(chunks):
            part = part_of(rows, chunk)
            channel.send_packed(script_command(self._script_id, prefix, part, option))
            if sent >= CALLS_UNDER_WAY:
                counts.append(_script_reply(channel))
        while len(counts) < len(chunks):
            counts.append(_script_reply(channel))
        done: list[int] = []
        for count in counts:
            if count is None:
                break
            done.append(count)
        return done

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> Sequence[Sequence[bytes | None]]:
        """Return the values of each request in one round trip; see `OnlineStore.read`."""
        packed, commands = pack_reads(requests, most_keys=KEYS_PER_READ)
        if not commands:
            return [[] for _ in requests]
        is_worth_it = commands == 1 and sum(len(r.keys) for r in requests) >= MANY_KEYS
        shape = expected_reply(requests) if is_worth_it else None
        reply = self._connections.read_all(packed, commands, shape, until=until)
        if isinstance(reply, bytearray):
            return shape.rows(reply) if shape else []
        values = _joined(reply)
        found: list[list[bytes | None]] = []
        start = 0
        for request in requests:
            found.append(values[start : start + len(request.keys)])
            start += len(request.keys)
        return found

    def _get(self, keys: list[bytes]) -> list[bytes | None]:
        starts = range(0, len(keys), KEYS_PER_READ)
        replies = self._connections.call_all(
            [("MGET", *keys[start : start + KEYS_PER_READ]) for start in starts]
        )
        return _joined(replies)

    def scan(
        self, table: TableId, *, batch_rows: int = 1000
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield all rows; see `OnlineStore.scan`. Looks at every key of the database.

        The keys seen are kept in memory, because the server may report one several times.
        """
        start = len(row_prefix(table))
        waiting: list[bytes] = []
        for keys in self._scan_keys(table):
            waiting += keys
            while len(waiting) >= batch_rows:
                yield self._with_values(waiting[:batch_rows], start)
                waiting = waiting[batch_rows:]
        if waiting:
            yield self._with_values(waiting, start)

    def _with_values(self, keys: list[bytes], start: int) -> list[tuple[bytes, bytes]]:
        pairs = zip(keys, self._get(keys), strict=True)
        return [(key[start:-1], value) for key, value in pairs if value is not None]

    def _scan_keys(self, table: TableId) -> Iterator[list[bytes]]:
        prefix = row_prefix(table)
        seen: set[bytes] = set()
        cursor: Any = b"0"
        # One connection for all of it, which ends with its server: a cursor of that one means
        # nothing to the next, nor to the same one started again.
        with self._connections.channel() as channel:
            while True:
                cursor, keys = channel.call(
                    "SCAN", cursor, "MATCH", prefix + b"*", "COUNT", KEYS_PER_SCAN
                )
                # What the pattern means is the server's affair; what belongs to a table is ours.
                ours = {k for k in keys if k.startswith(prefix) and k.endswith(b"}")} - seen
                seen |= ours
                if ours:
                    yield list(ours)
                if int(cursor) == 0:
                    return

    def count(self, table: TableId) -> int:
        """Return how many rows a table holds, tombstones included. Looks at every key."""
        return sum(map(len, self._scan_keys(table)))

    def drop(self, table: TableId, *, pace: Pace | None = None) -> int:
        """Delete a table's rows and return how many there were. Looks at every key."""
        dropped = 0
        for keys in self._scan_keys(table):
            deleted = self._change("UNLINK", *keys)
            dropped += deleted
            if pace is not None and deleted:
                pace(deleted)
        self._change("HDEL", catalogue_key(table.project), table_digest(table))
        return dropped

    def _change(self, *command: str | bytes | int) -> Any:
        """Return the reply to a command, once so many replicas have what it changed."""
        with self._connections.channel() as channel:
            reply = channel.call(*command)
            channel.wait(*self._wait)
        return reply

    def tables(self, project: str) -> list[TableId]:
        """Return the tables of a project; see `OnlineStore.tables`."""
        labels = self._connections.call("HVALS", catalogue_key(project))
        return [read_label(label) for label in labels]

    def check(self) -> list[Finding]:
        """Return the state of all servers: version, memory, eviction, persistence, clock."""
        if self._sentinels:
            return check_sentinels(self._connections, self._sentinels, self._address)
        return check_server(self._connections, self._address)

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()
        if self._sentinels:
            self._sentinels.close()


def _joined(replies: list[list[bytes | None]]) -> list[bytes | None]:
    return replies[0] if len(replies) == 1 else [value for reply in replies for value in reply]


def _add(channel: Channel, prefix: bytes, rows: EncodedRows) -> tuple[int, EncodedRows]:
    """Write rows whose keys are free, as long as most of them are.

    A row that is newest because it is the only one needs no script to say so, and `SET NX` makes
    sure of it in one step: 1.5 times as fast.

    Returns:
        How many rows were written, and the others: those whose keys are taken, and those that were
        not tried.
    """
    chunks, taken = chunks_of(rows.values), list[int]()
    sent = answered = 0
    last = len(chunks)
    while answered < last:
        if sent < last and sent - answered < min(CALLS_UNDER_WAY, FIRST_CALLS + answered):
            channel.send_packed(add_commands(prefix, part_of(rows, chunks[sent])))
            sent += 1
            continue
        chunk = range(len(rows.keys))[chunks[answered]]
        found = [row for row in chunk if channel.receive() is None]
        taken += found
        answered += 1
        if len(found) > len(chunk) // 2:
            last = sent
    untried = range(chunks[last].start if last < len(chunks) else len(rows.keys), len(rows.keys))
    others = chosen_rows(rows, [*taken, *untried])
    return len(rows.keys) - len(others.keys), others


def _script_reply(channel: Channel) -> int | None:
    try:
        return int(channel.receive())
    except NoScriptError:
        return None
