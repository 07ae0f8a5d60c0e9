"""What every offline engine promises about the types that files may hold (SEMANTICS, section 8)."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.definitions import Entity, FeatureView, Field, FileSource
from featurestore.offline.as_of import as_of
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.scan import open_scan
from featurestore.time import from_micros
from featurestore.types import (
    Binary,
    Date,
    Float32,
    Float64,
    Int64,
    List,
    String,
    Timestamp,
    type_name,
)
from featurestore.types import Decimal as DecimalType

DAY: Final = datetime(2024, 3, 5, tzinfo=UTC)
NAIVE_DAY: Final = DAY.replace(tzinfo=None)
UUIDS: Final = [bytes(range(16)), b"\xff" * 16]


class Held(NamedTuple):
    """Three values as a file holds them, and as what they are read."""

    column: pa.Array
    declared: pa.DataType
    values: list[object]


def _in_struct(column: pa.Array) -> pa.Array:
    return pa.StructArray.from_arrays([column], ["a"], mask=pa.array([False, False, True]))


def _struct(dtype: pa.DataType) -> pa.DataType:
    return pa.struct([("a", dtype)])


HELD: Final = {
    "half floats": Held(
        pa.array(np.array([1.5, -0.0, np.inf], np.float16)), Float32, [1.5, -0.0, np.inf]
    ),
    "integers as floats": Held(
        pa.array([-(2**31), 2**31 - 1, None], pa.int32()), Float64, [-(2.0**31), 2.0**31 - 1, None]
    ),
    "integers as decimals": Held(
        pa.array([-(2**63), 2**63 - 1, None]),
        DecimalType(38, 2),
        [Decimal(-(2**63)), Decimal(2**63 - 1), None],
    ),
    "small decimals": Held(
        pa.array([Decimal("1.25"), Decimal("-0.01"), None], pa.decimal32(5, 2)),
        DecimalType(10, 3),
        [Decimal("1.25"), Decimal("-0.01"), None],
    ),
    "large decimals": Held(
        pa.array([Decimal("1.25"), Decimal("-0.01"), None], pa.decimal256(30, 2)),
        DecimalType(30, 2),
        [Decimal("1.25"), Decimal("-0.01"), None],
    ),
    "UUIDs": Held(pa.array([*UUIDS, None], pa.uuid()), Binary, [*UUIDS, None]),
    "bytes of one length": Held(
        pa.array([b"\0\1", b"ab", None], pa.binary(2)), Binary, [b"\0\1", b"ab", None]
    ),
    "views of bytes": Held(
        pa.array([b"", b"a", None], pa.binary_view()), Binary, [b"", b"a", None]
    ),
    "views of texts": Held(pa.array(["", "é", None], pa.string_view()), String, ["", "é", None]),
    "dictionaries": Held(
        pa.array(["a", "b", None])
        .dictionary_encode()
        .cast(pa.dictionary(pa.int16(), pa.large_string())),
        String,
        ["a", "b", None],
    ),
    "milliseconds of days": Held(
        pa.array([DAY.date(), date(1, 1, 1), None], pa.date64()),
        Date,
        [DAY.date(), date(1, 1, 1), None],
    ),
    "nanoseconds": Held(
        pa.array([1_999, -1, None]).cast(pa.timestamp("ns")),
        Timestamp,
        [from_micros(1), from_micros(-1), None],
    ),
    "large lists": Held(
        pa.array([[1, None], [], None], pa.large_list(pa.int8())),
        List(Int64),
        [[1, None], [], None],
    ),
    "lists of one length": Held(
        pa.array([[0.5, None], [1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        List(Float64),
        [[0.5, None], [1.0, 2.0], None],
    ),
    "views of lists": Held(
        pa.array([[1, None], [], None], pa.list_view(pa.int32())),
        List(Int64),
        [[1, None], [], None],
    ),
    "views of lists of times": Held(
        pa.array([[NAIVE_DAY, None], [], None], pa.list_view(pa.timestamp("ms"))),
        List(Timestamp),
        [[DAY, None], [], None],
    ),
    "lists of nulls": Held(
        pa.array([[None], [], None], pa.list_(pa.null())), List(Timestamp), [[None], [], None]
    ),
    "lists of views of texts": Held(
        pa.array([["", None], [], None], pa.list_(pa.string_view())),
        List(String),
        [["", None], [], None],
    ),
    "nulls": Held(pa.nulls(3), List(Timestamp), [None, None, None]),
    "nulls in structs": Held(
        _in_struct(pa.array([1, None, 2], pa.int8())), _struct(Int64), [{"a": 1}, {"a": None}, None]
    ),
    "UUIDs in structs": Held(
        _in_struct(pa.array([*UUIDS, None], pa.uuid())),
        _struct(Binary),
        [{"a": UUIDS[0]}, {"a": UUIDS[1]}, None],
    ),
    "views of lists in structs": Held(
        _in_struct(pa.array([[1], None, [2]], pa.list_view(pa.int8()))),
        _struct(List(Int64)),
        [{"a": [1]}, {"a": None}, None],
    ),
    "lists of lists": Held(
        pa.array([[[1], None], [], None], pa.list_(pa.list_(pa.int8()))),
        pa.list_(pa.list_(Float32)),
        [[[1.0], None], [], None],
    ),
}


class PhysicalTypeConformance:
    """What is stored is what is read."""

    @pytest.mark.parametrize("others", [(), ("K", "X")], ids=["alone", "beside other cases"])
    @pytest.mark.parametrize("name", HELD)
    def test_a_value_is_the_same_however_it_is_stored(
        self, engine: OfflineEngine, tmp_path: Path, name: str, others: Sequence[str]
    ) -> None:
        held = HELD[name]
        times = pa.array([DAY] * 3, pa.timestamp("us", tz="UTC"))
        columns = {"k": pa.array([1, 2, 3]), "t": times, "x": held.column}
        columns |= {other: pa.array([9] * 3) for other in others}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        view = FeatureView(
            name="stored",
            entities=[Entity(name="one", join_keys={"k": Int64})],
            source=FileSource(name="files", path="a.parquet", timestamp_field="t"),
            schema=[Field(name="x", dtype=held.declared)],
            online=False,
        )
        scan = open_scan(view, ["x"], tmp_path)
        spine = pa.table({"q": pa.array([2**60] * 3), "k0": [3, 1, 2]})
        found = as_of(engine, scan, spine, ttl_us=None, mode="complete")["f0"]
        assert type_name(found.type) == type_name(held.declared)
        assert repr(found.to_pylist()) == repr([_as_told(held, n) for n in (2, 0, 1)])


def _as_told(held: Held, row: int) -> object:
    return pa.array([held.values[row]], held.declared)[0].as_py()
