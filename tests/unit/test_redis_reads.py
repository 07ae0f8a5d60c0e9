"""Reads are packed as the client itself would pack them."""

from itertools import chain
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from redis.connection import Connection

from featurestore.online.redis_reads import pack_reads
from featurestore.online.store import ReadRequest, TableId
from featurestore.online.tables import table_digest

TABLES = [TableId(project="shop", view=name, generation=1) for name in ("users", "items")]
ENTITIES = st.lists(st.binary(min_size=1, max_size=12), max_size=9)
REQUESTS = st.lists(st.builds(ReadRequest, table=st.sampled_from(TABLES), keys=ENTITIES))


def by_the_client(commands: list[list[bytes]]) -> bytes:
    packer: Any = Connection  # which has no types
    packed = [packer().pack_command("MGET", *keys) for keys in commands]
    return b"".join(chain.from_iterable(packed))


def keys_of(requests: list[ReadRequest]) -> list[bytes]:
    return [table_digest(r.table) + b"{" + key + b"}" for r in requests for key in r.keys]


@given(REQUESTS)
def test_the_keys_of_all_requests_go_into_one_command(requests: list[ReadRequest]) -> None:
    keys = keys_of(requests)
    expected = by_the_client([keys]) if keys else b""
    assert pack_reads(requests, most_keys=1_000) == (expected, 1 if keys else 0)


@given(REQUESTS, st.integers(1, 5))
def test_a_command_takes_no_more_keys_than_it_may(requests: list[ReadRequest], most: int) -> None:
    packed, commands = pack_reads(requests, most_keys=most)
    sizes = [int(line) - 1 for line in _headers(packed)]
    assert len(sizes) == commands
    assert all(1 <= size <= most for size in sizes)
    keys = iter(keys_of(requests))
    assert packed == by_the_client([[next(keys) for _ in range(size)] for size in sizes])
    assert not list(keys)


def _headers(packed: bytes) -> list[bytes]:
    """The numbers of arguments of each command, found by walking through them."""
    found, at = [], 0
    while at < len(packed):
        end = packed.index(b"\r\n", at)
        found.append(packed[at + 1 : end])
        at = end + 2
        for _ in range(int(found[-1])):
            end = packed.index(b"\r\n", at)
            at = end + 2 + int(packed[at + 1 : end]) + 2
    return found
