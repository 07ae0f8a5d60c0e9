"""Which slot of a cluster a row has, and which node has a slot. Pure."""

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from redis.crc import key_slot

__all__ = ["SLOTS", "Place", "SlotMap", "key_slot", "read_slots", "row_slots"]

SLOTS: Final = 16_384

Place: TypeAlias = tuple[str, int]
"""Host and port of a node."""


def row_slots(prefix: bytes, entities: Sequence[bytes]) -> list[int]:
    """Return the slots of the keys `prefix entity }`; the prefix ends with its only brace.

    What stands in braces decides, so that all rows of an entity have one slot: the entity, or what
    comes before a closing brace in it.
    """
    return [
        crc_hqx(entity, 0) % SLOTS if b"}" not in entity else key_slot(prefix + entity + b"}")
        for entity in entities
    ]


class SlotMap:
    """Who has which slot, as a node said.

    Args:
        owners: The primary of each slot, None where there is none.
        replicas: Replicas by primary.

    Attributes:
        primaries: All primaries that have slots.
    """

    def __init__(
        self, owners: Sequence[Place | None], replicas: dict[Place, tuple[Place, ...]]
    ) -> None:
        self.owners = owners
        self.replicas = replicas
        self.primaries = tuple(replicas)

    @property
    def uncovered(self) -> int:
        """How many slots nobody has."""
        return sum(owner is None for owner in self.owners)


def read_slots(reply: Sequence[Sequence[Any]], asked: Place) -> SlotMap:
    """Return what CLUSTER SLOTS answered.

    Args:
        reply: Ranges: first slot, last slot, primary, replicas.
        asked: Who was asked: a node that does not know its own host is there.
    """
    owners: list[Place | None] = [None] * SLOTS
    replicas: dict[Place, tuple[Place, ...]] = {}
    for first, last, primary, *others in reply:
        place = _place(primary, asked)
        owners[first : last + 1] = [place] * (last + 1 - first)
        replicas[place] = tuple(_place(other, asked) for other in others)
    return SlotMap(owners, replicas)


def _place(node: Sequence[Any], asked: Place) -> Place:
    host = (node[0] or b"").decode()
    return (host if host not in ("", "?") else asked[0]), int(node[1])
