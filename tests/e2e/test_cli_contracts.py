"""`validate`, and contracts on the way into the online store."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from featurestore.cli import exits

from .command_line import DEFINITIONS, Repository, make_repository

RULES = """\
from featurestore import Fresh, InRange, Matches, NotNull, OneOf, RowCount, Sql, Unique

users = users.model_copy(update={"contract": (
    NotNull("credit", policy="warn"), Unique("user_id"), Sql("few_orders", "orders < 5"))})
routes = routes.model_copy(update={"contract": (
    RowCount(min=2), OneOf("origin", ["JFK", "LGA"]), Fresh("30d"))})
traffic = FeatureView(name="traffic", entities=[route], source=routes, contract=[
    Matches("dest", "[A-Z]{3}", policy="quarantine"), InRange("flights", min=1)],
    schema=[Field(name="flights", dtype=Int64)])
"""


def ruled(text: str) -> str:
    """Return the definitions with rules; views refer to the sources that have them."""
    lines, marks = text, ("users = FileSource", "routes = FileSource", "profile = FeatureView")
    first, rest = lines.split(marks[2])
    rules, view = RULES.split("traffic = ")
    return f"{first}{rules}{marks[2]}{rest}traffic = {view}"


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = make_repository(tmp_path / "repo")
    made.define(ruled(DEFINITIONS))
    made.succeed("apply")
    return made


def test_validate_lists_what_is_broken_with_rows_and_ends_with_1(repo: Repository) -> None:
    outcome = repo.run("validate")
    assert outcome.code == exits.ERROR
    assert "8 rules checked: 4 broken, 2 of them by its policy a failure." in outcome.out
    [line] = [words for words in outcome.lines_with("user_id_unique") if "failed" in words]
    assert line == ["source/users", "user_id_unique", "fail", "4", "1", "25", "%", "failed"]
    assert "1 row in" in outcome.out
    [bad] = (repo.folder / "quarantine").iterdir()
    assert pq.read_table(bad)["dest"].to_pylist() == ["BO,S"]


def test_validate_of_one_object_says_all_in_one_document(repo: Repository, tmp_path: Path) -> None:
    options = ("--policy", "warn", "--quarantine-dir", str(tmp_path / "bad"), "--json")
    document = repo.succeed("validate", "users", *options).document
    assert (document["ok"], document["status"]) == (True, "warned")
    [found] = document["validations"]
    assert (found["name"], found["rows"], found["bad_rows"]) == ("users", 4, 2)
    not_null, _, few = found["rules"]
    assert (not_null["failed"], not_null["share"]) == (1, 0.25)
    [example] = few["examples"]
    assert (example["row"], example["values"]) == (1, {"orders": 2**53 + 1})
    assert not (tmp_path / "bad").exists()


def test_earlier_results_are_listed_and_shown_by_describe_and_status(repo: Repository) -> None:
    assert "Nothing was checked yet." in repo.succeed("validate", "--history").err
    repo.run("validate", "view/traffic", "users")
    records = repo.succeed("validate", "--history", "--json").document["validations"]
    assert [(r["name"], r["status"]) for r in records] == [
        ("users", "failed"),
        ("traffic", "quarantined"),
    ]
    [record] = repo.succeed("validate", "traffic", "--history", "--json").document["validations"]
    assert record["cause"] == "validate"
    described = repo.succeed("describe", "view/traffic")
    assert "dest matches [A-Z]{3}" in described.out
    assert "quarantined at" in described.out
    assert repo.succeed("describe", "users", "--json").document["last_validation"]["rows"] == 4
    assert "quarantined at" in repo.succeed("status").out
    [traffic] = repo.succeed("status", "--view", "traffic", "--json").document["views"]
    assert traffic["last_validation"]["status"] == "quarantined"


def test_a_run_that_checks_writes_nothing_that_breaks_a_rule(repo: Repository) -> None:
    refused = repo.run("materialize", "--view", "profile", "--validate", "declared")
    assert refused.code == exits.ERROR
    assert "'user_id_unique' of source 'users' (1 of 4 rows)" in refused.err
    assert repo.succeed("status", "--view", "profile", "--json").document["views"][0]["end"] is None
    told = repo.succeed("materialize", "--validate", "warn")
    assert "profile: a contract is broken: source users: few_orders (warn), 1 of 4 rows" in told.err
    assert repo.succeed("verify", "--json").document["ok"] is True


@pytest.mark.parametrize(
    "arguments",
    [
        ("validate", "--policy", "ignore"),
        ("validate", "--history", "--policy", "warn"),
        ("materialize", "--validate", "quarantine"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    repo: Repository, arguments: tuple[str, ...]
) -> None:
    assert repo.run(*arguments).code == exits.USAGE


def test_who_is_unknown_or_has_no_contract_is_an_error(repo: Repository) -> None:
    assert "did you mean 'users'" in repo.run("validate", "source/user").err
    assert "has no contract" in repo.run("validate", "profile").err


def test_a_repository_without_contracts_has_nothing_to_check(
    applied: Repository, tmp_path: Path
) -> None:
    assert "nothing to check" in applied.copied(tmp_path / "plain").succeed("validate").err
