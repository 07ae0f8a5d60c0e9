"""Spines as they come in: what is no Arrow stream, or a small one of something large."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pytest
from featurestore_server.backend.spine import received, table_of
from featurestore_server.errors import LimitExceededError
from featurestore_server.options import BackendLimits

from featurestore.errors import FeatureStoreError, ResourceLimitError, SpineError

from .backend_calls import stream_of

LIMITS: Final = BackendLimits(max_spine_rows=10_000, max_spine_bytes=1 << 20)
LONG: Final = "a text that is longer than twelve bytes"
GOOD: Final = {
    "numbers": pa.table({"k": [1, 2, None], "x": [0.5, None, 1.5]}),
    "texts": pa.table({"k": ["a", None, LONG], "b": [b"\xff", b"", None]}),
    "views": pa.table(
        {
            "k": pa.array(["a", None, LONG], pa.string_view()),
            "b": pa.array([b"\xff", None, LONG.encode()], pa.binary_view()),
        }
    ),
    "dictionaries": pa.table(
        {
            "k": pa.array(["a", None, LONG, "a"]).dictionary_encode(),
            "n": pa.array([1, 1, None, 2]).dictionary_encode(),
            "b": pa.array([b"1", b"1", None, b"2"], pa.binary(1)).dictionary_encode(),
        }
    ),
    "nested": pa.table({"k": [[1], None, [2, None]], "s": [{"a": 1}, None, {"a": None}]}),
    "nulls": pa.table({"k": pa.nulls(3)}),
    "no columns": pa.table({}),
    "no rows": pa.table({"k": pa.array([], pa.int64())}),
}


@pytest.mark.parametrize("table", GOOD.values(), ids=list(GOOD))
@pytest.mark.parametrize("piece", [1, 64, 1 << 20])
def test_a_spine_comes_out_as_it_went_in(table: pa.Table, piece: int, tmp_path: Path) -> None:
    stream = stream_of(table)
    pieces = (stream[start : start + piece] for start in range(0, len(stream), piece))
    found = received(pieces, tmp_path, LIMITS)
    assert found.equals(table)
    assert found.schema == table.schema
    assert list(tmp_path.iterdir()) == []  # it has no name that could be left over


def _views(count: int, length: int) -> pa.Array:
    """Views that all show the same text."""
    view = np.array([length, int.from_bytes(b"aaaa", "little"), 0, 0], np.int32)
    buffers = [None, pa.py_buffer(np.tile(view, count)), pa.py_buffer(b"a" * length)]
    return pa.Array.from_buffers(pa.string_view(), count, buffers)


def _repeated(count: int, value: object) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), pa.array([value]))


def _delta() -> bytes:
    sink = pa.BufferOutputStream()
    first = pa.record_batch({"d": pa.DictionaryArray.from_arrays([0], ["a"])})
    second = pa.record_batch({"d": pa.DictionaryArray.from_arrays([1], ["a", "b"])})
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, first.schema, options=options) as writer:
        writer.write_batch(first)
        writer.write_batch(second)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _bad_text() -> bytes:
    stream = stream_of(pa.table({"k": ["ABCDEFGH"]}))
    return stream.replace(b"ABCDEFGH", b"\xff" * 8)


def _bad_index() -> bytes:
    indices = pa.array(np.full(8, 0x11, np.int8))
    stream = stream_of(pa.table({"d": pa.DictionaryArray.from_arrays(indices, ["a"] * 0x12)}))
    return stream.replace(b"\x11" * 8, b"\x7f" * 8)


WRONG: Final[dict[str, tuple[Callable[[], bytes], type[FeatureStoreError], str]]] = {
    "nothing": (lambda: b"", SpineError, "no Arrow IPC stream"),
    "text": (lambda: b"k,event_timestamp\n1,2024-01-01\n", SpineError, "no Arrow IPC stream"),
    "half a stream": (lambda: stream_of(GOOD["numbers"])[:300], SpineError, "no Arrow IPC stream"),
    "a huge length": (lambda: b"\xff\xff\xff\xff\xff\xff\xff\x7f", SpineError, "no Arrow"),
    "a text that is no UTF-8": (_bad_text, SpineError, "UTF8"),
    "an index beyond its dictionary": (_bad_index, SpineError, "out of bounds"),
    "lz4": (lambda: stream_of(GOOD["numbers"], compression="lz4"), SpineError, "compressed"),
    "zstd": (
        lambda: stream_of(GOOD["dictionaries"], compression="zstd"),
        SpineError,
        "compressed",
    ),
    "a dictionary that grows": (_delta, SpineError, "adds to a dictionary"),
    "run ends": (
        lambda: stream_of(pa.table({"r": pa.RunEndEncodedArray.from_arrays([9], [1])})),
        SpineError,
        "run_end_encoded",
    ),
    "views of lists": (
        lambda: stream_of(pa.table({"r": pa.array([[1]], pa.list_view(pa.int8()))})),
        SpineError,
        "list_view",
    ),
    "a dictionary in a list": (
        lambda: stream_of(
            pa.table({"r": pa.ListArray.from_arrays([0, 2], _repeated(2, "a"))}),
        ),
        SpineError,
        "dictionary",
    ),
    "rows without bytes": (
        lambda: stream_of(pa.table({"n": pa.nulls((1 << 31) - 1)})),
        LimitExceededError,
        "10,000 rows",
    ),
    "bytes": (
        lambda: stream_of(pa.table({"x": np.zeros(9_000), "y": [LONG * 3] * 9_000})),
        LimitExceededError,
        "1,048,576 bytes",
    ),
    "one text for many rows": (
        lambda: stream_of(pa.table({"d": _repeated(9_000, "a" * 500)})),
        LimitExceededError,
        "1,048,576 bytes",
    ),
    "many views of one text": (
        lambda: stream_of(pa.table({"v": _views(9_000, 500)})),
        LimitExceededError,
        "1,048,576 bytes",
    ),
    "columns": (
        lambda: stream_of(pa.table({str(n): [1] for n in range(10_001)})),
        SpineError,
        "10,001 columns",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_stream_that_is_not_taken_says_why(case: str) -> None:
    make, kind, words = WRONG[case]
    limits = LIMITS if case != "columns" else BackendLimits()
    with pytest.raises(kind, match=words):
        table_of(pa.py_buffer(make()), limits)


def test_no_more_bytes_are_taken_than_allowed(tmp_path: Path) -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield b"\0" * (1 << 16)

    with pytest.raises(LimitExceededError):
        received(endless(), tmp_path, LIMITS)  # type: ignore[arg-type]
    assert taken == 17
    assert list(tmp_path.iterdir()) == []


def test_a_spine_that_cannot_be_kept_is_the_servers_fault(tmp_path: Path) -> None:
    with pytest.raises(ResourceLimitError):
        received(iter([b"x"]), tmp_path / "missing", LIMITS)


# In a process of its own: Arrow might not survive all of it.
FUZZ: Final = """
import random, sys
import pyarrow as pa
from featurestore.errors import FeatureStoreError
from featurestore_server.backend.spine import table_of
from tests.server.test_spines import GOOD, LIMITS
from tests.server.backend_calls import stream_of

rng = random.Random(int(sys.argv[1]))
streams = [stream_of(table) for table in GOOD.values()]
taken = refused = 0
for _ in range(int(sys.argv[2])):
    stream = bytearray(rng.choice(streams))
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(len(stream))
        how = rng.randrange(5)
        if how == 0:
            stream[at] = rng.randrange(256)
        elif how == 1:
            stream[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            stream[at : at + 8] = rng.choice([0, -1, 2**31 - 1, 2**62, -2**63]).to_bytes(
                8, "little", signed=True
            )
        elif how == 3:
            del stream[at : at + rng.randrange(1, 64)]
        else:
            stream[at:at] = stream[rng.randrange(len(stream)) :][: rng.randrange(1, 64)]
        stream = stream or bytearray(b"x")
    try:
        table = table_of(pa.py_buffer(bytes(stream)), LIMITS)
    except FeatureStoreError:
        refused += 1
    else:
        taken += 1
        table.validate(full=True)
        stream_of(table)
print(taken, refused)
"""


@pytest.mark.parametrize(
    "count", [3_000, pytest.param(200_000, marks=pytest.mark.proof)], ids=["some", "many"]
)
def test_mutated_streams_are_taken_or_refused(count: int) -> None:
    command = [sys.executable, "-c", FUZZ, "5", str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2_000:]
    taken, refused = map(int, ran.stdout.split())
    assert taken + refused == count
    assert refused > count // 2
