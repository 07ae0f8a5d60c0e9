"""keys create, list, revoke."""

import re
from pathlib import Path

import pytest

from featurestore import FeatureStore
from featurestore.access import Token
from featurestore.cli import exits

from .command_line import Repository


@pytest.fixture
def repo(tmp_path: Path, applied: Repository) -> Repository:
    return applied.copied(tmp_path / "repo")


def test_a_key_is_printed_once_and_alone(repo: Repository) -> None:
    outcome = repo.succeed("keys", "create", "web", "--role", "read_online", "--expires", "90d")
    token = Token.parse(outcome.out.removesuffix("\n"))
    assert token is not None, outcome.out
    assert "cannot be shown again" in outcome.err
    for command in (("list",), ("list", "--json"), ("revoke", "web")):
        shown = repo.succeed("keys", *command)
        assert token.id in shown.out
        assert token.secret not in shown.out + shown.err
        assert token.hash.hex() not in shown.out + shown.err


def test_keys_are_listed_with_what_they_allow(repo: Repository) -> None:
    assert repo.succeed("keys", "list").out == "There are no keys.\n"
    create = ("keys", "create")
    roles = ("--role", "read_online", "--role", "write", "--service", "scoring")
    repo.succeed(*create, "web", *roles)
    repo.succeed(*create, "ada", "--role", "admin", "--certificate", "ada.example")
    repo.succeed(*create, "old", "--role", "admin", "--expires", "1us")
    repo.succeed("keys", "revoke", "ada")
    lines = repo.succeed("keys", "list").out.splitlines()[2:]
    shown = [re.split(r" {2,}", line)[0] for line in lines]
    assert shown == ["web", "ada", "old"]
    for line, words in zip(
        lines,
        [("read_online:scoring, write", "in force"), ("ada.example", "revoked"), ("expired",)],
        strict=True,
    ):
        assert all(word in line for word in words), line


def test_a_document_has_the_key_and_what_is_known_of_it(repo: Repository) -> None:
    made = repo.succeed(
        "keys", "create", "web", "--role", "read_online", "--service", "scoring", "--json"
    ).document
    assert Token.parse(made["key"]) is not None
    assert made["grants"] == [{"role": "read_online", "service": "scoring"}]
    [listed] = repo.succeed("keys", "list", "--json").document["keys"]
    expected = {key: value for key, value in made.items() if key not in ("key", "schema_version")}
    assert listed == expected
    revoked = repo.succeed("keys", "revoke", made["id"], "--json").document
    assert (revoked["state"], revoked["name"]) == ("revoked", "web")
    certificate = repo.succeed(
        "keys", "create", "ada", "--role", "write", "--certificate", "ada", "--json"
    )
    assert certificate.document["key"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("create", "web"), exits.USAGE, "--role"),
        (("create", "--role", "write"), exits.USAGE, "name"),
        (("create", "web", "--role", "writ"), exits.ERROR, "did you mean 'write'?"),
        (("create", "web", "--role", "write", "--expires", "soon"), exits.USAGE, "--expires"),
        (
            ("create", "web", "--role", "write", "--service", "scoring"),
            exits.ERROR,
            "Services limit",
        ),
        (
            ("create", "web", "--role", "read_online", "--service", "scorin"),
            exits.ERROR,
            "'scoring'",
        ),
        (("revoke", "nobody"), exits.ERROR, "There is no key in force 'nobody'"),
        ((), exits.USAGE, "Missing command"),
        (("drop",), exits.USAGE, "No such command 'drop'"),
    ],
)
def test_what_cannot_be_done_is_said(
    repo: Repository, arguments: tuple[str, ...], code: int, said: str
) -> None:
    outcome = repo.run("keys", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err, outcome.err
    with FeatureStore(repo.folder) as store:
        assert store.api_keys.list() == []
