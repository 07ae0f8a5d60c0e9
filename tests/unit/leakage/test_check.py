"""The leak test finds engines and functions that see too much or too little, and nobody else."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from featurestore import (
    Aggregation,
    Entity,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.definitions import Definition
from featurestore.definitions.contract import InRange
from featurestore.errors import RequestError
from featurestore.leakage.report import LeakageReport
from featurestore.leakage.user_modules import own_modules
from featurestore.types import Float64, Int64, String
from tests.depth import every_run
from tests.unit.leakage.wrong_engines import (
    Rows,
    WrongEngine,
    earliest_written,
    known_at_once,
    moved_by,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
USERS = 6

USER = Entity(name="user", join_keys={"user_id": Int64})
PAYMENTS = FileSource(
    name="payments",
    path="data/payments.parquet",
    timestamp_field="paid_at",
    created_timestamp_column="written_at",
)
LAST = FeatureView(
    name="last",
    entities=[USER],
    source=PAYMENTS,
    ttl=timedelta(days=10),
    schema=[Field(name="amount", dtype=Float64), Field(name="merchant", dtype=String)],
)
SPEND = FeatureView(
    name="spend",
    entities=[USER],
    source=PAYMENTS,
    aggregations=[
        Aggregation("amount", ["sum"], ["1d", "7d"]),
        Aggregation("*", ["count"], ["1d"]),
    ],
)
MERCHANTS = FileSource(name="merchants", path="data/merchants.parquet", timestamp_field="since_at")
RISKY = FeatureView(
    name="risky",
    entities=[USER],
    source=PAYMENTS,
    joins=[MERCHANTS],
    transform=(
        "SELECT user_id, paid_at, written_at, m.risk AS risk FROM payments"
        " ASOF LEFT JOIN merchants m ON payments.merchant = m.merchant"
        " AND payments.paid_at >= m.since_at"
    ),
    schema=[Field(name="risk", dtype=Float64)],
    online=False,
)


def write_payments(folder: Path, rows: int = 240) -> None:
    """Write payments of some users, one every few hours, some of one moment, written later."""
    times = [START + timedelta(hours=5 * (n // 2)) for n in range(rows)]
    (folder / "data").mkdir(exist_ok=True)
    pl.DataFrame(
        {
            "user_id": [n % USERS for n in range(rows)],
            "paid_at": [t - timedelta(hours=5 * (n % 3 == 0)) for n, t in enumerate(times)],
            "written_at": [t + timedelta(minutes=n % 90) for n, t in enumerate(times)],
            "amount": [float(n % 17) + 0.1 for n in range(rows)],
            "merchant": [f"m{n % 5}" for n in range(rows)],
        }
    ).write_parquet(folder / "data/payments.parquet")
    changes = [START + timedelta(hours=11 * n) for n in range(100)]
    pl.DataFrame(
        {
            "merchant": [f"m{n % 5}" for n in range(100)],
            "since_at": changes,
            "risk": [n / 100 for n in range(100)],
        }
    ).write_parquet(folder / "data/merchants.parquet")


def store_at(
    folder: Path, objects: Sequence[Definition], *, engine: str = "polars", **settings: Any
) -> FeatureStore:
    """Return a store with these definitions over payments."""
    write_payments(folder)
    config = {
        "project": "leaks",
        "offline_store": {"type": engine, "threads": 1},
        "clock": "2026-03-01T00:00:00Z",
        **settings,
    }
    store = FeatureStore(folder, config=config)
    store.apply(objects)
    return store


STRICT = PAYMENTS.model_copy(
    update={"contract": (InRange("amount", min=2, max=12, policy="quarantine"),)}
)


@pytest.mark.parametrize("view", [LAST, SPEND])
def test_rows_in_quarantine_are_no_leak(tmp_path: Path, view: FeatureView) -> None:
    """What is in a row decides whether it is seen, as with a filter."""
    store = store_at(tmp_path, [view.model_copy(update={"source": STRICT})])
    report = leak_test(store)
    assert report.ok
    assert not report.leaks


def leak_test(store: FeatureStore, wrong: Rows | None = None, **arguments: Any) -> LeakageReport:
    """Return the outcome of a test, perhaps with an engine that is wrong."""
    if wrong is not None:
        store.__dict__["engine"] = WrongEngine(store.engine, wrong, reach_us=3 * DAY_US)
    with store:
        return store.verify_leakage(**({"points": 16, "rounds": 3} | arguments))


# The modes differ in what is mutated and when it counts, the engines in how rows are read: in every
# run each engine and each mode plays once. `tests/conformance` crosses what engines answer.
IN_EVERY_RUN = {("duckdb", "complete"), ("polars", "as_served")}


@pytest.mark.parametrize(
    ("engine", "mode"),
    [
        pytest.param(engine, mode, marks=every_run(when=(engine, mode) in IN_EVERY_RUN))
        for engine in ("duckdb", "polars")
        for mode in ("complete", "as_served")
    ],
)
def test_nothing_leaks_from_right_engines(tmp_path: Path, engine: str, mode: str) -> None:
    report = leak_test(store_at(tmp_path, [LAST, SPEND], engine=engine), mode=mode)
    assert report.ok
    assert report.features == (
        "last:amount",
        "last:merchant",
        "spend:amount_sum_1d",
        "spend:amount_sum_7d",
        "spend:count_1d",
    )
    assert sum(report.mutations.values()) > 100
    assert report.visible > 20
    assert report.moved == report.visible


def test_a_join_of_later_rows_is_found_with_the_row_that_does_it(tmp_path: Path) -> None:
    report = leak_test(store_at(tmp_path, [LAST]), moved_by(-DAY_US))
    assert not report.ok
    assert {leak.feature for leak in report.leaks} == {"last:amount", "last:merchant"}
    leak = report.leaks[0]
    (mutation,) = leak.mutations
    assert mutation.source == "payments"
    assert mutation.file.endswith("data/payments.parquet")
    times = [t["paid_at"] for t in (mutation.before, mutation.after) if t]
    assert leak.at is not None
    assert any(time is not None and time > leak.at for time in times)
    assert leak.before != leak.after
    assert leak.entity.keys() == {"user_id"}


def test_an_engine_that_misses_the_row_at_the_very_moment_is_found(tmp_path: Path) -> None:
    """It compares with `<` where the contract says `<=`."""
    report = leak_test(store_at(tmp_path, [LAST]), moved_by(1))
    assert [(c.view, c.change) for c in report.blind] == [("last", "newest")]
    assert not report.ok


def test_an_engine_that_takes_the_wrong_one_of_a_tie_is_found(tmp_path: Path) -> None:
    report = leak_test(store_at(tmp_path, [LAST]), earliest_written)
    assert "last:amount" in {leak.feature for leak in report.leaks}


@pytest.mark.parametrize("us", [-1, 1])
def test_a_window_that_is_off_by_a_microsecond_is_found(tmp_path: Path, us: int) -> None:
    features = ["spend:count_1d", "spend:amount_sum_1d"]
    report = leak_test(store_at(tmp_path, [SPEND]), moved_by(us), features=features)
    assert not report.ok
    assert report.leaks


def test_rows_that_were_written_later_are_found_where_they_count(tmp_path: Path) -> None:
    store = store_at(tmp_path, [LAST])
    assert leak_test(store, mode="as_served").ok
    report = leak_test(store, known_at_once, mode="as_served")
    assert report.leaks


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_joins_of_transforms_see_nothing_later(tmp_path: Path, engine: str) -> None:
    report = leak_test(store_at(tmp_path, [RISKY], engine=engine))
    assert report.ok, report
    assert report.mutations


PEEKING = """
from pathlib import Path
import polars as pl

DATA = Path(__file__).parent.parent / "data" / "payments.parquet"

def total(rows: pl.DataFrame) -> pl.DataFrame:
    everything = pl.read_parquet(DATA)["amount"].sum()
    return rows.select(total=pl.col("amount") * 0 + everything)
"""
HONEST = """
import polars as pl

def total(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(total=pl.col("amount") + pl.col("extra"))
"""
TOTAL = OnDemandFeatureView(
    name="computed",
    sources=[LAST, RequestSource(name="request", schema=[Field(name="extra", dtype=Float64)])],
    function="sums:total",
    schema=[Field(name="total", dtype=Float64)],
)


FEW: dict[str, Any] = {"points": 6, "rounds": 1}
"""How a function is tested, each round of which takes all rows of what it might read."""
COMPUTED: dict[str, Any] = FEW | {"features": ["computed:total"]}
"""The same without what it is computed from, for which rows would be changed that do count."""


@pytest.mark.parametrize(("module", "leaks"), [(PEEKING, ["computed:total"]), (HONEST, [])])
def test_a_function_that_reads_a_source_by_itself_is_found(
    tmp_path: Path, module: str, leaks: list[str]
) -> None:
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions/sums.py").write_text(module)
    report = leak_test(store_at(tmp_path, [LAST, TOTAL], functions={"roots": ["functions"]}), **FEW)
    assert [leak.feature for leak in report.leaks] == leaks
    assert report.ok is not bool(leaks)


def test_a_function_that_reads_the_working_directory_is_found_from_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "functions").mkdir()
    text = PEEKING.replace('Path(__file__).parent.parent / "data"', 'Path("data")')
    (tmp_path / "functions/sums.py").write_text(text)
    store = store_at(tmp_path, [LAST, TOTAL], functions={"roots": ["functions"]})
    monkeypatch.chdir(tmp_path)
    assert not leak_test(store, **COMPUTED).leaks
    report = leak_test(store, change_directory=True, **COMPUTED)
    assert [leak.feature for leak in report.leaks] == ["computed:total"]
    assert Path.cwd() == tmp_path


THROUGH_A_HELPER = """
import polars as pl
from {helper} import everything

def total(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(total=pl.col("amount") * 0 + everything())
"""
BY_ITS_OWN_PATH = (
    "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent))\n"
)
PEEKING_HELPER = """
from pathlib import Path
import polars as pl

DATA = {folder} / "data" / "payments.parquet"

def everything() -> float:
    return pl.read_parquet(DATA)["amount"].sum()
"""
HONEST_HELPER = "def everything() -> float:\n    return 2.0\n"


def with_helper(folder: Path, name: str, helper: str, *, before: str = "") -> None:
    """Write a function's module and one that it imports."""
    module = before + THROUGH_A_HELPER.format(helper=name)
    file = folder / f"{name.replace('.', '/')}.py"
    file.parent.mkdir(parents=True)
    file.write_text(helper)
    (folder / "sums.py").write_text(module)


def bytecode(folder: Path) -> dict[Path, int]:
    """Return when each compiled module was written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*.pyc")}


@pytest.mark.parametrize(
    ("name", "place", "before"),
    [
        ("reading_beside", "Path(__file__).parent.parent", ""),
        ("reading_beside", "Path(__file__).parent.parent", BY_ITS_OWN_PATH),
        ("reading_below.deep", "Path(__file__).resolve().parents[2]", ""),
    ],
)
def test_a_helper_that_reads_a_source_by_itself_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str, before: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    if not before:
        monkeypatch.syspath_prepend(tmp_path / "functions")
    helper = PEEKING_HELPER.format(folder=place)
    with_helper(tmp_path / "functions", name, helper, before=before)
    store = store_at(tmp_path, [LAST, TOTAL], functions={"roots": ["functions"]})
    loaded, path, compiled = sys.modules[name], list(sys.path), bytecode(tmp_path)
    report = leak_test(store, **COMPUTED)
    assert [leak.feature for leak in report.leaks] == ["computed:total"]
    assert sys.modules.pop(name) is loaded
    assert set(sys.path) == set(path)
    assert compiled
    assert bytecode(tmp_path) == compiled


@pytest.mark.parametrize("between", ["/", "//", "/./"])
def test_modules_are_forgotten_meanwhile_however_their_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    users, others = ModuleType("written_by_the_user"), ModuleType("written_by_others")
    users.__file__ = f"{tmp_path.parent}{between}{tmp_path.name}/functions/users.py"
    others.__file__ = f"{tmp_path}_beside/others.py"
    for module in (users, others):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with own_modules(tmp_path, [tmp_path / "functions"], tmp_path / "shadow"):
        assert users.__name__ not in sys.modules
        assert sys.modules[others.__name__] is others
    assert sys.modules[users.__name__] is users


def test_an_honest_helper_is_no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "functions")
    with_helper(tmp_path / "functions", "honest_beside", HONEST_HELPER)
    report = leak_test(store_at(tmp_path, [LAST, TOTAL], functions={"roots": ["functions"]}), **FEW)
    assert report.ok
    assert not report.notes


def test_modules_outside_the_repository_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "functions")
    (tmp_path / "repo").mkdir()
    helper = PEEKING_HELPER.format(folder="Path(__file__).parent.parent / 'repo'")
    with_helper(tmp_path / "functions", "reading_elsewhere", helper)
    store = store_at(tmp_path / "repo", [LAST, TOTAL], functions={"roots": ["../functions"]})
    notes = leak_test(store, **COMPUTED).notes
    for file in ("reading_elsewhere.py", "sums.py"):
        assert any(file in note and "not reloaded" in note for note in notes)


def test_nothing_of_the_repository_is_written_to(tmp_path: Path) -> None:
    store = store_at(tmp_path, [LAST])
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*.parquet")}
    leak_test(store, moved_by(-DAY_US))
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.rglob("*.parquet")}
    assert before == after


def test_a_spine_is_taken_as_it_is(tmp_path: Path) -> None:
    spine = pl.DataFrame(
        {"user_id": [1, 2, 1, None], "at": [START + timedelta(days=n) for n in (3, 4, 5, 6)]}
    )
    store = store_at(tmp_path, [LAST])
    report = leak_test(store, features=["last:amount"], spine=spine, timestamp_field="at")
    assert report.ok
    assert report.points == 4
    assert report.features == ("last:amount",)


def test_the_same_seed_makes_the_same_test(tmp_path: Path) -> None:
    store = store_at(tmp_path, [LAST, SPEND])
    reports = [leak_test(store, seed=seed, rounds=1) for seed in (3, 3, 4)]
    assert reports[0] == reports[1]
    assert reports[0].mutations != reports[2].mutations


def test_sources_elsewhere_are_copied_like_those_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    write_payments(tmp_path)
    absolute = str(tmp_path / "data/payments.parquet")
    source = FileSource(**{**PAYMENTS.model_dump(), "path": absolute})
    view = FeatureView(name="last", entities=[USER], source=source, schema=LAST.fields)
    report = leak_test(store_at(tmp_path / "repo", [view]), moved_by(-DAY_US))
    assert report.leaks


def test_a_static_table_is_left_alone_and_named(tmp_path: Path) -> None:
    static = FileSource(name="names", path="data/merchants.parquet", static=True)
    view = FeatureView(
        name="named",
        entities=[USER],
        source=PAYMENTS,
        joins=[static],
        transform=(
            "SELECT user_id, paid_at, written_at, amount + n.risk AS amount FROM payments"
            " LEFT JOIN names n ON payments.merchant = n.merchant"
        ),
        schema=[Field(name="amount", dtype=Float64)],
    )
    store = store_at(tmp_path, [LAST])
    names = [f"m{n}" for n in range(5)]
    pl.DataFrame({"merchant": names, "risk": [0.5] * 5}).write_parquet(
        tmp_path / "data/merchants.parquet"
    )
    store.apply([view])
    report = leak_test(store, features=["named:amount"])
    assert report.ok
    assert any("names" in note and "static" in note for note in report.notes)


def test_a_repository_without_views_says_so(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No view"):
        FeatureStore(tmp_path, config={"project": "empty"}).verify_leakage()
