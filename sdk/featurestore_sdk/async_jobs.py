"""A training set that a server computes, for event loops: the twin of jobs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from featurestore_sdk import training
from featurestore_sdk.jobs import TrainingJob
from featurestore_sdk.training import Table, TrainingSummary

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Made = TypeVar("Made")


class AsyncTrainingJob:
    """What TrainingJob is, for an event loop: each computation waits in a thread of its own.

    Reading a spine, decoding and writing files keep a processor busy, so that they need a thread
    anyway; and grpc.aio loses the status of a call that a server ends while a spine still goes up
    ("Internal error from Core"). A task that is cancelled while it waits ends the computation at
    the server; the job can be used again.
    """

    def __init__(self, job: TrainingJob) -> None:
        self._job = job

    @property
    def summary(self) -> TrainingSummary | None:
        """See TrainingJob.summary."""
        return self._job.summary

    async def to_arrow(self) -> "pa.Table":
        """See TrainingJob.to_arrow."""
        return await self._made(training.to_arrow)

    async def to_polars(self) -> "pl.DataFrame":
        """See TrainingJob.to_polars."""
        return await self._made(training.to_polars)

    async def to_pandas(self) -> "pd.DataFrame":
        """See TrainingJob.to_pandas."""
        return await self._made(training.to_pandas)

    async def write_parquet(self, path: str | Path) -> Path:
        """See TrainingJob.write_parquet."""
        target = Path(path)
        await self._made(lambda table: training.write_parquet(table, target))
        return target

    async def to_batches(self) -> AsyncIterator["pa.RecordBatch"]:
        """See TrainingJob.to_batches."""
        with self._job.stream() as stream, _thread() as in_thread:
            batches = await in_thread(stream.made, Table.batches)
            while (batch := await in_thread(next, batches, None)) is not None:
                yield batch

    def cancel(self) -> None:
        """See TrainingJob.cancel."""
        self._job.cancel()

    async def _made(self, make: Callable[[Table], Made]) -> Made:
        # Leaving the context, as a task does that is cancelled, ends the call and so the thread.
        with self._job.stream() as stream, _thread() as in_thread:
            made: Made = await in_thread(stream.made, make)
            return made


@contextmanager
def _thread() -> Iterator[Callable[..., Awaitable[Any]]]:
    """Yield what runs functions in one thread; the loop's own are left to those who wait less."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="training-set")
    loop = asyncio.get_running_loop()
    try:
        yield lambda work, *arguments: loop.run_in_executor(pool, work, *arguments)
    finally:
        pool.shutdown(wait=False)
