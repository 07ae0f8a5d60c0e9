"""Redis Cluster or Valkey Cluster as a store: the same keys and values as in one server.

A row's slot is that of its entity. What is written goes slot by slot through the script of the
single server, all nodes at the same time; rows whose keys are free go there one by one, which is
faster and needs no slots.
"""

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, Unpack

from featurestore.errors import ConfigError
from featurestore.online.redis_address import RedisOptions, read_address
from featurestore.online.redis_checks import check_cluster
from featurestore.online.redis_commands import (
    BYTES_PER_CALL,
    ROWS_PER_CALL,
    SCRIPT,
    add_commands,
    catalogue_key,
    chosen_rows,
    label_command,
    packed,
    row_prefix,
    script_command,
)
from featurestore.online.redis_lanes import Lane, Piece, exchange
from featurestore.online.redis_nodes import Nodes
from featurestore.online.redis_routes import Keyed, Moving, Routes
from featurestore.online.redis_slots import Place, key_slot, row_slots
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

KEYS_PER_SCAN: Final = 1_000
MAX_SCANS: Final = 5
"""So often a table is looked through again because slots moved meanwhile."""
FIRST_PIECES: Final = 2
_SCRIPT_ID: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest().encode()
_LOAD: Final = packed(b"SCRIPT", b"LOAD", SCRIPT.encode())


class RedisClusterOnlineStore:
    """Rows in a Redis (6.2 or newer) or Valkey cluster.

    Args:
        url: `redis+cluster://user:password@host:6379,host:6379`, or `rediss+cluster://` for TLS;
            any nodes of the cluster will do.
        options: How to reach it.

    Raises:
        ConfigError: URL or options cannot be used.
        MissingExtraError: On import, when the client is not installed.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(shared=True, expires=True)

    def __init__(self, url: str, **options: Unpack[RedisOptions]) -> None:
        self._address = address = read_address(url, options)
        if address.kind != "cluster":
            raise ConfigError("The URL is not one of a cluster.", hint="write redis+cluster://")
        given = address.options
        self._read_s = given["timeout_ms"] / 1000
        self._write_s = given["failover_timeout_ms"] / 1000
        self._nodes = Nodes(address)
        self._routes = Routes(
            self._nodes,
            timeout_ms=given["timeout_ms"],
            script=_LOAD,
            wait=(given["wait_replicas"], given["wait_timeout_ms"]),
        )

    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        """Store rows, atomically one by one; see `OnlineStore.write`."""
        check_rows(table, rows)
        if not rows.keys:
            return WriteCounts(written=0, kept=0)
        until = time.monotonic() + self._write_s
        prefix, offered = row_prefix(table), len(rows.keys)
        slots = row_slots(prefix, rows.keys)
        label = Keyed(key_slot(catalogue_key(table.project)), label_command(table))
        left: Sequence[int] = range(offered)
        labels = [label]
        if not overwrite and offered > ROWS_PER_CALL:
            beside = self._lanes_of(label)
            left = self._add(prefix, rows, slots, beside)
            labels = [] if any(map(_is_well, beside)) else [label]
        offer = _Offer(prefix, rows, b"1" if overwrite else b"0")
        written = offered - len(left) + self._write(offer, left, slots, labels, until)
        return WriteCounts(written=written, kept=offered - written)

    def _lanes_of(self, command: Keyed) -> list[Lane]:
        """Return a lane for one command; none while nobody has its slot."""
        place = self._nodes.slots().owners[command.slot]
        return [self._routes.offer(place, [Piece(command.packed, 1)])] if place else []

    def _add(
        self, prefix: bytes, rows: EncodedRows, slots: Sequence[int], beside: list[Lane]
    ) -> list[int]:
        """Write rows whose keys are free, if most of the first ones are.

        Args:
            prefix: That of their keys.
            rows: All rows.
            slots: Of each row.
            beside: What goes out at the same time.

        Returns:
            The positions of the others: those whose keys are taken, those that were not tried, and
            all of a slot of which any failed, as the rows of a key have to be applied in order.
        """
        owners = self._nodes.slots().owners
        lanes: dict[Place | None, list[int]] = defaultdict(list)
        for position, slot in enumerate(slots):
            lanes[owners[slot]].append(position)
        others = lanes.pop(None, [])
        first = FIRST_PIECES * ROWS_PER_CALL
        failed: set[int] = set()
        begun = {p: positions[:first] for p, positions in lanes.items() if p}
        taken = self._add_some(prefix, rows, begun, failed, beside)
        rest = {p: positions[first:] for p, positions in lanes.items() if p}
        if 2 * (len(taken) + len(failed)) <= sum(min(first, len(p)) for p in lanes.values()):
            taken += self._add_some(prefix, rows, rest, failed)
        else:
            others += [position for positions in rest.values() for position in positions]
        doubtful = {slots[position] for position in failed}
        if doubtful:
            taken += [position for position, slot in enumerate(slots) if slot in doubtful]
        return sorted({*others, *taken})

    def _add_some(
        self,
        prefix: bytes,
        rows: EncodedRows,
        lanes: dict[Place, list[int]],
        failed: set[int],
        beside: Sequence[Lane] = (),
    ) -> list[int]:
        """Return which rows were not written because their keys are taken; note which failed."""
        sent = []
        for place, positions in lanes.items():
            starts = range(0, len(positions), ROWS_PER_CALL)
            parts = [positions[start : start + ROWS_PER_CALL] for start in starts]
            pieces = [Piece(add_commands(prefix, chosen_rows(rows, p)), len(p)) for p in parts]
            sent.append((self._routes.offer(place, pieces), positions))
        exchange([*(lane for lane, _ in sent), *beside])
        taken: list[int] = []
        for lane, positions in sent:
            answers = (answer for answers in lane.answers for answer in answers)
            for position, answer in zip(positions, answers, strict=True):
                if answer is None:
                    taken.append(position)
                elif isinstance(answer, Exception):
                    failed.add(position)
        return taken

    def _write(
        self,
        offer: "_Offer",
        chosen: Sequence[int],
        slots: Sequence[int],
        labels: Sequence[Keyed],
        until: float,
    ) -> int:
        """Write rows through the script, those of one slot in order, and return how many.

        Labels go out with the first of them.
        """
        queues: dict[int, deque[list[int]]] = {}
        for slot, positions in _by_slot(chosen, slots).items():
            queues[slot] = deque(offer.chunks(positions))
        written = 0
        while queues or labels:
            under_way = {slot: queue.popleft() for slot, queue in queues.items()}
            commands = [offer.command(slot, chunk) for slot, chunk in under_way.items()]
            replies = self._routes.write([*labels, *commands], until=until)[len(labels) :]
            labels = []
            for reply, (slot, chunk) in zip(replies, under_way.items(), strict=True):
                if isinstance(reply, Moving):
                    queues[slot].extendleft([position] for position in reversed(chunk))
                else:
                    written += int(reply)
            queues = {slot: queue for slot, queue in queues.items() if queue}
        return written

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> Sequence[Sequence[bytes | None]]:
        """Return the values of each request, from all nodes at once; see `OnlineStore.read`."""
        commands: list[Keyed] = []
        for request in requests:
            commands += _gets(row_prefix(request.table), request.keys)
        if not commands:
            return [[] for _ in requests]
        last = time.monotonic() + self._read_s
        values = self._routes.read(commands, until=last if until is None else min(until, last))
        found: list[list[bytes | None]] = []
        start = 0
        for request in requests:
            found.append(values[start : start + len(request.keys)])
            start += len(request.keys)
        return found

    def scan(
        self, table: TableId, *, batch_rows: int = 1000
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield all rows; see `OnlineStore.scan`. Looks at every key of the cluster.

        The keys seen are kept in memory, because they may be reported several times.
        """
        waiting: list[bytes] = []
        for entities in self._scan_entities(table):
            waiting += entities
            while len(waiting) >= batch_rows:
                yield self._with_values(table, waiting[:batch_rows])
                waiting = waiting[batch_rows:]
        if waiting:
            yield self._with_values(table, waiting)

    def _with_values(self, table: TableId, entities: list[bytes]) -> list[tuple[bytes, bytes]]:
        (values,) = self.read([ReadRequest(table=table, keys=entities)])
        pairs = zip(entities, values, strict=True)
        return [(entity, value) for entity, value in pairs if value is not None]

    def _scan_entities(self, table: TableId) -> Iterator[list[bytes]]:
        """Yield the entities of a table, each once, some of them no longer there.

        A key that moves from a node not yet looked at to one that was would be missed: so all are
        looked at again if slots were moving.
        """
        seen: set[bytes] = set()
        known = self._nodes.slots()
        for _ in range(MAX_SCANS):
            moving = self._nodes.are_moving(known)
            for place in known.primaries:
                yield from self._scan_node(place, table, seen)
            before, known = known, self._nodes.refresh(known)
            same = list(before.owners) == list(known.owners)
            if same and not moving and not self._nodes.are_moving(known):
                return

    def _scan_node(self, place: Place, table: TableId, seen: set[bytes]) -> Iterator[list[bytes]]:
        prefix = row_prefix(table)
        node = self._nodes.at(place)
        cursor: Any = b"0"
        while True:
            cursor, keys = node.call("SCAN", cursor, "MATCH", prefix + b"*", "COUNT", KEYS_PER_SCAN)
            # What the pattern means is the server's affair; what belongs to a table is ours.
            ours = {k for k in keys if k.startswith(prefix) and k.endswith(b"}")} - seen
            seen |= ours
            if ours:
                yield [key[len(prefix) : -1] for key in ours]
            if int(cursor) == 0:
                return

    def count(self, table: TableId) -> int:
        """Return how many rows a table holds, tombstones included. Looks at every key."""
        return sum(map(len, self._scan_entities(table)))

    def drop(self, table: TableId, *, pace: Pace | None = None) -> int:
        """Delete a table's rows and return how many there were. Looks at every key."""
        prefix, dropped = row_prefix(table), 0
        for entities in self._scan_entities(table):
            commands = [
                Keyed(slot, packed(b"UNLINK", prefix + entity + b"}"))
                for slot, entity in zip(row_slots(prefix, entities), entities, strict=True)
            ]
            until = time.monotonic() + self._write_s
            deleted = sum(self._routes.write(commands, until=until))
            dropped += deleted
            if pace is not None and deleted:
                pace(deleted)
        key = catalogue_key(table.project)
        gone = Keyed(key_slot(key), packed(b"HDEL", key, table_digest(table)))
        self._routes.write([gone], until=time.monotonic() + self._write_s)
        return dropped

    def tables(self, project: str) -> list[TableId]:
        """Return the tables of a project; see `OnlineStore.tables`."""
        key = catalogue_key(project)
        command = Keyed(key_slot(key), packed(b"HVALS", key))
        (labels,) = self._routes.read([command], until=time.monotonic() + self._read_s)
        return [read_label(label) for label in labels]

    def check(self) -> list[Finding]:
        """Return the state of the cluster and of every node; see `RedisOnlineStore.check`."""
        return check_cluster(self._nodes, self._address)

    def close(self) -> None:
        """Close all connections."""
        self._nodes.close()


class _Offer:
    """Rows on their way through the script."""

    def __init__(self, prefix: bytes, rows: EncodedRows, option: bytes) -> None:
        self._prefix = prefix
        self._rows = rows
        self._option = option
        longest = max(map(len, rows.values), default=1)
        self._rows_per_call = min(ROWS_PER_CALL, max(1, BYTES_PER_CALL // longest))

    def chunks(self, positions: list[int]) -> Iterator[list[int]]:
        """Yield the positions of each call."""
        for start in range(0, len(positions), self._rows_per_call):
            yield positions[start : start + self._rows_per_call]

    def command(self, slot: int, positions: list[int]) -> Keyed:
        """Return the call for rows of one slot."""
        part = chosen_rows(self._rows, positions)
        command = script_command(_SCRIPT_ID, self._prefix, part, self._option)
        return Keyed(slot, command, several=len(positions) > 1)


def _is_well(lane: Lane) -> bool:
    return not any(isinstance(answer, Exception) for found in lane.answers for answer in found)


def _by_slot(chosen: Sequence[int], slots: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for position in chosen:
        found[slots[position]].append(position)
    return found


def _gets(prefix: bytes, entities: Sequence[bytes]) -> list[Keyed]:
    around = len(prefix) + 1
    return [
        Keyed(slot, b"*2\r\n$3\r\nGET\r\n$%d\r\n%b%b}\r\n" % (around + len(entity), prefix, entity))
        for slot, entity in zip(row_slots(prefix, entities), entities, strict=True)
    ]
