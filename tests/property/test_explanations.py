"""Any history, any question: an explanation names the rows that the oracle names, and no others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

from featurestore.definitions.aggregation import ROWS
from featurestore.errors import SumOverflowError
from featurestore.explanation.explain import Explainer
from featurestore.explanation.model import Explanation
from featurestore.explanation.rows import PassedOver, Reason, SourceRow, array_of
from featurestore.functions import FunctionLoader
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.polars import PolarsEngine
from featurestore.registry.state import RegistryState
from featurestore.testing.local_time import LocalTimeError, instant_ns, round_down
from featurestore.testing.offline_cases import crowded_history, crowded_spine
from featurestore.testing.oracle import as_of
from featurestore.testing.oracle_joins import Asker, partner_rows
from featurestore.testing.oracle_rows import (
    Key,
    Mode,
    as_raw_time,
    key_of,
    read_source,
    widened,
)
from featurestore.testing.oracle_rows import SourceRow as OracleRow
from featurestore.testing.oracle_windows import in_window, window_cells, with_types_of
from featurestore.testing.plain import PlainTable, from_array, same_value
from featurestore.testing.predicates import holds
from featurestore.testing.strategies import FOLDER, TrainingCase, training_cases
from featurestore.testing.window_cases import is_as_good
from featurestore.testing.window_strategies import window_cases
from featurestore.time import SYSTEM_CLOCK, from_micros
from tests.property.test_transform_joins import join_cases

ENGINES: tuple[OfflineEngine, ...] = (DuckDBEngine(threads=1), PolarsEngine(threads=2))
ASKED_OF_EACH = 2
"""So many rows of a spine are explained, by one engine after the other."""
NEVER_SEEN = (Reason.FILTERED, Reason.NULL_TIME, Reason.NULL_KEY)


@dataclass(frozen=True)
class Asked:
    """A row of a spine: its entity, as a user writes it, and as the oracle does."""

    entity: dict[str, object]
    at: datetime
    at_us: int
    key: Key | None


def questions(case: TrainingCase, most: int = ASKED_OF_EACH) -> Iterator[Asked]:
    """Yield some rows of a spine that can be asked about: those with a time, of fitting keys."""
    view = case.history.view
    seen: list[tuple[dict[str, object], int]] = []
    for row in case.spine.rows:
        raw = as_raw_time(row["event_timestamp"])
        entity = {key: row[key] for key in view.join_keys}
        if raw is None or not all(
            fits(v, t) for v, t in zip(entity.values(), view.join_keys.values(), strict=True)
        ):
            continue
        try:
            at_us = round_down(instant_ns(raw, case.timezone))
        except LocalTimeError:
            continue
        if (entity, at_us) not in seen and len(seen) < most:
            seen.append((entity, at_us))
            key = key_of(row, view.join_keys, {k: k for k in view.join_keys})
            yield Asked(entity, from_micros(at_us), at_us, key)


def fits(value: object, dtype: pa.DataType) -> bool:
    """Whether a value of a spine can be a key; what cannot is refused when it is asked for."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, float):
        return True
    try:
        pa.scalar(value, dtype)
    except (pa.ArrowException, OverflowError, ValueError):
        return False
    return True


def explain(engine: OfflineEngine, case: TrainingCase, asked: Asked, root: Path) -> Explanation:
    explainer = Explainer(
        project="conformance",
        state=RegistryState(project="conformance"),
        engine=engine,
        functions=FunctionLoader(),
        clock=SYSTEM_CLOCK,
        root=root,
        max_rows=1_000,
    )
    return explainer.explain([case.history.view], asked.entity, {}, at=asked.at, mode=case.mode)


def places(files: dict[str, PlainTable]) -> list[tuple[str, int]]:
    """Return where the row of each of the oracle's ordinals is, which count from 1."""
    found = [("", -1)]
    for path in sorted(files, key=str.encode):
        found += [(f"{FOLDER}/{path}", number) for number in range(len(files[path].rows))]
    return found


def place_of(row: SourceRow) -> tuple[str, int]:
    return row.place.file, row.place.row


def passed_over(found: Sequence[PassedOver]) -> int:
    return sum(each.count for each in found if each.reason not in NEVER_SEEN)


def check_never_seen(case: TrainingCase, found: Sequence[PassedOver], asked: Asked) -> None:
    """Compare counts of rows without key or time with those in the files themselves."""
    view, counts = case.history.view, {each.reason: each.count for each in found}
    in_file = view.source.column_in_file
    rows = [row for table in case.history.files.values() for row in table.rows]
    keys = [[row[in_file(key)] for key in view.join_keys] for row in rows]
    no_key = sum(None in key for key in keys)
    assert counts.get(Reason.NULL_KEY, 0) == no_key
    times = [row[in_file(view.source.event_field)] for row in rows]
    own = [tuple(k) == asked.key and t is None for k, t in zip(keys, times, strict=True)]
    assert counts.get(Reason.NULL_TIME, 0) == sum(own)


def check_latest(case: TrainingCase, most: int = ASKED_OF_EACH) -> None:
    """Make sure that the row named is the oracle's winner, and that all others are counted."""
    view, where = case.history.view, places(dict(case.history.files))
    view = with_types_of(view, case.history.files, case.history.joined)
    rows = read_source(view, case.history.rows, case.history.joined_rows, mode=case.mode)
    with TemporaryDirectory() as folder:
        case.history.write(Path(folder))
        for engine, asked in zip(cycle(ENGINES), questions(case, most)):
            winner = as_of(view, rows, asked.key, asked.at_us, mode=case.mode)
            own = [row for row in rows if row.key == asked.key]
            found = explain(engine, case, asked, Path(folder))
            assert found.ok, found.defects
            (explained,) = found.views
            if winner is None:
                assert explained.chosen is None, found
            else:
                assert explained.chosen is not None, found
                assert place_of(explained.chosen) == where[ordinal_of(winner)], found
                check_values(found, winner)
                check_partners(case, explained.chosen, winner)
            assert passed_over(explained.passed_over) + (winner is not None) == len(own)
            check_never_seen(case, explained.passed_over, asked)
            assert str(found)
            assert found._repr_html_()


def ordinal_of(row: OracleRow) -> int:
    ordinal = row.rank[-1]
    assert isinstance(ordinal, int)
    return ordinal


def check_values(found: Explanation, winner: OracleRow) -> None:
    for feature in found.features:
        name = feature.name.partition(":")[2]
        (value,) = from_array(array_of(feature.value.scalar))
        assert same_value(value, winner.values[name]), (name, value, winner.values[name])


def check_partners(case: TrainingCase, row: SourceRow, winner: OracleRow) -> None:
    """Make sure that the joined rows named are those that the oracle joins."""
    view = case.history.view
    if not view.joins:
        return
    own = case.history.files[row.place.file.removeprefix(f"{FOLDER}/")].rows[row.place.row]
    asker = Asker(own, winner.event_us, winner.created_us, is_served=case.mode == "as_served")
    partners = partner_rows(view, asker, case.history.joined_rows)
    for joined in row.joined:
        partner = partners[joined.name]
        assert (joined.place is None) == (partner is None)
        if joined.place is not None and partner is not None:
            source, _, path = joined.place.file.partition("/")
            named = case.history.joined[source][path].rows[joined.place.row]
            assert dict(named) == dict(partner)


def check_windows(case: TrainingCase) -> None:
    """Make sure that the rows of every window are the oracle's, and that all others are counted."""
    where = places(dict(case.history.files))
    view = with_types_of(case.history.view, case.history.files, case.history.joined)
    rows = read_source(view, case.history.rows, case.history.joined_rows, mode=case.mode)
    with TemporaryDirectory() as folder:
        case.history.write(Path(folder))
        for engine, asked in zip(cycle(ENGINES), questions(case)):
            cells = window_cells(view, rows, asked.key, asked.at_us, mode=case.mode)
            own = [row for row in rows if row.key == asked.key]
            if any(cell.overflows for cell in cells.values()):
                with pytest.raises(SumOverflowError):
                    explain(engine, case, asked, Path(folder))
                continue
            found = explain(engine, case, asked, Path(folder))
            assert found.ok, found.defects
            for window in found.views[0].windows:
                for name in window.features:
                    (value,) = from_array(array_of(found.views[0].values[name].scalar))
                    assert is_as_good(value, cells[name]), (name, value, cells[name])
                    held = oracles_rows(view, own, name, asked, case)
                    expected = [where[ordinal_of(row)] for row in reversed(held)]
                    assert [place_of(row) for row in window.rows] == expected, name
                assert window.count + passed_over(window.passed_over) == len(own)
            check_never_seen(case, found.views[0].passed_over, asked)
            assert str(found)


def oracles_rows(
    view: Any, own: Sequence[OracleRow], name: str, asked: Asked, case: TrainingCase
) -> list[OracleRow]:
    """Return the rows that a feature is made of, by the oracle, in the order of their rank."""
    (feature,) = (f for f in view.window_features if f.name == name)
    held = [
        row
        for row in own
        if in_window(row, feature, asked.at_us, case.mode) and holds(feature.where, row.values)
    ]
    if feature.column != ROWS:
        held = [r for r in held if widened(r.values[feature.column], feature.dtype) is not None]
    return sorted(held, key=lambda row: row.rank)


@given(case=training_cases(max_spine_rows=4))
def test_the_row_that_is_named_is_the_oracles(case: TrainingCase) -> None:
    check_latest(case)


@pytest.mark.parametrize("mode", ["complete", "as_served"])
def test_in_a_crowd_of_ties_the_row_that_is_named_is_the_oracles(mode: Mode) -> None:
    history, spine = crowded_history(rows=2_600, users=1), crowded_spine(rows=4, users=1)
    check_latest(TrainingCase(history=history, spine=spine, timezone="UTC", mode=mode), most=4)


@given(case=window_cases(max_spine_rows=4))
def test_the_rows_of_windows_are_the_oracles(case: TrainingCase) -> None:
    check_windows(case)


@given(case=join_cases(windows=False))
def test_the_row_and_its_partners_are_the_oracles(case: TrainingCase) -> None:
    check_latest(case)


@pytest.mark.proof
@given(case=training_cases())
def test_rows_of_longer_spines_are_the_oracles(case: TrainingCase) -> None:
    check_latest(case)


@pytest.mark.proof
@given(case=window_cases(max_rows=20))
def test_the_rows_of_windows_over_longer_histories_are_the_oracles(case: TrainingCase) -> None:
    check_windows(case)


@pytest.mark.proof
@given(case=join_cases(windows=True))
def test_the_rows_of_windows_over_joins_are_the_oracles(case: TrainingCase) -> None:
    check_windows(case)
