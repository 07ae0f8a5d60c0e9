"""The bytes of entities and rows: what was written is what is read, bit for bit."""

import math
import struct
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import EntityValueError, StoreDataError
from featurestore.online.codec import (
    NO_ENTITY,
    RowCodec,
    decode_key,
    encode_keys,
    is_tombstone,
    key_column,
    read_version,
    row_codec,
    tombstone,
)
from featurestore.online.layout import MAX_ROW_BYTES, RowLayout
from featurestore.online.store import VERSION_END, VERSION_START
from featurestore.types import parse_type

EVENT = 1_700_000_000_000_000
SIGNALLING_NAN, NEGATIVE_NAN = 0x7FF0_0000_0000_0001, 0xFFF8_0000_DEAD_BEEF


def floats(*bits: int, width: int = 64) -> pa.Array:
    unsigned, target = (np.uint64, np.float64) if width == 64 else (np.uint32, np.float32)
    return pa.array(np.array(bits, unsigned).view(target))


def rows_of(codec: RowCodec, *columns: object, rows: int) -> list[bytes]:
    return codec.encode(np.full(rows, EVENT), np.full(rows, EVENT), columns)


class Column(NamedTuple):
    values: Any
    valid: Any


def there_and_back(dtype: str, array: pa.Array) -> Column:
    codec = RowCodec([dtype])
    decoded = codec.decode(rows_of(codec, array, rows=len(array)), [0], view="v")
    assert decoded.found.all()
    return Column(decoded.values[0], decoded.valid[0] if decoded.valid else decoded.found)


def plain(values: Any) -> list[Any]:
    """Values in which lists of numbers are lists."""
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    return [v.tolist() if isinstance(v, np.ndarray) else v for v in listed]


BIG = Decimal(12345678901234567890123456789012345678)
NUMBERS: dict[str, list[Any]] = {
    "bool": [True, False],
    "int8": [-128, 127],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1, 2**53 + 1],
    "uint8": [0, 255],
    "uint16": [0, 2**16 - 1],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1, 2**53 + 1],
    "float32": [-0.0, math.inf, 1.5],
    "float64": [-0.0, -math.inf, 5e-324, 0.1],
    "date32": [-(2**31), 2**31 - 1],
    "timestamp[us, UTC]": [-(2**63), 2**63 - 1, 253_402_300_800_000_000],
}
OTHERS: dict[str, list[Any]] = {
    "string": ["", "a", "naïve 🛫 \0", "x" * 70_000],
    "binary": [b"", b"\0", bytes(range(256))],
    "decimal128(38, 0)": [BIG, -BIG, Decimal(0)],
    "decimal128(38, 38)": [Decimal("0." + "9" * 38), Decimal("-1E-38")],
    "decimal128(38, 2)": [Decimal("-0.01"), Decimal("123456789012345678901234567890123456.78")],
    "decimal128(5, -2)": [Decimal("1.23E+4")],
    "list<string>": [[], [""], ["a", None, "ü"], [None]],
    "list<binary>": [[b"\0"], [], [None, b""]],
    "list<decimal128(38, 2)>": [[Decimal("1.25"), None], [], [Decimal("-9.00")]],
}


def arrow(dtype: str, values: Sequence[Any]) -> pa.Array:
    wanted = parse_type(dtype)
    if pa.types.is_timestamp(wanted) or pa.types.is_date32(wanted):
        return pa.array(values, pa.int64() if wanted.bit_width == 64 else pa.int32()).cast(wanted)
    return pa.array(values, wanted)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers_come_back_in_their_own_type(dtype: str) -> None:
    array = arrow(dtype, [*NUMBERS[dtype], None])
    column = there_and_back(dtype, array)
    assert isinstance(column.values, np.ndarray)
    assert column.values.tolist()[:-1] == NUMBERS[dtype]
    assert column.values.tolist()[-1] == 0
    assert column.valid.tolist() == [True] * len(NUMBERS[dtype]) + [False]
    storage = {"date32": "int32", "timestamp[us, UTC]": "int64"}.get(dtype, dtype)
    assert column.values.dtype == np.dtype(storage)


@pytest.mark.parametrize("dtype", OTHERS)
def test_values_of_varying_width_come_back(dtype: str) -> None:
    column = there_and_back(dtype, pa.array([None, *OTHERS[dtype]], parse_type(dtype)))
    assert plain(column.values) == [None, *OTHERS[dtype]]
    assert column.valid.tolist() == [False] + [True] * len(OTHERS[dtype])


@pytest.mark.parametrize("dtype", OTHERS)
def test_values_without_nulls_come_back(dtype: str) -> None:
    column = there_and_back(dtype, pa.array(OTHERS[dtype], parse_type(dtype)))
    assert plain(column.values) == OTHERS[dtype]
    assert column.valid.all()


@pytest.mark.parametrize("dtype", NUMBERS)
def test_lists_of_numbers_come_back(dtype: str) -> None:
    flat = arrow(dtype, NUMBERS[dtype])
    lists = pa.ListArray.from_arrays(pa.array([0, len(flat), len(flat)], pa.int32()), flat)
    column = there_and_back(f"list<{dtype}>", lists)
    assert plain(column.values) == [NUMBERS[dtype], []]
    assert all(isinstance(value, np.ndarray) for value in column.values)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_lists_with_null_elements_come_back(dtype: str) -> None:
    flat = arrow(dtype, [None, *NUMBERS[dtype], None])
    ends = [0, 1, len(flat), len(flat), len(flat)]
    null = pa.array([False, False, True, False])
    lists = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), flat, mask=null)
    column = there_and_back(f"list<{dtype}>", lists)
    assert plain(column.values) == [[None], [*NUMBERS[dtype], None], None, []]


def test_a_nan_keeps_its_bits() -> None:
    bits = [SIGNALLING_NAN, NEGATIVE_NAN]
    values = there_and_back("float64", floats(*bits)).values
    assert np.asarray(values).view(np.uint64).tolist() == bits
    (listed,) = there_and_back("list<float64>", pa.array([floats(*bits).to_numpy()])).values
    assert listed.view(np.uint64).tolist() == bits


def test_a_float32_stays_one() -> None:
    bits = [0x7F80_0001, 0x3DCC_CCCD, 0x8000_0000]
    values = there_and_back("float32", floats(*bits, width=32)).values
    assert np.asarray(values).view(np.uint32).tolist() == bits


def test_an_empty_list_is_not_null() -> None:
    column = there_and_back("list<int64>", pa.array([[], None], pa.list_(pa.int64())))
    assert column.valid.tolist() == [True, False]
    assert plain(column.values) == [[], None]


@pytest.mark.parametrize(
    ("array", "dtype", "values"),
    [
        (pa.array(["a", None], pa.large_string()), "string", ["a", None]),
        (pa.array(["a", None], pa.string_view()), "string", ["a", None]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), "string", ["a", "b", "a"]),
        (pa.array([b"xy"], pa.binary(2)), "binary", [b"xy"]),
        (pa.array([[1, 2]], pa.large_list(pa.int8())), "list<int64>", [[1, 2]]),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), "list<int64>", [[1, 2]]),
        (pa.array([1, None], pa.int8()), "int64", [1, 0]),
        (pa.chunked_array([["a"], ["b", "c"]]), "string", ["a", "b", "c"]),
        (pl.Series(["a", None]), "string", ["a", None]),
        (pa.nulls(2), "string", [None, None]),
    ],
)
def test_variants_of_a_type_count_as_the_type(array: Any, dtype: str, values: list[Any]) -> None:
    codec = RowCodec([dtype])
    rows = codec.encode(np.zeros(len(values), np.int64), None, [array])
    assert plain(codec.decode(rows, [0]).values[0]) == values


@pytest.mark.parametrize("dtype", ["float64", "string", "bool", "list<int64>", "decimal128(9, 2)"])
def test_slices_of_arrays_are_encoded_as_their_values(dtype: str) -> None:
    samples: dict[str, list[Any]] = {
        "float64": [1.0, None, 3.0, 4.0, 5.0],
        "string": ["a", None, "ccc", "dd", "e"],
        "bool": [True, None, False, True, True],
        "list<int64>": [[1], None, [2, None], [], [3]],
        "decimal128(9, 2)": [Decimal("1.00"), None, Decimal("3.00"), Decimal("4.00"), None],
    }
    values = samples[dtype]
    whole = pa.array(values, parse_type(dtype))
    assert rows_of(RowCodec([dtype]), whole.slice(1, 3), rows=3) == rows_of(
        RowCodec([dtype]), pa.array(values[1:4], parse_type(dtype)), rows=3
    )


def test_what_lies_under_a_null_is_not_stored() -> None:
    secret = pa.array([7.0, 8.0], mask=np.array([True, False]))
    text = pa.array(["secret", "x"], mask=np.array([True, False]))
    rows = rows_of(RowCodec(["float64", "string"]), secret, text, rows=2)
    assert struct.pack("<d", 7.0) not in rows[0]
    assert b"secret" not in rows[0]


def test_wanted_columns_come_in_the_order_asked() -> None:
    codec = RowCodec(["int64", "string", "float64", "string"])
    rows = rows_of(codec, pa.array([1]), pa.array(["a"]), pa.array([2.5]), pa.array(["b"]), rows=1)
    assert [plain(c) for c in codec.decode(rows, [3, 0, 1]).values] == [["b"], [1], ["a"]]


def test_numbers_are_decoded_alike_whatever_lies_beside_them() -> None:
    """Columns that lie side by side are decoded at once if they are asked for so."""
    types = ["float64", "float64", "int64", "float32", "float32", "string", "float64", "float64"]
    codec = RowCodec(types)
    columns = [arrow(dtype, [2 * i, 2 * i + 1]) for i, dtype in enumerate(types) if i != 5]
    columns.insert(5, pa.array(["10", "11"]))
    rows = rows_of(codec, *columns, rows=2)
    choices = [[*range(8)], [*range(7, -1, -1)], [0, 1], [1, 0], [3, 4, 6, 7], [0, 2, 6], [1, 1, 2]]
    for wanted in choices:
        for batch, at in ((rows, [0, 1]), ([rows[1]], [1]), ([*rows, *rows], [0, 1, 0, 1])):
            found = codec.decode(batch, wanted)
            assert found.valid is None
            for column, values in zip(wanted, found.values, strict=True):
                expected = [2 * column + row for row in at]
                assert plain(values) == (list(map(str, expected)) if column == 5 else expected)
                assert column == 5 or values.dtype == np.dtype(types[column])  # type: ignore[union-attr]


def test_a_row_carries_its_times() -> None:
    codec = RowCodec(["int64"])
    event = np.array([-1, 2**62, 0], np.int64)
    created = np.array([5, 6, 7], np.int64)
    rows = codec.encode(
        event, created, [pa.array([1, 2, 3])], created_valid=np.array([True, False, True])
    )
    assert [read_version(row) for row in rows] == [(-1, 5), (2**62, None), (0, 7)]
    assert codec.decode(rows, []).event_us.tolist() == event.tolist()


def test_a_source_without_created_times_has_none() -> None:
    (row,) = RowCodec(["int64"]).encode(np.array([7]), None, [pa.array([1])])
    assert read_version(row) == (7, None)


TIMES = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(st.tuples(TIMES, st.none() | st.integers(-(2**63) + 1, 2**63 - 1)), min_size=2))
def test_versions_order_as_bytes_like_times_with_a_missing_created_time_lowest(
    versions: list[tuple[int, int | None]],
) -> None:
    event = np.array([e for e, _ in versions], np.int64)
    created = np.array([c or 0 for _, c in versions], np.int64)
    valid = np.array([c is not None for _, c in versions])
    rows = RowCodec([]).encode(event, created, [], created_valid=valid)
    by_bytes = sorted(range(len(rows)), key=lambda i: rows[i][VERSION_START:VERSION_END])
    by_time = sorted(
        range(len(rows)),
        key=lambda i: (versions[i][0], versions[i][1] is not None, versions[i][1] or 0),
    )
    assert [versions[i] for i in by_bytes] == [versions[i] for i in by_time]


def test_a_missing_row_is_not_found_and_holds_nothing() -> None:
    codec = RowCodec(["float64", "string", "decimal128(5, 2)"])
    (row,) = rows_of(
        codec,
        pa.array([1.5]),
        pa.array(["a"]),
        arrow("decimal128(5, 2)", [Decimal("1.50")]),
        rows=1,
    )
    decoded = codec.decode([None, row, None], [0, 1, 2])
    assert decoded.found.tolist() == [False, True, False]
    assert decoded.event_us.tolist() == [0, EVENT, 0]
    assert [plain(values) for values in decoded.values] == [
        [0.0, 1.5, 0.0],
        [None, "a", None],
        [None, Decimal("1.50"), None],
    ]
    assert decoded.valid is None


def test_a_tombstone_is_read_as_no_row_and_is_newer_than_what_it_deletes() -> None:
    codec = RowCodec(["string"])
    (row,) = rows_of(codec, pa.array(["a"]), rows=1)
    stone = tombstone(EVENT + 1)
    assert is_tombstone(stone)
    assert not is_tombstone(row)
    assert read_version(stone) == (EVENT + 1, EVENT + 1)
    assert stone[VERSION_START:VERSION_END] > row[VERSION_START:VERSION_END]
    decoded = codec.decode([stone, row], [0])
    assert decoded.found.tolist() == [False, True]
    assert plain(decoded.values[0]) == [None, "a"]


def test_a_batch_without_rows_decodes_to_nothing() -> None:
    decoded = RowCodec(["int64", "string"]).decode([], [0, 1])
    assert len(decoded.found) == 0
    assert [len(values) for values in decoded.values] == [0, 0]


def _damaged(row: bytes) -> dict[str, bytes]:
    return {
        "no bytes at all": b"",
        "cut in its head": row[:25],
        "cut at its end": row[:-1],
        "a byte too long": row + b"x",
        "another format": b"\x09" + row[1:],
        "the format of a filler": b"\x00" + row[1:],
        "another schema": row[:1] + bytes([row[1] ^ 1]) + row[2:],
        "a long tombstone": b"\x02" + row[1:],
    }


@pytest.mark.parametrize("dtypes", [["int64", "float64"], ["int64", "string"]])
@pytest.mark.parametrize("damage", _damaged(bytes(40)))
def test_a_damaged_row_is_refused_with_the_views_name(dtypes: list[str], damage: str) -> None:
    codec = RowCodec(dtypes)
    second = pa.array([1.5]) if dtypes[1] == "float64" else pa.array(["text"])
    (row,) = rows_of(codec, pa.array([1]), second, rows=1)
    with pytest.raises(StoreDataError, match="'weather'"):
        codec.decode([row, _damaged(row)[damage], None], [0, 1], view="weather")


def test_text_that_is_none_is_refused() -> None:
    codec = RowCodec(["string"])
    (row,) = rows_of(codec, pa.array(["ab"]), rows=1)
    with pytest.raises(StoreDataError, match="column 0 is no string"):
        codec.decode([row[:-1] + b"\xff"], [0])


@given(st.data())
def test_whatever_the_bytes_decoding_gives_rows_or_a_typed_error(data: st.DataObject) -> None:
    codec = row_codec(("int64", "string", "list<string>", "list<float32>"))
    (row,) = rows_of(
        codec,
        pa.array([1]),
        pa.array(["ab"]),
        pa.array([["x", None]]),
        pa.array([[1.0]], pa.list_(pa.float32())),
        rows=1,
    )
    changed = bytearray(row)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(row) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = codec.decode([bytes(changed)], range(4))
    except StoreDataError:
        return
    assert len(decoded.values) == 4


def test_schemas_have_ids_of_their_own() -> None:
    assert RowCodec(["int64", "int32"]).schema_id != RowCodec(["int32", "int64"]).schema_id


def test_a_row_of_ten_doubles_takes_101_bytes() -> None:
    assert RowLayout(["float64"] * 10).head_bytes == 19 + 2 + 80


def test_rows_of_fixed_width_begin_with_their_version() -> None:
    fields = RowLayout(["int64"]).record.fields
    assert fields is not None
    assert fields["event"][1] == VERSION_START
    assert fields["nulls"][1] == VERSION_END


def test_a_column_of_another_type_is_refused() -> None:
    with pytest.raises(StoreDataError, match="Column 1 is string and cannot be stored as int64"):
        rows_of(RowCodec(["int64", "int64"]), pa.array([1]), pa.array(["x"]), rows=1)
    with pytest.raises(StoreDataError, match="Column 0 is int64"):
        rows_of(RowCodec(["int8"]), pa.array([300]), rows=1)


def test_columns_of_another_number_or_length_are_refused() -> None:
    with pytest.raises(StoreDataError, match="1 columns for a view of 2"):
        rows_of(RowCodec(["int64", "int64"]), pa.array([1]), rows=1)
    with pytest.raises(StoreDataError, match="2 event times"):
        rows_of(RowCodec(["int64"]), pa.array([1]), rows=2)


def test_a_row_that_is_too_large_is_refused_by_its_number() -> None:
    large = pa.array([b"", bytes(MAX_ROW_BYTES + 1)])
    with pytest.raises(StoreDataError, match="Row 1 of the batch"):
        rows_of(RowCodec(["binary"]), large, rows=2)


@pytest.mark.parametrize("dtype", ["list<list<int64>>", "struct<a: int64>", "duration[us]", ""])
def test_a_type_that_cannot_be_served_has_no_codec(dtype: str) -> None:
    with pytest.raises(ValueError, match="not a type that can be served online"):
        RowCodec([dtype])


def test_decoding_imports_nothing_heavy() -> None:
    heavy = {"pyarrow", "duckdb", "polars", "pandas", "sqlalchemy", "pydantic", "redis", "lmdb"}
    code = (
        "import sys\n"
        "from featurestore.online.codec import encode_keys, row_codec, tombstone\n"
        "from featurestore.serving.lookup import Lookup\n"
        "from featurestore.serving.plan import ServingCatalog\n"
        "from featurestore.online.factory import open_store\n"
        "row_codec(('int64', 'string')).decode([tombstone(5), None], [0, 1])\n"
        "encode_keys(['int64', 'string'], [[1], ['a']])\n"
        f"print(*sorted({heavy!r} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == []


# --- keys ----------------------------------------------------------------------------------------

KEYS: dict[str, list[Any]] = {
    "bool": [False, True],
    "int8": [-128, 0, 127],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), -1, 0, 2**53 + 1, 2**63 - 1],
    "uint8": [0, 255],
    "uint16": [2**16 - 1],
    "uint32": [2**32 - 1],
    "uint64": [0, 2**63, 2**64 - 1],
    "string": ["", "a", "a\0", "}{", "ü", "u\u0308"],
    "binary": [b"", b"\0", b"}", bytes(range(256))[:250]],
    "date32": [date(1, 1, 1), date(1970, 1, 1), date(9999, 12, 31)],
}


@pytest.mark.parametrize("dtype", KEYS)
def test_keys_come_back(dtype: str) -> None:
    keys = encode_keys([dtype], [KEYS[dtype]])
    assert len(set(keys)) == len(KEYS[dtype])
    assert [decode_key([dtype], key or b"") for key in keys] == [(v,) for v in KEYS[dtype]]


@pytest.mark.parametrize("dtype", KEYS)
def test_arrow_keys_are_the_keys_of_their_values(dtype: str) -> None:
    expected = encode_keys([dtype], [[*KEYS[dtype], None]])
    array = pa.array([*KEYS[dtype], None], parse_type(dtype))
    assert expected[-1] is None
    assert encode_keys([dtype], [array]) == expected
    assert encode_keys([dtype], [pa.chunked_array([array[:1], array[1:]])]) == expected
    assert encode_keys([dtype], [pl.Series(array)]) == expected
    assert encode_keys([dtype], [pd.Series(array.to_pylist(), dtype=object)]) == expected


@pytest.mark.parametrize("dtype", KEYS)
def test_keys_fit_every_store(dtype: str) -> None:
    for key in encode_keys([dtype, "binary"], [KEYS[dtype][:1], [b"x" * 10_000]]):
        assert key is not None
        assert 1 <= len(key) <= 255
        assert key[:1] != b"}"


def test_a_view_without_entity_has_one_key() -> None:
    assert encode_keys([], []) == [NO_ENTITY]
    assert decode_key([], NO_ENTITY) == ()


def test_a_long_key_is_hashed_and_cannot_be_read_back() -> None:
    short, long = encode_keys(["string"], [["x" * 254, "x" * 255]])
    assert short is not None
    assert len(short) == 255
    assert decode_key(["string"], short) == ("x" * 254,)
    assert long is not None
    assert len(long) == 33
    assert decode_key(["string"], long) is None


@pytest.mark.parametrize("null", [None, math.nan, np.nan, pd.NA, pd.NaT, np.datetime64("NaT")])
def test_a_key_with_a_null_part_is_none(null: object) -> None:
    keys = encode_keys(["int64", "string"], [[1, null, 3], ["a", "b", null]])
    assert [key is None for key in keys] == [False, True, True]


COMPOSITES = st.tuples(st.text(max_size=3), st.binary(max_size=3), st.integers(0, 3), st.booleans())


@given(st.sets(COMPOSITES, min_size=2, max_size=30))
def test_different_composite_keys_have_different_bytes(keys: set[tuple[Any, ...]]) -> None:
    dtypes = ["string", "binary", "uint8", "bool"]
    ordered = sorted(keys)
    encoded = encode_keys(dtypes, list(zip(*ordered, strict=True)))
    assert len(set(encoded)) == len(ordered)
    assert [decode_key(dtypes, key or b"") for key in encoded] == ordered


def test_parts_of_a_composite_key_cannot_be_shifted() -> None:
    keys = encode_keys(["string", "string"], [["ab", "a", ""], ["c", "bc", "abc"]])
    assert len(set(keys)) == 3


def test_a_part_longer_than_127_bytes_comes_back() -> None:
    values = ("x" * 130, "y" * 100)
    (key,) = encode_keys(["string", "string"], [[values[0]], [values[1]]])
    assert key is not None
    assert decode_key(["string", "string"], key) == values


@pytest.mark.parametrize(
    ("dtypes", "key"),
    [
        (["int64"], b"\x02short"),
        (["int64"], b"\x03" + bytes(8)),
        (["string"], b"\x03\xff"),
        (["string", "int64"], b"\x04\x05ab"),
        (["string", "int64"], b"\x04\x80"),
        (["int64"], b"\x02" + bytes(9)),
        ([], b"\x02"),
        (["int64"], b""),
    ],
)
def test_bytes_that_are_no_key_are_refused(dtypes: list[str], key: bytes) -> None:
    with pytest.raises(StoreDataError, match="is no key"):
        decode_key(dtypes, key)


def same(dtype: str, column: object, values: list[Any]) -> bool:
    return encode_keys([dtype], [column]) == encode_keys([dtype], [values])


def test_integers_of_every_width_are_one_key() -> None:
    for width in ("int8", "uint8", "int16", "int32", "uint64", "float32", "float64"):
        assert same("int64", np.array([1, 100], width), [1, 100])
        assert same("uint8", np.array([1, 100], width), [1, 100])
    assert same("int32", [np.int8(1), np.uint64(2), 3, 4.0], [1, 2, 3, 4])


def test_whole_floats_are_integers_and_nan_is_null() -> None:
    assert same("int64", np.array([1.0, np.nan, -3.0]), [1, None, -3])
    assert same("int64", [1.0, None, math.nan], [1, None, None])
    assert same("int64", pd.Series([1, None, 3]), [1, None, 3])
    assert same("int64", pa.array([1.0, None, 3.0]), [1, None, 3])


def test_masked_arrays_have_nulls() -> None:
    assert same("int8", np.ma.MaskedArray([1, 300], [False, True]), [1, None])
    assert same("bool", np.ma.MaskedArray([True, True], [False, True]), [True, None])
    words = np.ma.MaskedArray(np.array(["a", "b"], object), [False, True])
    assert same("string", words, ["a", None])


def test_dates_come_in_many_forms() -> None:
    day = date(2024, 2, 29)
    for column in (
        np.array(["2024-02-29", "NaT"], "datetime64[D]"),
        np.array(["2024-02-29", "NaT"], "datetime64[ns]"),
        np.ma.MaskedArray(np.array([19_782, 0], np.int32), [False, True]),
        [datetime(2024, 2, 29, tzinfo=UTC), None],
        [np.datetime64("2024-02-29"), np.datetime64("NaT")],
        pd.Series(pd.to_datetime(["2024-02-29", None])),
        pa.array([day, None], pa.date64()),
    ):
        assert same("date32", column, [day, None])


def test_text_is_not_normalised() -> None:
    composed, decomposed = encode_keys(["string"], [["é", "e\u0301"]])
    assert composed != decomposed


@pytest.mark.parametrize(
    ("dtype", "column", "row"),
    [
        ("int64", [1, "2"], 1),
        ("int64", [1, True], 1),
        ("int64", [1, 2.5], 1),
        ("int64", [2.0**60], 0),
        ("int64", [1, 2**63], 1),
        ("int8", [1, 2, -129], 2),
        ("uint8", [-1], 0),
        ("int64", [Decimal(1)], 0),
        ("int64", np.array([1.5]), 0),
        ("int64", np.array([1.0, np.inf]), 1),
        ("int8", np.array([1, 128]), 1),
        ("int8", np.array([1.0, -129.0]), 1),
        ("uint64", np.array([1, -1]), 1),
        ("int64", np.array([1, 2**63], np.uint64), 1),
        ("int64", np.array([True]), 0),
        ("int32", pa.array([1, 2**31]), 1),
        ("int64", pa.array(["1"]), 0),
        ("int64", pa.array([None, Decimal(1)]), 1),
        ("string", ["a", 1], 1),
        ("string", ["a", b"b"], 1),
        ("string", ["a", 1.5], 1),
        ("string", ["ok", "\ud800"], 1),
        ("string", np.array([1]), 0),
        ("string", pa.array([b"x"]), 0),
        ("binary", [b"a", "b"], 1),
        ("bool", [True, 1], 1),
        ("bool", np.array([1]), 0),
        ("date32", ["2024-02-29"], 0),
        ("date32", [datetime(2024, 2, 29, 1)], 0),  # noqa: DTZ001 - as a careless caller has it
        ("date32", [1], 0),
        ("date32", np.array([1]), 0),
        ("date32", np.array(["2024-02-29T01"], "datetime64[h]"), 0),
        ("date32", np.array([2**40], "datetime64[D]"), 0),
        ("date32", np.datetime64("2024-02-29T01", "h").reshape(1), 0),
        ("int64", pd.Series([1, "x"], dtype=object), 1),
    ],
)
def test_a_key_of_another_type_is_refused_by_field_and_row(
    dtype: str, column: Any, row: int
) -> None:
    with pytest.raises(EntityValueError, match=f"'user_id'.*row {row}") as caught:
        encode_keys([dtype], [column], names=["user_id"])
    assert (caught.value.field, caught.value.row) == ("user_id", row)


@pytest.mark.parametrize("column", ["abc", b"abc", 5, None, {1: 2}, np.zeros((2, 2)), np.array(5)])
def test_what_is_no_column_is_refused(column: object) -> None:
    with pytest.raises(EntityValueError, match="'user_id' takes") as caught:
        key_column("string", column, field="user_id")
    assert caught.value.row is None


def test_an_empty_column_of_any_type_is_no_error() -> None:
    assert encode_keys(["string"], [np.array([])]) == []
    assert encode_keys(["date32"], [[]]) == []
    assert encode_keys(["int64"], [pa.nulls(2)]) == [None, None]


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="different lengths"):
        encode_keys(["int64", "int64"], [[1], [1, 2]])


def test_key_values_are_in_the_declared_type() -> None:
    column = key_column("int16", [1, None], field="k")
    assert isinstance(column.values, np.ndarray)
    assert column.values.dtype == np.int16
    assert column.valid is not None
    assert column.valid.tolist() == [True, False]
    assert key_column("string", pa.array(["a", None]), field="k").values == ["a", None]
    assert key_column("date32", [date(1970, 1, 2)], field="k").values == np.array([1], np.int32)
