"""What both clients know of training sets: what is asked, and what is made of the answer.

Nothing here does any I/O of the network: pieces of the answer come from an iterator.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from featurestore_protos.v1.training_pb2 import (
    TRAINING_MODE_AS_SERVED,
    TRAINING_MODE_COMPLETE,
    GetHistoricalFeaturesRequest,
    GetHistoricalFeaturesResponse,
    TrainingQuery,
)

from featurestore_sdk.errors import InvalidRequestError, ServerError
from featurestore_sdk.requests import select
from featurestore_sdk.responses import message_from
from featurestore_sdk.spines import Spine, arrow
from featurestore_sdk.tables import optional

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Mode = Literal["complete", "as_served"]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, rows done, and rows in all."""

METHOD: Final = "/featurestore.v1.TrainingService/GetHistoricalFeatures"
ROW_GROUP_BYTES: Final = 64 << 20
_MODES: Final = {"complete": TRAINING_MODE_COMPLETE, "as_served": TRAINING_MODE_AS_SERVED}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSummary:
    """What the server says of a training set that is whole.

    Attributes:
        project: The project that answered.
        revision: The revision of its registry that the training set follows.
        rows: Its rows, which are those of the spine.
        features: The names of the features' columns, in order.
    """

    project: str
    revision: int
    rows: int
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """What is asked for, and the rows to find it for."""

    query: bytes
    spine: Spine
    progress: Progress | None

    @classmethod
    def checked(
        cls,
        project: str,
        spine: Any,
        features: str | Sequence[str],
        *,
        full_feature_names: bool,
        timestamp_field: str,
        timezone: str,
        mode: str,
        progress: Progress | None,
    ) -> "TrainingRequest":
        """Return the request that the arguments of `get_historical_features` ask for.

        Raises:
            InvalidRequestError: They cannot be sent.
            MissingExtraError: pyarrow is not installed.
        """
        if mode not in _MODES:
            raise InvalidRequestError(f"mode is 'complete' or 'as_served', not {mode!r}.")
        query = TrainingQuery(
            project=project,
            full_feature_names=full_feature_names,
            timestamp_field=timestamp_field,
            timezone=timezone,
            mode=_MODES[mode],
        )
        select(query, features)
        message = GetHistoricalFeaturesRequest(query=query)
        return cls(query=message.SerializeToString(), spine=Spine(spine), progress=progress)

    def messages(self) -> Iterator[bytes]:
        """Yield the messages to send."""
        yield self.query
        for piece in self.spine.pieces():
            yield GetHistoricalFeaturesRequest(spine=piece).SerializeToString()


class Answer:
    """What has come of one training set.

    Attributes:
        started: Whether any of the table has come: from then on nothing can begin again.
        summary: The last message of a training set that is whole.
    """

    def __init__(self, progress: Progress | None) -> None:
        self.started: bool = False
        self.summary: TrainingSummary | None = None
        self._progress = progress

    def take(self, message: bytes) -> bytes:
        """Take a message, and return the piece of the table that it brings, or nothing."""
        found = message_from(GetHistoricalFeaturesResponse, message)
        part = found.WhichOneof("part")
        if part == "table":
            self.started = True
            return found.table
        if part == "progress" and self._progress:
            told = found.progress
            self._progress(told.phase, told.rows_done, told.rows_total)
        elif part == "summary":
            self.summary = TrainingSummary(
                project=found.summary.project,
                revision=found.summary.revision,
                rows=found.summary.rows,
                features=tuple(found.summary.features),
            )
        return b""

    def checked_summary(self, rows: int | None = None) -> TrainingSummary:
        """Return the summary, now that the call has ended.

        Raises:
            ServerError: There is none, or it speaks of other rows than came.
        """
        if self.summary is None:
            raise ServerError(
                "The answer ended without its summary: the training set was cut short on its way."
            )
        if rows is not None and rows != self.summary.rows:
            raise ServerError(
                f"{rows:,} rows of the training set came, and {self.summary.rows:,} were sent."
            )
        return self.summary


class Table:
    """A training set on its way: its schema, then its batches, each once.

    Args:
        answer: What takes the messages.
        pieces: Brings the bytes of the table, and raises what goes wrong.

    Raises:
        ClientError: What came is no training set.
    """

    def __init__(self, answer: Answer, pieces: Iterator[bytes]) -> None:
        self._pa = arrow("Retrieving training sets")
        self._answer = answer
        self._file = _PieceFile(pieces)
        with self._arrow_errors():
            self._reader = self._pa.ipc.open_stream(self._file)
        self.schema: pa.Schema = self._reader.schema

    def batches(self) -> Iterator["pa.RecordBatch"]:
        """Yield all batches.

        Raises:
            ClientError: The rest did not come; what was yielded is not the training set.
        """
        rows = 0
        with self._arrow_errors():
            for batch in self._reader:
                rows += batch.num_rows
                yield batch
        while self._file.read(1 << 20):
            pass
        self._answer.checked_summary(rows)

    @contextlib.contextmanager
    def _arrow_errors(self) -> Iterator[None]:
        try:
            yield
        except self._pa.ArrowException as error:
            if self._file.failure is not None:
                raise self._file.failure from None
            raise ServerError(f"What came is no Arrow stream: {error}") from None


class _PieceFile:
    """A file to Arrow: reads from pieces as they come."""

    closed = False

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.failure: Exception | None = None
        self._pieces = pieces
        self._waiting = b""

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end alone: Arrow takes less for the end."""
        found, length = [self._waiting], len(self._waiting)
        try:
            while length < size and (piece := next(self._pieces, None)) is not None:
                found.append(piece)
                length += len(piece)
        except Exception as error:
            self.failure = error
            raise
        joined = b"".join(found)
        self._waiting = joined[size:]
        return joined[:size]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """The call is closed by who opened it."""


def to_arrow(table: Table) -> "pa.Table":
    """Return all of it."""
    return arrow("to_arrow()").Table.from_batches(list(table.batches()), table.schema)


def to_polars(table: Table) -> "pl.DataFrame":
    """Return all of it as a Polars frame."""
    polars = optional("polars", "polars", "to_polars()")
    return cast("pl.DataFrame", polars.DataFrame(to_arrow(table)))


def to_pandas(table: Table) -> "pd.DataFrame":
    """Return all of it as a pandas frame of Arrow-backed columns."""
    pandas = optional("pandas", "pandas", "to_pandas()")
    return to_arrow(table).to_pandas(types_mapper=pandas.ArrowDtype)


def write_parquet(table: Table, path: Path) -> None:
    """Write it to a file that appears whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            _write(table, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _write(table: Table, file: Any) -> None:
    pa = arrow("write_parquet()")
    with import_module("pyarrow.parquet").ParquetWriter(file, table.schema) as writer:
        # Batches are as small as messages; row groups are better large.
        held: list[Any] = []
        for batch in table.batches():
            held.append(batch)
            if sum(one.nbytes for one in held) >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, table.schema))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held, table.schema))


def _sync_folder(folder: Path) -> None:
    """Make a rename last, where folders can be opened at all."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
