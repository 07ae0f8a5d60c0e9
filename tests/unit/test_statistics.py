"""What a profile says of unusual values and types, and how it is shown."""

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featurestore.errors import RequestError
from featurestore.statistics import ColumnProfile, Histogram, Profile, Profiler, Quantiles, profile
from featurestore.statistics.charts import share_text
from featurestore.statistics.distinct import DistinctSummary, mixed
from featurestore.statistics.grid import FloatLadder, Grid
from featurestore.statistics.text import chart_lines, profile_text, sparks


def column(values: Any, dtype: pa.DataType | None = None, **edges: Any) -> ColumnProfile:
    array = values if isinstance(values, pa.Array) else pa.array(values, dtype)
    table = pa.table({"x": array})
    return profile([table], table.schema, **edges).columns["x"]


# --- exact where they say so ---------------------------------------------------------------------


def test_integers_beyond_floats_stay_exact() -> None:
    found = column([2**64 - 1, 2**64 - 1, 2**64 - 3], pa.uint64())
    assert (found.min, found.max) == (2**64 - 3, 2**64 - 1)
    assert found.distinct is not None
    assert found.distinct.count == 2
    assert found.stddev == pytest.approx(math.sqrt(4 / 3))


def test_a_sum_of_integers_does_not_overflow() -> None:
    assert column([2**63 - 1] * 1_000, pa.int64()).mean == float(2**63 - 1)
    assert column([-(2**63)] * 1_000, pa.int64()).mean == float(-(2**63))


def test_deviations_beside_a_great_mean_do_not_cancel() -> None:
    found = column([1e15, 1e15 + 1, 1e15 + 2])
    assert (found.mean, found.stddev) == (1e15 + 1, 1.0)


def test_nan_is_counted_and_nothing_else() -> None:
    found = column([math.nan, 1.0, math.inf, -math.inf, None, 3.0, -0.0, 0.0])
    assert (found.nan, found.infinities, found.nulls) == (1, (1, 1), 1)
    assert (found.min, found.max) == (-math.inf, math.inf)
    assert found.mean == 1.0
    assert found.distinct is not None
    assert found.distinct.count == 6  # NaN is one, and so is zero
    assert found.histogram is not None
    assert sum(found.histogram.counts) == 4
    nothing = column([math.nan, None])
    assert (nothing.min, nothing.mean, nothing.quantiles, nothing.histogram) == (None,) * 4


def test_decimals_keep_their_digits() -> None:
    found = column([Decimal("0.10"), Decimal("12345678901234567.89")], pa.decimal128(38, 2))
    assert (found.min, found.max) == (Decimal("0.10"), Decimal("12345678901234567.89"))
    narrow = column([Decimal("-0.001"), Decimal("0.001")], pa.decimal128(4, 3))
    assert (narrow.min, narrow.max, narrow.mean) == (Decimal("-0.001"), Decimal("0.001"), 0.0)
    assert narrow.quantiles is not None
    assert narrow.quantiles.values[0.5] == Decimal("-0.001")


def test_times_are_instants_and_deviations_seconds() -> None:
    times = [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC)]
    found = column(times, pa.timestamp("ns", "Europe/Paris"))
    assert (found.min, found.max) == (times[0], times[1])
    assert found.mean == datetime(2024, 1, 2, tzinfo=UTC)
    assert found.stddev == pytest.approx(86_400 * math.sqrt(2))
    days = column([date(2024, 1, 1), date(2024, 1, 3)])
    assert days.mean == date(2024, 1, 2)
    assert days.stddev == pytest.approx(86_400 * math.sqrt(2))


def test_bins_of_times_are_whole_units() -> None:
    hours = pa.array(np.arange(0, 3_600_000_000 * 500, 3_600_000_000)).view(pa.timestamp("us"))
    found = column(hours).histogram
    assert found is not None
    assert {
        (b - a).total_seconds() for a, b in zip(found.edges, found.edges[1:], strict=False)
    } == {86_400.0}


def test_a_value_on_a_rounded_edge_is_above_it_in_every_part() -> None:
    parts, whole = [np.array([0.0, 0.3]), np.array([0.9])], Grid(FloatLadder())
    whole.add(np.concatenate(parts))
    merged = Grid(FloatLadder())
    for part in parts:
        other = Grid(FloatLadder())
        other.add(part)
        merged.merge(other)
    assert merged.bins() == whole.bins()


def test_an_estimate_stays_one_when_it_is_merged() -> None:
    merged, other = DistinctSummary(limit=32), DistinctSummary(limit=32)
    other.add(mixed(np.arange(33)))
    merged.merge(other)
    assert (merged.exact, merged.count) == (False, other.count)


def test_what_python_has_no_time_for_is_text() -> None:
    found = column(pa.array([2**63 - 1]).view(pa.timestamp("us", "UTC")))
    assert found.max == "9223372036854775807 us since 1970"


def test_nanoseconds_are_not_lost() -> None:
    found = column(pa.array([1]).view(pa.timestamp("ns")))
    assert found.max == "1970-01-01T00:00:00.000000001"


@pytest.mark.parametrize(
    "values",
    [
        pa.array([{"a": 1}, None]),
        pa.nulls(2),
        pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        pa.array([1, None], pa.duration("s")),
    ],
)
def test_of_other_types_nulls_are_counted(values: pa.Array) -> None:
    found = column(values)
    assert (found.rows, found.nulls, found.distinct) == (2, values.null_count, None)
    assert found.to_svg()


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["b", "a", "b", None]).dictionary_encode(),
        pa.array(["b", "a", "b", None], pa.large_string()),
        pa.array(["b", "a", "b", None], pa.string_view()),
    ],
)
def test_variants_of_text_count_as_text(values: pa.Array) -> None:
    found = column(values)
    assert found.top is not None
    assert (found.type, found.nulls, found.min, found.max) == ("string", 1, "a", "b")
    assert (found.top.counts, found.top.exact) == ((("b", 2), ("a", 1)), True)


def test_long_text_is_cut_and_its_length_told() -> None:
    found = column(["é" * 100_000])
    assert found.lengths is not None
    assert found.lengths.max == 100_000
    assert found.min.endswith("é...")
    assert len(found.min) < 300


def test_text_that_is_no_utf8_breaks_nothing() -> None:
    broken = pa.array([b"\xff\xfe", b"a"]).view(pa.string())
    assert column(broken).max == "\ufffd\ufffd"


def test_more_values_than_are_kept_are_said_to_be_counted_nearly() -> None:
    values = [f"v{n}" for n in range(5_000)] + ["often"] * 3_000
    found = column(values)
    assert found.top is not None
    assert not found.top.exact
    (value, count), *_ = found.top.counts
    assert value == "often"
    assert 3_000 - found.top.error <= count <= 3_000


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(RequestError, match="one name"):
        Profiler(pa.schema([("a", pa.int8()), ("a", pa.int8())]))


# --- documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document", [{}, {"format": 2}, {"format": 1}, {"format": 1, "columns": 3, "coverage": None}]
)
def test_what_is_no_profile_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Profile.from_document(document)


def test_unusual_numbers_are_text_in_json() -> None:
    table = pa.table({"f": [math.inf, -math.inf], "i": pa.array([2**60, 1])})
    f, i = profile([table], table.schema).to_document()["columns"]
    assert (f["min"], f["max"], f["mean"]) == ("-Infinity", "Infinity", None)
    assert (i["min"], i["max"]) == ("1", str(2**60))


# --- shown ---------------------------------------------------------------------------------------


def test_a_chart_has_a_line_for_each_bin() -> None:
    found = column([1, 1, 1, 1, 2, 4])
    assert chart_lines(found, ascii_only=True) == [
        "Histogram of x",
        "[1, 2)  ######################################## 4",
        "[2, 3)  ########## 1",
        "[3, 4)  0",
        "[4, 5]  ########## 1",
    ]
    assert chart_lines(found, ascii_only=False)[1].endswith("█ 4")


def test_ascii_is_all_that_an_old_terminal_gets() -> None:
    table = pa.table({"x": [1, 2, 2], "s": ["a", "b", "b"]})
    assert profile_text(profile([table], table.schema), ascii_only=True).isascii()


def test_a_bin_with_anything_in_it_is_seen() -> None:
    assert sparks([0, 1, 1_000_000], ascii_only=False) == " ▁█"
    assert sparks([0, 1, 1_000_000], ascii_only=True) == " .@"


def test_a_share_is_all_or_nothing_only_if_it_is() -> None:
    shares = [share_text(n, 100_000) for n in (0, 1, 50_000, 99_999, 100_000)]
    assert shares == ["0 %", "<0.1 %", "50 %", ">99.9 %", "100 %"]


def test_a_profile_is_data_that_one_can_make() -> None:
    made = Quantiles(values={0.5: 1}), Histogram(edges=(0, 1), counts=(1,))
    assert made[0].exact
    assert (made[1].below, made[1].above) == (0, 0)
