"""A training set that a server computes. Its twin is async_jobs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from featurestore_sdk import training
from featurestore_sdk.channels import Channels
from featurestore_sdk.errors import ClientError, JobCancelledError
from featurestore_sdk.training import Answer, Table, TrainingRequest, TrainingSummary

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Made = TypeVar("Made")


class TrainingJob:
    """A training set: exactly the spine's rows, in the spine's order, with features beside them.

    Nothing has been sent yet. Each call of a `to_*` method, or of `write_parquet`, has the server
    compute the result anew, so keep what it returns. All of them raise `JobCancelledError` after
    `cancel()`, and otherwise what `get_online_features` may raise. Ctrl-C ends the job at the
    server, too.
    """

    def __init__(
        self, channels: Channels, request: TrainingRequest, timeout_s: float | None
    ) -> None:
        self._channels = channels
        self._request = request
        self._timeout_s = timeout_s
        self._cancelled = False
        self._running: set[Stream] = set()
        self._summary: TrainingSummary | None = None

    @property
    def summary(self) -> TrainingSummary | None:
        """What the server said of the last training set that came whole, or None before one did."""
        return self._summary

    def to_arrow(self) -> "pa.Table":
        """Return the result as an Arrow table."""
        return self._made(training.to_arrow)

    def to_polars(self) -> "pl.DataFrame":
        """Return the result as a Polars frame (needs `polars`)."""
        return self._made(training.to_polars)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the result as a pandas frame with Arrow-backed types (needs `pandas`)."""
        return self._made(training.to_pandas)

    def write_parquet(self, path: str | Path) -> Path:
        """Write the result to one Parquet file, which appears whole or not at all.

        Only a part of a large result is in memory at any time.

        Raises:
            OSError: It cannot be written.
        """
        target = Path(path)
        self._made(lambda table: training.write_parquet(table, target))
        return target

    def to_batches(self) -> Iterator["pa.RecordBatch"]:
        """Yield the result in order, as the batches in which it comes.

        Only a part of a large result is in memory at any time. A training set that is cut short
        raises at its end: wait for that before you believe in the batches.
        """
        with self.stream() as stream:
            yield from stream.made(Table.batches)

    def cancel(self) -> None:
        """End what is being computed, and let every later call end at once; from any thread."""
        self._cancelled = True
        for stream in list(self._running):
            stream.cancel()

    def _made(self, make: Callable[[Table], Made]) -> Made:
        with self.stream() as stream:
            return stream.made(make)

    @contextmanager
    def stream(self) -> "Iterator[Stream]":
        """Yield a call that computes the result; when the context ends, it does, too."""
        stream = Stream(self._channels, self._request, self._timeout_s)
        self._running.add(stream)
        try:
            if self._cancelled:
                raise JobCancelledError
            yield stream
            self._summary = stream.answer.summary
        finally:
            self._running.discard(stream)
            stream.cancel()


class Stream:
    """One call, and those after it while nothing of the table has come."""

    def __init__(
        self, channels: Channels, request: TrainingRequest, timeout_s: float | None
    ) -> None:
        self.answer: Answer = Answer(request.progress)
        self._channels = channels
        self._request = request
        self._tries = channels.tries(timeout_s)
        self._cancelled = threading.Event()
        self._index = 0
        self._call: Any = None
        self._upload_failure: Exception | None = None

    def made(self, make: Callable[[Table], Made]) -> Made:
        """Return what is made of the table that comes."""
        return make(Table(self.answer, iter(self._next_piece, None)))

    def cancel(self) -> None:
        """End the call, from any thread."""
        self._cancelled.set()
        if self._call is not None:
            self._call.cancel()

    def _next_piece(self) -> bytes | None:
        while True:
            if self._call is None:
                self._begin()
            try:
                for message in self._call:
                    if piece := self.answer.take(message):
                        return piece
            except grpc.RpcError as error:
                self._go_on_after(self._failure(error))
            else:
                if self._upload_failure is not None:  # the server took a part for the whole
                    raise self._upload_failure
                self.answer.checked_summary()
                self._channels.succeeded(self._index)
                return None

    def _begin(self) -> None:
        self._index, self._call = self._channels.stream(
            training.METHOD, self._messages(), self._tries.left_s()
        )
        if self._cancelled.is_set():  # by somebody who did not see the call
            self._call.cancel()

    def _messages(self) -> Iterator[bytes]:
        # gRPC runs this in a thread of its own, and would log and forget what it raises.
        try:
            yield from self._request.messages()
        except Exception as error:  # noqa: BLE001 - whoever waits for the result gets it
            self._upload_failure = error
            self.cancel()

    def _failure(self, error: grpc.RpcError) -> Exception:
        if self._upload_failure is not None:
            return self._upload_failure
        if self._cancelled.is_set():
            return JobCancelledError()
        return self._channels.failure_of(error, self._index)

    def _go_on_after(self, failure: Exception) -> None:
        """Wait for the next try, or raise the failure."""
        pause_s = None
        if isinstance(failure, ClientError) and not self.answer.started:
            pause_s = self._tries.pause_after(failure)
        if pause_s is None:
            raise failure
        self._call = None
        self._cancelled.wait(pause_s)
