"""A whole project on Redis as it is run in production: from the sources to a client."""

import json
import shutil
import signal
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from featurestore_sdk import FeatureStoreClient

from .command_line import BIG, SETTINGS, Repository, make_repository

if TYPE_CHECKING:
    from tests.topologies import TlsServer


@pytest.fixture(params=["sentinel", "cluster", "tls"])
def repo(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: Path
) -> Repository:
    """A repository whose online store is such a Redis, shared with other projects."""
    made = make_repository(tmp_path / "repo", forked)
    if request.param == "tls":
        server: TlsServer = request.getfixturevalue("redis_tls")
        for setting, file in server.options.items():
            shutil.copy(file, made.folder / setting)
        names = "".join(f", {name}: {name}" for name in server.options)
        store = f"{{type: redis, url: '{server.url}'{names}}}"
    else:
        fixture = {"sentinel": "sentinel_url", "cluster": "redis_cluster_url"}[request.param]
        store = request.getfixturevalue(fixture)
    settings = SETTINGS.replace("online_store: lmdb", f"online_store: {store}")
    (made.folder / "feature_store.yaml").write_text(settings)
    monkeypatch.setenv("FEATURESTORE_PROJECT", f"e2e{uuid.uuid4().hex}")
    return made


def test_a_project_is_filled_verified_and_served(repo: Repository) -> None:
    repo.succeed("apply")
    repo.succeed("materialize")
    repo.succeed("verify")
    checked = repo.succeed("doctor", "--json").document["checks"]
    about = {check["subject"] for check in checked if check["subject"].startswith("online store: ")}
    assert {"online store: version", "online store: eviction", "online store: clock"} <= about
    # How workers share a port, the server's own tests show.
    with repo.spawn("serve", "--address", "127.0.0.1:0", "--workers", "1", "--json") as process:
        assert process.stdout is not None
        printed = ""
        while not printed.endswith("\n}\n"):
            printed += process.stdout.readline() or pytest.fail("the server ended")
        with FeatureStoreClient(json.loads(printed)["address"], timeout_s=30) as client:
            found = client.get_online_features("scoring", {"user_id": [1, 2, 9]}).to_dict()
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    assert found["country"] == ["SE", "DE", None]
    assert found["orders"] == [BIG, 3, None]
