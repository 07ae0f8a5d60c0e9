"""Python functions on the command line: planned, checked, and never a traceback."""

from pathlib import Path

import pytest

from featurestore.cli import exits

from .command_line import DEFINITIONS, SETTINGS, Repository, at, make_repository

FUNCTIONS = """
from featurestore import OnDemandFeatureView, RequestSource

request = RequestSource(name="request", schema=[Field(name="amount", dtype=Float64)])
risky = OnDemandFeatureView(name="risky", sources=[profile[["credit"]], request],
                            function="risk:score",
                            schema=[Field(name="risk", dtype=Float64, description="0 to 1")])
paying = FeatureService(name="paying", features=[risky])
"""
MODULE = """
import pyarrow as pa
import pyarrow.compute as pc

def score(batch: pa.RecordBatch) -> pa.RecordBatch:
    print("scoring", batch.num_rows)
    if batch["amount"][0].as_py() < 0:
        raise ValueError("no negative amounts")
    return pa.record_batch({"risk": pc.divide(batch["amount"], batch["credit"])})
"""


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = make_repository(tmp_path / "repo")
    (made.folder / "feature_store.yaml").write_text(SETTINGS + "functions: {roots: [functions]}\n")
    (made.folder / "functions").mkdir()
    write(made)
    made.define(DEFINITIONS + FUNCTIONS)
    made.succeed("apply")
    return made


def write(repo: Repository, text: str = MODULE) -> None:
    (repo.folder / "functions/risk.py").write_text(text)


def test_a_changed_module_is_planned_as_a_change_of_its_hash(repo: Repository) -> None:
    assert "nothing to do" in repo.succeed("plan").out
    write(repo, MODULE.replace("divide", "multiply"))
    out = repo.succeed("plan").out
    assert "update on-demand feature view risky (breaking)" in out
    assert "function.sha256: " in out
    refused = repo.run("get-online", "paying", "-e", "user_id=1,amount=2.5")
    assert refused.code == exits.ERROR
    assert "is not the module that was applied" in refused.err
    assert "apply again" in refused.err
    repo.succeed("apply")
    assert "nothing to do" in repo.succeed("plan").out


def test_what_a_function_prints_is_no_part_of_a_result(repo: Repository) -> None:
    repo.succeed("materialize", "--view", "profile")
    out = repo.succeed("--json", "get-online", "paying", "-e", "user_id=1,amount=2.5")
    assert out.document["entities"][0]["features"]["risk"]["value"] == "NaN"
    assert "scoring 1" in out.err
    times = [at(1, 2), at(1, 2)]
    spine = str(
        repo.write_spine({"user_id": [1, 9], "event_timestamp": times, "amount": [5.0, 5.0]})
    )
    out = repo.succeed("get-historical", "-f", "paying", "--spine", spine, "--json")
    assert [row["risk"] for row in out.document["rows"]] == [0.5, None]


def test_a_function_that_fails_is_one_line_and_no_traceback(repo: Repository) -> None:
    failed = repo.run("get-online", "paying", "-e", "user_id=1,amount=-1")
    assert failed.code == exits.ERROR
    assert "Function 'risk:score' of on-demand feature view 'risky', row 0" in failed.err
    assert "ValueError: no negative amounts (risk.py, line 8)" in failed.err
    assert "Traceback" not in failed.err
    assert (
        "Traceback" in repo.run("--debug", "get-online", "paying", "-e", "user_id=1,amount=-1").err
    )


def test_a_module_that_fails_is_one_line_and_no_traceback(repo: Repository) -> None:
    write(repo, f"import nothing_of_this_name\n{MODULE}")
    failed = repo.run("plan")
    assert failed.code == exits.ERROR
    assert "ModuleNotFoundError" in failed.err
    assert "risk.py, line 1" in failed.err
    assert "Traceback" not in failed.err


def test_list_and_describe_show_functions(repo: Repository) -> None:
    assert "risky" in repo.succeed("list", "on-demand-views").out
    out = repo.succeed("describe", "risky").out
    for word in ("risk:score", "credit, amount", "0 to 1", "SHA-256"):
        assert word in out
    document = repo.succeed("describe", "risky", "--json").document
    assert document["schema"][0]["name"] == "risk"
    query = (
        "SELECT 1 AS user_id, 2.0::DOUBLE AS amount, TIMESTAMPTZ '2026-01-02' AS event_timestamp"
    )
    explained = repo.succeed("get-historical", "-f", "paying", "--explain", "--sql", query)
    assert "risk = risk:score(credit, amount)" in explained.out


def test_doctor_loads_functions_and_says_what_is_wrong(repo: Repository) -> None:
    assert "risk:score in" in repo.run("doctor", "--quick").out
    write(repo, MODULE + "\n# edited\n")
    changed = repo.run("doctor", "--quick")
    assert changed.code == exits.ERROR
    assert "is not the module that was applied" in " ".join(changed.out.split())
    (repo.folder / "feature_store.yaml").write_text(SETTINGS)
    unnamed = repo.run("doctor", "--quick", "--json")
    assert unnamed.code == exits.ERROR
    (check,) = [c for c in unnamed.document["checks"] if c["subject"] == "function of risky"]
    assert check["status"] == "error"
    assert "names no folder of functions" in check["detail"]


def test_a_server_without_roots_says_so_and_does_not_start(repo: Repository) -> None:
    (repo.folder / "feature_store.yaml").write_text(SETTINGS)
    failed = repo.run("serve")
    assert failed.code == exits.ERROR
    assert "names no folder of functions" in failed.err
