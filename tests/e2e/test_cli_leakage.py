"""verify --leakage and lint, as somebody runs them."""

from pathlib import Path

import polars as pl
import pytest

from featurestore.cli import exits

from .command_line import Repository, at, make_repository

PEEKING = """
from pathlib import Path

import polars as pl


def share(rows: pl.DataFrame) -> pl.DataFrame:
    total = pl.read_parquet(Path("data/users.parquet"))["orders"].sum()
    return rows.select(share=pl.col("credit") * 0 + total)
"""
COMPUTED = """
from featurestore import OnDemandFeatureView
shares = OnDemandFeatureView(name="shares", sources=[profile[["credit"]]], function="sums:share",
                             schema=[Field(name="share", dtype=Float64)])
"""
FEW = ("--points", "12", "--rounds", "3")


@pytest.fixture
def repo(tmp_path: Path, forked: Path) -> Repository:
    """A repository that was applied, with rows of a few users at many times."""
    repo = make_repository(tmp_path / "repo", forked)
    days = [at(1, 1 + n % 28) for n in range(84)]
    pl.DataFrame(
        {
            "user_id": [n % 7 for n in range(84)],
            "event_timestamp": days,
            "created": days,
            "country": ["AT", "DE", "CH"] * 28,
            "credit": [float(n) for n in range(84)],
            "orders": list(range(84)),
            "blob": [b"x"] * 84,
            "since": [day.date() for day in days],
        }
    ).write_parquet(repo.folder / "data/users.parquet")
    repo.succeed("apply")
    return repo


def test_a_sound_repository_passes_with_proof(repo: Repository) -> None:
    outcome = repo.succeed("verify", "--leakage", "-f", "scoring", *FEW)
    assert "none moved" in outcome.out
    document = repo.succeed("verify", "--leakage", "-f", "scoring", *FEW, "--json").document
    assert document["ok"] is True
    assert document["leaks"] == []
    assert document["features"] == ["profile:country", "profile:credit", "profile:orders"]
    assert sum(c["moved"] for c in document["controls"]) > 0


def test_a_function_that_reads_the_sources_is_named_with_what_moved_it(repo: Repository) -> None:
    (repo.folder / "functions").mkdir()
    (repo.folder / "functions/sums.py").write_text(PEEKING)
    with (repo.folder / "feature_store.yaml").open("a") as settings:
        settings.write("functions: functions\n")
    with (repo.folder / "features.py").open("a") as definitions:
        definitions.write(COMPUTED)
    repo.succeed("apply")
    assert "impure-function" in repo.succeed("lint").out
    outcome = repo.execute("verify", "--leakage", "-f", "shares:share", *FEW)
    assert outcome.code == exits.ERROR
    assert "leak of shares:share" in outcome.out


def test_options_that_do_not_go_together_are_refused(repo: Repository) -> None:
    for arguments in (
        ("verify", "--leakage", "--view", "profile"),
        ("verify", "--features", "scoring"),
        ("lint", "--label", "late"),
    ):
        assert repo.run(*arguments).code == exits.USAGE


def test_lint_tells_rule_evidence_and_advice(repo: Repository) -> None:
    document = repo.succeed("lint", "--json").document
    assert document["ok"] is True
    found = {finding["rule"]: finding for finding in document["findings"]}
    assert found["no-ttl"]["severity"] == "info"
    assert all(finding["advice"] for finding in document["findings"])


def test_a_label_among_the_features_is_an_error(repo: Repository, tmp_path: Path) -> None:
    spine = tmp_path / "spine.parquet"
    times = [at(1, 28)] * 70
    users = [n % 7 for n in range(70)]
    last = {user: max(n for n in range(84) if n % 7 == user) for user in range(7)}
    pl.DataFrame(
        {"user_id": users, "event_timestamp": times, "label": [float(last[u]) for u in users]}
    ).write_parquet(spine)
    outcome = repo.run("lint", "--spine", str(spine), "--label", "label")
    assert outcome.code == exits.ERROR
    assert "label-in-features" in outcome.out
