"""Keys: what grants allow, what a key is made of, and what is kept of it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.access import (
    Grant,
    KeyRecord,
    Permission,
    Token,
    keys_from_json,
    keys_to_json,
    permits,
)
from featurestore.definitions import FeatureService
from featurestore.errors import FeatureStoreError, NotFoundError, RegistryError, RequestError
from featurestore.store import FeatureStore
from featurestore.time import from_micros
from tests.unit.projects import FILE, NOW, rows, view, write

PERMISSIONS = st.sampled_from(list(Permission))
SERVICES = st.sampled_from(["a", "b", "A", ""])
GRANTS = st.frozensets(st.builds(Grant, PERMISSIONS, st.none() | st.sampled_from(["a", "b"])))

# --- grants -------------------------------------------------------------------------------------


@given(GRANTS, PERMISSIONS, SERVICES)
def test_what_is_allowed_is_what_some_grant_says(
    grants: frozenset[Grant], permission: Permission, service: str
) -> None:
    expected = any(
        (grant.permission is Permission.ADMIN and grant.service is None)
        or (grant.permission is permission and grant.service is None)
        or (grant.permission is permission and service != "" and grant.service == service)
        for grant in grants
    )
    assert permits(grants, permission, service=service) is expected


@given(GRANTS, GRANTS, PERMISSIONS, SERVICES)
def test_more_grants_never_allow_less(
    some: frozenset[Grant], more: frozenset[Grant], permission: Permission, service: str
) -> None:
    if permits(some, permission, service=service):
        assert permits(some | more, permission, service=service)


@given(PERMISSIONS, SERVICES)
def test_without_grants_nothing_is_allowed(permission: Permission, service: str) -> None:
    assert not permits(frozenset(), permission, service=service)


@given(PERMISSIONS, st.sampled_from(["a", "b"]))
def test_a_grant_of_one_service_allows_nothing_of_the_project(
    permission: Permission, service: str
) -> None:
    grants = {Grant(permission, service)}
    assert not any(permits(grants, asked) for asked in Permission)


# --- what a key is made of ------------------------------------------------------------------------


def test_a_key_is_read_as_it_is_written() -> None:
    tokens = [Token.new() for _ in range(100)]
    assert [Token.parse(str(token)) for token in tokens] == tokens
    assert len({token.id for token in tokens} | {token.secret for token in tokens}) == 200
    assert {len(str(token)) for token in tokens} == {59}


@given(st.text(max_size=120) | st.from_regex(r"fs_[0-9a-f]{0,13}_[A-Za-z0-9_-]{0,45}"))
def test_whatever_is_read_as_a_key_is_one(text: str) -> None:
    token = Token.parse(text)
    assert token is None or str(token) == text


def test_a_secret_is_told_from_every_other() -> None:
    token, other = Token.new(), Token.new()
    assert token.has_hash(token.hash)
    assert not token.has_hash(other.hash)
    assert not token._replace(secret=other.secret).has_hash(token.hash)


def test_what_is_printed_of_a_key_has_no_secret() -> None:
    token = Token.new()
    assert token.secret not in f"{token!r} {[token]} {vars(Token)}"


RECORDS = st.builds(
    KeyRecord,
    id=st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    name=st.text(min_size=1),
    hash=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    certificate=st.none() | st.text(min_size=1),
    grants=GRANTS,
    created_us=st.integers(0, 2**53),
    created_by=st.text(),
    expires_us=st.none() | st.integers(0, 2**53),
    revoked_us=st.none() | st.integers(0, 2**53),
    revoked_by=st.none() | st.text(),
)


@given(st.lists(RECORDS, max_size=3))
def test_keys_travel_as_text(records: list[KeyRecord]) -> None:
    assert keys_from_json(keys_to_json(records)) == records


# --- what is kept ---------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    write(tmp_path / FILE, rows())
    config = {"project": "plant", "clock": NOW, "registry": "registry.db"}
    with FeatureStore(tmp_path, config=config) as opened:
        opened.apply([FeatureService(name="fraud_v1", features=[view()])])
        yield opened


def test_the_database_has_no_secret(store: FeatureStore) -> None:
    made = [store.api_keys.create(f"k{n}", roles=["read_online"]) for n in range(20)]
    tokens = [Token.parse(str(key.token)) for key in made]
    store.api_keys.revoke("k3")
    store.close()
    files = list(store.config.root.glob("registry.db*"))
    content = b"".join(file.read_bytes() for file in files)
    for token in tokens:
        assert token is not None
        assert token.id.encode() in content
        assert token.hash.hex().encode() in content
        assert token.secret.encode() not in content
        assert token.secret[:12].encode() not in content


def test_a_key_is_kept_with_who_made_it_and_what_it_may_do(store: FeatureStore) -> None:
    before = store.registry.wall_now()
    made = store.api_keys.create(
        "web", roles=["read_online", "write"], services=["fraud_v1"], expires_in=timedelta(days=90)
    )
    [kept] = store.api_keys.list()
    assert kept == made.record
    assert kept.grants == {Grant(Permission.READ_ONLINE, "fraud_v1"), Grant(Permission.WRITE)}
    assert kept.created_by
    assert from_micros(kept.created_us) >= before
    assert kept.expires_us == kept.created_us + 90 * 86_400 * 10**6
    assert "token" not in repr(made)


def test_a_key_that_was_revoked_stays_known_and_frees_its_name(store: FeatureStore) -> None:
    first = store.api_keys.create("web", roles=["read_online"]).record
    revoked = store.api_keys.revoke(first.id)
    assert (revoked.id, revoked.revoked_us is not None) == (first.id, True)
    second = store.api_keys.create("web", roles=["write"]).record
    assert store.api_keys.list() == [revoked, second]
    assert store.api_keys.revoke("web").id == second.id
    with pytest.raises(NotFoundError):
        store.api_keys.revoke(first.id)


def test_keys_of_projects_are_kept_apart(store: FeatureStore, tmp_path: Path) -> None:
    config = {"project": "other", "clock": NOW, "registry": "registry.db"}
    with FeatureStore(tmp_path, config=config) as other:
        other.apply([view()])
        key = store.api_keys.create("web", roles=["admin"]).record
        assert other.api_keys.list() == []
        with pytest.raises(NotFoundError):
            other.api_keys.revoke(key.id)


def test_a_certificate_stands_for_a_key_without_a_secret(store: FeatureStore) -> None:
    made = store.api_keys.create("ada", roles=["read_online"], certificate="ada.example")
    assert (made.token, made.record.hash) == (None, None)
    with pytest.raises(RequestError, match=r"'ada' is for the certificate of 'ada\.example'"):
        store.api_keys.create("eve", roles=["read_online"], certificate="ada.example")


BAD: dict[str, dict[str, Any]] = {
    "A key needs a role": {"roles": []},
    "There is no role 'writ'": {"roles": ["writ"]},
    "did you mean 'write'": {"roles": ["writ"]},
    "the roles are read_online, read_offline": {"roles": ["owner"]},
    "'a b': the name of a key takes": {"name": "a b"},
    "'': the name of a key takes": {"name": ""},
    "There is a key 'taken' already": {"name": "taken"},
    "no feature service 'fraud_v2'": {"services": ["fraud_v2"]},
    "did you mean 'fraud_v1'": {"services": ["fraud_v2"]},
    "Services limit the roles read_offline and read_online": {
        "roles": ["write"],
        "services": ["fraud_v1"],
    },
    "admin may read all": {"roles": ["admin", "read_online"], "services": ["fraud_v1"]},
    "lives for 1 microsecond": {"expires_in": timedelta()},
    "lives for 1 microsecond to": {"expires_in": timedelta(days=36_501)},
    "cannot be a name in a certificate": {"certificate": ""},
    "it takes 1 to 255 printable": {"certificate": "a\nb"},
}


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_a_key_is_refused(store: FeatureStore, said: str) -> None:
    store.api_keys.create("taken", roles=["read_online"])
    asked = {"name": "new", "roles": ["read_online"], **BAD[said]}
    with pytest.raises(FeatureStoreError) as refused:
        store.api_keys.create(**asked)
    assert said in str(refused.value)
    assert len(store.api_keys.list()) == 1


def test_a_project_that_is_not_has_no_keys(tmp_path: Path) -> None:
    with FeatureStore(tmp_path, config={"project": "plant"}) as store:
        assert store.api_keys.list() == []
        with pytest.raises(NotFoundError, match="no project 'plant'"):
            store.api_keys.create("web", roles=["admin"])


@pytest.mark.parametrize(
    ("column", "value"),
    [("hash", "xyz"), ("hash", "00"), ("grants", "{"), ("grants", '[["owner", null]]')],
)
def test_a_damaged_key_is_no_key(store: FeatureStore, column: str, value: str) -> None:
    made = store.api_keys.create("web", roles=["admin"])
    with closing(sqlite3.connect(store.config.root / "registry.db")) as raw, raw:
        raw.execute(f"UPDATE featurestore_keys SET {column} = ?", (value,))  # noqa: S608
    with pytest.raises(RegistryError, match=f"The key '{made.record.id}'"):
        store.api_keys.list()


def old_registry(folder: Path) -> Path:
    file = folder / "old.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(Path(__file__).with_name("registry_v1.sql").read_text())
    return file


def test_a_registry_of_an_older_version_gets_its_first_key(tmp_path: Path) -> None:
    file = old_registry(tmp_path)
    with FeatureStore(tmp_path, config={"project": "shop", "registry": str(file)}) as store:
        assert store.api_keys.list() == []
        made = store.api_keys.create("web", roles=["admin"])
        assert store.api_keys.list() == [made.record]


def test_a_document_of_a_key_is_json(store: FeatureStore) -> None:
    made = store.api_keys.create("web", roles=["read_online"], services=["fraud_v1"]).record
    document = json.loads(json.dumps(made.to_document()))
    assert document["grants"] == [["read_online", "fraud_v1"]]
    assert KeyRecord.from_document(document) == made
