"""The command line as a process: what it loads, prints, and ends with, whatever is asked of it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from featurestore.cli import exits
from featurestore.cli.app import COMMANDS, GROUPS

from .command_line import SETTINGS, Outcome, Repository, make_repository


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, filled: Repository) -> Repository:
    """A repository that was applied and materialized, in which tests change nothing."""
    return filled.copied(tmp_path_factory.mktemp("process") / "repo")


@pytest.fixture
def quick(repo: Repository, forked: Path) -> Repository:
    """The same for tests that are about what a command says, not about how its process starts."""
    return replace(repo, program=forked)


def test_help_names_every_command_and_every_exit_code(repo: Repository) -> None:
    outcome = repo.execute("--help")
    assert (outcome.code, outcome.err) == (0, "")
    words = outcome.out.split()
    assert {*COMMANDS, *GROUPS, *map(str, exits.MEANINGS)} <= {*words}
    assert "..." not in outcome.out.replace("[ARGS]...", "")


TWO_WORDS = [f"{first} {second}" for first, (_, group) in GROUPS.items() for second in group]


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS, *TWO_WORDS])
def test_every_command_explains_itself(repo: Repository, command: str) -> None:
    outcome = repo.run(*command.split(), "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"Usage: featurestore {command} ")
    assert "--json" in outcome.out


def test_help_loads_next_to_nothing() -> None:
    code = (
        "import contextlib, sys; sys.argv = ['featurestore', '--help']\n"
        "from featurestore.cli import main\n"
        "main()\n"
        "loaded = {'json', 'logging', 'pydantic', 'rich', 'sqlite3', 'yaml', 'zoneinfo'}\n"
        "print(*sorted(loaded & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == ""


def test_no_command_is_a_usage_error_that_shows_the_help(quick: Repository) -> None:
    outcome = quick.execute()
    assert (outcome.code, outcome.out) == (exits.USAGE, "")
    assert outcome.err.startswith("Usage: featurestore")


ANSWERS = [
    ("plan",),
    ("apply",),
    ("history",),
    ("status",),
    ("list",),
    ("list", "runs"),
    ("describe", "profile"),
    ("describe", "source/users", "--lateness"),
    ("get-historical", "-f", "scoring", "--sql", "SELECT user_id, event_timestamp FROM users"),
    ("materialize",),
    ("materialize-incremental",),
    ("get-online", "scoring", "--entity", "user_id=1"),
    ("verify",),
    ("doctor",),
    ("--version",),
]


@pytest.mark.parametrize("command", ANSWERS, ids=lambda command: "-".join(command[:2]))
def test_json_is_one_document_on_standard_output(
    repo: Repository, command: tuple[str, ...]
) -> None:
    after, before = repo.run(*command, "--json"), repo.run("--json", *command)
    assert after.code == before.code == 0
    assert after.document.keys() == before.document.keys()
    assert repo.succeed(*command).out[:1] != "{"


def test_json_goes_to_standard_output_and_nothing_else_does(quick: Repository) -> None:
    outcome = quick.execute("materialize", "--json", "-vv")
    assert outcome.document["runs"][0]["view"] == "profile"


BAD = [
    ("lst",),
    ("status", "--view", "nope"),
    ("history", "--limit", "0"),
    ("list", "nothing"),
    ("list", "runs", "--limit", "0"),
    ("list", "runs", "--limit", "many"),
    ("list", "runs", "--view", "nope"),
    ("list", "--limt", "3"),
    ("describe",),
    ("describe", "nope"),
    ("describe", "nope/profile"),
    ("describe", "routes", "--lateness"),
    ("describe", "users", "--lateness", "--start", "never"),
    ("describe", "\x1b[31mred\x1b[0m\r\n\x00"),
    ("describe", "x" * 10_000),
    ("describe", "'; DROP TABLE featurestore_objects; --"),
    ("apply", "nope.json"),
    ("apply", "features.py"),
    ("apply", "data"),
    ("get-historical",),
    ("get-historical", "-f", "scoring"),
    ("get-historical", "-f", "scorin", "--spine", "data/users.parquet"),
    ("get-historical", "-f", "", "--spine", "data/users.parquet"),
    ("get-historical", "-f", "profile:nope", "--spine", "data/users.parquet"),
    ("get-historical", "-f", "profile:country,profile:country", "--spine", "data/users.parquet"),
    ("get-historical", "-f", "scoring", "--spine", "data/users.parquet"),
    ("get-historical", "-f", "scoring", "--spine", "data/routes.parquet"),
    ("get-historical", "-f", "scoring", "--spine", "nope.parquet"),
    ("get-historical", "-f", "scoring", "--spine", "features.py"),
    ("get-historical", "-f", "scoring", "--spine", "data"),
    ("get-historical", "-f", "scoring", "--sql", ""),
    ("get-historical", "-f", "scoring", "--sql", "DROP TABLE users"),
    ("get-historical", "-f", "scoring", "--sql", "SELECT * FROM nope"),
    ("get-historical", "-f", "scoring", "--sql", "SELECT * FROM '/etc/passwd'"),
    ("get-historical", "-f", "scoring", "--sql", "SELECT 1; SELECT 2"),
    ("get-historical", "-f", "traffic:flights", "--spine", "data/users.parquet", "--mode", "x"),
    ("get-historical", "-f", "traffic:flights", "--spine", "data/users.parquet", "--timezone", "X"),
    ("get-historical", "-f", "scoring", "--sql", "SELECT user_id, event_timestamp FROM users", "-o",
     "nope/x.parquet"),
    ("materialize", "--end", "yesterday"),
    ("materialize", "--start", "2026-02-01", "--end", "2026-01-01"),
    ("materialize", "--view", "nope"),
    ("materialize", "--view", "archive"),
    ("materialize-incremental", "--end", ""),
    ("get-online",),
    ("get-online", "scorin", "-e", "user_id=1"),
    ("get-online", "archive:credit", "-e", "user_id=1"),
    ("get-online", "scoring"),
    ("get-online", "scoring", "-e", "user_id"),
    ("get-online", "scoring", "-e", "=1"),
    ("get-online", "scoring", "-e", "user_id=abc"),
    ("get-online", "scoring", "-e", "user_id=99999999999999999999"),
    ("get-online", "scoring", "-e", "user_id=1,more=2"),
    ("get-online", "scoring", "-e", "user_di=1"),
    ("get-online", "scoring", "-e", "user_id=1", "-e", "{}"),
    ("get-online", "scoring", "-e", "{"),
    ("get-online", "scoring", "-e", '{"user_id": [1]}'),
    ("get-online", "scoring", "-e", '{"user_id": 1e999}'),
    ("get-online", "scoring", "-e", "{" * 5_000),
    ("serve", "--address", "nonsense"),
    ("serve", "--address", "0.0.0.0:0"),
    ("serve", "--workers", "0"),
    ("verify", "--view", "nope"),
    ("verify", "--sample", "0"),
    ("verify", "--seed", "-1"),
    ("init", "."),
    ("init", "x", "--template", "nope"),
    ("init", "x", "--project", "no good"),
    ("init", "features.py/x"),
    ("--repo", "nope", "list"),
    ("--repo", "data", "list"),
    ("--repo", "features.py", "list"),
]  # fmt: skip


@pytest.mark.parametrize("command", BAD, ids=lambda command: " ".join(command)[:60])
def test_bad_input_is_one_line_and_never_a_defect(
    repo: Repository, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo.folder)
    outcome = repo.run(*command)
    assert outcome.code in (exits.ERROR, exits.USAGE)
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))
    assert outcome.err.replace("\n", "").isprintable()
    assert all(len(line) < 2_000 for line in lines)


@pytest.mark.parametrize("command", BAD[::5], ids=lambda command: " ".join(command)[:60])
def test_bad_input_with_json_is_one_error_document(
    repo: Repository, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repo.folder)
    outcome = repo.run(*command, "--json")
    error = outcome.document["error"]
    assert error.keys() == {"type", "message", "hint", "retryable", "facts"}
    assert (error["type"] == "UsageError") == (outcome.code == exits.USAGE)


def test_an_error_document_knows_the_facts(repo: Repository) -> None:
    error = repo.run("materialize", "--view", "profil", "--json").document["error"]
    assert error["type"] == "NotFoundError"
    assert error["facts"] == {"kind": "feature view", "name": "profil", "suggestions": ["profile"]}
    assert error["hint"] == "did you mean 'profile'?"


def test_a_traceback_is_shown_only_when_asked_for(quick: Repository) -> None:
    plain = quick.execute("describe", "nope")
    asked = quick.execute("describe", "nope", "--debug")
    assert (plain.code, "Traceback" in plain.err) == (exits.ERROR, False)
    assert (asked.code, "Traceback" in asked.err) == (exits.ERROR, True)
    assert "\nerror: There is no object" in asked.err


def test_what_may_succeed_later_has_an_exit_code_of_its_own(
    tmp_path: Path, applied: Repository
) -> None:
    repo = applied.copied(tmp_path / "repo")
    unreachable = SETTINGS.replace("lmdb", "redis://127.0.0.1:1/0")
    (repo.folder / "feature_store.yaml").write_text(unreachable)
    outcome = repo.run("get-online", "scoring", "-e", "user_id=1", "--json")
    assert outcome.code == exits.RETRY == 75
    assert outcome.document["error"]["retryable"] is True


def test_the_repository_may_come_from_the_environment(quick: Repository, tmp_path: Path) -> None:
    env = {**os.environ, "FEATURESTORE_REPO": str(quick.folder)}
    command = [str(quick.program), "list", "services", "--json"]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=True)
    assert json.loads(ran.stdout)["services"][0]["name"] == "scoring"


def test_a_reader_that_goes_away_is_no_error(repo: Repository) -> None:
    with repo.spawn("list", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(120) == exits.BROKEN_PIPE
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_an_output_that_takes_nothing_is_an_error(repo: Repository) -> None:
    with (
        Path("/dev/full").open("w") as full,
        repo.spawn("list", "--json", stdout=full.fileno()) as process,
    ):
        _, err = process.communicate(timeout=120)
    assert process.returncode == exits.ERROR
    assert err == "error: Standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_command_that_is_stopped_says_so_in_one_line(
    tmp_path: Path, number: signal.Signals, code: int, word: str
) -> None:
    repo = make_repository(tmp_path / "repo")
    reached = repo.folder / "reached"
    repo.define(f"import pathlib, time\npathlib.Path({str(reached)!r}).touch()\ntime.sleep(600)\n")
    with repo.spawn("plan", "--json") as process:
        while not reached.exists():
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    outcome = Outcome(code=process.returncode, out=out, err=err)
    assert (outcome.code, outcome.err) == (code, f"error: {word}\n")
    assert outcome.document["error"]["type"] == "Interrupted"


def test_serve_says_when_it_is_ready_and_ends_well(repo: Repository) -> None:
    with repo.spawn("serve", "--address", "127.0.0.1:0", "--workers", "1", "--json") as process:
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("\n}\n"):
            printed += process.stdout.readline() or pytest.fail("the server ended")
        ready = json.loads(printed)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    assert ready["address"].startswith("127.0.0.1:")
    assert (ready["project"], ready["revision"], ready["workers"]) == ("shop", 1, 1)
    assert ready["clock"] == "2026-03-01T00:00:00Z"


def test_a_store_of_one_process_is_not_served(tmp_path: Path) -> None:
    repo = make_repository(tmp_path / "repo")
    (repo.folder / "feature_store.yaml").write_text(SETTINGS.replace("lmdb", "memory"))
    outcome = repo.run("serve")
    assert outcome.code == exits.ERROR
    assert "lives in one process" in outcome.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("featurestore mat", ["materialize", "materialize-incremental"]),
        ("featurestore describe tr", ["traffic"]),
        ("featurestore materialize --view p", ["profile"]),
        ("featurestore spine events us", ["users"]),
        ("featurestore get-online scor", ["scoring"]),
        ("featurestore get-online traffic:", ["traffic:flights"]),
        ("featurestore explain traffic:", ["traffic:flights"]),
        ("featurestore --repo nope describe tr", []),
    ],
)
def test_the_shell_completes_commands_and_registered_names(
    quick: Repository, words: str, found: list[str]
) -> None:
    count = str(len(words.split()) - 1)
    asked = {"_FEATURESTORE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count}
    outcome = quick.execute(env={**os.environ, **asked})
    assert (outcome.out.split(), outcome.err) == (found, "")


def test_names_that_a_terminal_cannot_show_are_escaped(repo: Repository) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    outcome = repo.execute("describe", "h\u00e9", env=env)
    assert outcome.code == exits.ERROR
    assert r"'h\xe9'" in outcome.err


def test_colours_are_for_terminals(tmp_path: Path, forked: Path) -> None:
    repo = make_repository(tmp_path / "repo", forked)
    forced = {**os.environ, "FORCE_COLOR": "1"}
    assert "\x1b[32m+ create" in repo.execute("plan", env=forced).out
    assert "\x1b" not in repo.execute("plan").out
    assert "\x1b[3" not in repo.execute("plan", env={**forced, "NO_COLOR": "1"}).out
