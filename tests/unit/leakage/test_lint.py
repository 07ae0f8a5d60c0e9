"""Every rule of the linter finds what it is for, and leaves alone what only looks like it."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from featurestore import (
    Aggregation,
    Entity,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
)
from featurestore.definitions import Definition, FeatureViewSelection
from featurestore.errors import RequestError
from featurestore.leakage.findings import RULES, Finding
from featurestore.leakage.label_rules import value_findings
from featurestore.leakage.time_rules import looks_aggregated
from featurestore.training.labels import label_field
from featurestore.types import Float64, Int64, String

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = "2026-03-01T00:00:00Z"
ROWS = 400
HOURS = [START + timedelta(hours=n) for n in range(ROWS // 4) for _ in range(4)]
KEYS = [n % 4 for n in range(ROWS)]
PLAIN = FileSource(name="rows", path="rows.parquet", timestamp_field="at")
PLACE = Entity(name="place", join_keys={"place_id": Int64})


def store_of(folder: Path, objects: Sequence[Definition], **settings: Any) -> FeatureStore:
    """Return a store with these definitions, whose files are there."""
    config = {"project": "lint", "clock": NOW, "offline_store": {"threads": 1}, **settings}
    store = FeatureStore(folder, config=config)
    store.apply(objects)
    return store


def found(store: FeatureStore, rule: str, **arguments: Any) -> list[Finding]:
    """Return the findings of one rule."""
    with store:
        return [finding for finding in store.lint(**arguments) if finding.rule == rule]


def source(folder: Path, columns: dict[str, Any], **more: Any) -> FileSource:
    """Write a file and return its source."""
    pl.DataFrame(columns).write_parquet(folder / "rows.parquet")
    given: dict[str, Any] = {"name": "rows", "path": "rows.parquet", "timestamp_field": "at"}
    return FileSource(**(given | more))


def view(of: FileSource, *features: str, **more: Any) -> FeatureView:
    """Return a view of numbers."""
    schema = [Field(name=name, dtype=Float64) for name in features]
    return FeatureView(name="values", entities=[PLACE], source=of, schema=schema, **more)


def hourly(folder: Path, feature: str, *, late: timedelta | None, **more: Any) -> FeatureView:
    """Return a view of one row an hour, written so much later."""
    columns: dict[str, Any] = {"place_id": KEYS, "at": HOURS, feature: [0.5] * ROWS}
    created = None
    if late is not None:
        created = "written"
        columns["written"] = [time + late for time in HOURS]
    return view(source(folder, columns, created_timestamp_column=created), feature, **more)


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("feature", "late", "severity"),
    [
        ("mean_fare_1h", HOUR * 1.2, "error"),
        ("mean_fare_1h", None, "warning"),
        ("temperature", HOUR * 1.2, "warning"),
        ("temperature", None, "info"),
        ("mean_fare_1h", timedelta(minutes=2), None),
        ("temperature", timedelta(minutes=2), None),
    ],
)
def test_rows_on_a_grid_are_found_as_sure_as_their_signs_are(
    tmp_path: Path, feature: str, late: timedelta | None, severity: str | None
) -> None:
    findings = found(store_of(tmp_path, [hourly(tmp_path, feature, late=late)]), "window-start")
    assert [f.severity for f in findings] == ([severity] if severity else [])
    if findings:
        assert findings[0].evidence["grid_seconds"] == 3_600


def test_events_at_any_time_are_on_no_grid(tmp_path: Path) -> None:
    times = [time + timedelta(seconds=7 * n) for n, time in enumerate(HOURS)]
    of = source(tmp_path, {"place_id": KEYS, "at": times, "trips": [1.0] * ROWS})
    assert not found(store_of(tmp_path, [view(of, "trips")]), "window-start")


def test_a_tag_silences_a_rule_and_no_other(tmp_path: Path) -> None:
    tags = {"lint-ignore": "window-start, short-ttl: stamped with the end, see the job"}
    store = store_of(tmp_path, [hourly(tmp_path, "trips", late=None, tags=tags)])
    assert not found(store, "window-start")
    assert found(store, "no-ttl")


@pytest.mark.parametrize("name", ["mean_fare_window_1h", "trips", "n_30m", "count", "sum-of"])
def test_names_of_aggregates_are_known(name: str) -> None:
    assert looks_aggregated(name)


@pytest.mark.parametrize("name", ["temp", "dewp", "year_built", "country", "discount", "summary"])
def test_other_names_are_none(name: str) -> None:
    assert not looks_aggregated(name)


@pytest.mark.parametrize(("early", "count"), [(timedelta(minutes=5), 1), (timedelta(0), 0)])
def test_rows_written_before_their_event_are_found(
    tmp_path: Path, early: timedelta, count: int
) -> None:
    of = source(
        tmp_path,
        {
            "place_id": KEYS,
            "at": HOURS,
            "written": [t - early * (n % 10 == 0) for n, t in enumerate(HOURS)],
            "x": [1.0] * ROWS,
        },
        created_timestamp_column="written",
    )
    findings = found(store_of(tmp_path, [view(of, "x")]), "created-before-event")
    assert len(findings) == count
    for finding in findings:
        assert finding.evidence["rows"] == ROWS // 10
        assert finding.evidence["of"] == ROWS
        assert finding.evidence["worst_seconds"] == 300


@pytest.mark.parametrize(("now", "count"), [("2026-01-02T00:00:00Z", 1), (NOW, 0)])
def test_events_after_now_are_found(tmp_path: Path, now: str, count: int) -> None:
    of = source(tmp_path, {"place_id": KEYS, "at": HOURS, "x": [1.0] * ROWS})
    findings = found(store_of(tmp_path, [view(of, "x")], clock=now), "future-events")
    assert [f.evidence["rows"] for f in findings] == [ROWS - 4 * 25] * count


@pytest.mark.parametrize(
    ("ttl", "rule"), [(timedelta(minutes=30), "short-ttl"), (None, "no-ttl"), (2 * HOUR, None)]
)
def test_a_ttl_is_neither_missing_nor_too_short(
    tmp_path: Path, ttl: timedelta | None, rule: str | None
) -> None:
    store = store_of(tmp_path, [hourly(tmp_path, "x", late=None, ttl=ttl)])
    rules = {finding.rule for finding in store.lint()} & {"short-ttl", "no-ttl"}
    assert rules == ({rule} if rule else set())


@pytest.mark.parametrize(
    ("late", "severity"),
    [(3 * HOUR, "warning"), (timedelta(minutes=1), None)],
)
def test_rows_that_come_late_for_their_windows_are_found(
    tmp_path: Path, late: timedelta, severity: str | None
) -> None:
    of = source(
        tmp_path,
        {"place_id": KEYS, "at": HOURS, "written": [t + late for t in HOURS], "x": [1.0] * ROWS},
        created_timestamp_column="written",
    )
    windows = FeatureView(
        name="values",
        entities=[PLACE],
        source=of,
        aggregations=[Aggregation("x", ["sum"], ["1h", "1d"])],
    )
    findings = found(store_of(tmp_path, [windows]), "late-rows")
    assert [f.severity for f in findings] == ([severity] if severity else [])


@pytest.mark.parametrize(("zone", "count"), [("UTC", 1), ("Europe/Vienna", 0)])
def test_times_without_a_zone_are_told(tmp_path: Path, zone: str, count: int) -> None:
    naive = [time.replace(tzinfo=None) for time in HOURS]
    of = source(tmp_path, {"place_id": KEYS, "at": naive, "x": [1.0] * ROWS}, timezone=zone)
    assert len(found(store_of(tmp_path, [view(of, "x")]), "naive-times")) == count


@pytest.mark.parametrize(("dated", "severity"), [(True, "warning"), (False, None)])
def test_a_lookup_table_with_times_is_found(
    tmp_path: Path, *, dated: bool, severity: str | None
) -> None:
    of = source(tmp_path, {"place_id": KEYS, "at": HOURS, "zone": ["a"] * ROWS})
    names: dict[str, Any] = {"zone": ["a"], "income": [1.5]}
    if dated:
        names["updated_at"] = [START]
    pl.DataFrame(names).write_parquet(tmp_path / "zones.parquet")
    zones = FileSource(name="zones", path="zones.parquet", static=True)
    joined = view(
        of,
        "income",
        joins=[zones],
        transform='SELECT place_id, "at", z.income AS income FROM rows'
        " LEFT JOIN zones z ON rows.zone = z.zone",
    )
    findings = found(store_of(tmp_path, [joined]), "static-changes")
    assert [f.severity for f in findings] == ([severity] if severity else [])


PURE = """
import polars as pl

def double(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(double=pl.col("x") * 2)
"""
IMPURE = PURE.replace('pl.col("x") * 2', "pl.read_parquet('/data/x.parquet')[\"x\"].sum()")


THROUGH = PURE.replace("import polars as pl", "import polars as pl\nfrom beside import twice")
BY_NAME = PURE.replace("import polars as pl", "import polars as pl\n__import__('beside')")
COMPUTED = PURE.replace("import polars as pl", "import polars as pl\n__import__('bes' + 'ide')")
READING = "from pathlib import Path\ntwice = Path(__file__).read_text()\n"


@pytest.mark.parametrize(
    ("module", "beside", "lines"),
    [
        (PURE, READING, ([], [])),
        (IMPURE, "", ([5], [])),
        (THROUGH, READING, ([], [2])),
        (BY_NAME, READING, ([], [2])),
        (THROUGH, "from deeper import twice", ([], [2])),
        (THROUGH, "twice = 2", ([], [])),
        (COMPUTED, "", ([3], [])),
    ],
)
def test_a_function_that_reads_files_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    beside: str,
    lines: tuple[list[int], list[int]],
) -> None:
    (tmp_path / "functions").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "functions")
    files = {"maths": module, "beside": beside, "deeper": READING}
    for name, text in files.items():
        (tmp_path / f"functions/{name}.py").write_text(text)
    of = source(tmp_path, {"place_id": KEYS, "at": HOURS, "x": [1.0] * ROWS})
    values = view(of, "x")
    double = OnDemandFeatureView(
        name="doubled",
        sources=[values],
        function="maths:double",
        schema=[Field(name="double", dtype=Float64)],
    )
    store = store_of(tmp_path, [values, double], functions={"roots": ["functions"]})
    findings = found(store, "impure-function")
    for name in ("beside", "deeper"):
        sys.modules.pop(name, None)
    own = [line for f in findings for line in f.evidence["lines"]]
    imported = [n for f in findings for ns in f.evidence["imported"].values() for n in ns]
    assert (own, imported) == lines


def labelled(folder: Path, label: Sequence[object]) -> tuple[FeatureStore, pl.DataFrame]:
    """Return a store with features that say a label in several ways, or do not, and its spine."""
    chance = np.random.default_rng(1)
    late = chance.random(ROWS) < 0.3
    minutes = np.where(late, 20.0, 3.0) + chance.random(ROWS)
    pl.DataFrame(
        {
            "place_id": range(ROWS),
            "at": [START] * ROWS,
            "is_late": late.astype(float),
            "minutes": minutes,
            "status": np.where(late, "delayed", "fine"),
            "noise": chance.random(ROWS),
            "always": [1.0] * ROWS,
            "weather": chance.choice(["sun", "rain"], ROWS),
        }
    ).write_parquet(folder / "rows.parquet")
    values = FeatureView(
        name="values",
        entities=[PLACE],
        source=FileSource(name="rows", path="rows.parquet", timestamp_field="at"),
        schema=[
            *(
                Field(name=name, dtype=Float64)
                for name in ("is_late", "minutes", "noise", "always")
            ),
            Field(name="status", dtype=String),
            Field(name="weather", dtype=String),
        ],
    )
    spine = pl.DataFrame(
        {
            "place_id": range(ROWS),
            "event_timestamp": [START + HOUR] * ROWS,
            "late": label or late.tolist(),
        }
    )
    return store_of(folder, [values]), spine


def test_features_that_say_the_label_are_found_and_no_others(tmp_path: Path) -> None:
    store, spine = labelled(tmp_path, [])
    findings = found(store, "label-in-features", spine=spine, label="late")
    assert {f.evidence["feature"]: f.severity for f in findings} == {
        "is_late": "error",
        "minutes": "error",
        "status": "error",
    }


FRAUD_ROWS = 6_000
FRAUDS = np.isin(np.arange(FRAUD_ROWS), np.random.default_rng(5).permutation(FRAUD_ROWS)[:24])
"""A label that four rows in a thousand have."""


def said(feature: object, label: object = FRAUDS, kind: pa.DataType | None = None) -> bool:
    """Whether a feature is reported to say a label."""
    selection = FeatureViewSelection(view=view(PLAIN, "x"))
    column = pa.chunked_array([pa.array(feature, kind)])
    return bool(list(value_findings(selection, ["x"], [column], pa.array(label))))


def sometimes(share: float, seed: int = 6) -> Any:
    """Return flags that are independent of the label."""
    return np.random.default_rng(seed).random(FRAUD_ROWS) < share


@pytest.mark.parametrize(
    "feature",
    [
        pytest.param(sometimes(0.003).astype(float), id="another-rare-count"),
        pytest.param(np.zeros(FRAUD_ROWS), id="always-0"),
        pytest.param(pa.nulls(FRAUD_ROWS, pa.float64()), id="always-null"),
        pytest.param(np.full(FRAUD_ROWS, np.nan), id="always-nan"),
        pytest.param(np.where(sometimes(0.003), "rare", "common"), id="another-rare-text"),
        pytest.param(
            [float(n) if n % 20 == 0 or FRAUDS[n] else None for n in range(FRAUD_ROWS)],
            id="seldom-known-each-value-once",
        ),
    ],
)
def test_what_is_common_like_a_rare_label_does_not_say_it(feature: object) -> None:
    assert not said(feature)


@pytest.mark.parametrize(
    "feature",
    [
        pytest.param(FRAUDS.astype(float), id="equal"),
        pytest.param([1.0 if fraud else None for fraud in FRAUDS], id="1-or-null"),
        pytest.param(np.where(FRAUDS, 1.0, np.nan), id="1-or-nan"),
        pytest.param(np.where(FRAUDS, "fraud", "ok"), id="text"),
        pytest.param(np.where(FRAUDS, 9.0, 0.0) + sometimes(0.5), id="order"),
        pytest.param(
            [START + n * HOUR if FRAUDS[n] else None for n in range(FRAUD_ROWS)],
            id="a-date-unless-null",
        ),
        pytest.param(
            [float(FRAUDS[n]) if n % 3 else None for n in range(FRAUD_ROWS)], id="equal-where-known"
        ),
    ],
)
def test_what_says_a_rare_label_is_found(feature: object) -> None:
    assert said(feature)


def test_chance_puts_no_few_rows_in_order() -> None:
    chance = np.random.default_rng(8)
    features = chance.random((400, 60))
    for frauds in (1, 5):
        label = np.arange(60) < frauds
        assert not any(said(feature, label) for feature in features)


def test_a_label_that_is_nan_is_unknown() -> None:
    label = np.where(sometimes(0.5), np.nan, FRAUDS)
    assert said(np.where(np.isnan(label), sometimes(0.5, seed=7), label), label)


@pytest.mark.parametrize("frauds", [19, 20])
def test_an_order_takes_enough_rows_of_both_labels(frauds: int) -> None:
    rows = np.arange(FRAUD_ROWS)
    assert said(rows, rows < frauds) is (frauds == 20)


def test_columns_that_are_marked_as_labels_are_the_labels(tmp_path: Path) -> None:
    store, spine = labelled(tmp_path, [])
    marked = spine.with_columns(other=pl.Series(np.random.default_rng(3).random(ROWS))).to_arrow()
    for name in ("late", "other"):
        at = marked.schema.get_field_index(name)
        marked = marked.set_column(at, label_field(marked.schema.field(at)), marked.column(at))
    findings = found(store, "label-in-features", spine=marked)
    assert {f.evidence["feature"] for f in findings} == {"is_late", "minutes", "status"}


def test_a_label_of_one_value_is_said_by_nothing(tmp_path: Path) -> None:
    store, spine = labelled(tmp_path, [True] * ROWS)
    assert not found(store, "label-in-features", spine=spine, label="late")


def test_a_feature_with_the_labels_name_is_told(tmp_path: Path) -> None:
    store, spine = labelled(tmp_path, np.random.default_rng(2).random(ROWS).tolist())
    findings = found(
        store, "label-in-features", spine=spine.rename({"late": "noise"}), label="noise"
    )
    assert [(f.evidence["feature"], f.severity) for f in findings] == [("noise", "warning")]


def test_a_label_and_its_spine_come_together(tmp_path: Path) -> None:
    store, spine = labelled(tmp_path, [])
    with pytest.raises(RequestError, match="marked as a label"):
        store.lint(spine)
    with pytest.raises(RequestError, match="label"):
        store.lint(label="late")
    with pytest.raises(RequestError, match="no label"):
        store.lint(spine, label="lat")


TAXI_START = datetime(2016, 1, 1, tzinfo=UTC)


def taxi(folder: Path, *, stamp: str, written: bool = True) -> list[FeatureView]:
    """Return the views of the published taxi benchmark over drawn trips: zones, windows, counts.

    Args:
        folder: Where to write the features that a batch job has computed from trips.
        stamp: "start" as published, or "end": which moment of its window a row is stamped with.
        written: Whether rows say when they were written.
    """
    chance = np.random.default_rng(7)
    seconds = np.sort(chance.integers(0, 5 * 86_400, 20_000))
    trips = pl.DataFrame(
        {
            "pickup_zip": chance.integers(10_001, 10_021, 20_000),
            "dropoff_zip": chance.integers(10_001, 10_021, 20_000),
            "picked_up_at": [TAXI_START + timedelta(seconds=int(s)) for s in seconds],
            "fare": np.round(chance.gamma(3, 4, 20_000), 2),
        }
    )
    trips.write_parquet(folder / "trips.parquet")
    views = []
    for end, every in (("pickup", "1h"), ("dropoff", "30m")):
        zone, names = (
            f"{end}_zip",
            (f"mean_fare_window_{every}_{end}", f"count_trips_{every}_{end}"),
        )
        rows = trips.group_by(zone, pl.col("picked_up_at").dt.truncate(every).alias("ts")).agg(
            pl.col("fare").mean().alias(names[0]), pl.len().cast(pl.Float64).alias(names[1])
        )
        finished = pl.col("ts").dt.offset_by(every)
        rows = rows.with_columns(written=finished + timedelta(seconds=40))
        if stamp == "end":
            rows = rows.with_columns(ts=finished)
        rows.sort("ts", zone).write_parquet(folder / f"{end}.parquet")
        views.append(
            FeatureView(
                name=f"{end}_features",
                entities=[Entity(name=zone, join_keys={zone: Int64})],
                source=FileSource(
                    name=f"{end}_source",
                    path=f"{end}.parquet",
                    timestamp_field="ts",
                    created_timestamp_column="written" if written else None,
                ),
                schema=[Field(name=name, dtype=Float64) for name in names],
                ttl=timedelta(days=1),
            )
        )
    return views


def test_the_published_taxi_benchmark_is_stamped_with_the_start_of_its_windows(
    tmp_path: Path,
) -> None:
    findings = found(store_of(tmp_path, taxi(tmp_path, stamp="start")), "window-start")
    assert [(f.object, f.severity, f.evidence["grid_seconds"]) for f in findings] == [
        ("feature view dropoff_features", "error", 1_800),
        ("feature view pickup_features", "error", 3_600),
    ]


def test_the_same_features_stamped_with_their_end_are_clean(tmp_path: Path) -> None:
    with store_of(tmp_path, taxi(tmp_path, stamp="end")) as store:
        assert store.lint() == []


TRIPS = FileSource(name="trips", path="trips.parquet", timestamp_field="picked_up_at")


@pytest.mark.parametrize(("stamp", "severities"), [("start", ["error"] * 2), ("end", [])])
def test_where_the_events_are_known_their_number_proves_it(
    tmp_path: Path, stamp: str, severities: list[str]
) -> None:
    """Without created times only the trips tell which side of the stamp was counted."""
    views = taxi(tmp_path, stamp=stamp, written=False)
    findings = found(store_of(tmp_path, [*views, TRIPS]), "window-start")
    assert [f.severity for f in findings] == severities
    for finding in findings:
        proof = finding.evidence["proof"]
        assert proof["source"] == "trips"
        assert proof["feature"].startswith("count_trips")
        assert proof["after"] == 1.0
        assert proof["before"] < 0.2


def test_every_rule_is_documented_with_its_name() -> None:
    text = (Path(__file__).parents[3] / "docs/leakage.md").read_text(encoding="utf-8")
    assert [rule for rule in RULES if f"`{rule}`" not in text] == []
