"""Self-checks of a server, of a primary behind Sentinels, and of a cluster."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final

from featurestore.errors import StoreError
from featurestore.online.redis_address import Address, Server
from featurestore.online.redis_connection import Connections
from featurestore.online.redis_facts import Expected, Node, asked, findings, replicas_of
from featurestore.online.redis_nodes import Nodes
from featurestore.online.redis_sentinel import Sentinels
from featurestore.online.redis_slots import SLOTS
from featurestore.online.store import Finding

LEAST_SENTINELS: Final = 3


def check_server(server: Connections, address: Address) -> list[Finding]:
    """Return the state of one server."""
    expected = Expected(wait_replicas=address.options["wait_replicas"])
    return [*findings([asked(server)], expected), *_tls(address)]


def check_sentinels(primary: Connections, sentinels: Sentinels, address: Address) -> list[Finding]:
    """Return the state of the Sentinels, of the primary and of its replicas."""
    expected = Expected(takes_over=True, wait_replicas=address.options["wait_replicas"])
    first = asked(primary)
    nodes, lost = [first], list[Finding]()
    for place in replicas_of(first.facts):
        nodes += _asked_replica(address.servers[0].at(*place), lost)
    return [*_sentinels(sentinels), *findings(nodes, expected), *lost, *_tls(address)]


def _sentinels(sentinels: Sentinels) -> Iterator[Finding]:
    states = sentinels.states()
    well = sum(not reason for _, reason in states)
    detail = f"{well} of {len(states)} answer"
    if well < len(states):
        status = "warning" if 2 * well > len(states) else "error"
        why = "; ".join(reason for _, reason in states if reason)
        yield Finding(subject="sentinels", status=status, detail=f"{detail}: {why}")
    elif len(states) < LEAST_SENTINELS:
        detail += f": with fewer than {LEAST_SENTINELS}, the loss of one may stop failovers"
        yield Finding(subject="sentinels", status="warning", detail=detail)
    else:
        yield Finding(subject="sentinels", status="ok", detail=detail)


def _asked_replica(server: Server, lost: list[Finding]) -> list[Node]:
    with closing(Connections(server)) as connections:
        try:
            return [asked(connections, is_replica=True)]
        except StoreError as error:
            lost.append(Finding(subject="replicas", status="warning", detail=error.message))
            return []


def check_cluster(cluster: Nodes, address: Address) -> list[Finding]:
    """Return the state of a cluster and of all of its nodes."""
    expected = Expected(takes_over=True, wait_replicas=address.options["wait_replicas"])
    slots = cluster.refresh(cluster.slots())
    nodes, lost = list[Node](), list[Finding]()
    for primary, replicas in slots.replicas.items():
        for place in (primary, *replicas):
            is_replica = place != primary
            try:
                nodes.append(asked(cluster.at(place), is_replica=is_replica))
            except StoreError as error:
                status = "warning" if is_replica else "error"
                lost.append(Finding(subject="nodes", status=status, detail=error.message))
    state = _cluster(slots.uncovered, len(slots.primaries), len(nodes))
    return [state, *_moving(cluster, lost), *lost, *findings(nodes, expected), *_tls(address)]


def _cluster(uncovered: int, primaries: int, nodes: int) -> Finding:
    if uncovered:
        detail = f"{uncovered:,} of {SLOTS:,} slots have no node: their rows cannot be reached"
        return Finding(subject="cluster", status="error", detail=detail)
    detail = f"all slots are covered by {primaries} primaries; {nodes} servers answer"
    return Finding(subject="cluster", status="ok", detail=detail)


def _moving(cluster: Nodes, lost: Iterable[Finding]) -> Iterator[Finding]:
    if not list(lost) and cluster.are_moving(cluster.slots()):
        detail = "slots are moving: writes to them are slower until they have arrived"
        yield Finding(subject="slots", status="warning", detail=detail)


def _tls(address: Address) -> Iterator[Finding]:
    options = address.servers[0].options
    if options.get("ssl_cert_reqs") == "none":
        detail = "certificates are not checked: whoever stands in between can read and change all"
        yield Finding(subject="tls", status="warning", detail=f"{detail}; set tls_verify")
