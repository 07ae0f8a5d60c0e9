"""push, delete-entity, gc, teardown."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.cli import exits

from .command_line import BIG, Repository, at


@pytest.fixture
def repo(tmp_path: Path, filled: Repository) -> Repository:
    """A repository that was applied and materialized."""
    return filled.copied(tmp_path / "repo")


def profile_rows(**changes: Any) -> dict[str, Any]:
    row = {
        "user_id": 7,
        "event_timestamp": "2026-02-28T10:00:00+01:00",
        "country": 'é, "x"',
        "credit": "NaN",
        "orders": str(BIG),
        "blob": "AAE=",
        "since": "2020-02-29",
    }
    return row | changes


def looked_up(repo: Repository, user: int) -> dict[str, Any]:
    document = repo.succeed(
        "get-online",
        "profile:country,profile:credit,profile:orders,profile:blob,profile:since",
        "--entity",
        f"user_id={user}",
        "--json",
    ).document
    return {name: cell["value"] for name, cell in document["entities"][0]["features"].items()}


EXPECTED = {
    "country": 'é, "x"',
    "credit": "NaN",
    "orders": str(BIG),
    "blob": "AAE=",
    "since": "2020-02-29",
}


def test_json_lines_are_pushed(repo: Repository) -> None:
    file = repo.folder / "rows.jsonl"
    lines = [profile_rows(), profile_rows(user_id="8", country=None, credit=1, orders=2)]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8")
    outcome = repo.succeed("push", "profile", str(file))
    assert outcome.lines_with("written") == [["written", "2"]]
    assert looked_up(repo, 7) == EXPECTED
    assert looked_up(repo, 8) == EXPECTED | {"country": None, "credit": 1.0, "orders": "2"}
    document = repo.succeed("verify", "--json").document
    assert document["defects"] == 0
    assert "pushed" in {name for view in document["views"] for name in view["differences"]}


def test_csv_is_pushed(repo: Repository) -> None:
    file = repo.folder / "rows.csv"
    file.write_text(
        "user_id,event_timestamp,country,credit,orders,blob,since,created,else\n"
        f'7,2026-02-28T09:00:00Z,"é, ""x""",NaN,{BIG},AAE=,2020-02-29,2026-02-28T09:00:00.1,a\n'
        '8,2026-02-28 09:00:00Z,"",,,,,,\n',
        encoding="utf-8",
    )
    document = repo.succeed("push", "profile", str(file), "--json").document
    assert document == {
        "schema_version": 1,
        "view": "profile",
        "rows": 2,
        "written": 2,
        "kept": 0,
        "filtered": 0,
        "expired": 0,
        "file": None,
        "missed": {},
    }
    assert looked_up(repo, 7) == EXPECTED
    assert looked_up(repo, 8) == {
        "country": "",
        "credit": None,
        "orders": None,
        "blob": None,
        "since": None,
    }


def test_parquet_is_pushed_and_older_rows_lose(repo: Repository) -> None:
    stored = pq.read_table(repo.folder / "data/users.parquet").slice(2, 1)  # user 2, 25 February
    older = stored.set_column(3, "country", pa.array(["FI"]))
    older = older.set_column(
        1, "event_timestamp", pa.array([at(2, 24)], stored.schema.field(1).type)
    )
    newer = older.set_column(0, "user_id", pa.array([1]))  # user 1 has a row of 20 February
    file = repo.folder / "rows.parquet"
    pq.write_table(pa.concat_tables([older, newer]), file)
    document = repo.succeed("push", "profile", str(file), "--json").document
    assert (document["rows"], document["written"], document["kept"]) == (2, 1, 1)
    assert looked_up(repo, 2)["country"] == "DE"
    assert looked_up(repo, 1)["country"] == "FI"
    assert repo.succeed("verify", "--json").document["defects"] == 0


def test_rows_are_appended(repo: Repository) -> None:
    definitions = repo.folder / "features.py"
    text = definitions.read_text().replace("data/routes.parquet", "data/routes/*.parquet")
    definitions.write_text(text)
    folder = repo.folder / "data/routes"
    folder.mkdir()
    (repo.folder / "data/routes.parquet").rename(folder / "first.parquet")
    repo.succeed("apply")
    repo.succeed("materialize", "--view", "traffic")
    file = repo.folder / "rows.jsonl"
    row = {"origin": "JFK", "dest": "OSL", "event_timestamp": "2026-02-28T09:00:00Z", "flights": 3}
    file.write_text(json.dumps(row), encoding="utf-8")
    document = repo.succeed("push", "traffic", str(file), "--append", "--json").document
    assert Path(document["file"]).parent == folder
    assert pq.read_table(document["file"])["flights"].to_pylist() == [3]
    repo.succeed("materialize-incremental", "--view", "traffic")
    found = repo.succeed("verify", "--view", "traffic", "--json").document
    assert (found["defects"], found["views"][0]["differences"]) == (0, {})


BAD: dict[str, tuple[str, str, str]] = {
    "no JSON": ("rows.jsonl", "{", "Line 1 is no JSON"),
    "no object": ("rows.jsonl", "[1]", "Line 1 is no JSON object"),
    "a number that is none": ("rows.jsonl", json.dumps(profile_rows(orders="x")), "'orders'"),
    "a time that is none": (
        "rows.jsonl",
        json.dumps(profile_rows(event_timestamp="noon")),
        "no time",
    ),
    "a number as time": ("rows.jsonl", json.dumps(profile_rows(event_timestamp=5)), "no time"),
    "nanoseconds": (
        "rows.jsonl",
        json.dumps(profile_rows(event_timestamp="2026-02-28T09:00:00.0000001Z")),
        "no time",
    ),
    "nanoseconds after a comma": (
        "rows.jsonl",
        json.dumps(profile_rows(event_timestamp="2026-02-28T09:00:00,0000001Z")),
        "no time",
    ),
    "an ending that is unknown": ("rows.xlsx", "", "no file of rows"),
    "no UTF-8": ("rows.csv", "\udcff", "not UTF-8"),
    "two columns of a name": ("rows.csv", "a,a\n1,2\n", "two columns 'a'"),
    "a short line": ("rows.csv", "a,b\n1\n", "no CSV"),
    "nothing": ("rows.csv", "", "no CSV"),
    "a missing column": ("rows.csv", "a,b\n1,2\n", "no column 'user_id'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(repo: Repository, case: str) -> None:
    name, content, words = BAD[case]
    file = repo.folder / name
    file.write_bytes(content.encode(errors="surrogateescape"))
    outcome = repo.run("push", "profile", str(file), "--json")
    assert (outcome.code, outcome.document["error"]["type"]) == (exits.ERROR, "RowsError")
    assert words in outcome.document["error"]["message"]


def test_views_and_files_that_are_not_there_are_named(repo: Repository) -> None:
    outcome = repo.run("push", "profil", "rows.csv")
    assert (outcome.code, "did you mean 'profile'" in outcome.err) == (exits.ERROR, True)
    outcome = repo.run("push", "profile", "missing.csv")
    assert (outcome.code, "missing.csv" in outcome.err) == (exits.ERROR, True)
    assert repo.run("push", "profile").code == exits.USAGE
    assert repo.run("push", "archive", "rows.csv").code == exits.ERROR


def test_entities_are_deleted(repo: Repository) -> None:
    outcome = repo.succeed("delete-entity", "-e", "user_id=1", "-e", '{"user_id": "2"}')
    assert [line[1:] for line in outcome.lines_with("profile")] == [
        ["profile", "deleted"],
        ['"2"}', "profile", "deleted"],
    ]
    assert set(looked_up(repo, 1).values()) == {None}
    document = repo.succeed("delete-entity", "-e", "origin=JFK,dest=LAX", "--json").document
    assert document["entities"] == [
        {"entity": "origin=JFK,dest=LAX", "deleted": ["traffic"], "kept": [], "skipped": {}}
    ]
    assert repo.succeed("verify", "--json").document["defects"] == 0


def test_a_row_that_stays_is_said_by_the_exit_code(repo: Repository) -> None:
    file = repo.folder / "rows.parquet"
    ahead = at(3, 1).replace(minute=4)
    columns = {"origin": ["a"], "dest": ["b"], "flights": [1]}
    times = pa.array([ahead], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table(columns | {"event_timestamp": times}), file)
    repo.succeed("push", "traffic", str(file))
    outcome = repo.run("delete-entity", "-e", "origin=a,dest=b")
    assert outcome.code == exits.ERROR
    assert "a row of a later time than now stays" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-e", "user=1"], "did you mean 'user_id'"),
        (["-e", "origin=JFK"], "'dest'"),
        (["-e", "user_id=x"], "int64"),
        (["-e", "user_id=1", "--view", "traffic"], "no join key"),
    ],
)
def test_wrong_entities_are_refused(repo: Repository, arguments: list[str], words: str) -> None:
    outcome = repo.run("delete-entity", *arguments)
    assert (outcome.code, words in outcome.err) == (exits.ERROR, True)
    assert None not in looked_up(repo, 1).values()


def test_who_was_deleted_before_an_entity_that_is_refused_is_said(repo: Repository) -> None:
    arguments = ["delete-entity", "-e", "user_id=1", "-e", '{"user_id": null}', "-e", "user_id=2"]
    outcome = repo.run(*arguments)
    assert (outcome.code, "is null" in outcome.err) == (exits.ERROR, True)
    assert outcome.lines_with("profile") == [["user_id=1", "profile", "deleted"]]
    assert 'it ended at {"user_id": null}' in outcome.err
    assert set(looked_up(repo, 1).values()) == {None}
    assert looked_up(repo, 2)["country"] == "DE"
    outcome = repo.run(*arguments, "--json")
    assert outcome.code == exits.ERROR
    assert outcome.document["error"]["type"] == "EntityValueError"
    assert outcome.document["entities"] == [
        {"entity": "user_id=1", "deleted": ["profile"], "kept": [], "skipped": {}}
    ]


def test_an_entity_is_named_by_the_keys_that_lookups_read(repo: Repository) -> None:
    """Also while the next generation, with another key, is not complete."""
    text = (repo.folder / "features.py").read_text()
    buyer = 'buyer = Entity(name="buyer", join_keys={"orders": Int64})\nusers = '
    changed = (
        text.replace("users = ", buyer, 1)
        .replace('name="profile", entities=[user]', 'name="profile", entities=[buyer]')
        .replace(', Field(name="orders", dtype=Int64)', "")
        .replace(', "orders"]', "]")
    )
    repo.define(changed)
    repo.succeed("apply")
    assert looked_up_country(repo, 1) == "SE"
    outcome = repo.succeed("delete-entity", "-e", "user_id=1")
    assert outcome.lines_with("profile") == [["user_id=1", "profile", "deleted"]]
    assert looked_up_country(repo, 1) is None


def looked_up_country(repo: Repository, user: int) -> object:
    arguments = ["get-online", "profile:country", "--entity", f"user_id={user}", "--json"]
    return repo.succeed(*arguments).document["entities"][0]["features"]["country"]["value"]


def test_garbage_is_collected(repo: Repository) -> None:
    assert "Nothing to drop." in repo.succeed("gc").out
    text = (repo.folder / "features.py").read_text()
    repo.define(
        "\n".join(
            line
            for line in text.splitlines()
            if "traffic" not in line and 'schema=[Field(name="flights"' not in line
        )
    )
    repo.succeed("apply", "--allow-destroy")
    outcome = repo.succeed("gc", "--dry-run")
    assert outcome.lines_with("traffic") == [["traffic", "1", "2"]]
    assert "2 rows of 1 table would be dropped." in outcome.out
    document = repo.succeed("gc", "--rows-per-second", "1000", "--json").document
    tables = [{"view": "traffic", "generation": 1, "rows": 2}]
    assert document == {"schema_version": 1, "dry_run": False, "rows": 2, "tables": tables}
    assert "Nothing to drop." in repo.succeed("gc").out


def test_a_project_is_torn_down_only_if_it_is_meant(repo: Repository) -> None:
    outcome = repo.run("teardown")
    assert (outcome.code, "--yes" in outcome.err) == (exits.USAGE, True)
    assert None not in looked_up(repo, 1).values()
    document = repo.succeed("teardown", "--yes", "--json").document
    assert {table["view"] for table in document["tables"]} == {"profile", "traffic"}
    assert set(looked_up(repo, 1).values()) == {None}
    repo.succeed("materialize")
    assert None not in looked_up(repo, 1).values()
