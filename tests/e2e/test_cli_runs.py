"""materialize --resume, status and history, after a run that was killed."""

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from featurestore.cli import exits
from featurestore.errors import StoreError
from featurestore.store import FeatureStore
from tests.forks import run_python

from .command_line import DEFINITIONS, Repository

KILLED = """
import os, signal, sys
from featurestore.cli import main
from featurestore.materialize.failpoints import arm
os.chdir(sys.argv.pop(1))
point = sys.argv.pop(1)
arm(lambda hit: os.kill(os.getpid(), signal.SIGKILL) if hit == point else None)
main()
"""


@pytest.fixture
def repo(tmp_path: Path, applied: Repository) -> Repository:
    return applied.copied(tmp_path / "repo")


def kill_at(repo: Repository, point: str, *arguments: str) -> None:
    """Run a command in a process that is killed at a failpoint."""
    assert run_python(KILLED, repo.folder, point, *arguments).returncode == -signal.SIGKILL


def let_lease_expire(repo: Repository) -> None:
    """Do what half a minute does."""
    with closing(sqlite3.connect(repo.folder / "data" / "registry.db")) as connection:
        connection.execute("UPDATE featurestore_leases SET expires_us = 0")
        connection.commit()


def states(repo: Repository) -> dict[str, str]:
    views = repo.succeed("status", "--json").document["views"]
    return {view["view"]: view["state"] for view in views}


def test_a_command_that_was_killed_is_resumed_when_its_lease_has_expired(repo: Repository) -> None:
    kill_at(repo, "chunk written", "materialize", "--view", "profile")
    assert states(repo) == {"profile": "running", "traffic": "never"}
    refused = repo.run("materialize", "--resume", "--view", "profile")
    assert refused.code == exits.RETRY
    assert "'profile' is being materialized by" in refused.err
    assert " s by now" in refused.err
    let_lease_expire(repo)
    assert states(repo)["profile"] == "interrupted"
    shown = repo.succeed("status")
    assert "featurestore materialize --resume --view profile" in shown.err
    assert "0 of 1 chunks" in shown.out
    [run] = repo.succeed("materialize", "--resume", "--json").document["runs"]
    assert (run["view"], run["written"], run["resumed"]) == ("profile", 3, 0)
    assert states(repo) == {"profile": "ready", "traffic": "never"}
    assert repo.succeed("verify", "--view", "profile", "--json").document["ok"] is True


def test_what_was_done_before_a_kill_is_told(repo: Repository) -> None:
    kill_at(repo, "written", "materialize-incremental", "--view", "profile")
    let_lease_expire(repo)
    [profile] = repo.succeed("status", "--view", "profile", "--json").document["views"]
    assert (profile["run"]["chunks"], profile["run"]["chunks_done"]) == (1, 1)
    assert (profile["run"]["entities_done"], profile["can_be_resumed"]) == (3, True)
    resumed = repo.succeed("materialize", "--resume")
    assert "3 of its entities were dealt with before" in resumed.err
    assert resumed.lines_with("profile")[0][1:3] == ["1", "full"]


def test_nothing_to_resume_is_success(repo: Repository) -> None:
    repo.succeed("materialize")
    outcome = repo.succeed("materialize", "--resume")
    assert (outcome.out, "nothing to resume" in outcome.err) == ("", True)
    assert repo.succeed("materialize", "--resume", "--json").document["runs"] == []
    refused = repo.run("materialize", "--resume", "--end", "2026-02-01")
    assert (refused.code, "its own start, end" in refused.err) == (exits.ERROR, True)


def test_status_tells_how_far_views_are_online(repo: Repository) -> None:
    never = repo.succeed("status", "--json").document["views"][0]
    assert (never["state"], never["end"], never["last_run"]) == ("never", None, None)
    repo.succeed("materialize", "--end", "2026-02-28T00:00:00Z")
    document = repo.succeed("status", "--json").document
    assert (document["project"], document["now"]) == ("shop", "2026-03-01T00:00:00Z")
    profile = document["views"][0]
    assert (profile["end"], profile["age_s"]) == ("2026-02-28T00:00:00Z", 86_400.0)
    assert (profile["newest_event"], profile["state"]) == ("2026-02-25T00:00:00Z", "ready")
    assert (profile["last_run"]["rows_written"], profile["run"]) == (3, None)
    [row] = repo.succeed("status", "--view", "profile").lines_with("profile")
    assert row[:4] == ["profile", "1", "ready", "2026-02-28T00:00:00Z"]
    assert row[4:6] == ["1d", "2026-02-25T00:00:00Z"]


def test_status_of_a_run_that_failed_says_why(repo: Repository) -> None:
    with FeatureStore(repo.folder) as store:

        def fail(*_: object) -> None:
            raise StoreError("The disk is full.")

        with pytest.raises(StoreError):
            store.materialize(views=["profile"], progress=fail)
    [profile] = repo.succeed("status", "--view", "profile", "--json").document["views"]
    assert (profile["state"], profile["end"]) == ("failed", None)
    assert profile["run"]["error"] == "StoreError: The disk is full."
    assert repo.succeed("status").lines_with("The disk is full.")


def test_history_has_changes_and_runs_also_of_a_view_that_is_gone(repo: Repository) -> None:
    repo.succeed("materialize")
    document = repo.succeed("history", "--json").document
    assert {run["view"] for run in document["runs"]} == {"profile", "traffic"}
    assert len(document["changes"]) == 8
    before = DEFINITIONS.partition("traffic = ")
    repo.define(before[0] + "archive" + before[2].partition("archive")[2])
    repo.succeed("apply", "--allow-destroy")
    of_view = repo.succeed("history", "--view", "traffic", "--json").document
    assert [change["action"] for change in of_view["changes"]] == ["delete", "create"]
    assert [run["status"] for run in of_view["runs"]] == ["succeeded"]
    shown = repo.succeed("history", "--view", "traffic")
    assert [line[0] for line in shown.lines_with("traffic")] == ["2", "1", "traffic"]
    assert "never had a view nope" in repo.succeed("history", "--view", "nope").err
    assert len(repo.succeed("history", "--limit", "1", "--json").document["runs"]) == 1


def test_a_dry_run_estimates_and_writes_nothing(repo: Repository) -> None:
    document = repo.succeed("materialize", "--dry-run", "--view", "profile", "--json").document
    [found] = document["estimates"]
    assert (document["dry_run"], found["view"], found["kind"]) == (True, "profile", "full")
    assert (found["files"], found["file_rows"], found["rows"], found["entities"]) == (1, 4, 4, 3)
    assert found["online_bytes"] > 3 * 9
    shown = repo.succeed("materialize-incremental", "--dry-run")
    assert "Nothing was written" in shown.err
    assert len(shown.lines_with("full")) == 2
    assert set(states(repo).values()) == {"never"}
    refused = repo.run("materialize", "--dry-run", "--resume")
    assert (refused.code, "neither" in refused.err) == (exits.USAGE, True)
