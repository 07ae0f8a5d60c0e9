"""The templates of `featurestore init`: what they define fits the data that they build."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from featurestore import FeatureStore

from .built import built_template

ROOT = Path(__file__).parents[2]
RUN_PAGE = ROOT / "tests" / "repo" / "doc_page.py"


@pytest.fixture
def made_from(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Callable[[str], Path]:
    """Returns a repository of a template, as `featurestore init` makes it, for one test alone."""

    def copied(template: str) -> Path:
        return shutil.copytree(built_template(tmp_path_factory, template), tmp_path / template)

    return copied


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize(("template", "objects"), [("minimal", 4), ("flights", 20)])
def test_a_fresh_repository_can_be_applied_and_then_has_nothing_to_do(
    template: str, objects: int, made_from: Callable[[str], Path]
) -> None:
    with FeatureStore(made_from(template)) as store:
        plan = store.plan()
        assert plan.count("create") == len(plan.changes) == objects
        store.apply(plan)
        assert store.plan().is_empty


def test_the_moments_of_the_minimal_template_show_time_travel_and_honest_nulls(
    made_from: Callable[[str], Path],
) -> None:
    repo = made_from("minimal")
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


@pytest.mark.parametrize("template", ["minimal", pytest.param("flights", marks=pytest.mark.proof)])
def test_the_commands_of_a_templates_readme_run_in_it(
    template: str, made_from: Callable[[str], Path], tmp_path: Path, forked: Path
) -> None:
    repo = made_from(template)
    readme = (repo / "README.md").read_text(encoding="utf-8")
    address = free_address()
    page = tmp_path / "page.md"
    page.write_text(readme.replace("127.0.0.1:6566", address), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, RUN_PAGE, page, forked.parent],
        cwd=repo,
        env={**os.environ, "FEATURESTORE_SERVER__ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_a_flights_features_do_not_know_how_the_flight_went(
    made_from: Callable[[str], Path],
) -> None:
    """On a bad day, what is known of the carrier ends an hour before each flight is due."""
    repo = made_from("flights")
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
