"""Rules find in random rows what Python's own comparisons find, on both engines, in any layout."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.definitions import (
    FeatureView,
    FileSource,
    InRange,
    Matches,
    NotNull,
    OneOf,
    RowCount,
    Sql,
    Unique,
)
from featurestore.definitions.contract import AnyRule, RowRule
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine, RowFilter
from featurestore.offline.polars import PolarsEngine
from featurestore.offline.scan import open_scan
from featurestore.testing.oracle_contracts import is_hidden, keeps
from featurestore.types import Float64, Int64, String
from tests.unit.projects import project, source, view, write

NAN = float("nan")
THEN = datetime(2024, 1, 1, tzinfo=UTC)
COUNTS = st.none() | st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63)])
FLOATS = st.none() | st.sampled_from([0.0, -0.0, 0.1, 1.5, NAN, float("inf"), -1e300])
TEXTS = st.none() | st.text("abAB1\n'é", max_size=3)
ROWS = st.lists(st.tuples(COUNTS, FLOATS, TEXTS), max_size=12)
CONSTANTS = {"n": st.integers(-3, 3), "x": st.sampled_from([0, 0.1, -1.5, 2, 1e300])}
PATTERNS = st.sampled_from(["", "a", "[ab]+", "a|b", r"\w*", "(?i)ab?", ".*", "[^a]", "é?", "'+"])


@st.composite
def in_range(draw: st.DrawFn) -> InRange:
    column = draw(st.sampled_from(["n", "x"]))
    bounds = [draw(CONSTANTS[column]), draw(CONSTANTS[column])]
    low, high = sorted(bounds)
    which = draw(st.sampled_from(["both", "min", "max"]))
    return InRange(column, None if which == "max" else low, None if which == "min" else high)


@st.composite
def row_rules(draw: st.DrawFn) -> list[RowRule]:
    """Return some rules about rows, under names of their own."""
    one = st.one_of(
        st.sampled_from(["n", "x", "s"]).map(NotNull),
        in_range(),
        st.builds(
            OneOf, st.just("s"), st.lists(st.text("abAB'", max_size=2), min_size=1, unique=True)
        ),
        st.builds(OneOf, st.just("n"), st.lists(st.integers(-3, 3), min_size=1, unique=True)),
        st.builds(Matches, st.just("s"), PATTERNS),
        st.builds(
            Sql,
            st.just("sql"),
            st.sampled_from(["n > 0 OR x IS NULL", "NOT (s = 'a')", "n <= 2 AND x < 1"]),
        ),
    )
    found: list[RowRule] = draw(st.lists(one, min_size=1, max_size=5))
    return [rule.model_copy(update={"name": f"r{n}"}) for n, rule in enumerate(found)]


def columns(found: Sequence[tuple[Any, ...]], first: int = 0) -> pa.Table:
    numbers = range(first, first + len(found))
    times = [THEN + timedelta(seconds=number) for number in numbers]
    n, x, s = zip(*found, strict=True) if found else ((), (), ())
    return pa.table(
        {
            "k": pa.array(list(numbers), pa.int64()),
            "t": pa.array(times, pa.timestamp("us", "UTC")),
            "n": pa.array(n, pa.int64()),
            "x": pa.array(x, pa.float64()),
            "s": pa.array(s, pa.string()),
        }
    )


def as_rows(found: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip("nxs", row, strict=True)) for row in found]


def repeated(values: list[Any]) -> list[int]:
    seen: set[Any] = set()
    places = []
    for place, value in enumerate(values):
        if value is not None and value in seen:
            places.append(place)
        seen.add(value)
    return places


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@given(files=st.lists(ROWS, min_size=1, max_size=3), rules=row_rules(), size=st.integers(1, 4))
def test_rules_find_what_plain_python_finds(
    files: list[list[tuple[Any, ...]]], rules: list[RowRule], size: int, engine: str
) -> None:
    every: list[AnyRule] = [*rules, Unique("n"), Unique("s"), RowCount(min=6)]  # type: ignore[list-item]
    places = [(number, row) for number, rows in enumerate(files) for row in range(len(rows))]
    values = as_rows([row for rows in files for row in rows])
    with tempfile.TemporaryDirectory() as folder, project(Path(folder), offline_store=engine) as s:
        for number, rows in enumerate(files):
            write(Path(folder) / f"d/{number}.parquet", columns(rows), row_group_size=size)
        gate = s.contract_gate("validate", "quarantine")
        found = gate.validator.check(source("d", contract=every))
        kept = [] if found.quarantine is None else pq.read_table(found.quarantine).to_pylist()
    wrong = {
        rule.name: [p for p, row in zip(places, values, strict=True) if not keeps(rule, row)]
        for rule in rules
    }
    for column in "ns":
        again = repeated([row[column] for row in values])
        wrong[f"{column}_unique"] = [places[place] for place in again]
    assert found.rows == len(values)
    assert found.bad_rows == len({place for rule in rules for place in wrong[rule.name]})
    for result in found.rules[:-1]:
        shown = [(int(Path(e.file).stem), e.row) for e in result.examples]
        assert (result.failed, shown) == (len(wrong[result.rule]), wrong[result.rule][:5])
    assert (found.rules[-1].status == "passed") == (len(values) >= 6)
    written = {
        (int(Path(row["quarantine_file"]).stem), row["quarantine_row"]): row["quarantine_reasons"]
        for row in kept
    }
    broken = {place for rule in wrong.values() for place in rule}
    assert written == {p: [name for name, bad in wrong.items() if p in bad] for p in broken}


def visible(engine: OfflineEngine, of: FeatureView, root: Path, count: int) -> list[str]:
    """Return what there is of each key, for lookups and for training sets; which is the same."""
    scan = open_scan(of, of.feature_names, root)
    with closing(engine.latest(scan, RowFilter(until_us=2**62))) as latest:
        offered = list(latest.batches(100))
    wanted = pa.table({"g": pa.array(range(count), pa.int32()), "k0": pa.array(range(count))})
    keys = wanted.append_column("until", pa.array([2**62] * count))
    with engine.reader(scan) as reader:
        batches = list(reader.rows(keys, ["f0", "f1", "f2"], from_us=None, until_us=2**62))
    shown = ["k0", "f0", "f1", "f2"]
    online = sorted(repr([row[c] for c in shown]) for b in offered for row in b.to_pylist())
    rows = (row | {"k0": row["g"]} for batch in batches for row in batch.to_pylist())
    assert sorted(repr([row[c] for c in shown]) for row in rows) == online
    return online


@pytest.mark.parametrize("engine", [DuckDBEngine(threads=1), PolarsEngine(threads=1)])
@given(rows=ROWS.filter(bool), rules=row_rules(), of_source=st.booleans())
def test_rows_in_quarantine_are_as_if_they_were_not_in_the_file(
    rows: list[tuple[Any, ...]], rules: list[RowRule], engine: OfflineEngine, *, of_source: bool
) -> None:
    hiding = [rule.model_copy(update={"policy": "quarantine"}) for rule in rules]
    features = {"n": Int64, "x": Float64, "s": String}
    owner: dict[str, Any] = {"reads": {"contract": hiding}} if of_source else {"contract": hiding}
    good = [not is_hidden(hiding, row) for row in as_rows(rows)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root / "all.parquet", columns(rows), row_group_size=2)
        write(root / "good.parquet", columns(rows).filter(pa.array(good)))
        found = visible(engine, view("all.parquet", features=features, **owner), root, len(rows))
        plain = visible(engine, view("good.parquet", features=features), root, len(rows))
    assert found == plain
    assert len(found) == sum(good)


def test_the_plain_rules_know_a_bad_row() -> None:
    assert not keeps(InRange("x", max=1), {"x": NAN})
    assert keeps(InRange("x", max=1), {"x": None})
    assert not keeps(NotNull("x"), {"x": None})
    assert isinstance(source(contract=[NotNull("k")]), FileSource)
