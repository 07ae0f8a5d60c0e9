"""The digest of a table is that of its values: however they are held, and of every one of them."""

import math
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from featurestore.datasets.differences import Comparison, differing_rows
from featurestore.datasets.digest import TableDigest, digest_of, plain
from featurestore.errors import UnsupportedError

TIME = pa.timestamp("us", tz="UTC")
TEXT = st.text(max_size=5)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, math.nan, -math.nan])
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-128, 127),
    pa.int64(): INT64,
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): FLOATS,
    pa.decimal128(20, 2): st.decimals(-(10**15), 10**15, places=2),
    pa.date32(): st.dates(),
    TIME: st.integers(-(2**55), 2**55),  # what Python can show
    pa.string(): TEXT,
    pa.binary(): st.binary(max_size=4),
    pa.list_(pa.int64()): st.lists(st.none() | INT64, max_size=3),
    pa.list_(pa.list_(pa.string())): st.lists(st.none() | st.lists(TEXT, max_size=2), max_size=2),
    pa.struct([("a", pa.float64()), ("b", pa.string())]): st.fixed_dictionaries(
        {"a": st.none() | FLOATS, "b": st.none() | TEXT}
    ),
    pa.map_(pa.string(), pa.int64()): st.lists(st.tuples(TEXT, st.none() | INT64), max_size=2),
}
COLUMNS = st.sampled_from(list(VALUES)).flatmap(
    lambda dtype: st.tuples(st.just(dtype), st.lists(st.none() | VALUES[dtype], max_size=8))
)


def digest(table: pa.Table) -> str:
    """Return the digest of a table."""
    found = TableDigest(table.schema)
    found.update(table)
    return found.hexdigest()


def column(values: pa.Array | pa.ChunkedArray, name: str = "c") -> str:
    """Return the digest of a table of one column."""
    return digest(pa.table({name: values}))


@given(COLUMNS, st.lists(st.integers(0, 8)), st.integers(0, 3))
def test_the_digest_does_not_depend_on_chunks_and_slices(
    drawn: tuple[pa.DataType, list[Any]], cuts: list[int], before: int
) -> None:
    dtype, values = drawn
    whole = pa.array(values, dtype)
    ends = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    parts = [whole.slice(a, b - a) for a, b in pairwise(ends)]
    assert column(pa.chunked_array(parts, dtype)) == column(whole)
    padded = pa.array([*values[:before], *values, *values[:1]], dtype)
    assert column(padded.slice(len(values[:before]), len(values))) == column(whole)
    in_parts = TableDigest(pa.schema([("c", dtype)]))
    for part in parts:
        in_parts.update(pa.table({"c": part}))
    assert in_parts.hexdigest() == column(whole)


@given(st.lists(st.none() | TEXT, max_size=8))
def test_the_digest_does_not_depend_on_how_text_is_held(values: list[str | None]) -> None:
    expected = column(pa.array(values, pa.string()))
    for dtype in (pa.large_string(), pa.string_view()):
        assert column(pa.array(values, dtype)) == expected
    assert column(pa.array(values, pa.string()).dictionary_encode()) == expected
    held = pa.DictionaryArray.from_arrays(
        pa.array(range(len(values)), pa.int8()), pa.array(values, pa.string())
    )
    assert column(held) == expected, "nulls may be in the dictionary itself"
    assert column(pc.run_end_encode(pa.array(values, pa.string()))) == expected


@given(st.lists(st.none() | st.lists(INT64, min_size=2, max_size=2), max_size=6))
def test_the_digest_does_not_depend_on_how_lists_are_held(values: list[list[int] | None]) -> None:
    inner = pa.int64()
    expected = column(pa.array(values, pa.list_(inner)))
    for dtype in (pa.large_list(inner), pa.list_view(inner), pa.list_(inner, 2)):
        assert column(pa.array(values, dtype)) == expected


@given(st.lists(st.none() | INT64, min_size=1, max_size=8), st.binary(min_size=64, max_size=64))
def test_what_lies_under_a_null_does_not_count(values: list[int | None], junk: bytes) -> None:
    array = pa.array(values, pa.int64())
    mask = pa.array([value is not None for value in values])
    known = bytearray(junk)
    for row, value in enumerate(values):
        if value is not None:
            known[8 * row : 8 * row + 8] = value.to_bytes(8, "little", signed=True)
    buffers = [mask.buffers()[1], pa.py_buffer(bytes(known))]
    assert column(pa.Array.from_buffers(pa.int64(), len(values), buffers)) == column(array)


def test_text_and_lists_under_a_null_do_not_count() -> None:
    mask = pa.array([True, False, True])
    text = pa.array(["a", "junk", "b"])
    hidden = pa.Array.from_buffers(text.type, 3, [mask.buffers()[1], *text.buffers()[1:]])
    assert hidden.to_pylist() == ["a", None, "b"]
    assert column(hidden) == column(pa.array(["a", None, "b"]))
    items = pa.array([1, 2, 3, 4])
    lists = pa.ListArray.from_arrays(
        pa.array([0, 1, 3, 4], pa.int32()), items, mask=pc.invert(mask)
    )
    assert lists.to_pylist() == [[1], None, [4]]
    assert column(lists) == column(pa.array([[1], None, [4]]))
    structs = pa.StructArray.from_arrays([items.slice(0, 3)], names=["a"], mask=pc.invert(mask))
    assert column(structs) == column(pa.array([{"a": 1}, None, {"a": 3}]))


def test_every_nan_is_one_and_zeros_are_two() -> None:
    quiet, other = (
        pa.py_buffer(bits) for bits in (b"\0" * 6 + b"\xf8\x7f", b"\1" * 6 + b"\xf8\xff")
    )
    nans = [pa.Array.from_buffers(pa.float64(), 1, [None, bits]) for bits in (quiet, other)]
    assert column(nans[0]) == column(nans[1])
    assert column(pa.array([0.0])) != column(pa.array([-0.0]))


@given(COLUMNS, st.data())
def test_every_value_counts(drawn: tuple[pa.DataType, list[Any]], data: st.DataObject) -> None:
    dtype, values = drawn
    assume(values)
    row = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(st.none() | VALUES[dtype])
    old = pa.array(values, dtype)
    new = pa.array([*values[:row], other, *values[row + 1 :]], dtype)
    same = repr(old[row].as_py()) == repr(new[row].as_py())
    assert (column(old) == column(new)) is same
    assert differing_rows(plain(old), plain(new)).tolist() == ([] if same else [row])


@given(COLUMNS)
def test_the_order_of_rows_and_their_number_count(drawn: tuple[pa.DataType, list[Any]]) -> None:
    dtype, values = drawn
    array = pa.array(values, dtype)
    assert column(pa.array([*values, None], dtype)) != column(array)
    turned = pa.array(values[::-1], dtype)
    if list(map(repr, array.to_pylist())) != list(map(repr, turned.to_pylist())):
        assert column(turned) != column(array)


def test_text_is_not_moved_between_rows_and_lists_not_between_lists() -> None:
    assert column(pa.array(["ab", "c"])) != column(pa.array(["a", "bc"]))
    assert column(pa.array([[1, 2], [3]])) != column(pa.array([[1], [2, 3]]))
    assert column(pa.array(["", None])) != column(pa.array([None, ""]))
    assert column(pa.array([[], None], pa.list_(pa.int64()))) != column(
        pa.array([None, []], pa.list_(pa.int64()))
    )


def test_names_types_and_the_order_of_columns_count() -> None:
    ones = pa.array([1])
    assert column(ones, "a") != column(ones, "b")
    assert column(ones) != column(ones.cast(pa.int32()))
    assert column(ones) != column(ones.cast(TIME))
    assert column(ones.cast(TIME)) != column(ones.cast(pa.timestamp("us")))
    assert column(pa.array(["a"])) != column(pa.array([b"a"]))
    assert digest(pa.table({"a": ones, "b": ones})) != digest(pa.table({"b": ones, "a": ones}))
    assert digest(pa.table({"a": ones})) != digest(pa.table({"a": ones, "b": ones}))


def test_the_digest_is_the_one_that_its_definition_gives() -> None:
    """Pinned: manifests are compared with it for years."""
    table = pa.table(
        {
            "k": pa.array([1, None], pa.int32()),
            "t": pa.array(["ab", "é"]),
            "l": pa.array([[1.5, None], None], pa.list_(pa.float64())),
        }
    )
    assert digest(table) == by_hand(
        [
            ("k", "int32", [b"\1\0", b"\1\0\0\0\0\0\0\0"]),
            ("t", "string", [b"\1\1", _int64(2, 2), "abé".encode()]),
            (
                "l",
                "list<double>",
                [b"\1\0", _int64(2, 0), b"\1\0", b"\0" * 6 + b"\xf8\x3f" + b"\0" * 8],
            ),
        ],
        rows=2,
    )
    assert digest(table) == "c5b0a5364eac2e9fbfc841765dc76c59e6a2344b8b9ffc14abb6c319ba1f68ff"


def by_hand(columns: Sequence[tuple[str, str, list[bytes]]], *, rows: int) -> str:
    """Return a digest as the definition says, from the streams of the columns."""
    listed = [
        f'["{name}","{dtype}","{sha256(b"".join(map(_sha256, streams))).hexdigest()}"]'
        for name, dtype, streams in columns
    ]
    text = f'{{"columns":[{",".join(listed)}],"rows":{rows},"version":1}}'
    return sha256(text.encode()).hexdigest()


def _sha256(stream: bytes) -> bytes:
    return sha256(stream).digest()


def _int64(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def test_columns_have_digests_of_their_own() -> None:
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    found = TableDigest(table.schema)
    found.update(table)
    assert digest_of(found.columns()[:1], rows=2) == digest(table.select(["a"]))


def test_a_type_without_a_digest_is_refused() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(UnsupportedError, match="'c'"):
        column(union)


@pytest.mark.parametrize("nested", [False, True])
def test_times_that_python_does_not_know_are_compared_and_shown(nested: bool) -> None:  # noqa: FBT001
    old, new = (pa.array([0, value], pa.int64()).view(TIME) for value in (2**61, -(2**61)))
    if nested:
        old, new = (pa.ListArray.from_arrays([0, 1, 2], times) for times in (old, new))
    comparison = Comparison(*(pa.schema([("c", array.type)]) for array in (old, new)))
    before, after = (pa.table({"c": array}) for array in (old, new))
    comparison.compare(before.to_batches(), [after])
    [difference] = comparison.differences()
    [example] = difference.examples
    assert (difference.rows, example.row) == (1, 1)
    assert isinstance(example.before, str)
    assert example.before != example.after
    assert "1 rows" in str(difference)


@given(COLUMNS, st.lists(st.integers(1, 4), min_size=1), st.lists(st.integers(1, 4), min_size=1))
def test_rows_are_compared_however_they_are_cut(
    drawn: tuple[pa.DataType, list[Any]], sizes: list[int], others: list[int]
) -> None:
    dtype, values = drawn
    assume(len(values) > 1)
    changed = [*values[:-1], None]
    old, new = (pa.table({"c": pa.array(rows, dtype)}) for rows in (values, changed))
    comparison = Comparison(old.schema, new.schema)
    batches = (batch for part in cut(old, sizes) for batch in part.to_batches())
    comparison.compare(batches, cut(new, others))
    found = comparison.differences()
    if values[-1] is None:
        assert found == ()
    else:
        assert [(d.column, d.rows, d.examples[0].row) for d in found] == [("c", 1, len(values) - 1)]


@given(COLUMNS, st.data())
def test_tables_with_different_digests_have_a_difference(
    drawn: tuple[pa.DataType, list[Any]], data: st.DataObject
) -> None:
    dtype, values = drawn
    others = [data.draw(st.sampled_from(values) | st.none() | VALUES[dtype]) for _ in values]
    assert_compared(pa.array(values, dtype), pa.array(others, dtype))


@pytest.mark.parametrize("dtype", [pa.float16(), pa.float32(), pa.float64()])
def test_the_two_zeros_differ_however_deep_they_are(dtype: pa.DataType) -> None:
    old, new = (pa.array([1.5, zero], dtype) for zero in (0.0, -0.0))
    assert_compared(old, new)
    assert_compared(*(pa.StructArray.from_arrays([each], ["a"]) for each in (old, new)))
    assert_compared(*(pa.FixedSizeListArray.from_arrays(each, 1) for each in (old, new)))
    lists = [pa.ListArray.from_arrays([0, 1, 2], each) for each in (old, new)]
    assert_compared(*lists)
    assert_compared(*(pa.StructArray.from_arrays([each], ["a"]) for each in lists))
    keys = pa.array(["a", "b"])
    assert_compared(*(pa.MapArray.from_arrays([0, 1, 2], keys, each) for each in (old, new)))
    held = [each.dictionary_encode() for each in (old, new)]
    assert_compared(*held)
    assert_compared(*(pa.ListArray.from_arrays([0, 1, 2], each) for each in held))


def assert_compared(old: pa.Array, new: pa.Array) -> None:
    """Make sure that arrays have a difference just if they have different digests."""
    before, after = (pa.table({"c": array}) for array in (old, new))
    comparison = Comparison(before.schema, after.schema)
    comparison.compare(before.to_batches(), [after])
    assert bool(comparison.differences()) is (digest(before) != digest(after))


def cut(table: pa.Table, sizes: list[int]) -> list[pa.Table]:
    """Cut a table into parts of some sizes, over and over."""
    parts: list[pa.Table] = []
    start = 0
    while start < table.num_rows:
        parts.append(table.slice(start, sizes[len(parts) % len(sizes)]))
        start += parts[-1].num_rows
    return parts
