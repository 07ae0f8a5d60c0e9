"""dataset create, list, describe, verify, rebuild, tidy."""

import contextlib
import json
import os
import sqlite3
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from featurestore.cli import exits

from .command_line import Repository, at

CREATE = ("dataset", "create", "train", "--features", "scoring", "--spine", "spine.parquet")


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, applied: Repository) -> Repository:
    made = applied.copied(tmp_path / "repo")
    made.write_spine({"user_id": [1, 2, 9], "event_timestamp": [at(2, 26)] * 3})
    monkeypatch.chdir(made.folder)
    return made


def test_a_dataset_is_created_listed_and_described(repo: Repository) -> None:
    assert repo.succeed("dataset", "list").out == "There are no datasets.\n"
    outcome = repo.succeed(*CREATE, "--description", "Q1", "--tag", "team=risk")
    assert outcome.out.startswith("train, version 1: 3 rows, 1 file, digest ")
    [line] = repo.succeed("dataset", "list", "train").lines_with("train")
    assert line[:3] == ["train", "1", "3"]
    shown = repo.succeed("dataset", "describe", "train").out
    for words in (
        "train, version 1",
        "Q1",
        "team=risk",
        "scoring",
        "spine.parquet",
        "users.parquet",
    ):
        assert words in shown


@pytest.mark.parametrize(
    "origin",
    [
        {"kind": 5, "made": 5, "labels": 5},
        {"made": {"steps": 5}, "labels": "y", "sql": ["x"]},
        {"made": {"steps": ["x", {"step": {}}]}, "labels": [{}]},
    ],
)
def test_a_manifest_may_say_anything_of_its_spine(repo: Repository, origin: dict[str, Any]) -> None:
    path = Path(repo.succeed(*CREATE, "--json").document["path"]) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["spine"]["origin"] = origin
    content = json.dumps(manifest).encode()
    path.chmod(0o644)
    path.write_bytes(content)
    with contextlib.closing(sqlite3.connect(repo.folder / "data/registry.db")) as registry:
        changed = "UPDATE featurestore_datasets SET manifest_hash = ?"
        registry.execute(changed, (sha256(content).hexdigest(),))
        registry.commit()
    assert "train, version 1" in repo.succeed("dataset", "describe", "train").out


def test_documents_have_it_all(repo: Repository) -> None:
    made = repo.succeed(*CREATE, "--tag", "a=b=c", "--json").document
    [listed] = repo.succeed("dataset", "list", "--json").document["datasets"]
    assert {**listed, "path": made["path"], "schema_version": 1} == made
    described = repo.succeed("dataset", "describe", "train", "--json").document
    assert described["manifest"]["digest"] == made["digest"]
    assert described["manifest"]["tags"] == {"a": "b=c"}
    verified = repo.succeed("dataset", "verify", "train", "--content", "--json").document
    assert (verified["ok"], verified["content"], verified["faults"]) == (True, True, [])
    rebuilt = repo.succeed("dataset", "rebuild", "train", "--json").document
    assert (rebuilt["same"], rebuilt["computed"]) == (True, made["digest"])
    assert repo.succeed("dataset", "tidy", "--json").document["done"] == []


def test_damage_is_shown_and_ends_with_1(repo: Repository) -> None:
    path = Path(repo.succeed(*CREATE, "--json").document["path"])
    assert "all is as it was written" in repo.succeed("dataset", "verify", "train").out
    (path / "extra\x1b[2J").write_text("")
    (path / "part-00001.parquet").unlink()
    outcome = repo.run("dataset", "verify", "train")
    assert outcome.code == exits.ERROR
    assert "\x1b" not in outcome.out
    assert "part-00001.parquet   it is missing" in outcome.out
    assert "2 faults" in outcome.out
    document = repo.run("dataset", "verify", "train", "--json").document
    assert {fault["file"] for fault in document["faults"]} == {"part-00001.parquet", "extra\x1b[2J"}
    refused = repo.run("dataset", "rebuild", "train", "--json")
    assert refused.code == exits.ERROR
    error = refused.document["error"]
    assert error["type"] == "DatasetDamagedError"
    assert error["facts"]["version"] == 1


def test_a_difference_is_shown_and_ends_with_1(repo: Repository) -> None:
    repo.succeed(*CREATE)
    definitions = (repo.folder / "features.py").read_text()
    repo.define(definitions.replace('features=[profile[["country", ', "features=[profile[["))
    repo.succeed("apply")
    same = repo.succeed("dataset", "rebuild", "train")
    assert "computed anew: the same" in same.out
    assert "changed since, and not used" in same.out
    outcome = repo.run("dataset", "rebuild", "train", "--current", "--keep")
    assert outcome.code == exits.ERROR
    for words in (
        "NOT the same",
        "Kept as version 2",
        "feature service scoring",
        "country",
        "gone",
    ):
        assert words in outcome.out
    document = repo.run(
        "dataset", "rebuild", "train", "--version", "1", "--current", "--json"
    ).document
    assert [(d["column"], d["what"]) for d in document["differences"]] == [("country", "gone")]
    assert document["changes"][0]["matters"] is True


def test_the_shell_completes_the_names_of_datasets(repo: Repository, forked: Path) -> None:
    repo = replace(repo, program=forked)
    repo.succeed(*CREATE)
    asked = {"_FEATURESTORE_COMPLETE": "complete_bash", "COMP_CWORD": "3"}
    words = {"COMP_WORDS": "featurestore dataset verify tr"}
    outcome = repo.execute(env={**os.environ, **asked, **words})
    assert (outcome.out.split(), outcome.err) == (["train"], "")


def test_what_cannot_be_understood_is_refused(repo: Repository) -> None:
    assert repo.run(*CREATE, "--tag", "nothing").code == exits.USAGE
    assert repo.run(*CREATE, "--sql", "SELECT 1").code == exits.USAGE
    for command in ("describe", "verify", "rebuild"):
        outcome = repo.run("dataset", command, "nope", "--json")
        assert outcome.code == exits.ERROR
        assert outcome.document["error"]["type"] == "NotFoundError"
    outcome = repo.run("dataset", "create", "../up", *CREATE[3:])
    assert (outcome.code, "cannot be a name" in outcome.err) == (exits.ERROR, True)
