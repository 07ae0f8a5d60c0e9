"""Both clients against a server with everything in it: the answers are those of the process."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from featurestore_sdk import (
    AsyncFeatureStoreClient,
    FeatureStoreClient,
    InvalidRequestError,
    NotFoundError,
    ObjectKind,
)

from featurestore import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from featurestore.types import Float64, Int64
from tests.server.backend_calls import served

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPINE = {"user_id": [1, 2, 404], "event_timestamp": [NOON] * 3}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: whole\n")
    rows = pl.DataFrame({"user_id": [1, 2], "spent": [1.5, None], "at": [NOON, NOON]})
    rows.write_parquet(tmp_path / "spent.parquet")
    source = FileSource(
        name="spent", path=str(tmp_path / "spent.parquet"), timestamp_field="at", timezone="UTC"
    )
    user = Entity(name="user", join_keys={"user_id": Int64})
    view = FeatureView(
        name="spending",
        entities=[user],
        source=source,
        schema=[Field(name="spent", dtype=Float64)],
    )
    with FeatureStore(tmp_path) as found:
        found.apply([user, view, FeatureService(name="all", features=[view])])
        found.materialize(end=datetime(2026, 4, 1, tzinfo=UTC))
        yield found


@pytest.fixture
def address(store: FeatureStore) -> Iterator[str]:
    with served(store) as found:
        yield found


def _pushed(spent: float) -> dict[str, list[Any]]:
    return {"user_id": [1], "spent": [spent], "at": [datetime(2026, 3, 2, tzinfo=UTC)]}


def test_all_of_it_through_the_client(store: FeatureStore, address: str) -> None:
    expected = store.get_historical_features(pa.table(SPINE), "all").to_arrow()
    with FeatureStoreClient(address) as client:
        assert client.get_historical_features(SPINE, "all").to_arrow().equals(expected)
        assert client.get_project().name == "whole"
        [view] = client.list_objects(ObjectKind.FEATURE_VIEW)
        assert view.name == "spending"
        assert client.describe_features("all").request_columns == {"user_id": "int64"}
        assert client.push("spending", _pushed(7.5)).written == 1
        looked_up = client.get_online_features("all", {"user_id": [1, 2, 404]}).to_dict()
    here = store.get_online_features("all", {"user_id": [1, 2, 404]}).to_dict()
    assert looked_up == here == {"user_id": [1, 2, 404], "spent": [7.5, None, None]}


def test_all_of_it_through_the_async_client(store: FeatureStore, address: str) -> None:
    expected = store.get_historical_features(pa.table(SPINE), "all").to_arrow()

    async def everything() -> dict[str, list[Any]]:
        async with AsyncFeatureStoreClient(address) as client:
            job = client.get_historical_features(SPINE, "all")
            assert (await job.to_arrow()).equals(expected)
            assert (await client.get_project()).name == "whole"
            assert (await client.push("spending", _pushed(8.5))).written == 1
            found = await client.get_online_features("all", {"user_id": [1, 2, 404]})
            return found.to_dict()

    assert asyncio.run(everything()) == {"user_id": [1, 2, 404], "spent": [8.5, None, None]}


def test_what_is_wrong_is_named(address: str) -> None:
    with FeatureStoreClient(address) as client:
        with pytest.raises(NotFoundError) as unknown:
            client.get_historical_features(SPINE, "al").to_arrow()
        assert unknown.value.suggestions == ("all",)
        late = {"user_id": [1], "spent": [1.0], "at": [datetime(2200, 1, 1, tzinfo=UTC)]}
        with pytest.raises(InvalidRequestError) as refused:
            client.push("spending", late)
        assert [violation.field for violation in refused.value.violations] == ["columns.at[0]"]
