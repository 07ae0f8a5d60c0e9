"""Parquet files of ours say what pyarrow's say, to three readers, in their footers too."""

import contextlib
import math
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import OutputError
from featurestore.training.output import write_tables
from featurestore.training.parquet import chunks, file
from featurestore.training.parquet.compact import Reader, Struct
from featurestore.training.parquet.file import ParquetFile

FLOATS = (0.0, -0.0, 1.5, -2.25, math.nan, math.inf, -math.inf, 1e-320)
TYPES: dict[pa.DataType, tuple[Any, ...]] = {
    pa.int32(): (0, -1, 2**31 - 1, -(2**31)),
    pa.int64(): (0, -1, 2**63 - 1, -(2**63), 7),
    pa.float32(): (*FLOATS[:-1], 0.5),
    pa.float64(): FLOATS,
    pa.date32(): (0, -1, 20_000),
    pa.timestamp("us"): (0, -1, 10**15),
    pa.timestamp("us", "Europe/Berlin"): (0, -1, 10**15),
    pa.timestamp("ns", "UTC"): (0, -1, 10**18),
    pa.timestamp("ms"): (0, -1, 10**12),
    pa.uint64(): (0, 2**64 - 1),
    pa.int8(): (-128, 127),
    pa.bool_(): (True, False),
    pa.string(): ("", "a", "é" * 9),
    pa.decimal128(20, 2): (Decimal("0.25"), Decimal("-1.5")),
    pa.list_(pa.float64()): ([], [1.0, None], [-0.0]),
    pa.struct([("a.b", pa.int64()), ("c", pa.string())]): ({"a.b": 1, "c": "x"}, {"a.b": None}),
    pa.null(): (None,),
}
PAGE_ROWS, GROUP_ROWS = 16, 40


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pages and row groups, of few rows."""
    monkeypatch.setattr(chunks, "PAGE_ROWS", PAGE_ROWS)
    monkeypatch.setattr(file, "GROUP_ROWS", GROUP_ROWS)


@pytest.fixture(scope="module")
def by_duckdb() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


@st.composite
def tables(draw: st.DrawFn) -> list[pa.Table]:
    """Tables of one schema, some of their columns in chunks, and slices of longer ones."""
    types = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=5))
    nullable = [draw(st.booleans()) or pa.types.is_null(dtype) for dtype in types]
    fields = [
        pa.field(f"{n} 'é\".{dtype}", dtype, can_be)
        for n, (dtype, can_be) in enumerate(zip(types, nullable, strict=True))
    ]
    schema = pa.schema(fields, metadata={"a": "b"})
    lengths = draw(st.lists(st.integers(0, 3 * GROUP_ROWS), max_size=3))
    return [pa.table([_column(draw, f, n) for f in fields], schema) for n in lengths]


def _column(draw: st.DrawFn, field: pa.Field, length: int) -> pa.ChunkedArray:
    share = draw(st.sampled_from([0, 0.3, 1])) if field.nullable else 0
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    before = draw(st.integers(0, 9))
    whole = values_of(field.type, before + length, share, random).slice(before)
    cut = draw(st.integers(0, length))
    return pa.chunked_array([whole.slice(0, cut), whole.slice(cut)] if cut else [whole])


def values_of(
    dtype: pa.DataType, length: int, share: float, random: np.random.Generator
) -> pa.Array:
    """Values of a type, such a share of them null."""
    known = TYPES[dtype]
    return pa.array(
        [
            None if random.random() < share else known[random.integers(len(known))]
            for _ in range(length)
        ],
        dtype,
    )


def written(tables: list[pa.Table], schema: pa.Schema, path: Path, threads: int = 2) -> Path:
    with ParquetFile(path, schema, threads=threads) as target:
        for table in tables:
            target.write(table, check=lambda: None)
    return path


def by_pyarrow(tables: list[pa.Table], schema: pa.Schema, path: Path) -> Path:
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for table in tables:
            for start in range(0, table.num_rows, GROUP_ROWS):
                writer.write_table(table.slice(start, GROUP_ROWS))
    return path


@given(parts=tables())
def test_readers_find_what_pyarrow_writes(
    tmp_path_factory: pytest.TempPathFactory,
    by_duckdb: duckdb.DuckDBPyConnection,
    parts: list[pa.Table],
) -> None:
    check(parts, tmp_path_factory.mktemp("parquet"), by_duckdb)


@pytest.mark.parametrize("share", [0, 0.3, 1])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_readers_find_each_type(
    tmp_path: Path, by_duckdb: duckdb.DuckDBPyConnection, dtype: pa.DataType, share: float
) -> None:
    random = np.random.default_rng(1)
    whole = values_of(dtype, 7 * GROUP_ROWS, share, random)
    check([pa.table({"a": whole.slice(3, 99), "b": whole.slice(102, 99)})], tmp_path, by_duckdb)


def check(parts: list[pa.Table], folder: Path, by_duckdb: duckdb.DuckDBPyConnection) -> None:
    """Write tables, and compare what readers find with what they find in pyarrow's file."""
    schema = parts[0].schema if parts else pa.schema([("a", pa.int64())])
    ours = written(parts, schema, folder / "ours.parquet")
    theirs = by_pyarrow(parts, schema, folder / "theirs.parquet")
    found, wanted = pq.read_table(ours), pq.read_table(theirs)
    assert found.schema.equals(wanted.schema, check_metadata=True)
    assert repr(found.to_pylist()) == repr(wanted.to_pylist())  # tells -0.0 from 0.0, has NaN
    read = [by_duckdb.read_parquet(str(path)).to_arrow_table() for path in (ours, theirs)]
    assert repr(read[0].to_pylist()) == repr(read[1].to_pylist())
    if found.num_columns and found.num_rows:
        assert pl.read_parquet(ours).equals(pl.read_parquet(theirs))
    assert described(ours) == described(theirs)
    alone = written(parts, schema, folder / "alone.parquet", threads=1)
    assert alone.read_bytes() == ours.read_bytes()


def described(path: Path) -> list[Any]:
    """What a footer says of values: those that readers leave out row groups by."""
    footer = pq.read_metadata(path)
    groups = [footer.row_group(n) for n in range(footer.num_row_groups)]
    of_groups = [
        (
            group.num_rows,
            column.path_in_schema,
            column.physical_type,
            column.num_values,
            repr(column.statistics and column.statistics.to_dict()),
        )
        for group in groups
        for column in (group.column(n) for n in range(footer.num_columns))
    ]
    return [footer.num_rows, *of_groups]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_of_zeros_the_least_is_negative_and_the_greatest_positive(
    tmp_path: Path, zero: float
) -> None:
    """As the format asks for: a reader may look for either among rows that have the other."""
    table = pa.table({"x": [zero] * 9})
    path = written([table], table.schema, tmp_path / "a.parquet")
    footer = path.read_bytes()[-pq.read_metadata(path).serialized_size - 8 :]
    greatest, least = struct.pack("<d", 0.0), struct.pack("<d", -0.0)
    assert b"\x28\x08" + greatest + b"\x18\x08" + least in footer, "fields 5 and 6"


def test_numbers_are_compressed_where_that_is_worth_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = pa.table({"even": [1] * GROUP_ROWS, "uneven": random.normal(size=GROUP_ROWS)})
    path = written([table], table.schema, tmp_path / "a.parquet")
    group = pq.read_metadata(path).row_group(0)
    even, uneven = group.column(0), group.column(1)
    assert (even.compression, uneven.compression) == ("SNAPPY", "UNCOMPRESSED")
    assert even.total_compressed_size < even.total_uncompressed_size
    assert uneven.total_compressed_size == uneven.total_uncompressed_size
    assert group.total_byte_size == even.total_uncompressed_size + uneven.total_uncompressed_size


def test_pages_of_nulls_take_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "GROUP_ROWS", 20_000)
    monkeypatch.setattr(chunks, "PAGE_ROWS", 10_000)
    table = pa.table({"x": pa.array([None] * 30_000 + [1.0] * 10_000)})
    path = written([table], table.schema, tmp_path / "a.parquet")
    footer = pq.read_metadata(path)
    nulls, mixed = (footer.row_group(n).column(0) for n in range(2))
    assert nulls.total_uncompressed_size < 100
    assert mixed.compression == "SNAPPY", "whatever the first page has"
    assert pq.read_table(path).equals(table)


def test_a_filter_leaves_out_row_groups_but_no_rows(tmp_path: Path) -> None:
    values = [float(n) for n in range(3 * GROUP_ROWS)]
    table = pa.table({"x": values})
    path = written([table], table.schema, tmp_path / "a.parquet")
    least = 2.0 * GROUP_ROWS
    found = pq.read_table(path, filters=[("x", ">=", least)])["x"].to_pylist()
    assert found == values[int(least) :]
    with duckdb.connect() as connection:
        rows = connection.read_parquet(str(path)).filter(f"x >= {least}").fetchall()
    assert [x for (x,) in rows] == found


def test_a_file_that_is_not_finished_is_none(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(99)), "s": ["x"] * 99})
    path = tmp_path / "a.parquet"
    with (
        contextlib.suppress(InterruptedError),
        ParquetFile(path, table.schema, threads=2) as target,
    ):
        target.write(table, check=lambda: None)
        raise InterruptedError
    with pytest.raises(pa.ArrowInvalid, match="magic bytes"):
        pq.read_table(path)


def test_whoever_wants_no_more_is_heard_before_each_row_group(tmp_path: Path) -> None:
    table = pa.table({"a": list(range(2 * GROUP_ROWS))})
    asked: list[None] = []

    def check() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_tables(
            [table], table.schema, tmp_path / "a", threads=2, check=check, what="the answer"
        )


def test_row_groups_of_long_values_have_fewer_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column of a row group is in memory as it is and encoded."""
    monkeypatch.setattr(file, "COLUMN_BYTES", 10_000)
    table = pa.table({"n": list(range(GROUP_ROWS)), "text": ["x" * 1_000] * GROUP_ROWS})
    path = written([table], table.schema, tmp_path / "a.parquet")
    footer = pq.read_metadata(path)
    rows = [footer.row_group(n).num_rows for n in range(footer.num_row_groups)]
    assert rows == [9, 9, 9, 9, 4]
    assert pq.read_table(path).equals(table)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "month_day_nano_interval"),
        (pa.array([datetime(2300, 1, 1, tzinfo=UTC)], pa.timestamp("s", "UTC")), None),
    ],
    ids=["a type that Parquet lacks", "seconds"],
)
def test_what_parquet_cannot_hold_is_said(
    tmp_path: Path, column: pa.Array, message: str | None
) -> None:
    table = pa.table({"n": [1], "x": column})

    def write() -> None:
        write_tables(
            [table],
            table.schema,
            tmp_path / "a.parquet",
            threads=2,
            check=lambda: None,
            what="the answer",
        )

    if message is None:
        write()
        assert pq.read_table(tmp_path / "a.parquet")["x"].to_pylist() == column.to_pylist()
    else:
        with pytest.raises(OutputError, match=message):
            write()


@pytest.mark.parametrize("dtype", [pa.int64(), pa.string()], ids=str)
def test_nulls_where_none_may_be_are_refused(tmp_path: Path, dtype: pa.DataType) -> None:
    schema = pa.schema([pa.field("x", dtype, nullable=False)])
    table = pa.table([pa.nulls(3, dtype)], schema)
    with pytest.raises(pa.ArrowInvalid, match="non-nullable"):
        written([table], schema, tmp_path / "a.parquet")


@given(
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20),
    texts=st.lists(st.text(max_size=200), max_size=20),
)
def test_a_struct_is_read_as_it_was_written(numbers: list[int], texts: list[str]) -> None:
    inner = Struct().i64(1, len(numbers)).end()
    items = [Struct().i64(1, number).binary(9, b"x").end() for number in numbers]
    written = Struct().i32(1, -7).structs(2, items).texts(3, texts).struct(7, inner)
    data = written.binary(8, b"\0\xff").raw(9, 1, b"").raw(10, 7, bytes(8)).raw(11, 3, b"z").end()
    out, reader = Struct(), Reader(data)
    for number, kind in reader.fields():
        out.raw(number, kind, reader.raw(kind))
    assert out.end() == data
    changed = Reader(data).changed({1: abs, 2: {1: lambda n: -1 - n}, 7: {1: lambda n: n + 1}})
    items = [Struct().i64(1, -1 - number).binary(9, b"x").end() for number in numbers]
    inner = Struct().i64(1, len(numbers) + 1).end()
    wanted = Struct().i32(1, 7).structs(2, items).texts(3, texts).struct(7, inner)
    wanted.binary(8, b"\0\xff").raw(9, 1, b"").raw(10, 7, bytes(8)).raw(11, 3, b"z")
    assert changed == wanted.end()


def test_fields_are_written_in_order() -> None:
    with pytest.raises(ValueError, match="field 1 cannot follow field 2"):
        Struct().i32(2, 0).i32(1, 0)
    with pytest.raises(ValueError, match="type 11"):
        Reader(b"\0").raw(11)
