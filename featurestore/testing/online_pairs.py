"""Rows for tests of online stores, without pytest: processes that only write need not import it."""

import random
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final, TypeAlias

from featurestore.online.codec import version_bytes
from featurestore.online.store import (
    EncodedRows,
    OnlineStore,
    ReadRequest,
    TableId,
    WriteCounts,
)

Opener: TypeAlias = Callable[[], OnlineStore]
Rows: TypeAlias = Sequence[tuple[bytes, bytes]]

KEY: Final = b"\x02entity"


def row(event_us: int, created_us: int | None = None, payload: bytes = b"x") -> bytes:
    """Return a value with this version; stores do not look at the rest."""
    return b"\x01\x00\x00" + version_bytes(event_us, created_us) + payload


def write(store: OnlineStore, table: TableId, rows: Rows, **options: Any) -> WriteCounts:
    """Write pairs of entity bytes and value."""
    remaining_ms = options.pop("remaining_ms", None)
    encoded = EncodedRows(
        keys=[key for key, _ in rows],
        values=[value for _, value in rows],
        remaining_ms=None if remaining_ms is None else [remaining_ms] * len(rows),
    )
    return store.write(table, encoded, **options)


def read(store: OnlineStore, table: TableId, *keys: bytes) -> list[bytes | None]:
    """Return the values of some keys of one table."""
    (values,) = store.read([ReadRequest(table=table, keys=keys)])
    return list(values)


def events(writer: int, *, keys: int, count: int) -> list[tuple[bytes, bytes]]:
    """Return shuffled rows of some keys, corrections and duplicates among them."""
    chance = random.Random(writer)  # noqa: S311 - a test wants the same rows again
    made = []
    for number in range(count):
        event, created = chance.randrange(40), chance.choice([None, *range(5)])
        # The version decides the payload: of equal versions it does not matter which is kept.
        payload = f"{event} {created}".encode()
        made.append((b"\x02%04d" % (number % keys), row(event, created, payload)))
    chance.shuffle(made)
    return made


def newest(rows: Rows) -> dict[bytes, bytes]:
    """Return what must be left of rows written in any order."""
    left: dict[bytes, bytes] = {}
    for key, value in rows:
        if key not in left or value[3:19] >= left[key][3:19]:
            left[key] = value
    return left


def write_events(opener: Opener, table: TableId, writer: int, keys: int, count: int) -> None:
    """Write `events` in small batches: what a writing process runs."""
    rows = events(writer, keys=keys, count=count)
    with closing(opener()) as store:
        for start in range(0, len(rows), 50):
            write(store, table, rows[start : start + 50])
