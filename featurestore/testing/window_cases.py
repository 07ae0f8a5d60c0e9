"""The comparison of an engine's windows with the oracle's, within what SEMANTICS allows floats."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from featurestore.errors import SumOverflowError
from featurestore.offline.engine import OfflineEngine
from featurestore.testing.local_time import instant_ns, round_down
from featurestore.testing.offline_cases import training_set
from featurestore.testing.oracle_rows import as_raw_time, key_of, read_source
from featurestore.testing.oracle_windows import Cell, window_cells, with_types_of
from featurestore.testing.plain import PlainTable, difference, from_array, same_value
from featurestore.testing.strategies import TrainingCase


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
    expected = expected_windows(case)
    with TemporaryDirectory() as folder:
        case.history.write(Path(folder))
        try:
            found = training_set(engine, case, root=Path(folder))
        except SumOverflowError as error:
            told = (error.feature, error.row)
            assert told in expected.overflows, f"no overflow at {told}: {expected.overflows}"
            return
    assert (text := window_difference(found, expected)) is None, text


def expected_windows(case: TrainingCase) -> ExpectedWindows:
    """Return a case's training set as the oracle computes it."""
    history = case.history
    view = with_types_of(history.view, history.files)
    rows = read_source(view, history.rows)
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
