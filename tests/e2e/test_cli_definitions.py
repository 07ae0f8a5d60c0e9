"""plan, apply, history, list, describe."""

import json
from pathlib import Path

import pytest

from featurestore.cli import exits

from .command_line import DEFINITIONS, Repository, make_repository


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repo")


@pytest.fixture
def applied(tmp_path: Path, applied: Repository) -> Repository:
    return applied.copied(tmp_path / "repo")


def without(text: str, start: str) -> str:
    """The definitions without the ones that begin so, up to the next name."""
    head, _, tail = text.partition(start)
    return head + tail[tail.index("\n") + 1 :] if tail else text


def test_a_plan_shows_what_apply_would_change_and_changes_nothing(repo: Repository) -> None:
    shown = repo.succeed("plan").out
    assert "+ create feature view profile" in shown
    assert "Plan: 8 to add, 0 to change, 0 to delete" in shown
    assert repo.succeed("plan").out == shown


def test_a_plan_with_changes_has_an_exit_code_of_its_own_only_when_asked(repo: Repository) -> None:
    assert repo.run("plan", "--detailed-exitcode").code == exits.CHANGES == 3
    repo.succeed("apply")
    assert repo.run("plan", "--detailed-exitcode").code == 0


def test_a_plan_as_json_is_the_whole_plan(repo: Repository) -> None:
    document = repo.succeed("plan", "--json").document
    assert document["summary"] == {"create": 8, "update": 0, "delete": 0, "new_generations": 0}
    assert [c["name"] for c in document["changes"] if c["kind"] == "entity"] == ["route", "user"]


def test_apply_registers_once_and_then_has_nothing_to_do(repo: Repository) -> None:
    first = repo.succeed("apply")
    assert first.out.endswith("Applied: project shop is at revision 1\n")
    again = repo.succeed("apply", "--json").document
    assert (again["applied"], again["revision"], again["changes"]) == (False, 1, [])


def test_apply_refuses_to_delete_until_it_is_allowed_to(applied: Repository) -> None:
    applied.define(
        without(DEFINITIONS, "scoring = ").replace(
            '                         description="Will they pay?")\n', ""
        )
    )
    refused = applied.run("apply")
    assert refused.code == exits.ERROR
    assert "- delete feature service scoring" in refused.out
    assert refused.err.startswith("error: This would delete feature service scoring")
    assert "hint: " in refused.err
    assert "--allow-destroy" in refused.err
    allowed = applied.succeed("apply", "--allow-destroy", "--json").document
    assert allowed["summary"]["delete"] == 1
    assert applied.succeed("list", "services", "--json").document["services"] == []


def test_a_change_of_meaning_is_announced_with_the_new_generation(applied: Repository) -> None:
    applied.define(DEFINITIONS.replace("timedelta(days=30)", "timedelta(days=60)"))
    shown = applied.succeed("plan").out
    assert "~ update feature view profile (breaking; generation 1 -> 2)" in shown
    assert 'ttl: "30d" -> "60d"' in shown
    assert "used by feature service scoring" in shown


def test_a_saved_plan_is_applied_as_it_was_looked_at(repo: Repository) -> None:
    file = repo.folder / "plan.json"
    repo.succeed("plan", "--out", str(file))
    assert json.loads(file.read_text())["summary"]["create"] == 8
    assert repo.succeed("apply", str(file), "--json").document["applied"] is True


def test_a_saved_plan_is_refused_once_definitions_have_changed(repo: Repository) -> None:
    file = repo.folder / "plan.json"
    repo.succeed("plan", "--out", str(file))
    repo.define(DEFINITIONS.replace("A customer", "A person"))
    refused = repo.run("apply", str(file))
    assert refused.code == exits.ERROR
    assert "out of date: it differs in entity user" in refused.err
    assert repo.succeed("list", "--json").document["revision"] == 0


def test_a_saved_plan_is_refused_once_somebody_else_has_applied(applied: Repository) -> None:
    file = applied.folder / "plan.json"
    applied.define(DEFINITIONS.replace("A customer", "A person"))
    applied.succeed("plan", "--out", str(file))
    changed = DEFINITIONS.replace("A customer", "Somebody")
    applied.define(changed)
    applied.succeed("apply")
    applied.define(DEFINITIONS.replace("A customer", "A person"))
    refused = applied.run("apply", str(file))
    assert refused.code == exits.ERROR
    assert "out of date" in refused.err


@pytest.mark.parametrize("content", ["{}", "[1]", "no json", '{"changes": [1]}', "\udcff"])
def test_a_file_that_is_no_plan_is_refused(repo: Repository, content: str) -> None:
    file = repo.folder / "plan.json"
    file.write_text(content, errors="surrogateescape")
    refused = repo.run("apply", str(file))
    assert (refused.code, "is no plan" in refused.err) == (exits.ERROR, True)


def test_a_plan_that_cannot_be_saved_says_why(repo: Repository) -> None:
    outcome = repo.run("plan", "--out", str(repo.folder / "missing" / "plan.json"))
    assert outcome.code == exits.ERROR
    assert "cannot be written: No such file or directory" in outcome.err


def test_what_definitions_print_is_no_result(repo: Repository) -> None:
    repo.define(f"print('hello')\n{DEFINITIONS}")
    outcome = repo.succeed("plan", "--json")
    assert len(outcome.document["changes"]) == 8
    assert "hello" in outcome.err


def test_definitions_that_end_the_process_are_an_error(repo: Repository) -> None:
    repo.define("import sys\nsys.exit(0)")
    outcome = repo.run("plan")
    assert (outcome.code, "sys.exit(0)" in outcome.err) == (exits.ERROR, True)


def test_an_error_in_definitions_names_file_and_line(repo: Repository) -> None:
    repo.define(f"{DEFINITIONS}\n1 / 0\n")
    outcome = repo.run("apply")
    line = DEFINITIONS.count("\n") + 2
    assert outcome.code == exits.ERROR
    assert f"features.py, line {line}: ZeroDivisionError" in outcome.err


def test_history_tells_who_changed_what_newest_first(applied: Repository) -> None:
    applied.define(DEFINITIONS.replace("A customer", "A person"))
    applied.succeed("apply")
    changes = applied.succeed("history", "--json").document["changes"]
    assert [c["revision"] for c in changes] == [2] + [1] * 8
    assert changes[0]["fields"] == [
        {"path": "description", "before": "A customer", "after": "A person"}
    ]
    assert changes[0]["actor"]
    assert len(applied.succeed("history", "--limit", "3", "--json").document["changes"]) == 3
    assert applied.succeed("history").lines_with("update")[0][0] == "2"


def test_history_of_nothing_says_so(repo: Repository) -> None:
    outcome = repo.succeed("history")
    assert (outcome.out, outcome.err) == ("", "Nothing was ever applied to project shop.\n")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("entities", ["route", "user"]),
        ("sources", ["routes", "users"]),
        ("views", ["archive", "profile", "traffic"]),
        ("services", ["scoring"]),
    ],
)
def test_list_has_every_object_of_a_kind(applied: Repository, kind: str, names: list[str]) -> None:
    document = applied.succeed("list", kind, "--json").document
    assert [each["name"] for each in document[kind]] == names
    shown = applied.succeed("list", kind).out.splitlines()[2:]
    assert [line.split()[0] for line in shown] == names
    assert {each["name"] for each in applied.succeed("list", "--json").document[kind]} == {*names}


def test_list_without_a_kind_has_all_objects(applied: Repository) -> None:
    assert len(applied.succeed("list").out.splitlines()) == 2 + 8


def test_list_of_nothing_says_so_and_succeeds(repo: Repository) -> None:
    outcome = repo.succeed("list", "runs")
    assert (outcome.out, outcome.err) == ("", "Project shop has no runs yet.\n")


def test_describe_tells_a_view_with_its_schema_and_who_uses_it(applied: Repository) -> None:
    document = applied.succeed("describe", "profile", "--json").document
    assert (document["generation"], document["ttl"], document["kind"]) == (1, "30d", "feature view")
    assert document["materialized_until"] is None
    assert document["used_by"] == [{"kind": "feature service", "name": "scoring"}]
    shown = applied.succeed("describe", "profile").out
    assert shown.startswith("feature view profile\n")
    assert "online up to  never materialized" in shown
    assert "country   string    ISO code" in shown


def test_describe_tells_a_source_with_its_files_and_rows(applied: Repository) -> None:
    document = applied.succeed("describe", "source/users", "--json").document
    file = applied.folder / "data" / "users.parquet"
    assert document["files"] == [{"path": str(file), "rows": 4, "bytes": file.stat().st_size}]
    assert "1 file, 4 rows" in applied.succeed("describe", "users").out


def test_describe_tells_what_tells_the_events_of_a_source_apart(applied: Repository) -> None:
    assert applied.succeed("describe", "routes", "--json").document["dedup_keys"] is None
    assert "dedup keys" not in applied.succeed("describe", "routes").out
    definitions = applied.folder / "features.py"
    text = definitions.read_text().replace(
        'name="routes",', 'name="routes", dedup_keys=["origin", "dest"],'
    )
    definitions.write_text(text)
    planned = applied.succeed("plan").out
    assert "dedup_keys" in planned
    applied.succeed("apply")
    assert "dest, origin" in applied.succeed("describe", "routes").out


def test_describe_tells_what_is_wrong_with_the_files_of_a_source(applied: Repository) -> None:
    file = applied.folder / "data" / "users.parquet"
    file.write_bytes(b"PAR1 broken")
    assert "not a readable Parquet file" in applied.succeed("describe", "users").out
    file.unlink()
    document = applied.succeed("describe", "users", "--json").document
    assert document["files"] == []
    assert "does not exist" in document["problem"]


def test_describe_measures_how_late_the_rows_of_a_source_are(applied: Repository) -> None:
    document = applied.succeed("describe", "source/users", "--lateness", "--json").document
    assert (document["kind"], document["name"]) == ("source", "users")
    told = document["lateness"]
    assert (told["rows"], told["measured"], told["late"], told["late_share"]) == (4, 4, 0, 0.0)
    assert (told["p50"], told["p999"], told["suggested"], told["declared"]) == ("0d",) * 4
    assert told["reason"] == "a lateness of 0d would have covered 99.9 % of rows, as declared"
    shown = applied.succeed("describe", "users", "--lateness").out
    assert shown.startswith("lateness of source users\n")
    assert "0d, covers 4 (100 %)" in shown
    since = applied.succeed("describe", "users", "--lateness", "--start", "2026-02-20", "--json")
    assert since.document["lateness"]["rows"] == 1


def test_describe_says_why_lateness_cannot_be_measured(applied: Repository) -> None:
    outcome = applied.run("describe", "source/routes", "--lateness")
    assert outcome.code == exits.ERROR
    assert "hint: declare its created_timestamp_column" in outcome.err
    assert "view 'profile' has no lateness" in applied.run("describe", "profile", "--lateness").err
    assert applied.run("describe", "users", "--start", "2026-02-20").code == exits.USAGE


def test_describe_tells_an_entity_and_a_service(applied: Repository) -> None:
    assert "origin string, dest string" in applied.succeed("describe", "route").out
    document = applied.succeed("describe", "service/scoring", "--json").document
    assert document["keys"] == ["user_id"]
    assert [c["name"] for c in document["columns"]] == ["country", "credit", "orders"]
    assert document["columns"][2]["type"] == "int64"


def test_describe_asks_which_one_when_a_name_is_used_twice(applied: Repository) -> None:
    applied.define(DEFINITIONS.replace('name="scoring"', 'name="profile"'))
    applied.succeed("apply", "--allow-destroy")
    outcome = applied.run("describe", "profile")
    assert outcome.code == exits.ERROR
    assert "hint: write view/profile or service/profile" in outcome.err
    assert applied.succeed("describe", "service/profile").out.startswith("feature service profile")


@pytest.mark.parametrize(
    ("name", "guess"),
    [("profle", "'profile'"), ("view/profle", "'profile'"), ("veiw/profile", "'view'")],
)
def test_describe_suggests_names_that_look_alike(
    applied: Repository, name: str, guess: str
) -> None:
    outcome = applied.run("describe", name)
    assert outcome.code == exits.ERROR
    assert f"hint: did you mean {guess}" in outcome.err
