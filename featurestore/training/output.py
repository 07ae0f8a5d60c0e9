"""Training sets as Parquet files."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from featurestore.errors import OutputError
from featurestore.training.parquet.file import ParquetFile


def write_tables(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    path: Path,
    *,
    threads: int,
    check: Callable[[], None],
    what: object,
) -> None:
    """Write tables as one Parquet file.

    Args:
        tables: The tables; what computing them raises is passed on.
        schema: Theirs.
        path: The file.
        threads: How many encode.
        check: Called now and then; it may raise.
        what: What the file is to be, for messages.

    Raises:
        OutputError: Parquet cannot hold a column, or a value.
        OSError: The file cannot be written.
    """
    with parquet_errors(what):
        file = ParquetFile(path, schema, threads=threads)
    with file:
        for table in tables:
            with parquet_errors(what):
                file.write(table, check=check)


@contextlib.contextmanager
def parquet_errors(what: object) -> Iterator[None]:
    """Raise an OutputError for what Parquet cannot hold: a type, or a value of another one."""
    try:
        yield
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise OutputError(
            f"{what} cannot be written: {str(error).splitlines()[0][:200]}.",
            hint="cast or drop the spine's column that Parquet cannot hold",
        ) from None
