"""All online stores are one store: the same writes, deletes and reads give the same answers."""

import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.online.codec import tombstone
from featurestore.online.lmdb import LmdbOnlineStore
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.online.store import EncodedRows, OnlineStore, ReadRequest, TableId
from featurestore.testing.online import row

Stores = dict[str, OnlineStore]

KEYS = (b"\x02a", b"\x02b", b"}", b"{", b"\x02a\0", b"x" * 255)
MANY = (*KEYS, *(b"\x02%d" % number for number in range(300)))
LASTING_MS = 3_600_000


@pytest.fixture(scope="module")
def stores(
    tmp_path_factory: pytest.TempPathFactory, redis_url: str, redis_cluster_url: str
) -> Iterator[Stores]:
    folder = tmp_path_factory.mktemp("online")
    with ExitStack() as stack:
        made: Stores = {
            "memory": MemoryOnlineStore(),
            "lmdb": LmdbOnlineStore(folder),
            "redis": RedisOnlineStore(redis_url),
            "redis cluster": RedisClusterOnlineStore(redis_cluster_url),
        }
        for store in made.values():
            stack.enter_context(closing(store))
        yield made


times = st.sampled_from([-(2**62), -1, 0, 1, 255, 256, 2**32, 2**53 + 1, 2**62])
versions = st.tuples(times, st.none() | times)
values = st.one_of(
    st.builds(lambda v, p: row(v[0], v[1], p), versions, st.binary(max_size=3)),
    st.builds(tombstone, times),
)
tables = st.tuples(st.sampled_from(["v", "v*", "vv"]), st.integers(1, 2))
batches = st.fixed_dictionaries(
    {
        "do": st.just("write"),
        "table": tables,
        "rows": st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=8),
        "overwrite": st.booleans(),
        "lasting": st.booleans(),
    }
)


def many_rows(count: int, first: int, some: list[bytes]) -> list[tuple[bytes, bytes]]:
    """More rows than one call takes, of keys in turn, with some values in turn."""
    return [
        (MANY[(first + number) % len(MANY)], some[number % len(some)]) for number in range(count)
    ]


bulks = st.fixed_dictionaries(
    {
        "do": st.just("write"),
        "table": tables,
        "rows": st.builds(
            many_rows,
            st.integers(257, 700),
            st.integers(0, len(MANY) - 1),
            st.lists(values, min_size=1, max_size=7),
        ),
        "overwrite": st.booleans(),
        "lasting": st.booleans(),
    }
)
drops = st.fixed_dictionaries({"do": st.just("drop"), "table": tables})
reads = st.fixed_dictionaries(
    {
        "do": st.just("read"),
        "requests": st.lists(st.tuples(tables, st.lists(st.sampled_from(KEYS), max_size=4))),
    }
)
looks = st.fixed_dictionaries({"do": st.sampled_from(["count", "scan"]), "table": tables})
catalogues = st.just({"do": "tables"})
programs = st.lists(
    st.one_of(batches, batches, bulks, reads, drops, looks, catalogues), max_size=20
)


class Model:
    """A store as its contract says it: nothing but dictionaries."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, int], dict[bytes, bytes]] = defaultdict(dict)
        self.named: set[tuple[str, int]] = set()

    def run(self, step: dict) -> object:  # type: ignore[type-arg]
        if step["do"] == "read":
            return [[self.tables[t].get(key) for key in keys] for t, keys in step["requests"]]
        if step["do"] == "tables":
            return sorted(self.named)
        held = self.tables[step["table"]]
        if step["do"] == "write":
            self.named |= {step["table"]} if step["rows"] else set()
            return self._write(held, step)
        if step["do"] == "drop":
            count = len(held)
            held.clear()
            self.named.discard(step["table"])
            return count
        return len(held) if step["do"] == "count" else sorted(held.items())

    @staticmethod
    def _write(held: dict[bytes, bytes], step: dict) -> tuple[int, int]:  # type: ignore[type-arg]
        written = 0
        for key, value in step["rows"]:
            if step["overwrite"] or key not in held or held[key][3:19] <= value[3:19]:
                held[key] = value
                written += 1
        return written, len(step["rows"]) - written


def perform(store: OnlineStore, project: str, step: dict) -> object:  # type: ignore[type-arg]
    def table(name: tuple[str, int]) -> TableId:
        return TableId(project=project, view=name[0], generation=name[1])

    if step["do"] == "read":
        return store.read(
            [ReadRequest(table=table(name), keys=keys) for name, keys in step["requests"]]
        )
    if step["do"] == "tables":
        return sorted((found.view, found.generation) for found in store.tables(project))
    target = table(step["table"])
    if step["do"] == "write":
        rows = EncodedRows(
            keys=[key for key, _ in step["rows"]],
            values=[value for _, value in step["rows"]],
            remaining_ms=[LASTING_MS] * len(step["rows"]) if step["lasting"] else None,
        )
        counts = store.write(target, rows, overwrite=step["overwrite"])
        return counts.written, counts.kept
    if step["do"] == "drop":
        return store.drop(target)
    if step["do"] == "count":
        return store.count(target)
    return sorted(pair for batch in store.scan(target, batch_rows=2) for pair in batch)


@given(programs)
def test_every_store_answers_as_the_contract_says(stores: Stores, program: list[dict]) -> None:  # type: ignore[type-arg]
    project = uuid.uuid4().hex
    model = Model()
    expected = [model.run(step) for step in program]
    for name, store in stores.items():
        try:
            assert [perform(store, project, step) for step in program] == expected, name
        finally:
            for view, generation in model.tables:
                store.drop(TableId(project=project, view=view, generation=generation))
