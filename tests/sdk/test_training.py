"""Training sets that a server computes."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from featurestore_sdk import (
    AsyncFeatureStoreClient,
    ClientClosedError,
    DeadlineExceededError,
    FeatureStoreClient,
    InvalidRequestError,
    JobCancelledError,
    NotFoundError,
    ServerError,
    TrainingSummary,
    UnavailableError,
)
from featurestore_sdk.spines import PIECE_BYTES, Spine

from featurestore import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from featurestore.types import Float64, Int64
from tests.sdk.clients import Connect
from tests.sdk.scripted import nobody
from tests.sdk.trainer import Trainer, running

START = datetime(2024, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROWS = 1_000
SPINE = {
    "user_id": [n % 7 for n in range(ROWS)],
    "event_timestamp": [START + n * HOUR for n in range(ROWS)],
    "label": [f"row {n}" for n in range(ROWS)],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("offline")
    # Any engine will do; this one is ready at once.
    (folder / "feature_store.yaml").write_text("project: shop\noffline_store: polars\n")
    pq.write_table(
        pa.table(
            {
                "user_id": [1, 1, 2, 3],
                "at": [START, START + 500 * HOUR, START, START],
                "created": [START + 10 * HOUR, START + 500 * HOUR, START, START],
                "credit": [1.0, 2.0, None, 3.0],
            }
        ),
        folder / "users.parquet",
    )
    source = FileSource(
        name="users",
        path="users.parquet",
        timestamp_field="at",
        created_timestamp_column="created",
    )
    view = FeatureView(
        name="users",
        entities=[Entity(name="user", join_keys={"user_id": Int64})],
        source=source,
        schema=[Field(name="credit", dtype=Float64)],
    )
    with FeatureStore(folder) as opened:
        opened.apply([view, FeatureService(name="checkout", features=[view])])
        yield opened


Start = Callable[..., Trainer]


@pytest.fixture
def start(store: FeatureStore) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda **faults: stack.enter_context(running(Trainer(store, **faults)))


@pytest.fixture
def trainer(start: Start) -> Trainer:
    return start()


@pytest.fixture
def client(trainer: Trainer, connect: Connect) -> FeatureStoreClient:
    return connect(trainer.address)


@pytest.fixture(scope="module")
def expected(store: FeatureStore) -> pa.Table:
    return store.get_historical_features(pa.table(SPINE), "checkout").to_arrow()


def test_a_training_set_is_what_the_store_computes(
    client: FeatureStoreClient, expected: pa.Table
) -> None:
    job = client.get_historical_features(pa.table(SPINE), "checkout")
    assert job.summary is None
    table = job.to_arrow()
    assert table.equals(expected)
    assert table["credit"].null_count not in (0, ROWS)
    assert job.summary == TrainingSummary(
        project="shop", revision=7, rows=ROWS, features=("credit",)
    )


def test_results_in_every_form(
    client: FeatureStoreClient, expected: pa.Table, tmp_path: Path
) -> None:
    job = client.get_historical_features(pa.table(SPINE), ["users:credit"])
    assert job.to_polars().equals(pl.DataFrame(expected))
    frame = job.to_pandas()
    assert pa.Table.from_pandas(frame).select(expected.column_names).equals(expected)
    assert frame["user_id"].dtype == pd.ArrowDtype(pa.int64())
    batches = list(job.to_batches())
    assert len(batches) > 1
    assert pa.Table.from_batches(batches).equals(expected)
    assert job.write_parquet(tmp_path / "train.parquet") == tmp_path / "train.parquet"
    assert pq.read_table(tmp_path / "train.parquet").equals(expected)
    assert pq.ParquetFile(tmp_path / "train.parquet").num_row_groups == 1
    assert [path.name for path in tmp_path.iterdir()] == ["train.parquet"]


def _parquet(folder: Path) -> Path:
    pq.write_table(pa.table(SPINE), folder / "spine.parquet")
    return folder / "spine.parquet"


@pytest.mark.parametrize(
    "make",
    [
        lambda _: SPINE,
        lambda _: pa.table(SPINE).to_pylist(),
        lambda _: pd.DataFrame(SPINE, index=range(5, ROWS + 5)),
        lambda _: pl.DataFrame(SPINE),
        lambda _: pl.LazyFrame(SPINE),
        lambda _: pa.table(SPINE).to_reader(),
        lambda _: pa.record_batch(SPINE),
        _parquet,
    ],
    ids=["dict", "rows", "pandas", "polars", "lazy", "reader", "batch", "parquet"],
)
def test_spines_in_every_form(
    client: FeatureStoreClient, expected: pa.Table, tmp_path: Path, make: Any
) -> None:
    job = client.get_historical_features(make(tmp_path), "checkout")
    for _ in range(2):  # a spine can be sent again, even if it could be read once only
        table = job.to_arrow()
        assert table.column_names == expected.column_names
        assert table["label"].to_pylist() == expected["label"].to_pylist()
        assert table["credit"].equals(expected["credit"])


def test_the_arguments_arrive(client: FeatureStoreClient) -> None:
    spine = {"user_id": [1, 1], "when": [datetime(2024, 3, 1, 2), datetime(2024, 3, 1, 15)]}  # noqa: DTZ001
    table = client.get_historical_features(
        spine,
        ["users:credit"],
        full_feature_names=True,
        timestamp_field="when",
        timezone="Europe/Vienna",
        mode="as_served",
    ).to_arrow()
    # 01:00 in UTC is before the row was written, 14:00 is after.
    assert table["users__credit"].to_pylist() == [None, 1.0]


def test_an_empty_spine_gives_an_empty_training_set(client: FeatureStoreClient) -> None:
    spine = pa.table(SPINE).slice(0, 0)
    job = client.get_historical_features(spine, "checkout")
    table = job.to_arrow()
    assert (table.num_rows, table.column_names) == (0, [*SPINE, "credit"])
    assert list(job.to_batches()) == []


def test_a_spine_goes_up_in_pieces(start: Start, connect: Connect) -> None:
    trainer = start(cut=PIECE_BYTES)
    rows = 5_000
    spine = {
        "user_id": [1] * rows,
        "event_timestamp": [START] * rows,
        "text": [f"{n}" * 100 for n in range(rows)],
    }
    job = connect(trainer.address).get_historical_features(spine, "checkout")
    table = job.to_arrow()
    assert table["text"].to_pylist() == spine["text"]
    assert trainer.largest_piece == PIECE_BYTES


def test_progress_is_told(client: FeatureStoreClient) -> None:
    told = []
    job = client.get_historical_features(
        SPINE, "checkout", progress=lambda *step: told.append(step)
    )
    assert told == []
    job.to_arrow()
    assert told == [("reading", 0, 9)]


class NobodyListensError(Exception):
    pass


def test_an_error_of_the_callers_own_function_ends_the_job(client: FeatureStoreClient) -> None:
    def fail(*_: Any) -> None:
        raise NobodyListensError

    with pytest.raises(NobodyListensError):
        client.get_historical_features(SPINE, "checkout", progress=fail).to_arrow()


# --- What cannot be asked ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spine", ["spine.parquet", Path("not/there.parquet"), 7, None, [], {"a": 7}, {"a": [1, "x"]}]
)
def test_what_is_no_spine_is_refused_without_a_call(connect: Connect, spine: Any) -> None:
    with pytest.raises(InvalidRequestError):
        connect(nobody()).get_historical_features(spine, "checkout")


@pytest.mark.parametrize(
    "arguments", [{"mode": "later"}, {"features": "users:credit"}, {"features": 7}]
)
def test_arguments_that_say_nothing_are_refused_without_a_call(
    connect: Connect, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequestError):
        connect(nobody()).get_historical_features(SPINE, **{"features": "checkout", **arguments})


def test_what_the_server_refuses_is_a_typed_error(client: FeatureStoreClient) -> None:
    job = client.get_historical_features({"user_id": [1]}, "checkout")
    with pytest.raises(InvalidRequestError, match="event_timestamp"):
        job.to_arrow()
    with pytest.raises(InvalidRequestError, match="event_timestamp"):
        list(job.to_batches())


def test_a_spine_that_breaks_on_the_way_ends_the_job(
    client: FeatureStoreClient, tmp_path: Path
) -> None:
    path = tmp_path / "spine.parquet"
    pq.write_table(pa.table({**SPINE, "noise": [str(n) * 50 for n in range(ROWS)]}), path)
    content = bytearray(path.read_bytes())
    content[1_000:20_000] = bytes(19_000)
    path.write_bytes(content)
    job = client.get_historical_features(path, "checkout")
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        job.to_arrow()


# --- What goes wrong -----------------------------------------------------------------------------


def test_a_server_that_goes_away_before_the_result_is_asked_again(
    start: Start, connect: Connect, expected: pa.Table
) -> None:
    trainer = start(unavailable=2)
    job = connect(trainer.address).get_historical_features(pa.table(SPINE), "checkout")
    assert job.to_arrow().equals(expected)
    assert trainer.calls == 3


def test_another_server_computes_what_one_that_is_down_cannot(
    trainer: Trainer, connect: Connect, expected: pa.Table
) -> None:
    client = connect([nobody(), trainer.address])
    job = client.get_historical_features(pa.table(SPINE), "checkout")
    assert job.to_arrow().equals(expected)


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"break_after": 5}, (UnavailableError, "going away")),
        ({"break_after": 1}, (UnavailableError, "going away")),
        ({"omit_summary": True}, (ServerError, "cut short")),
        ({"omit_summary": True, "omit_table": True}, (ServerError, "cut short")),
        ({"omit_table": True}, (ServerError, "no Arrow stream")),
        (
            {"miscount": 1},
            (ServerError, "1,000 rows of the training set came, and 1,001 were sent"),
        ),
    ],
)
def test_a_training_set_is_whole_or_an_error(
    start: Start,
    connect: Connect,
    tmp_path: Path,
    faults: dict[str, Any],
    error: tuple[type[Exception], str],
) -> None:
    kind, message = error
    trainer = start(**faults)
    job = connect(trainer.address).get_historical_features(SPINE, "checkout")
    with pytest.raises(kind, match=message):
        job.to_arrow()
    with pytest.raises(kind, match=message):
        list(job.to_batches())
    with pytest.raises(kind, match=message):
        job.write_parquet(tmp_path / "train.parquet")
    assert list(tmp_path.iterdir()) == []
    assert trainer.calls == 3
    assert job.summary is None


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "train.parquet"
    path.write_text("the one before")
    job = connect(start(break_after=3).address).get_historical_features(SPINE, "checkout")
    with pytest.raises(UnavailableError):
        job.write_parquet(path)
    assert path.read_text() == "the one before"


def test_a_file_that_cannot_be_written_is_an_os_error(
    client: FeatureStoreClient, tmp_path: Path
) -> None:
    job = client.get_historical_features(SPINE, "checkout")
    with pytest.raises(FileNotFoundError):
        job.write_parquet(tmp_path / "no folder" / "train.parquet")


def test_a_job_may_have_a_timeout(start: Start, connect: Connect) -> None:
    trainer = start(hang_after=0)
    client = connect(trainer.address)
    with pytest.raises(DeadlineExceededError):
        client.get_historical_features(SPINE, "checkout", timeout_s=0.3).to_arrow()
    assert trainer.cancelled.wait(30)


def test_a_job_can_be_cancelled_while_it_runs(start: Start, connect: Connect) -> None:
    trainer = start(hang_after=0)
    job = connect(trainer.address).get_historical_features(SPINE, "checkout")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(job.to_arrow)
        assert trainer.started.wait(30)
        job.cancel()
        with pytest.raises(JobCancelledError):
            waiting.result(30)
    assert trainer.cancelled.wait(30)
    with pytest.raises(JobCancelledError):
        list(job.to_batches())
    assert trainer.calls == 1


def test_a_job_that_waits_for_another_try_can_be_cancelled(start: Start, connect: Connect) -> None:
    trainer = start(unavailable=100)
    cancelled = threading.Event()
    job = connect(trainer.address).get_historical_features(SPINE, "checkout")

    def cancel_at_the_second_call() -> None:
        while trainer.calls < 2:
            cancelled.wait(0.005)
        job.cancel()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(cancel_at_the_second_call)
        with pytest.raises(JobCancelledError):
            job.to_arrow()
    assert trainer.calls < 5


def test_batches_that_nobody_wants_end_the_job(start: Start, connect: Connect) -> None:
    trainer = start(hang_after=20)
    job = connect(trainer.address).get_historical_features(SPINE, "checkout")
    batches = job.to_batches()
    assert next(batches).num_rows == 100
    assert not trainer.cancelled.is_set()
    batches.close()  # type: ignore[attr-defined]
    assert trainer.cancelled.wait(30)


def test_a_task_that_is_cancelled_ends_the_job(start: Start) -> None:
    trainer = start(hang_after=0)

    async def give_up() -> None:
        async with AsyncFeatureStoreClient(trainer.address) as client:
            job = client.get_historical_features(SPINE, "checkout")
            for make in (job.to_arrow(), anext(aiter(job.to_batches()))):
                trainer.cancelled.clear()
                trainer.started.clear()
                task = asyncio.ensure_future(make)
                await asyncio.to_thread(trainer.started.wait, 30)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert await asyncio.to_thread(trainer.cancelled.wait, 30)

    asyncio.run(give_up())
    assert trainer.calls == 2


def test_a_closed_client_says_so(client: FeatureStoreClient) -> None:
    job = client.get_historical_features(SPINE, "checkout")
    client.close()
    for late in (job, client.get_historical_features(SPINE, "checkout")):
        with pytest.raises(ClientClosedError):
            late.to_arrow()


def test_a_server_that_refuses_early_is_heard_while_the_spine_goes_up(
    start: Start, connect: Connect
) -> None:
    trainer = start(refuse=True)
    rows = 200_000
    spine = pa.table({"user_id": pa.repeat(1, rows), "event_timestamp": pa.repeat(START, rows)})
    for _ in range(5):
        job = connect(trainer.address).get_historical_features(spine, "checkout")
        with pytest.raises(NotFoundError, match="no such service"):
            job.to_arrow()


@pytest.mark.parametrize("form", [pd.DataFrame, dict], ids=["frame", "arrays"])
def test_a_spine_that_changes_before_it_is_sent_counts_as_it_was(form: Callable[..., Any]) -> None:
    given = form({"user_id": np.arange(3), "amount": np.array([0.5, 1.5, 2.5])})
    spine = Spine(given)
    expected = b"".join(spine.pieces())
    if isinstance(given, pd.DataFrame):
        given.loc[0, "user_id"] = 9
    else:
        given["user_id"][0] = 9
    assert b"".join(spine.pieces()) == expected


def test_a_spine_is_cut_by_bytes_not_by_rows() -> None:
    wide = pa.table({"text": ["x" * 300_000] * 10})
    pieces = list(Spine(wide).pieces())
    assert all(len(piece) == PIECE_BYTES for piece in pieces[:-1])
    assert pa.ipc.open_stream(b"".join(pieces)).read_all().equals(wide)
