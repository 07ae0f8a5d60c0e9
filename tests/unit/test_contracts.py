"""Contracts: each kind of bad row is found, wherever it is, and clean rows break nothing."""

import signal
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.contracts import rows as contract_rows
from featurestore.contracts.interval import interval
from featurestore.contracts.quarantine import BadRows
from featurestore.contracts.report import RuleResult, Validation
from featurestore.definitions import (
    FeatureView,
    FileSource,
    Fresh,
    InRange,
    Matches,
    NotNull,
    OneOf,
    RowCount,
    Sql,
    Unique,
)
from featurestore.definitions.contract import AnyRule, Policy
from featurestore.errors import (
    ConfigError,
    ContractError,
    DefinitionError,
    FeatureStoreError,
    OutputError,
    RequestError,
    RowsError,
    SourceChangedError,
    SourceError,
)
from featurestore.registry.validations import KEPT_VALIDATIONS
from featurestore.store import FeatureStore
from featurestore.types import Float64, Int64, String
from tests.forks import run_python
from tests.unit.projects import (
    FILE,
    LATER,
    THEN,
    UTC_US,
    everywhere,
    project,
    rows,
    says,
    source,
    spine,
    train,
    view,
    write,
)

NAN = float("nan")
HOUR = timedelta(hours=1)
DAY = date(2024, 3, 5)


def checked(root: Path, *rules: AnyRule, engine: str = "duckdb", **options: Any) -> Validation:
    """Check a source that has these rules."""
    with project(root, offline_store=engine) as store:
        rows_of = interval(options.pop("start", None), options.pop("end", None))
        gate = store.contract_gate("validate", **options)
        return gate.validator.check(source(contract=rules), rows_of)


def result(root: Path, rule: AnyRule, **options: Any) -> RuleResult:
    [found] = checked(root, rule, **options).rules
    return found


def singles(*values: float | None) -> pa.Array:
    return pa.array(values, pa.float32())


LONG = 0.12345678901234567

BROKEN: list[tuple[AnyRule, Any, list[int]]] = [
    (NotNull("v"), [1, None, 2, None], [1, 3]),
    (InRange("v", min=0, max=10), [0, -1, 10, 11, None], [1, 3]),
    (InRange("v", min=0.0), [0.0, -0.1, NAN, None, float("inf")], [1, 2]),
    (InRange("v", max=1.5), [1.5, 1.6, NAN, float("-inf")], [1, 2]),
    (InRange("v", min="b", max="d"), ["b", "a", "d", "e", None], [1, 3]),
    (InRange("v", min=DAY), [DAY, DAY - timedelta(days=1), None], [1]),
    (InRange("v", max=THEN), [THEN, THEN + HOUR, None], [1]),
    (InRange("v", min=1, max=2), [Decimal("1.00"), Decimal("0.99"), Decimal("2.01")], [1, 2]),
    (OneOf("v", ["a", "b"]), ["a", "B", "b", "", None], [1, 3]),
    (OneOf("v", [1, 2]), [1, 3, 2, None], [1]),
    (OneOf("v", [0.1, 2]), [0.1, 0.2, 2.0, NAN], [1, 3]),
    (OneOf("v", [LONG]), [LONG, 0.1234567890123], [1]),
    (InRange("v", min=0.1, max=0.3), singles(0.1, 0.3, 0.09999, 0.30001, NAN), [2, 3, 4]),
    (InRange("v", min=1e-5), singles(1e-5, 0.99e-5, None), [1]),
    (InRange("v", max=1e16), singles(1e16, 1.01e16), [1]),
    (InRange("v", max=0.1234567891), singles(0.1234567891, 0.12345680), [1]),
    (
        InRange("v", min=-1e300, max=1e300),
        singles(3e38, -3e38, float("inf"), float("-inf")),
        [2, 3],
    ),
    (OneOf("v", [0.1, 1e-5, 0, 1e16, 1e300]), singles(0.1, 1e-5, 0, -0.0, 1e16, 0.3), [5]),
    (OneOf("v", [True]), [True, False, None], [1]),
    (OneOf("v", ["2024-03-05"]), [DAY, DAY + timedelta(days=1)], [1]),
    (Matches("v", "[A-Z]{2}"), ["DE", "de", "DEU", "D", "", "DE\n", None], [1, 2, 3, 4, 5]),
    (Matches("v", r"\Qa.b\E"), ["a.b", "axb"], [1]),
    (Matches("v", "a|b"), ["a", "b", "ab", "xa"], [2, 3]),
    (Sql("refunds", "v <= 2 * x"), [1, 9, None], [1]),
    (Sql("no value is a breach", "10 // v > 1"), [5, 0, 6, 0], [1, 2, 3]),
    (Unique("v"), [1, 2, 1, 1, None, None], [2, 3]),
    (Unique("v", "x"), [1, 1, 2], []),
    (Unique("v"), ["a", "A", "a"], [2]),
    (Unique("v"), [Decimal("1.0"), Decimal("1.0")], [1]),
]


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(("rule", "values", "bad"), BROKEN, ids=lambda v: getattr(v, "text", ""))
def test_every_row_that_breaks_a_rule_is_found_and_no_other(
    tmp_path: Path, rule: AnyRule, values: Any, bad: list[int], engine: str
) -> None:
    write(tmp_path / FILE, rows(len(values), v=values), row_group_size=2)
    found = result(tmp_path, rule, engine=engine)
    assert (found.rows, found.failed) == (len(values), len(bad))
    assert [each.row for each in found.examples] == bad[: contract_rows.MAX_EXAMPLES]
    assert found.status == ("failed" if bad else "passed")


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (RowCount(min=3), True),
        (RowCount(min=4), False),
        (RowCount(max=2), False),
        (RowCount(min=3, max=3), True),
        (Fresh(max_age="152d"), True),
        (Fresh(max_age="151d"), False),
    ],
)
def test_rules_about_all_rows(tmp_path: Path, rule: AnyRule, *, holds: bool) -> None:
    write(tmp_path / FILE, rows(3))
    found = result(tmp_path, rule)
    assert found.status == ("passed" if holds else "failed")
    assert found.found


def test_a_source_without_events_is_not_fresh(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1, t=pa.nulls(1, UTC_US)))
    assert result(tmp_path, Fresh(max_age="365d")).found == "no event"


def test_freshness_of_rows_that_end_before_now_is_seen_from_their_end(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1))
    fresh = Fresh(max_age="1h")
    assert result(tmp_path, fresh, end=THEN + HOUR).status == "passed"
    assert result(tmp_path, fresh, end=THEN + 2 * HOUR).status == "failed"


def test_an_interval_is_for_rules_about_rows_and_its_end_for_all(tmp_path: Path) -> None:
    times = pa.array([THEN, THEN + HOUR, THEN + 2 * HOUR, None], UTC_US)
    write(tmp_path / FILE, rows(4, t=times, v=[-1, -1, -1, -1], u=[7, 7, 7, None]))
    rules = (InRange("v", min=0), RowCount(min=9), Unique("u"))
    found = checked(tmp_path, *rules, start=THEN, end=THEN + HOUR)
    in_range, row_count, unique = found.rules
    # (start, end], and the row without a time, which belongs to every interval.
    assert (in_range.rows, in_range.failed) == (2, 2)
    assert row_count.found == "3 rows"
    assert unique.failed == 1
    assert (found.start, found.end) == ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z")


def test_an_interval_without_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1))
    with pytest.raises(RequestError, match="not before the end"):
        checked(tmp_path, NotNull("k"), start=THEN, end=THEN)
    with pytest.raises(RequestError):
        checked(tmp_path, NotNull("k"), start="yesterday")


def test_the_rules_of_a_view_are_about_what_its_transform_makes(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(4, x=[1.0, 2.0, 30.0, 40.0], kind=["a", "b", "a", "b"]))
    doubled = view(
        transform="SELECT k, 2 * x AS x FROM readings WHERE kind = 'a'",
        contract=[InRange("x", max=10), NotNull("k"), InRange("t", min=THEN)],
    )
    with project(tmp_path) as store:
        store.apply([doubled])
        [found] = store.validate().validations
    assert (found.kind, found.rows) == ("feature view", 2)
    [example] = found.rules[0].examples
    assert (example.row, example.values) == (2, {"x": 60.0})


def test_columns_of_folders_and_renamed_columns_can_have_rules(tmp_path: Path) -> None:
    write(tmp_path / "data" / "site=north" / "a.parquet", rows(2, old=[1, None]))
    write(tmp_path / "data" / "site=south" / "a.parquet", rows(1, old=[3]))
    rules = [OneOf("site", ["north"]), NotNull("new")]
    reads = {"contract": rules, "field_mapping": {"old": "new"}}
    with project(tmp_path) as store:
        store.apply([view("data", reads=reads)])
        [found] = store.validate(policy="quarantine").validations
    assert [rule.failed for rule in found.rules] == [1, 1]
    assert found.quarantine is not None
    kept = pq.read_table(found.quarantine).to_pylist()
    assert [(row["k"], row["site"], row["quarantine_reasons"]) for row in kept] == [
        (2, "north", ["new_not_null"]),
        (1, "south", ["site_one_of"]),
    ]


# --- definitions -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: InRange("a"), "neither min nor max"),
        (lambda: InRange("a", min=2, max=1), "greater than max"),
        (lambda: InRange("a", min=NAN), "nan"),
        (lambda: InRange("a", min=True), "OneOf"),
        (lambda: OneOf("a", []), "1 to 500"),
        (lambda: OneOf("a", "abc"), "list"),
        (lambda: OneOf("a", [1, 1]), "twice"),
        (lambda: OneOf("a", [None]), "None"),
        (lambda: Matches("a", "("), "missing )"),
        (lambda: Matches("a", "(?=x)"), "RE2"),
        (lambda: Matches("a", r"\Qabc"), "no pattern"),
        (lambda: Matches("a", "a)|(?:b"), "no pattern"),
        (lambda: Matches("a", "(a{1000}){1000}"), "repetition"),
        (lambda: Matches("a", "x" * 1_001), "1,001"),
        (Unique, "key"),
        (lambda: Unique("a", "A"), "case"),
        (lambda: Unique("a", policy="quarantine"), "all rows together"),
        (lambda: Fresh(max_age="0s"), "longer than zero"),
        (RowCount, "neither"),
        (lambda: RowCount(min=2, max=1), "greater"),
        (lambda: Sql("s", "1 = 1"), "no column"),
        (lambda: Sql("s", "random() > v"), "chance"),
        (lambda: Sql("s", "v > 1; DROP TABLE t"), "s"),
        (lambda: Sql("s", "v IN (SELECT 1)"), "subquer"),
        (lambda: NotNull("a", policy="ignore"), "quarantine"),
        (lambda: NotNull("a", name="\x1b[2J"), "printable"),
        (lambda: source(contract=NotNull("a")), "list"),
        (lambda: source(contract=[NotNull("a"), NotNull("a")]), "a_not_null"),
        (lambda: source(contract=[NotNull(f"c{n}") for n in range(61)]), "60"),
        (lambda: view(contract=[NotNull("y")]), "none of the view's"),
        (
            lambda: FileSource(name="s", path="x", static=True, contract=[Fresh(max_age="1h")]),
            "static",
        ),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused_when_it_is_defined(make: Any, words: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        make()
    assert words in raised.value.message


@pytest.mark.parametrize(
    "rule",
    [
        NotNull("nobody"),
        InRange("name", min=1),
        InRange("x", min="a"),
        InRange("t", min="soon"),
        OneOf("x", ["a"]),
        OneOf("tags", ["a"]),
        Matches("x", "1"),
        Unique("x"),
        Sql("no predicate", "x + 1"),
        Sql("types", "x > name"),
        InRange("money", min=1, policy="quarantine"),
        NotNull("tags", policy="quarantine"),
        NotNull("money", policy="quarantine", name="decimals"),
    ],
    ids=lambda rule: rule.name,
)
def test_a_rule_that_does_not_fit_its_column_is_refused_at_plan(
    tmp_path: Path, rule: AnyRule
) -> None:
    columns = rows(1, name=["a"], tags=[["a"]], money=[Decimal("1.5")])
    write(tmp_path / FILE, columns)
    with project(tmp_path) as store, pytest.raises(FeatureStoreError) as raised:
        store.plan([view(reads={"contract": [rule]})])
    assert isinstance(raised.value, DefinitionError | SourceError)


def test_only_rules_that_leave_rows_out_are_part_of_what_a_view_means() -> None:
    plain = view()
    assert "contract" not in plain.to_document()
    assert "contract" not in plain.source.to_document()

    def ruled(policy: Policy) -> list[FeatureView]:
        rule = InRange("x", min=0, policy=policy)
        return [view(contract=[rule]), view(reads={"contract": [rule]})]

    for other in [*ruled("warn"), *ruled("fail"), view(contract=[Unique("k")])]:
        assert other.meaning() == plain.meaning()
    of_view, of_source = ruled("quarantine")
    assert len({plain.meaning(), of_view.meaning(), of_source.meaning()}) == 3
    renamed = view(contract=[InRange("x", min=0, policy="quarantine", name="n")])
    assert renamed.meaning() == of_view.meaning()


def test_a_contract_that_leaves_the_same_rows_out_is_the_same_meaning() -> None:
    def meanings(*rules: AnyRule) -> tuple[str, str]:
        named = [
            rule.model_copy(update={"name": f"r{n}", "policy": "quarantine"})
            for n, rule in enumerate(rules)
        ]
        return view(contract=named).meaning(), view(reads={"contract": named}).meaning()

    least, listed = InRange("x", min=0), OneOf("x", [1, 2, 30])
    first = meanings(least, listed)
    for same in [
        (listed, least),
        (least, listed, least),
        (InRange("x", min=0.0), OneOf("x", [30, 2.0, 1])),
        (InRange("x", min=-0.0), OneOf("x", [1, 2, 2.0, 30])),
    ]:
        assert meanings(*same) == first
    for other in [
        (listed,),
        (InRange("x", min=0.5), listed),
        (least, OneOf("x", [1, 2])),
        (InRange("x", max=0), listed),
    ]:
        assert not set(meanings(*other)) & set(first)


def test_a_plan_shows_rules_one_by_one_and_backfills_only_for_those_that_hide(
    tmp_path: Path,
) -> None:
    write(tmp_path / FILE, rows(1))
    with project(tmp_path) as store:
        store.apply([view()])
        plan = store.plan([view(contract=[NotNull("x"), Sql("positive", "x > 0")])])
        [change] = plan.changes
        assert (change.impact, change.is_new_generation) == ("metadata", False)
        assert [f.path for f in change.fields] == ["contract.x_not_null", "contract.positive"]
        store.apply(plan)
        assert store.plan([view(contract=[NotNull("x"), Sql("positive", "x > 0")])]).is_empty
        plan = store.plan([view(contract=[NotNull("x", policy="quarantine")])])
        assert [c.is_new_generation for c in plan.changes] == [True]
        hiding = source(contract=[NotNull("x", policy="quarantine")])
        changes = store.plan([view(source=hiding)]).changes
        assert {(c.kind, c.impact) for c in changes} == {
            ("source", "breaking"),
            ("feature view", "breaking"),
        }


def test_a_definition_reads_back_from_its_document() -> None:
    rules = [rule for rule, _, _ in BROKEN] + [Fresh(max_age="2h"), RowCount(min=1)]
    named = [rule.model_copy(update={"name": f"r{n}"}) for n, rule in enumerate(rules)]
    again = FileSource.from_document(source(contract=named).to_document())
    assert again == source(contract=named)


# --- quarantine ------------------------------------------------------------------------------

TABLE = {"x": [1.0, 200.0, NAN, 4.0], "country": ["DE", "FR", "IT", "DEU"]}
HIDING = (
    InRange("x", max=100, policy="quarantine"),
    Matches("country", "[A-Z]{2}", policy="quarantine"),
)


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize("owner", ["source", "view"])
def test_rows_in_quarantine_are_left_out_of_training_and_serving_alike(
    tmp_path: Path, engine: str, owner: str
) -> None:
    write(tmp_path / FILE, rows(4, **TABLE))
    contract = {"contract": HIDING} if owner == "view" else {"reads": {"contract": HIDING}}
    ruled = view(features={"x": Float64, "country": String}, **contract)
    with project(tmp_path, offline_store=engine) as store:
        assert everywhere(store, ruled, spine(1, 2, 3, 4)) == [1.0, None, None, None]


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(
    "rule",
    [
        InRange("v", min=1e-5, max=1e16, policy="quarantine"),
        OneOf("v", [0.1, 0.1234567891, 1e-5, 1e16, 1e300], policy="quarantine"),
    ],
    ids=lambda rule: rule.kind,
)
def test_a_constant_is_as_wide_as_the_column_that_it_stands_beside(
    tmp_path: Path, engine: str, rule: AnyRule
) -> None:
    values = singles(0.1, 0.1234567891, 1e-5, 1e16, 0.99e-5, 1.01e16)
    write(tmp_path / FILE, rows(6, v=values))
    with project(tmp_path, offline_store=engine) as store:
        ruled = view(features={"x": Float64}, reads={"contract": [rule]})
        found = everywhere(store, ruled, spine(1, 2, 3, 4, 5, 6))
    assert found == [1.0, 2.0, 3.0, 4.0, None, None]


def test_a_row_behind_a_bad_one_answers_in_its_place(tmp_path: Path) -> None:
    times = pa.array([THEN, THEN + HOUR], UTC_US)
    write(tmp_path / FILE, rows(2, k=[1, 1], t=times, x=[1.0, -5.0]))
    with project(tmp_path) as store:
        ruled = view(contract=[InRange("x", min=0, policy="quarantine")])
        assert everywhere(store, ruled, spine(1)) == [1.0]
        assert train(store, view(), spine(1)) == [-5.0]


def test_rows_of_a_joined_source_that_are_in_quarantine_are_nobodys_partners(
    tmp_path: Path,
) -> None:
    write(tmp_path / FILE, rows(2, shop=["a", "b"]))
    write(tmp_path / "shops.parquet", {"shop": ["a", "b"], "city": ["Rome", ""]})
    rule = Matches("city", ".+", policy="quarantine")
    shops = FileSource(name="shops", path="shops.parquet", static=True, contract=[rule])
    joined = view(
        features={"city": String},
        joins=[shops],
        transform="SELECT readings.k, s.city FROM readings LEFT JOIN shops s"
        " ON readings.shop = s.shop",
    )
    with project(tmp_path) as store:
        assert everywhere(store, joined, spine(1, 2)) == ["Rome", None]
        store.validate()
    assert "hidden" in shops.semantics()


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize(
    ("transform", "of_source", "what"),
    [
        (None, False, "rule 'whole' of the contract"),
        (None, True, "rule 'whole' of the contract"),
        (
            "SELECT k, v FROM readings WHERE v < 100",
            False,
            "'WHERE' of the transform or rule 'whole' of the contract",
        ),
    ],
)
def test_a_rule_without_a_value_is_named(
    tmp_path: Path, engine: str, transform: str | None, what: str, *, of_source: bool
) -> None:
    write(tmp_path / FILE, rows(2, v=[5, 0]))
    rules = [Sql("whole", "10 // v > 1", policy="quarantine")]
    owner: dict[str, Any] = {"reads": {"contract": rules}} if of_source else {"contract": rules}
    with project(tmp_path, offline_store=engine) as store:
        store.apply([view(features={"v": Int64}, transform=transform, **owner)])
        with pytest.raises(SourceError) as raised:
            store.materialize()
        assert says(raised.value, f"readings': {what} has no value for row 1", FILE)
        with pytest.raises(RowsError) as refused:
            store.push("reading", {"k": [7], "t": [THEN], "v": [0]})
        assert says(refused.value, f"readings': {what} has no value for row 0")


def test_bad_rows_are_written_down_whole_with_file_row_and_reasons(tmp_path: Path) -> None:
    write(tmp_path / "d" / "a.parquet", rows(2, x=[1.0, 200.0], extra=["p", "q"]))
    write(tmp_path / "d" / "b.parquet", rows(2, x=[NAN, 2.0], extra=[1, 2]))
    with project(tmp_path) as store:
        rules = [InRange("x", max=100, policy="quarantine"), NotNull("x", policy="warn")]
        store.apply([view("d/*.parquet", contract=rules)])
        [found] = store.validate(quarantine_dir=tmp_path / "bad").validations
    assert (found.status, found.quarantined, found.bad_rows) == ("quarantined", 2, 2)
    assert found.quarantine is not None
    assert found.quarantine.parent == tmp_path / "bad"
    kept = pq.read_table(found.quarantine).to_pylist()
    reasons = {"quarantine_reasons": ["x_in_range"]}
    first, second = ({**row, "x": None} for row in kept)
    moved = {"t": THEN, "x": None, **reasons}
    a, b = (str(tmp_path / "d" / f"{name}.parquet") for name in "ab")
    assert first == {"k": 2, "extra": "q", "quarantine_file": a, "quarantine_row": 1, **moved}
    assert second == {"k": 1, "extra": "1", "quarantine_file": b, "quarantine_row": 0, **moved}


def test_duplicates_can_be_written_down_when_that_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(3, v=[5, 5, 6]))
    found = checked(tmp_path, Unique("v"), RowCount(min=9), policy="quarantine")
    assert [rule.status for rule in found.rules] == ["quarantined", "failed"]
    assert found.quarantine is not None
    [row] = pq.read_table(found.quarantine).to_pylist()
    assert (row["quarantine_row"], row["quarantine_reasons"]) == (1, ["v_unique"])


def test_columns_of_the_file_keep_their_names_beside_those_of_the_quarantine(
    tmp_path: Path,
) -> None:
    write(tmp_path / FILE, rows(1, quarantine_row=[77], v=pa.nulls(1, pa.int8())))
    found = checked(tmp_path, NotNull("v"), policy="quarantine")
    assert found.quarantine is not None
    [row] = pq.read_table(found.quarantine).to_pylist()
    assert (row["quarantine_row"], row["_quarantine_row"]) == (77, 0)


def test_a_quarantine_that_the_source_would_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d" / "a.parquet", rows(1, v=pa.nulls(1, pa.int8())))
    with project(tmp_path) as store:
        store.apply([view("d/**/*.parquet", reads={"contract": [NotNull("v")]})])
        with pytest.raises(RequestError, match="read its own bad rows"):
            store.validate(policy="quarantine", quarantine_dir="d/bad")
    assert list((tmp_path / "d" / "bad").iterdir()) == []


def test_only_the_first_bad_rows_are_kept_in_whatever_order_they_come() -> None:
    bad = BadRows(most=3)
    for ordinal in (9, 1, 8, 2, 7, 3, 6, 4):
        bad.add(pa.array([ordinal]).to_numpy(), pa.array([1], pa.uint64()).to_numpy())
    bad.add(pa.array([2]).to_numpy(), pa.array([4], pa.uint64()).to_numpy())
    ordinals, reasons = bad.rows()
    assert (ordinals.tolist(), reasons.tolist()) == ([1, 2, 3], [1, 5, 1])


def test_a_quarantine_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1, v=pa.nulls(1, pa.int8())))
    (tmp_path / "bad").write_text("a file")
    with pytest.raises(OutputError):
        checked(tmp_path, NotNull("v"), policy="quarantine", quarantine=Path("bad"))


KILLED = """
import os, signal, sys
from pathlib import Path
import pyarrow.parquet as pq
from featurestore.store import FeatureStore
write = pq.ParquetWriter.write_table
def killed(self, *arguments, **options):
    write(self, *arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
pq.ParquetWriter.write_table = killed
config = {"project": "plant", "clock": "2024-06-01T00:00:00Z", "online_store": "memory"}
FeatureStore(Path(sys.argv[1]), config=config).validate(policy="quarantine")
"""


def test_a_validation_that_is_killed_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(2, v=[None, 1]))
    with project(tmp_path) as store:
        store.apply([view(reads={"contract": [NotNull("v")]})])
    assert run_python(KILLED, tmp_path).returncode == -signal.SIGKILL
    folder = tmp_path / "quarantine"
    assert not list(folder.glob("*.parquet"))
    with project(tmp_path) as store:
        [found] = store.validate(policy="quarantine").validations
        assert len(store.validations()) == 1
    assert found.quarantine is not None
    assert list(folder.iterdir()) == [found.quarantine]  # what was left over is gone


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, engine: str) -> None:
    path = write(tmp_path / FILE, rows(2_000, v=list(range(2_000))), compression="snappy")
    with project(tmp_path, offline_store=engine) as store:
        store.apply([view(reads={"contract": [NotNull("v"), Unique("v")]})])
        whole = path.read_bytes()
        chunk = pq.read_metadata(path).row_group(0).column(3)
        first, size = chunk.dictionary_page_offset, chunk.total_compressed_size
        torn = whole[:first] + b"\xff" * size + whole[first + size :]
        for damaged in (whole[: len(whole) // 2], torn):
            path.write_bytes(damaged)
            with pytest.raises(SourceError) as raised:
                store.validate()
            assert says(raised.value, FILE)
        assert store.validations() == []


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / FILE, rows(2), row_group_size=1)
    with project(tmp_path) as store:
        store.apply([view(contract=[NotNull("x")])])
        with pytest.raises(SourceChangedError):
            store.validate(progress=lambda *_: path.touch())


# --- on the way ------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    """A view whose source breaks a rule to fail and one to warn."""
    write(tmp_path / FILE, rows(3, x=[1.0, -2.0, 3.0]))
    rules = [InRange("x", min=0), InRange("x", max=2, policy="warn", name="small")]
    with project(tmp_path) as made:
        made.apply([view(reads={"contract": rules})])
        yield made


def test_a_run_over_rows_that_break_a_rule_writes_nothing(store: FeatureStore) -> None:
    with pytest.raises(ContractError) as raised:
        store.materialize(validate=True)
    assert raised.value.rules == ("readings.x_in_range",)
    assert says(raised.value, "x_in_range", "1 of 3 rows")
    assert store.get_online_features([view()], {"k": [1]}).to_dict()["x"] == [None]
    [run] = store.registry.runs("plant")
    assert (run.status, run.rows_written) == ("failed", 0)
    [kept] = store.validations("readings")
    assert (kept.cause, kept.status, kept.bad_rows) == ("materialize", "failed", 2)


def test_a_run_that_only_warns_goes_on_and_says_so(store: FeatureStore) -> None:
    [run] = store.materialize(validate="warn")
    assert (run.written, run.validation) == (3, "warned")
    assert [rule.split(",")[0] for rule in run.broken] == [
        "source readings: x_in_range (warn)",
        "source readings: small (warn)",
    ]


def test_a_run_does_not_check_unless_somebody_wants_it(store: FeatureStore) -> None:
    [run] = store.materialize()
    assert (run.written, run.validation) == (3, None)
    assert store.validations() == []


def test_a_run_checks_the_rows_of_its_interval(tmp_path: Path) -> None:
    times = pa.array([THEN, THEN + HOUR], UTC_US)
    write(tmp_path / FILE, rows(2, t=times, x=[-1.0, 1.0]))
    ruled = view(contract=[InRange("x", min=0)])
    with project(tmp_path, validation={"materialize": "declared"}) as store:
        store.apply([ruled])
        assert store.materialize(THEN, LATER)[0].written == 1
        with pytest.raises(ContractError):
            store.materialize(THEN - HOUR, LATER)
        assert store.materialize_incremental(validate=False)[0].validation is None
        write(tmp_path / "more.parquet", rows(1))
        assert store.materialize_incremental()[0].validation == "passed"


def test_yaml_takes_off_and_on_for_bools(tmp_path: Path) -> None:
    for written, meant in {False: "off", True: "declared", "fail": "fail"}.items():
        with project(tmp_path, validation={"materialize": written}) as store:
            assert store.settings.validation.materialize == meant
    with pytest.raises(ConfigError):
        project(tmp_path, validation={"materialize": "quarantine"})


def test_one_run_cannot_leave_rows_out(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="quarantine"):
        store.materialize(validate="quarantine")  # type: ignore[arg-type]


def test_a_pushed_row_that_breaks_a_rule_of_the_view_is_refused(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1))
    rules = [InRange("x", min=0), InRange("x", max=9, policy="quarantine", name="small")]
    with project(tmp_path) as store:
        store.apply([view(contract=rules)])
        store.materialize()
        with pytest.raises(RowsError) as raised:
            store.push("reading", rows(3, x=[1.0, -2.0, 3.0]))
        assert (raised.value.row, raised.value.column) == (1, "x")
        report = store.push("reading", rows(2, k=[5, 6], x=[8.0, 10.0]))
        assert (report.written, report.filtered) == (1, 1)


# --- results ---------------------------------------------------------------------------------


def test_results_are_kept_newest_first_and_not_without_end(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1))
    with project(tmp_path) as store:
        store.apply([view(contract=[NotNull("x")], reads={"contract": [RowCount(min=1)]})])
        assert store.validations() == []
        store.validate(["reading"])
        [record] = store.validations()
        for _ in range(KEPT_VALIDATIONS + 2):
            store.registry.record_validation(record)
        store.validate(["source/readings"])
        newest, *others = store.validations(limit=1_000)
        assert (newest.kind, newest.name, newest.revision) == ("source", "readings", 1)
        assert len(others) == KEPT_VALIDATIONS
        assert {record.name for record in store.validations("reading")} == {"reading"}
        assert store.validations("view/readings") == []
        [status] = store.status()
        assert status.last_validation is not None
        assert status.last_validation.name == "reading"


def test_a_name_without_a_contract_is_refused_and_without_names_it_is_left_out(
    tmp_path: Path,
) -> None:
    write(tmp_path / FILE, rows(1))
    with project(tmp_path) as store:
        store.apply([view()])
        assert store.validate().ok
        with pytest.raises(RequestError, match="no contract"):
            store.validate(["reading"])


def test_what_is_shown_of_a_value_is_short_and_plain(tmp_path: Path) -> None:
    far = pa.array([2**62], pa.int64()).view(pa.timestamp("us", "UTC"))
    write(tmp_path / FILE, rows(1, v=["\x1b[2J" + "x" * 1_000], f=[NAN], u=far, b=[b"\xff"]))
    late = InRange("u", max="2000-01-01T00:00:00Z")
    found = checked(tmp_path, OneOf("v", ["a"]), InRange("f", max=1), late)
    texts = [str(value) for rule in found.rules for value in rule.examples[0].values.values()]
    assert [len(text) for text in texts] == [203, 3, len(f"{2**62} us since 1970")]


def test_now_is_the_clock_of_the_repository(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1))
    with project(tmp_path, clock="2024-01-01T02:00:00Z") as store:
        store.apply([view(contract=[Fresh(max_age="2h")])])
        assert store.validate().ok
        assert datetime.now(UTC) - THEN > timedelta(hours=2)
