"""Eight processes write shuffled events, some twice, some corrected: the newest stay, none else.

50,000 events in `make test`, a million in `make proof`, on every store that processes share.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from featurestore.online.codec import version_bytes
from featurestore.online.lmdb import LmdbOnlineStore
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.online.store import EncodedRows, OnlineStore, TableId
from featurestore.testing.online import Opener
from tests.forks import FORKS

WRITERS = 8
BATCH_ROWS = 500
EVENTS_PER_KEY = 12
START_US = 1_700_000_000_000_000

Ints = npt.NDArray[np.int64]


class Events(NamedTuple):
    """Events in the order in which they are written: a writer takes every eighth."""

    keys: Ints
    event_us: Ints
    created_us: Ints

    def of(self, writer: int) -> "Events":
        return Events(*(column[writer::WRITERS] for column in self))


def all_events(count: int) -> Events:
    """Return shuffled events: a tenth of them are copies, another tenth corrections of others."""
    chance = np.random.default_rng(20240601)
    originals = count * 8 // 10
    keys = chance.integers(count // EVENTS_PER_KEY, size=originals)
    events = START_US + chance.integers(1_000, size=originals)
    created = events + chance.integers(100, size=originals)
    again = chance.integers(originals, size=count - originals)
    later = np.where(np.arange(len(again)) % 2, chance.integers(1, 1_000, size=len(again)), 0)
    order = chance.permutation(count)
    return Events(
        np.concatenate([keys, keys[again]])[order],
        np.concatenate([events, events[again]])[order],
        np.concatenate([created, created[again] + later])[order],
    )


def encoded(events: Events, rows: slice) -> EncodedRows:
    """Return rows whose payload is their version once more, so that a mixture would show."""
    columns = zip(*(column[rows].tolist() for column in events), strict=True)
    pairs = [(b"\x02%08d" % key, version_bytes(event, created)) for key, event, created in columns]
    return EncodedRows(
        keys=[key for key, _ in pairs],
        values=[b"\x01\x00\x00" + version + version for _, version in pairs],
        remaining_ms=[3_600_000] * len(pairs),
    )


def write_share(opener: Opener, table: TableId, writer: int, count: int) -> None:
    """Write the events of one writer in small batches: what each process runs."""
    mine = all_events(count).of(writer)
    with closing(opener()) as store:
        for start in range(0, len(mine.keys), BATCH_ROWS):
            rows = encoded(mine, slice(start, start + BATCH_ROWS))
            counts = store.write(table, rows)
            assert counts.written + counts.kept == len(rows.keys)


def newest(events: Events) -> dict[bytes, bytes]:
    """Return what must be left: for every key the row of its greatest (event, created) time."""
    order = np.lexsort((events.created_us, events.event_us, events.keys))
    keys = events.keys[order]
    last = order[np.append(keys[1:] != keys[:-1], True)]
    rows = encoded(Events(*(column[last] for column in events)), slice(None))
    return dict(zip(rows.keys, rows.values, strict=True))


STORES: dict[str, Callable[[pytest.FixtureRequest], Opener]] = {
    "lmdb": lambda request: partial(LmdbOnlineStore, _folder(request)),
    "redis": lambda request: partial(RedisOnlineStore, request.getfixturevalue("redis_url")),
    "redis cluster": lambda request: partial(
        RedisClusterOnlineStore, request.getfixturevalue("redis_cluster_url")
    ),
}


def _folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue("tmp_path")
    return path / "online"


@pytest.fixture(params=STORES)
def opener(request: pytest.FixtureRequest) -> Opener:
    return STORES[request.param](request)


@pytest.fixture
def store(opener: Opener) -> Iterator[OnlineStore]:
    with closing(opener()) as opened:
        yield opened


@pytest.mark.parametrize("count", [10_000, pytest.param(1_000_000, marks=pytest.mark.proof)])
def test_every_key_ends_at_its_newest_row(store: OnlineStore, opener: Opener, count: int) -> None:
    table = TableId(project=f"p{uuid.uuid4().hex}", view="view", generation=1)
    arguments: Any = [(opener, table, writer, count) for writer in range(WRITERS)]
    writers = [FORKS.Process(target=write_share, args=each) for each in arguments]
    try:
        for process in writers:
            process.start()
        for process in writers:
            process.join(timeout=600)
        assert [process.exitcode for process in writers] == [0] * WRITERS
        expected = newest(all_events(count))
        found = dict(pair for batch in store.scan(table, batch_rows=10_000) for pair in batch)
        assert len(found) == len(expected) > count // EVENTS_PER_KEY * 9 // 10
        stale = [key for key, value in expected.items() if found[key] != value]
        assert stale == []
    finally:
        for process in writers:
            process.kill()
        store.drop(table)
