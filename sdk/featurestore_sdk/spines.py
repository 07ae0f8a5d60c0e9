"""What callers may pass as a spine, as pieces of an Arrow IPC stream. Needs pyarrow."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from featurestore_sdk.errors import InvalidRequestError
from featurestore_sdk.tables import optional

if TYPE_CHECKING:
    import pyarrow as pa

PIECE_BYTES: Final = 1 << 20
PARQUET_ROWS: Final = 65_536
"""Rows of a Parquet file that are held at a time."""

SpineLike = Any
"""A table of pandas, Polars, Arrow or anything with the Arrow PyCapsule interface, such as a DuckDB
relation; a dict of columns; a list of rows; or the `Path` of a Parquet file, which is read in parts
and from anew for each use."""


class Spine:
    """The rows to find features for; may be sent any number of times.

    Raises:
        InvalidRequestError: This is no spine.
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, spine: SpineLike) -> None:
        self._pa = arrow("Retrieving training sets")
        self._file: Path | None = spine if isinstance(spine, Path) else None
        self._table: pa.Table = None if self._file else self._table_of(spine)
        if self._file is not None:
            self._open(self._file).close()

    def _table_of(self, spine: SpineLike) -> "pa.Table":
        pa = self._pa
        if isinstance(spine, str):
            raise InvalidRequestError(
                f"a spine is no text; for a Parquet file pass Path({spine!r})"
            )
        try:
            if hasattr(spine, "collect_schema") and hasattr(spine, "collect"):  # lazy in Polars
                spine = spine.collect()
            if type(spine).__module__.partition(".")[0] == "pandas" and hasattr(spine, "iloc"):
                # Arrow would look at the frame's own memory, which may change until it is sent.
                table = pa.Table.from_pandas(spine.copy(), preserve_index=False)
                # pandas keeps notes of its own in the schema, and they name its index.
                return table.replace_schema_metadata(None)
            if isinstance(spine, Mapping):
                return pa.table({name: _own(values) for name, values in spine.items()})
            if hasattr(spine, "__arrow_c_stream__") or hasattr(spine, "__arrow_c_array__"):
                return pa.table(spine)
            if isinstance(spine, Sequence) and spine:
                return pa.Table.from_pylist(list(spine))
        except (pa.ArrowException, TypeError, ValueError, AttributeError) as error:
            raise InvalidRequestError(f"the spine makes no Arrow table: {error}") from None
        raise InvalidRequestError(
            f"a {type(spine).__name__} is no spine; pass a table of pandas, Polars or Arrow, a dict"
            " of columns, a list of rows that is not empty, or the Path of a Parquet file."
        )

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes of the spine's Arrow IPC stream, at most PIECE_BYTES at a time.

        Raises:
            InvalidRequestError: The Parquet file cannot be read to its end.
        """
        if self._file is None:
            yield from self._pieces(self._table.schema, self._table_batches())
            return
        with self._open(self._file) as opened:
            yield from self._pieces(opened.schema_arrow, self._file_batches(opened))

    def _table_batches(self) -> Iterator["pa.RecordBatch"]:
        rows = max(1, self._table.num_rows)
        at_once = max(1, PIECE_BYTES * rows // max(1, self._table.nbytes))
        yield from self._table.to_batches(max_chunksize=at_once)

    def _file_batches(self, opened: Any) -> Iterator["pa.RecordBatch"]:
        try:
            yield from opened.iter_batches(batch_size=PARQUET_ROWS)
        except (self._pa.ArrowException, OSError) as error:
            raise _unreadable(self._file, error) from None

    def _open(self, path: Path) -> Any:
        try:
            return import_module("pyarrow.parquet").ParquetFile(path)
        except (self._pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None

    def _pieces(self, schema: "pa.Schema", batches: Iterator["pa.RecordBatch"]) -> Iterator[bytes]:
        sink = _Sink()
        with self._pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
                yield from sink.whole_pieces()
        yield from sink.whole_pieces()
        if sink.waiting:
            yield bytes(sink.waiting)


def _own(values: Any) -> Any:
    """Return a copy of what may change: arrays of numpy, whose memory Arrow would look at."""
    return values.copy() if hasattr(values, "copy") else values


class _Sink:
    """A file to Arrow: holds what was written until it is taken."""

    closed = False

    def __init__(self) -> None:
        self.waiting = bytearray()

    def write(self, written: Any) -> int:
        self.waiting += written
        return len(written)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """What was written stays."""

    def whole_pieces(self) -> Iterator[bytes]:
        while len(self.waiting) >= PIECE_BYTES:
            yield bytes(self.waiting[:PIECE_BYTES])
            del self.waiting[:PIECE_BYTES]


def arrow(purpose: str) -> Any:
    """Return pyarrow.

    Raises:
        MissingExtraError: It is not installed.
    """
    return optional("pyarrow", "arrow", purpose)


def _unreadable(path: Path | None, error: Exception) -> InvalidRequestError:
    return InvalidRequestError(f"the spine {path} cannot be read: {error}")
