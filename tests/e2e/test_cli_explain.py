"""`explain` on the command line: text, JSON, entities as typed, errors, exit codes, completion."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from featurestore.cli import exits
from featurestore.online.codec import encode_keys, row_codec
from featurestore.online.store import EncodedRows, TableId
from featurestore.store import FeatureStore
from featurestore.time import to_micros

from .command_line import BIG, DEFINITIONS, Repository, at, make_repository

ON_DEMAND = """
from featurestore import OnDemandFeatureView, RequestSource

request = RequestSource(name="request", schema=[Field(name="amount", dtype=Float64)])
ratio = OnDemandFeatureView(name="ratio", sources=[profile, request],
                            features={"next": "orders + amount"})
"""


@pytest.fixture
def repo(tmp_path: Path) -> Repository:
    made = make_repository(tmp_path / "repo")
    made.define(DEFINITIONS + ON_DEMAND)
    made.succeed("apply")
    return made


def test_a_value_is_explained_in_text_and_in_one_json_document(repo: Repository) -> None:
    asked = ("explain", "profile:orders", "-e", "user_id=1", "--at", "2026-03-01T00:00:00Z")
    text = repo.succeed(*asked).out
    assert text.startswith(f"profile:orders = {BIG}  (int64)\n")
    assert "data/users.parquet row" in text
    assert max(map(len, text.splitlines())) <= 100
    document = repo.succeed(*asked, "--json").document
    (feature,) = document["features"]
    assert (document["ok"], feature["value"], feature["type"]) == (True, str(BIG), "int64")
    (view,) = document["views"]
    assert view["chosen"]["file"] == "data/users.parquet"
    assert isinstance(view["chosen"]["row"], int)
    assert (
        repo.succeed("explain", "profile:orders", "-e", "user_id=1", "--json").document == document
    )


def test_keys_and_request_fields_are_read_as_what_they_are_declared_to_be(repo: Repository) -> None:
    found = repo.succeed(
        *("explain", "ratio:next", "-e", '{"user_id": 1}', "--request", "amount=9.5", "--json")
    ).document
    assert found["request"] == {"amount": 9.5}
    assert found["features"][0]["inputs"][1] == {
        "name": "amount",
        "origin": "request",
        "value": 9.5,
    }
    routes = ("explain", "traffic:flights", "-e", "origin=JFK,dest=LAX", "--json")
    assert set(repo.succeed(*routes).document["entity"]) == {"origin", "dest"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("profile:order", "-e", "user_id=1"), "did you mean 'orders'"),
        (("profil:orders", "-e", "user_id=1"), "did you mean 'profile'"),
        (("scorin", "-e", "user_id=1"), "did you mean 'scoring'"),
        (("profile:orders", "-e", "usr_id=1"), "did you mean 'user_id'"),
        (("profile:orders", "-e", "user_id=one"), "'one'"),
        (("profile:orders",), "'user_id' (int64) is missing"),
        (("profile:orders", "-e", "user_id=1", "--at", "noon"), "RFC 3339"),
        (("ratio:next", "-e", "user_id=1"), "'amount' (float64) is missing"),
        (("ratio:next", "-e", "user_id=1,amount=2"), "--request"),
        (("ratio:next", "-e", "user_id=1", "--request", "amount"), "--request 'amount' is not"),
        (("traffic:flights", "-e", "origin=a,dest=b", "--mode", "as_served"), "created_timestamp"),
    ],
)
def test_what_cannot_be_asked_is_said(
    repo: Repository, arguments: tuple[str, ...], words: str
) -> None:
    outcome = repo.run("explain", *arguments)
    assert (outcome.code, outcome.out) == (exits.ERROR, "")
    assert words in outcome.err
    assert "Traceback" not in outcome.err


def test_a_defect_of_the_online_store_ends_with_1(repo: Repository) -> None:
    repo.succeed("materialize", "--view", "traffic")
    asked = ("explain", "traffic:flights", "-e", "origin=JFK,dest=LAX", "--online")
    document = repo.succeed(*asked, "--json").document
    assert document["views"][0]["online"]["agrees"] is True
    with FeatureStore(repo.folder) as store:
        (key,) = encode_keys(["string", "string"], [pa.array(["JFK"]), pa.array(["LAX"])])
        event = np.array([to_micros(at(1, 1))])
        (value,) = row_codec(("int64",)).encode(event, None, [pa.array([12_345])])
        assert key is not None
        table = TableId(project="shop", view="traffic", generation=1)
        store.online_store.write(table, EncodedRows(keys=[key], values=[value]), overwrite=True)
    outcome = repo.run(*asked)
    assert outcome.code == exits.ERROR
    assert outcome.out.startswith("DEFECT")
    assert "12345" in outcome.out
