"""Windows in the plainest Python: a key's rows are all looked at for every window of a question.

Sums are exact (Python's integers, fractions, `math.fsum`), so that what an engine may be off by is
known too: every answer is a `Cell`, a value and its slack.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final

import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.definitions.aggregation import ROWS, UNKNOWN, WindowFeature
from featurestore.errors import SumOverflowError
from featurestore.expressions.tree import Column
from featurestore.testing.oracle_rows import Key, Mode, SourceRow, widened
from featurestore.testing.oracle_transforms import type_of
from featurestore.testing.plain import PlainTable, RawTime, from_array
from featurestore.testing.predicates import holds
from featurestore.types import base_type, can_widen, type_name

RELATIVE: Final = 1e-9
"""What sums and means may be off by, per sum of magnitudes; var and stddev, per value."""
FAR_FROM_ZERO: Final = 1e5
"""Up to which |mean| / stddev that is promised of var and stddev."""
SMALLEST: Final = sys.float_info.min
"""Below the smallest normal number floats have no relative precision to promise."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one feature is for one question.

    Attributes:
        value: The value.
        slack: How far a float may be from it; 0 for what is exact.
        overflows: Whether there is no value, because the sum is beyond its type.
        never_negative: Whether the slack ends at zero.
    """

    value: object
    slack: float = 0.0
    overflows: bool = False
    never_negative: bool = False


def window_cells(
    view: FeatureView,
    rows: Sequence[SourceRow],
    key: Key | None,
    at_us: int | None,
    *,
    mode: Mode = "complete",
) -> dict[str, Cell]:
    """Return every feature of a view with aggregations, for `key` at `at_us`."""
    own = [] if at_us is None else sorted((r for r in rows if r.key == key), key=lambda r: r.rank)
    return {feature.name: _cell(feature, own, at_us, mode) for feature in view.window_features}


def window_values(
    view: FeatureView,
    rows: Sequence[SourceRow],
    key: Key | None,
    at_us: int | None,
    *,
    names: Sequence[str] | None = None,
    mode: Mode = "complete",
    number: int | None = None,
) -> dict[str, object]:
    """Return the values of `names`, or of all features, for `key` at `at_us`.

    Raises:
        SumOverflowError: A sum is beyond its type; it names the spine's row, which is `number`.
    """
    cells = window_cells(view, rows, key, at_us, mode=mode)
    for name in names or cells:
        if cells[name].overflows:
            dtype = type_name(view.field(name).dtype)
            raise SumOverflowError(feature=name, dtype=dtype, row=number)
    return {name: cells[name].value for name in names or cells}


def empty_values(view: FeatureView) -> dict[str, object]:
    """Return every feature of a view with aggregations as a window without values has it."""
    return {feature.name: _empty(feature) for feature in view.window_features}


def in_window(row: SourceRow, feature: WindowFeature, at_us: int, mode: Mode) -> bool:
    """Whether a row's times put it into a feature's window at `at_us`, and no later version does.

    Complete, all versions of an event are known; as served, those that were created by then.
    """
    if mode == "complete" and row.later:
        return False
    if any(created is not None and created <= at_us for created in row.later):
        return False
    if mode == "as_served" and (row.created_us is None or row.created_us > at_us):
        return False
    if row.event_us > at_us or (row.event_us == at_us and feature.closed in ("left", "neither")):
        return False
    if feature.window_us is None:
        return True
    start_us = at_us - feature.window_us
    at_start = row.event_us == start_us and feature.closed in ("left", "both")
    return row.event_us > start_us or at_start


def _cell(feature: WindowFeature, own: Sequence[SourceRow], at_us: int | None, mode: Mode) -> Cell:
    """Return a feature's cell; `own` are the rows of the question's key, oldest first."""
    values = []
    for row in own:
        if at_us is None or not in_window(row, feature, at_us, mode):
            continue
        if not holds(feature.where, row.values):
            continue
        value = 1 if feature.column == ROWS else widened(row.values[feature.column], feature.dtype)
        if value is not None:
            values.append(value)
    if not values:
        return Cell(_empty(feature))
    return _FUNCTIONS[feature.function.kind](values, feature)


def _empty(feature: WindowFeature) -> object:
    value = feature.empty_value()
    return from_array(pa.array([value], value.type))[0] if value.is_valid else None


# Functions of values in the order of their rows, oldest first; there is at least one value.


def _count(values: Sequence[Any], _: WindowFeature) -> Cell:
    return Cell(len(values))


def _count_distinct(values: Sequence[Any], _: WindowFeature) -> Cell:
    distinct = []
    for value in values:
        known = ("NaN",) if _is_nan(value) else value
        if known not in distinct:
            distinct.append(known)
    return Cell(len(distinct))


def _first(values: Sequence[Any], _: WindowFeature) -> Cell:
    return Cell(values[0])


def _last(values: Sequence[Any], _: WindowFeature) -> Cell:
    return Cell(values[-1])


def _first_n(values: Sequence[Any], feature: WindowFeature) -> Cell:
    return Cell(list(values[: feature.function.length]))


def _last_n(values: Sequence[Any], feature: WindowFeature) -> Cell:
    return Cell(list(reversed(values))[: feature.function.length])


def _min(values: Sequence[Any], _: WindowFeature) -> Cell:
    return Cell(math.nan if any(map(_is_nan, values)) else min(values, key=_ordered))


def _max(values: Sequence[Any], _: WindowFeature) -> Cell:
    return Cell(math.nan if any(map(_is_nan, values)) else max(values, key=_ordered))


def _ordered(value: Any) -> Any:
    return value.ns if isinstance(value, RawTime) else value


def _sum(values: Sequence[Any], feature: WindowFeature) -> Cell:
    dtype = feature.result_type
    if pa.types.is_floating(dtype):
        total = float_sum(values)
        slack = RELATIVE * float_sum([abs(v) for v in values]) if math.isfinite(total) else 0.0
        return Cell(total, slack)
    if pa.types.is_decimal(dtype):
        units = sum(int(Fraction(v) * 10**dtype.scale) for v in values)
        if abs(units) >= 10**dtype.precision:
            return Cell(None, overflows=True)
        return Cell(Decimal(units).scaleb(-dtype.scale, context=Context(prec=76)))
    units = sum(values)
    low, high = (0, 2**64) if dtype == pa.uint64() else (-(2**63), 2**63)
    return Cell(units) if low <= units < high else Cell(None, overflows=True)


def float_sum(values: Sequence[float]) -> float:
    """Return the exact sum of floats, rounded once; inf - inf is NaN, and NaN stays."""
    endless = [v for v in values if not math.isfinite(v)]
    if endless:
        return sum(endless)
    return _rounded(sum(map(Fraction, values), Fraction(0)))


def _mean(values: Sequence[Any], _: WindowFeature) -> Cell:
    if not all(map(_is_finite, values)):
        return Cell(float_sum(values))
    exact = [Fraction(v) for v in values]
    slack = RELATIVE * _rounded(sum(map(abs, exact), Fraction(0)) / len(exact))
    return Cell(_rounded(sum(exact, Fraction(0)) / len(exact)), slack)


def _var(values: Sequence[Any], _: WindowFeature) -> Cell:
    if len(values) < 2:
        return Cell(None)
    if not all(map(_is_finite, values)):
        return Cell(math.nan)
    mean, var = _moments(values)
    # The second part is the first one at |mean| / stddev = FAR_FROM_ZERO. Beyond that nothing is
    # promised but a sign; yet what another window of the key held must not show even there.
    slack = max(RELATIVE * _rounded(var), RELATIVE / FAR_FROM_ZERO**2 * _rounded(mean**2), SMALLEST)
    return Cell(_rounded(var), slack, never_negative=True)


def _stddev(values: Sequence[Any], feature: WindowFeature) -> Cell:
    var = _var(values, feature)
    if not isinstance(var.value, float) or math.isnan(var.value):
        return var
    mean, exact = _moments(values)
    is_near = mean**2 <= Fraction(FAR_FROM_ZERO) ** 2 * exact
    stddev = math.sqrt(var.value)
    return Cell(
        stddev,
        max(RELATIVE * stddev, SMALLEST) if is_near else math.sqrt(var.slack),
        never_negative=True,
    )


def _moments(values: Sequence[Any]) -> tuple[Fraction, Fraction]:
    exact = [Fraction(v) for v in values]
    mean = sum(exact, Fraction(0)) / len(exact)
    squares = sum(((v - mean) ** 2 for v in exact), Fraction(0))
    return mean, squares / (len(exact) - 1)


def _median(values: Sequence[Any], _: WindowFeature) -> Cell:
    return _at_share(values, 0.5)


def _quantile(values: Sequence[Any], feature: WindowFeature) -> Cell:
    assert feature.function.quantile is not None
    return _at_share(values, feature.function.quantile)


def _at_share(values: Sequence[Any], share: float) -> Cell:
    if any(map(_is_nan, values)):
        return Cell(math.nan)
    ordered = sorted(float(v) for v in values)
    position = (len(ordered) - 1) * share
    below = math.floor(position)
    fraction = position - below
    low = ordered[below]
    high = ordered[below + 1] if fraction else low
    # Decimals become floats on the way, and not every conversion rounds as Python does.
    slack = 1e-15 * (abs(low) + abs(high)) if isinstance(values[0], Decimal) else 0.0
    # Between equal values nothing is to be computed: inf - inf would be NaN.
    return Cell(low if low == high else low + (high - low) * fraction, slack)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


_FUNCTIONS: Final[Mapping[str, Callable[[Sequence[Any], WindowFeature], Cell]]] = {
    "count": _count,
    "sum": _sum,
    "mean": _mean,
    "min": _min,
    "max": _max,
    "var": _var,
    "stddev": _stddev,
    "first": _first,
    "last": _last,
    "count_distinct": _count_distinct,
    "median": _median,
    "quantile": _quantile,
    "last_n": _last_n,
    "first_n": _first_n,
}


# Types of columns


def with_types_of(
    view: FeatureView,
    files: Mapping[str, PlainTable],
    joined: Mapping[str, Mapping[str, PlainTable]] | None = None,
) -> FeatureView:
    """Return a view with the types that the columns of its aggregations have in the files.

    Files may hold a column in several types; the one that all others widen to is taken.

    Args:
        view: The view.
        files: Those of its source.
        joined: Source -> files, of what its transform joins.
    """
    if view.is_resolved:
        return view

    def in_files(column: Column) -> pa.DataType:
        source, held = view.source, files
        if column.source is not None and transform is not None:
            source = view.joined_source(transform.join(column.source))
            held = (joined or {})[source.name]
        return _widest(held, source.column_in_file(column.name))

    transform = view.row_transform
    if transform is not None:
        view = view.with_input_types(
            {name: in_files(Column(name)) for name in transform.inputs},
            {
                join.name: {n: in_files(Column(n, join.name)) for n in transform.inputs_of(join)}
                for join in transform.joins
            },
        )
    types = {}
    for column in {a.column for a in view.aggregations} - {ROWS}:
        tree = view.row_column(column)
        assert tree is not None
        types[column] = in_files(tree) if isinstance(tree, Column) else type_of(view, column)
    return view.with_column_types({name: t for name, t in types.items() if t != UNKNOWN})


def _widest(files: Mapping[str, PlainTable], column: str) -> pa.DataType:
    widest = UNKNOWN
    for table in files.values():
        found = base_type(table.columns.get(column, UNKNOWN))
        if found != UNKNOWN and not can_widen(found, widest):
            widest = found
    return widest
