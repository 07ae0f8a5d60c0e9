"""On-demand features on the command line, from definition to served value."""

from pathlib import Path

import pytest

from featurestore.cli import exits

from .command_line import BIG, DEFINITIONS, Repository, at, make_repository

ON_DEMAND = """
from featurestore import OnDemandFeatureView, RequestSource

request = RequestSource(name="request", schema=[Field(name="amount", dtype=Float64)])
ratio = OnDemandFeatureView(name="ratio", sources=[profile, request], owner="me",
                            features={"to_credit": "amount / credit", "next": "orders + 1"})
paying = FeatureService(name="paying", features=[profile[["country"]], ratio])
"""


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = make_repository(tmp_path / "repo")
    made.define(DEFINITIONS + ON_DEMAND)
    made.succeed("apply")
    return made


def test_values_are_looked_up_with_request_fields_beside_the_keys(repo: Repository) -> None:
    repo.succeed("materialize", "--view", "profile")
    out = repo.succeed("--json", "get-online", "paying", "-e", "user_id=1,amount=2.5").document
    (entity,) = out["entities"]
    assert entity["keys"] == {"user_id": "1"}
    found = {name: (cell["value"], cell["status"]) for name, cell in entity["features"].items()}
    assert found == {
        "country": ("SE", "PRESENT"),
        "to_credit": ("NaN", "PRESENT"),
        "next": (str(BIG + 1), "PRESENT"),
    }
    assert [f["view"] for f in out["features"]] == ["profile", "ratio", "ratio"]
    wrong = repo.run("get-online", "paying", "-e", "user_id=1,amount=much")
    assert (wrong.code, "'much'" in wrong.err) == (exits.ERROR, True)
    assert "'amount' is missing" in repo.run("get-online", "paying", "-e", "user_id=1").err


def test_a_training_set_has_them(repo: Repository) -> None:
    times = [at(1, 2), at(1, 2)]
    spine = str(
        repo.write_spine({"user_id": [1, 9], "event_timestamp": times, "amount": [5.0, 5.0]})
    )
    out = repo.succeed("get-historical", "-f", "paying", "--spine", spine, "--json").document
    assert [row["to_credit"] for row in out["rows"]] == [0.5, None]
    assert [row["next"] for row in out["rows"]] == ["2", None]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list",), ["request source", "on-demand feature view"]),
        (("list", "on-demand-views"), ["ratio", "profile, request", "me"]),
        (("list", "request-sources"), ["amount float64"]),
        (("describe", "ratio"), ["amount / credit", "float64", "feature service paying"]),
        (("describe", "on-demand/ratio"), ["orders + 1"]),
        (("describe", "request/request"), ["amount", "float64"]),
        (("describe", "paying"), ["user_id, amount", "to_credit"]),
    ],
)
def test_list_and_describe_show_them(
    repo: Repository, arguments: tuple[str, ...], words: list[str]
) -> None:
    out = repo.succeed(*arguments).out
    assert [word for word in words if word not in out] == []
    document = repo.succeed("--json", *arguments).document
    assert "tree" not in str(document)


def test_a_changed_expression_is_planned_as_the_text_that_it_is(repo: Repository) -> None:
    repo.define(DEFINITIONS + ON_DEMAND.replace("amount / credit", "amount / nullif(credit, 0)"))
    out = repo.succeed("plan").out
    assert 'features.to_credit.expression: "amount / credit" -> "amount / nullif(credit, 0)"' in out
    assert "(breaking)" in out


def test_a_wrong_expression_fails_with_file_line_and_a_suggestion(repo: Repository) -> None:
    repo.define(DEFINITIONS + ON_DEMAND.replace("amount / credit", "amount / credits"))
    failed = repo.run("plan")
    assert failed.code == exits.ERROR
    assert "features.py, line" in failed.err
    assert "did you mean 'credit'?" in failed.err
