"""The comparison of an engine's windows with the oracle's, within what SEMANTICS allows floats."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation
from featurestore.errors import SumOverflowError, UnsupportedError
from featurestore.offline.engine import OfflineEngine
from featurestore.testing.local_time import instant_ns, round_down
from featurestore.testing.offline_cases import DAY, ROW_GROUP_ROWS, history, training_set
from featurestore.testing.oracle_rows import Mode, as_raw_time, key_of, read_source
from featurestore.testing.oracle_windows import Cell, window_cells, with_types_of
from featurestore.testing.plain import PlainTable, difference, from_array, same_value
from featurestore.testing.strategies import TrainingCase
from featurestore.testing.text_tables import read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedWindows:
    """A training set of one view with aggregations.

    Attributes:
        spine: Its first columns.
        types: Feature -> type.
        cells: Feature -> one cell per row of the spine.
    """

    spine: PlainTable
    types: Mapping[str, pa.DataType]
    cells: Mapping[str, Sequence[Cell]]

    @property
    def overflows(self) -> set[tuple[str, int]]:
        """Feature and row of every sum that is beyond its type."""
        return {
            (name, row)
            for name, cells in self.cells.items()
            for row, cell in enumerate(cells)
            if cell.overflows
        }


def check_windows(engine: OfflineEngine, case: TrainingCase) -> None:
    """Make sure that an engine's training set of a view with aggregations is the oracle's.

    Where a sum is beyond its type the engine must say so, of a feature and row where it is true.

    Raises:
        AssertionError: It names the first cell that differs.
    """
    check_windows_of_each([engine], case)


def check_windows_of_each(engines: Iterable[OfflineEngine], case: TrainingCase) -> None:
    """Do the same for several engines: files are written once, and the oracle is asked once.

    Raises:
        AssertionError: It names the engine and the first cell that differs.
    """
    expected = expected_windows(case)
    with TemporaryDirectory() as folder:
        case.history.write(Path(folder), row_group_rows=ROW_GROUP_ROWS)
        for engine in engines:
            try:
                found = training_set(engine, case, root=Path(folder))
            except SumOverflowError as error:
                told = (error.feature, error.row)
                assert told in expected.overflows, (
                    f"{engine.name}: no overflow at {told}: {expected.overflows}"
                )
            else:
                text = window_difference(found, expected)
                assert text is None, f"{engine.name}: {text}"


def expected_windows(case: TrainingCase) -> ExpectedWindows:
    """Return a case's training set as the oracle computes it."""
    history = case.history
    view = with_types_of(history.view, history.files, history.joined)
    rows = read_source(view, history.rows, history.joined_rows, mode=case.mode)
    cells: dict[str, list[Cell]] = {name: [] for name in view.feature_names}
    for spine_row in case.spine.rows:
        time = as_raw_time(spine_row["event_timestamp"])
        at_us = None if time is None else round_down(instant_ns(time, case.timezone))
        key = key_of(spine_row, view.join_keys, {name: name for name in view.join_keys})
        for name, cell in window_cells(view, rows, key, at_us, mode=case.mode).items():
            cells[name].append(cell)
    return ExpectedWindows(
        spine=case.spine, types={f.name: f.dtype for f in view.fields}, cells=cells
    )


def window_difference(found: pa.Table, expected: ExpectedWindows) -> str | None:
    """Return the first thing in which a training set is not the expected one, or None."""
    if expected.overflows:
        return f"there are sums beyond their types: {sorted(expected.overflows)}"
    empty = PlainTable({**expected.spine.columns, **expected.types}, []).to_arrow()
    if (text := difference(found.slice(0, 0), empty)) is not None:
        return text
    given = found.select(list(expected.spine.columns))
    if (text := difference(given, expected.spine.to_arrow())) is not None:
        return text
    for name, cells in expected.cells.items():
        for row, (value, cell) in enumerate(zip(from_array(found[name]), cells, strict=True)):
            if not is_as_good(value, cell):
                return f"row {row}, column {name!r} is {value!r}, expected {cell}"
    return None


def is_as_good(found: object, cell: Cell) -> bool:
    """Whether a value is the cell's, or a float within its slack; NaN is NaN, and -0.0 is 0.0."""
    wanted = cell.value
    if isinstance(found, list) and isinstance(wanted, list):
        pairs = zip(found, wanted, strict=False)
        return len(found) == len(wanted) and all(is_as_good(a, Cell(b)) for a, b in pairs)
    if not isinstance(found, float) or not isinstance(wanted, float):
        return same_value(found, wanted)
    if math.isnan(found) or math.isnan(wanted):
        return math.isnan(found) and math.isnan(wanted)
    if cell.never_negative and found < 0:
        return False
    return found == wanted or abs(found - wanted) <= cell.slack


# Cases from text tables

ALL_NUMBERS: Final = (
    *("count", "sum", "mean", "min", "max", "var", "stddev", "first", "last", "count_distinct"),
    *("median", "p0", "p25", "p95", "p99.9", "p100", "last_1", "last_3", "first_2", "first_1000"),
)
"""Every function that numbers have."""


def spine_of(times: Sequence[str], *, user: int | None = 1) -> str:
    """Return a spine of one user at these times."""
    key = "null" if user is None else user
    return "\n".join(["user_id: int64 | event_timestamp: time", *(f"{key} | {t}" for t in times)])


def around(*times: str) -> str:
    """Return a spine of user 1 at these minutes, and a microsecond before and after."""
    rows = [at for time in times for at in (_before(time), time, f"{time}:00.000001")]
    return spine_of(rows)


def _before(time: str) -> str:
    hour, minute = divmod(int(time[:2]) * 60 + int(time[3:]) - 1, 60)
    return f"{hour:02}:{minute:02}:59.999999"


def case_of(
    rows: str | Mapping[str, str],
    spine: str,
    *aggregations: Aggregation,
    mode: Mode = "complete",
    **of: Any,
) -> TrainingCase:
    """Return a case from text tables; more keywords are those of `history`."""
    return TrainingCase(
        history=history(rows, aggregations=aggregations, **of),
        spine=read_table(spine, day=DAY),
        timezone="UTC",
        mode=mode,
    )


def check_tables(
    engine: OfflineEngine,
    rows: str | Mapping[str, str],
    spine: str,
    *aggregations: Aggregation,
    mode: Mode = "complete",
    **of: Any,
) -> None:
    """Do the same as `check_windows` from text tables; a mode it does not promise it refuses."""
    case = case_of(rows, spine, *aggregations, mode=mode, **of)
    if mode == "as_served" and not engine.capabilities.as_served:
        with pytest.raises(UnsupportedError):
            check_windows(engine, case)
    else:
        check_windows(engine, case)


def numbered(values: Sequence[object], dtype: str) -> str:
    """Return rows of user 1 with these values, a minute apart from 10:00 on."""
    lines = [f"1 | {10 + n // 60}:{n % 60:02} | {value}" for n, value in enumerate(values)]
    return "\n".join([f"user_id: int64 | at: time | x: {dtype}", *lines])
