"""What a new generation takes over from the one before: what no source has.

Rows that applications pushed, and tombstones of entities that were deleted, are in the online store
alone. Without them a new generation would lose values, and bring deleted entities back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from featurestore.definitions import FeatureView
from featurestore.materialize.live import table_of
from featurestore.materialize.plan import remaining_us
from featurestore.online.codec import is_pushed, is_tombstone, read_version
from featurestore.online.store import (
    VERSION_END,
    VERSION_START,
    EncodedRows,
    OnlineStore,
    ReadRequest,
    TableId,
)
from featurestore.registry.state import RegisteredView
from featurestore.types import type_name

DEFAULT_RETENTION_US: Final = 90 * 86_400_000_000
"""How long a tombstone is kept in a view without ttl, unless configured."""

Rows = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """A generation that is to take the place of another.

    Attributes:
        old: What lookups read.
        drop_pushed: Let lookups switch even if pushed rows cannot be taken over.
    """

    old: RegisteredView
    drop_pushed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What became of rows that no source has: so many were taken over, and so many were not."""

    copied: int = 0
    left: int = 0


def carry_over(
    store: OnlineStore,
    old: RegisteredView,
    new: RegisteredView,
    *,
    project: str,
    now_us: int,
    retention_us: int,
) -> Carried:
    """Copy tombstones and pushed rows into a new generation, where its own rows are not newer.

    Tombstones hold no values, and fit wherever the join keys are the same. A pushed row fits if
    nothing but the ttl has changed: what it was computed by is not known any more.

    Args:
        store: Holds both.
        old: The generation to copy from.
        new: The one to copy to, whose rows from the source are written.
        project: The project.
        now_us: What a row's age is counted up to.
        retention_us: How long a tombstone is kept in a view without ttl.
    """
    carrying = _Carrying(store, old, new, project, now_us, retention_us)
    copied = left = 0
    for batch in store.scan(table_of(project, old)):
        done = carrying.carry([row for row in batch if is_pushed(row[1]) or is_tombstone(row[1])])
        copied, left = copied + done.copied, left + done.left
    return Carried(copied=copied, left=left)


@dataclass(frozen=True)
class _Carrying:
    store: OnlineStore
    old: RegisteredView
    new: RegisteredView
    project: str
    now_us: int
    retention_us: int

    def carry(self, rows: Rows) -> Carried:
        """Copy some rows that no source has."""
        lifetime_us = remaining_us(self.new.definition)
        rows = [row for row in rows if not self._is_over(row[1])]
        deleted = [row for row in rows if is_tombstone(row[1])]
        pushed = [row for row in rows if not is_tombstone(row[1])]
        if not _have_same_keys(self.old.definition, self.new.definition):
            return Carried(left=len(deleted) + len(pushed))
        kept_us = self.retention_us if lifetime_us is None else lifetime_us
        copied = self._copy(deleted, kept_us)
        if not _differ_by_ttl(self.old.definition, self.new.definition):
            return Carried(copied=copied, left=self._not_covered(pushed))
        return Carried(copied=copied + self._copy(pushed, lifetime_us))

    def _is_over(self, value: bytes) -> bool:
        """Whether a row is so old that the old generation might drop it."""
        lifetime_us = remaining_us(self.old.definition)
        if lifetime_us is None and is_tombstone(value):
            lifetime_us = self.retention_us
        return lifetime_us is not None and read_version(value)[0] + lifetime_us <= self.now_us

    @property
    def _table(self) -> TableId:
        return table_of(self.project, self.new)

    def _copy(self, rows: Rows, lifetime_us: int | None) -> int:
        """Offer rows with what is left of a lifetime; return how many the new generation took."""
        remaining_ms = None
        if lifetime_us is not None:
            left = [
                (read_version(value)[0] + lifetime_us - self.now_us) // 1000 for _, value in rows
            ]
            rows = [row for row, ms in zip(rows, left, strict=True) if ms > 0]
            remaining_ms = [ms for ms in left if ms > 0]
        if not rows:
            return 0
        keys, values = zip(*rows, strict=True)
        offered = EncodedRows(keys=keys, values=values, remaining_ms=remaining_ms)
        return self.store.write(self._table, offered).written

    def _not_covered(self, rows: Rows) -> int:
        """Return how many rows are newer than what the new generation has of their entities."""
        if not rows:
            return 0
        (found,) = self.store.read([ReadRequest(table=self._table, keys=[k for k, _ in rows])])
        return sum(
            there is None or _version(there) < _version(value)
            for there, (_, value) in zip(found, rows, strict=True)
        )


def _version(value: bytes) -> bytes:
    return value[VERSION_START:VERSION_END]


def _have_same_keys(old: FeatureView, new: FeatureView) -> bool:
    return _keys(old) == _keys(new)


def _keys(view: FeatureView) -> list[tuple[str, str]]:
    return [(name, type_name(dtype)) for name, dtype in view.join_keys.items()]


def _differ_by_ttl(old: FeatureView, new: FeatureView) -> bool:
    return new.model_copy(update={"ttl": old.ttl}).meaning() == old.meaning()
