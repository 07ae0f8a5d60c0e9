"""What INFO says -> what an operator is told."""

from typing import Any

import pytest

from featurestore.online.redis_facts import Expected, Node, findings

WELL = {
    "redis_version": "7.0.15",
    "used_memory": "1000",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "aof_enabled": "1",
    "role": "master",
    "connected_slaves": "1",
    "slave0": "ip=10.0.0.2,port=6379,state=online,offset=14,lag=0",
}


def node(
    address: str = "a:1", *, ahead_s: float = 0.0, is_replica: bool = False, **facts: str
) -> Node:
    text = "# Section\r\n" + "".join(f"{k}:{v}\r\n" for k, v in (WELL | facts).items())
    return Node(address=address, info=text.encode(), ahead_s=ahead_s, is_replica=is_replica)


def said(*nodes: Node, **expected: int) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for each in findings(nodes, Expected(**expected)):  # type: ignore[arg-type]
        found.setdefault(each.subject, []).append((each.status, each.detail))
    return found


def test_of_a_server_that_is_well_nothing_bad_is_said() -> None:
    found = said(node())
    assert {status for each in found.values() for status, _ in each} == {"ok"}
    assert found["version"] == [("ok", "Redis 7.0.15 at a:1")]
    assert "replicas" not in found


@pytest.mark.parametrize(
    ("facts", "subject", "status", "words"),
    [
        ({"redis_version": "6.0.20"}, "version", "error", "Redis 6.0.20: 6.2 or newer is needed"),
        ({"redis_version": "6.2.0"}, "version", "ok", "Redis 6.2.0"),
        ({"redis_version": "8.2.1"}, "version", "ok", "Redis 8.2.1"),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "version", "ok", "Valkey 9.1.2"),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction", "warning", "throws features away"),
        ({"maxmemory_policy": "volatile-ttl"}, "eviction", "warning", "throws features away"),
        ({"maxmemory": "1200"}, "memory", "warning", "1,000 of 1,200 bytes used"),
        ({"aof_enabled": "0"}, "persistence", "warning", "no append-only file"),
        ({"aof_enabled": "0", "rdb_saves": "3"}, "persistence", "ok", "since the last snapshot"),
        ({"aof_last_write_status": "err"}, "persistence", "error", "cannot save its data"),
        ({"role": "slave"}, "role", "error", "takes no writes"),
    ],
)
def test_what_is_wrong_with_a_server_is_said(
    facts: dict[str, Any], subject: str, status: str, words: str
) -> None:
    [(found, detail)] = said(node(**facts))[subject]
    assert found == status
    assert words in detail


@pytest.mark.parametrize(
    ("ahead_s", "status", "words"),
    [
        (0.01, "ok", "in step"),
        (-1.5, "ok", "1.5 s behind this machine's"),
        (3.0, "warning", "3.0 s ahead of this machine's"),
    ],
)
def test_clocks_that_differ_are_told(ahead_s: float, status: str, words: str) -> None:
    assert said(node(ahead_s=ahead_s))["clock"] == [(status, words)] or words == "in step"
    assert words in said(node(ahead_s=ahead_s))["clock"][0][1]


def test_replicas_are_counted_where_they_are_needed() -> None:
    assert said(node(), takes_over=True)["replicas"] == [("ok", "1 in sync")]
    syncing = "ip=10.0.0.2,port=6379,state=wait_bgsave,offset=0,lag=0"
    [(status, detail)] = said(node(slave0=syncing), takes_over=True)["replicas"]
    assert (status, "nobody takes over" in detail) == ("warning", True)
    [(status, detail)] = said(node(), wait_replicas=2)["replicas"]
    assert (status, detail) == ("error", "1 in sync, and wait_replicas is 2: no write passes")


def test_a_replica_is_looked_at_as_one() -> None:
    lost = node(is_replica=True, role="slave", master_link_status="down")
    assert said(lost)["role"][0][0] == "warning"
    found = said(node(is_replica=True, role="slave", master_link_status="up"), takes_over=True)
    assert found["role"] == [("ok", "replica")]
    assert "replicas" not in found
    assert said(node(is_replica=True))["role"][0][0] == "warning"


def test_what_several_servers_have_in_common_is_said_once() -> None:
    evicting = node("e:5", maxmemory_policy="allkeys-lru")
    found = said(*(node(f"{name}:1") for name in "abcd"), evicting)
    assert found["version"] == [("ok", "Redis 7.0.15 (all 5 servers)")]
    assert [detail.rpartition(" (")[2] for _, detail in found["eviction"]] == [
        "4 of 5 servers)",
        "e:5)",
    ]
