"""The nodes of a cluster: connections to each, and who has which slot."""

import threading
import time
from collections.abc import Collection, Sequence

from featurestore.errors import StoreError, StoreUnavailableError
from featurestore.online.redis_address import Address
from featurestore.online.redis_connection import Connections
from featurestore.online.redis_slots import Place, SlotMap, read_slots


class Nodes:
    """Connections to the nodes of a cluster, and who has which slot. Threads share it.

    Args:
        address: Where some of the nodes are, and how to reach them.
    """

    def __init__(self, address: Address) -> None:
        self._template = address.servers[0]
        self._seeds = [(s.options["host"], s.options["port"]) for s in address.servers]
        self._connections: dict[Place, Connections] = {}
        self._map: SlotMap | None = None
        self._doubted: frozenset[Place] = frozenset()
        self._refreshing = threading.Lock()
        self._is_closed = False

    def at(self, place: Place) -> Connections:
        """Return the connections to a node."""
        if self._is_closed:
            raise StoreError("The online store is closed.")
        found = self._connections.get(place)
        if found is None:
            made = Connections(self._template.at(*place))
            found = self._connections.setdefault(place, made)
        return found

    def slots(self, *, until: float | None = None) -> SlotMap:
        """Return who has which slot, as far as we know."""
        known = self._map
        return self.refresh(known, until=until) if known is None or self._doubted else known

    def refresh(
        self,
        known: SlotMap | None,
        *,
        first: Place | None = None,
        last: Collection[Place] = (),
        until: float | None = None,
    ) -> SlotMap:
        """Ask who has which slot, unless another thread did since `known`.

        Args:
            known: What turned out to be wrong.
            first: Who probably knows.
            last: Whom to ask if nobody else answers: a node that is gone costs time, and one that
                is cut off from the others answers, with what was so before.
            until: When to stop asking, by the monotonic clock.

        Raises:
            StoreUnavailableError: No node answers, or not in time.
        """
        # Without time to ask now, the next one who wants to know does.
        self._doubted |= frozenset(last)
        left_s = -1 if until is None else max(0.0, until - time.monotonic())
        if not self._refreshing.acquire(timeout=left_s):
            raise StoreUnavailableError("No node of the cluster answers.", hint="try again")
        try:
            if self._map is None or self._map is known:
                self._map = self._asked(self._candidates(first), until)
                self._doubted = frozenset()
                self._forget(self._map)
            return self._map
        finally:
            self._refreshing.release()

    def _candidates(self, first: Place | None) -> list[Place]:
        likely = (first,) if first else ()
        known = self._map.primaries if self._map else ()
        all_of_them = dict.fromkeys((*likely, *known, *self._connections, *self._seeds))
        return sorted(all_of_them, key=lambda place: place in self._doubted)

    def _asked(self, candidates: Sequence[Place], until: float | None) -> SlotMap:
        failure: StoreError | None = None
        for place in candidates:
            if until is not None and time.monotonic() > until:
                break
            try:
                answer = self.at(place).call("CLUSTER", "SLOTS", until=until)
                found = read_slots(answer, place)
            except StoreUnavailableError as error:
                self._doubted |= {place}
                failure = error
                continue
            except StoreError as error:
                raise _no_cluster(error) from error
            if found.primaries:
                return found
        hint = "try again; or check the addresses in online_store.url"
        reason = failure.message if failure else "none has slots."
        raise StoreUnavailableError(
            f"No node of the cluster helps: {reason}", hint=hint
        ) from failure

    def are_moving(self, slots: SlotMap) -> bool:
        """Whether any primary says that it gives slots away or gets some."""
        for place in slots.primaries:
            lines = self.at(place).call("CLUSTER", "NODES").decode()
            mine = next((line for line in lines.splitlines() if "myself" in line), "")
            if "->-" in mine or "-<-" in mine:
                return True
        return False

    def _forget(self, slots: SlotMap) -> None:
        """Close connections to nodes that are none any more."""
        members = {*slots.primaries, *(r for rs in slots.replicas.values() for r in rs)}
        for place in set(self._connections) - members - set(self._seeds):
            self._connections.pop(place).drop_idle()

    def close(self) -> None:
        """Close all connections; twice is fine."""
        self._is_closed = True
        for connections in list(self._connections.values()):
            connections.close()


def _no_cluster(error: StoreError) -> StoreError:
    if "cluster support disabled" not in error.message:
        return error
    return StoreError(
        f"{error.message.partition(' answered')[0]} is no cluster.",
        hint="write redis:// in online_store.url, in place of redis+cluster://",
    )
