"""The templates of `featurestore init`: what they define fits the data that they build."""

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from featurestore import FeatureStore

TEMPLATES = Path(__file__).parents[2] / "featurestore" / "cli" / "templates"


def made_from(template: str, folder: Path) -> Path:
    """Copy a template and build its data, as `featurestore init` does."""
    repo = folder / template
    shutil.copytree(TEMPLATES / template, repo)
    subprocess.run([sys.executable, repo / "build_data.py"], check=True, capture_output=True)
    return repo


@pytest.mark.parametrize(("template", "objects"), [("minimal", 4), ("flights", 19)])
def test_a_fresh_repository_can_be_applied_and_then_has_nothing_to_do(
    template: str, objects: int, tmp_path: Path
) -> None:
    with FeatureStore(made_from(template, tmp_path)) as store:
        plan = store.plan()
        assert plan.count("create") == len(plan.changes) == objects
        store.apply(plan)
        assert store.plan().is_empty


def test_the_moments_of_the_minimal_template_show_time_travel_and_honest_nulls(
    tmp_path: Path,
) -> None:
    repo = made_from("minimal", tmp_path)
    with FeatureStore(repo) as store:
        store.apply()
        spine = repo / "data" / "moments.parquet"
        rows = store.get_historical_features(spine, "credit_v1").to_polars()
    assert rows.select("customer_id", "credit_limit", "orders").rows() == [
        (1, 1000.0, 1),
        (1, 2500.0, 4),
        (2, 500.0, 2),
        (3, None, None),
        (4, None, None),
    ]


def test_a_flights_features_do_not_know_how_the_flight_went(tmp_path: Path) -> None:
    """A bad day: the newest rows of the plane and the carrier end an hour before the departure."""
    repo = made_from("flights", tmp_path)
    spine = pl.read_parquet(repo / "data" / "flights.parquet").filter(
        pl.col("event_timestamp").dt.date() == pl.date(2013, 12, 5)
    )
    with FeatureStore(repo) as store:
        store.apply()
        asked = store.get_historical_features(spine, "delay_v1", full_feature_names=True)
        rows = asked.to_polars()
    assert rows.select(spine.columns).equals(spine)
    state = pl.read_parquet(repo / "data" / "carrier_state.parquet")
    for row in rows.sample(50, seed=4).iter_rows(named=True):
        known = state.filter(
            (pl.col("carrier") == row["carrier"])
            & (pl.col("event_timestamp") <= row["event_timestamp"])
            & (pl.col("event_timestamp") >= pl.lit(row["event_timestamp"]).dt.offset_by("-12h"))
        )
        expected = known["mean_dep_delay_day"].last() if len(known) else None
        assert row["carrier_state__mean_dep_delay_day"] == expected
