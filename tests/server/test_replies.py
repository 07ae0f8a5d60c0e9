"""Replies are written from memory as it lies there, and every client reads them as messages."""

import struct
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesResponse
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.replies import serialize_reply
from hypothesis import given
from hypothesis import strategies as st

from featurestore.online.layout import FIXED_DTYPES
from featurestore.serving.lookup import EntityColumn, FeatureColumn, LookupResult, Status, ViewTimes

from .test_types import FIELDS

LISTED: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=5),
    "binary": st.binary(max_size=5),
    "decimal128(38, 2)": st.decimals(-(10**35), 10**35, places=2),
}
STATUSES = st.sampled_from([int(status) for status in Status])


def _numbers(dtype: str) -> st.SearchStrategy[Any]:
    """One value of a fixed-width type, as a numpy scalar of any bits."""
    width = np.dtype(FIXED_DTYPES[dtype])
    if dtype == "bool":
        return st.booleans().map(np.bool_)
    raw = st.binary(min_size=width.itemsize, max_size=width.itemsize)
    return raw.map(lambda bits: np.frombuffer(bits, width)[0])


SCALARS = LISTED | {dtype: _numbers(dtype) for dtype in FIXED_DTYPES}


def _as_decoded(dtype: str, values: Sequence[Any], present: Sequence[bool]) -> Any:
    """A column as a lookup has it: withheld values are zeros in an array, None in a list."""
    if dtype in FIXED_DTYPES:
        width = np.dtype(FIXED_DTYPES[dtype])
        zero = np.zeros((), width)[()]
        kept = [v if ok else zero for v, ok in zip(values, present, strict=True)]
        return np.array(kept, width)
    return [v if ok else None for v, ok in zip(values, present, strict=True)]


@st.composite
def _columns(draw: st.DrawFn, count: int) -> FeatureColumn:
    dtype = draw(st.sampled_from(sorted(SCALARS)))
    of_lists = draw(st.booleans())
    statuses = draw(st.lists(STATUSES, min_size=count, max_size=count))
    element = SCALARS[dtype] if not of_lists else _list_of(dtype)
    values = draw(st.lists(element, min_size=count, max_size=count))
    present = [status == Status.PRESENT for status in statuses]
    full = f"list<{dtype}>" if of_lists else dtype
    column = _as_decoded(full, values, present)
    return FeatureColumn("f", full, column, np.array(statuses, np.uint8), 0)


def _list_of(dtype: str) -> st.SearchStrategy[Any]:
    """A list as the codec decodes it: an array if there can be one, else a list with None."""
    with_nulls = st.lists(st.none() | SCALARS[dtype], max_size=3)
    if dtype not in FIXED_DTYPES:
        return with_nulls
    width = np.dtype(FIXED_DTYPES[dtype])
    plain = st.lists(SCALARS[dtype], max_size=3).map(lambda values: np.array(values, width))
    return plain | with_nulls.filter(lambda v: None in v).map(
        lambda values: [None if v is None else v.item() for v in values]
    )


@given(st.integers(0, 4).flatmap(lambda n: st.lists(_columns(n), min_size=1, max_size=4)))
def test_a_client_reads_what_the_lookup_found(features: list[FeatureColumn]) -> None:
    count = len(features[0].statuses)
    times = ViewTimes("v", np.arange(count, dtype=np.int64), np.arange(count) % 2 == 0)
    result = LookupResult([], features, [times], request_us=-5)
    raw = serialize_reply(result, project="p", revision=2**63)
    reply = GetOnlineFeaturesResponse.FromString(raw)
    assert (reply.project, reply.revision, reply.request_timestamp_us) == ("p", 2**63, -5)
    assert list(reply.views[0].event_timestamps_us) == list(range(count))
    assert list(reply.views[0].found or b"\1" * count) == times.found.tolist()
    for written, read in zip(features, reply.features, strict=True):
        assert (read.name, read.dtype) == (written.name, written.dtype)
        assert list(read.statuses) == written.statuses.tolist()
        present = written.statuses == Status.PRESENT
        assert _read(read.dtype, read.values, count) == [
            _plain(written.dtype, v) if ok else None
            for v, ok in zip(written.values, present, strict=True)
        ]


def _plain(dtype: str, value: Any) -> Any:
    if dtype.startswith("list<"):
        return [None if v is None else _plain(dtype[5:-1], v) for v in value]
    if dtype in ("float32", "float64"):
        code = "<f" if dtype == "float32" else "<d"
        return "NaN" if value != value else struct.pack(code, value)  # noqa: PLR0124 - a NaN
    return value


def _read(dtype: str, values: Values, count: int) -> list[Any]:
    if dtype.startswith("list<"):
        lengths = list(values.lists.lengths)
        elements = iter(_read(dtype[5:-1], values.lists.elements, sum(lengths)))
        found: list[Any] = [[next(elements) for _ in range(length)] for length in lengths]
    else:
        convert = Decimal if dtype.startswith("decimal") else (lambda value: value)
        found = [_plain(dtype, convert(v)) for v in getattr(values, FIELDS[dtype])]
    nulls = values.nulls or bytes(count)
    return [None if null else v for v, null in zip(found, nulls, strict=True)]


def test_a_null_key_is_marked() -> None:
    keys = [
        EntityColumn("a", "int64", np.array([7, 0]), np.array([True, False])),
        EntityColumn("b", "string", ["x", None], np.array([True, False])),
        EntityColumn("c", "bool", np.array([True, False]), None),
    ]
    raw = serialize_reply(LookupResult(keys, [], [], 0), project="p", revision=1)
    first, second, third = GetOnlineFeaturesResponse.FromString(raw).entities
    assert (list(first.values.int64s), first.values.nulls) == ([7, 0], b"\0\1")
    assert (list(second.values.strings), second.values.nulls) == (["x", ""], b"\0\1")
    assert (list(third.values.bools), third.values.nulls) == ([True, False], b"")
