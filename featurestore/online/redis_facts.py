"""What Redis says of itself -> what an operator should know."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from featurestore.online.redis_connection import Connections
from featurestore.online.store import Finding

OLDEST: Final = (6, 2)
MAX_CLOCK_DIFFERENCE_S: Final = 2.0
_SAME_CLOCK_S: Final = 0.1
_MOST_NAMED: Final = 3


@dataclass(frozen=True, kw_only=True)
class Node:
    """What one server says.

    Attributes:
        address: Where it is, without user and password.
        info: Its reply to INFO.
        ahead_s: Seconds by which its clock is ahead of ours.
        is_replica: Whether it is there to follow another one.
    """

    address: str
    info: bytes
    ahead_s: float
    is_replica: bool = False

    @property
    def facts(self) -> dict[str, str]:
        """What INFO says, by name."""
        lines = self.info.decode(errors="replace").splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a store needs of its servers.

    Attributes:
        takes_over: Whether replicas are there to take over.
        wait_replicas: How many replicas have to have each write.
    """

    takes_over: bool = False
    wait_replicas: int = 0


def asked(server: Connections, *, is_replica: bool = False) -> Node:
    """Ask a server about itself."""
    info, (seconds, micros) = server.call_all([("INFO",), ("TIME",)])
    ahead_s = int(seconds) + int(micros) / 1e6 - time.time()
    # Its text comes as such, and says of itself that it is text.
    raw = info if isinstance(info, bytes) else info.encode()
    return Node(address=server.address, info=raw, ahead_s=ahead_s, is_replica=is_replica)


def findings(nodes: Sequence[Node], expected: Expected) -> list[Finding]:
    """Return what follows from what the servers say; what is the same of several is said once."""
    found: dict[Finding, list[str]] = {}
    for node in nodes:
        for finding in _of_node(node, expected):
            found.setdefault(finding, []).append(node.address)
    order = list(dict.fromkeys(finding.subject for finding in found))
    merged = [_named(finding, places, len(nodes)) for finding, places in found.items()]
    return sorted(merged, key=lambda finding: order.index(finding.subject))


def _named(finding: Finding, places: Sequence[str], count: int) -> Finding:
    if count == 1:
        where = f" at {places[0]}" if finding.subject == "version" else ""
    elif len(places) == count:
        where = f" (all {count} servers)"
    elif len(places) <= _MOST_NAMED:
        where = f" ({', '.join(places)})"
    else:
        where = f" ({len(places)} of {count} servers)"
    return replace(finding, detail=f"{finding.detail}{where}")


def _of_node(node: Node, expected: Expected) -> list[Finding]:
    facts = node.facts
    return [
        _version(facts),
        _memory(facts),
        _eviction(facts),
        _persistence(facts),
        _role(facts, is_replica=node.is_replica),
        *([] if node.is_replica else _replicas(facts, expected)),
        _clock(node.ahead_s),
    ]


def _version(facts: dict[str, str]) -> Finding:
    version = facts.get("redis_version", "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    name = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {version}"
    if numbers < OLDEST:
        return Finding(subject="version", status="error", detail=f"{name}: 6.2 or newer is needed")
    return Finding(subject="version", status="ok", detail=name)


def _memory(facts: dict[str, str]) -> Finding:
    used, limit = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    if not limit:
        return Finding(subject="memory", status="ok", detail=f"{used:,} bytes used, no limit set")
    status = "ok" if used < 0.8 * limit else "warning"
    return Finding(subject="memory", status=status, detail=f"{used:,} of {limit:,} bytes used")


def _eviction(facts: dict[str, str]) -> Finding:
    policy = facts.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return Finding(subject="eviction", status="ok", detail="noeviction")
    evicted = facts.get("evicted_keys", "0")
    detail = f"{policy} throws features away when memory is full ({evicted} keys so far)"
    return Finding(subject="eviction", status="warning", detail=f"{detail}; set noeviction")


def _persistence(facts: dict[str, str]) -> Finding:
    appends = facts.get("aof_enabled") == "1"
    failed = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status")
        if facts.get(name, "ok") != "ok"
    ]
    if failed:
        detail = f"the server cannot save its data: {', '.join(failed)}"
        return Finding(subject="persistence", status="error", detail=detail)
    if appends:
        return Finding(subject="persistence", status="ok", detail="append-only file")
    detail = "no append-only file: a restart loses what was written since the last snapshot"
    status = "ok" if facts.get("rdb_saves", "0") != "0" else "warning"
    return Finding(subject="persistence", status=status, detail=detail)


def _role(facts: dict[str, str], *, is_replica: bool) -> Finding:
    role = facts.get("role", "unknown")
    if not is_replica:
        status = "ok" if role == "master" else "error"
        detail = "primary" if role == "master" else f"{role}: takes no writes"
    elif role == "master":
        status, detail = "warning", "a primary, where a replica is expected"
    else:
        is_up = facts.get("master_link_status") == "up"
        status = "ok" if is_up else "warning"
        detail = "replica" if is_up else "a replica without its primary: what it has grows old"
    return Finding(subject="role", status=status, detail=detail)


def _replicas(facts: dict[str, str], expected: Expected) -> list[Finding]:
    """Return whether there are replicas enough; nothing where none are needed."""
    needed = max(expected.wait_replicas, int(expected.takes_over))
    if not needed:
        return []
    online = len(replicas_of(facts))
    if online >= needed:
        return [Finding(subject="replicas", status="ok", detail=f"{online} in sync")]
    if expected.wait_replicas:
        detail = f"{online} in sync, and wait_replicas is {expected.wait_replicas}: no write passes"
        return [Finding(subject="replicas", status="error", detail=detail)]
    detail = "none in sync: nobody takes over if this server is lost"
    return [Finding(subject="replicas", status="warning", detail=detail)]


def replicas_of(facts: dict[str, str]) -> list[tuple[str, int]]:
    """Return host and port of each replica that is in sync, from the facts of its primary."""
    found = []
    for key, value in facts.items():
        if key.startswith("slave") and key[5:].isdecimal():
            parts = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
            if parts.get("state") == "online":
                found.append((parts["ip"], int(parts["port"])))
    return found


def _clock(ahead_s: float) -> Finding:
    status = "ok" if abs(ahead_s) <= MAX_CLOCK_DIFFERENCE_S else "warning"
    if abs(ahead_s) < _SAME_CLOCK_S:
        return Finding(subject="clock", status="ok", detail="in step with this machine's")
    side = "ahead of" if ahead_s > 0 else "behind"
    detail = f"{abs(ahead_s):.1f} s {side} this machine's"
    return Finding(subject="clock", status=status, detail=detail)
