"""Connections to DuckDB in this process: with limits, and no way to other files."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from featurestore.errors import (
    ConfigError,
    FeatureStoreError,
    JobCancelledError,
    RequestError,
    ResourceLimitError,
)
from featurestore.offline.arrow_rows import check_filter
from featurestore.offline.duckdb_text import file_pattern, quote, text
from featurestore.offline.memory import limit_bytes
from featurestore.offline.scan import SourceScan, check_files
from featurestore.offline.source_errors import first_line, unreadable
from featurestore.offline.temporary import spill_folder


@dataclass(frozen=True, kw_only=True)
class DuckDBLimits:
    """What a connection may use.

    Attributes:
        threads: Threads for one query; None for all cores.
        memory_limit: Where DuckDB starts to spill, such as "4GB" or "60%"; None for its own default
            (80 % of the machine's memory).
        temp_directory: Where it spills to; None for a folder of its own below the system's.
        settings: More of DuckDB's settings, for tests and experts.
    """

    threads: int | None = None
    memory_limit: str | None = None
    temp_directory: Path | None = None
    settings: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def memory_bytes(self) -> int:
        """The limit, or the machine's memory."""
        limit = self.memory_limit or self.settings.get("memory_limit")
        return limit_bytes(None if limit is None else str(limit))

    @property
    def thread_count(self) -> int:
        """How many threads may work at once."""
        return self.threads or int(self.settings.get("threads", os.cpu_count() or 1))

    def _all(self, *, ordered: bool) -> dict[str, str | int]:
        """Return all settings of a connection by DuckDB's names."""
        limits = {"threads": self.threads, "memory_limit": self.memory_limit}
        return {
            "TimeZone": "UTC",
            "enable_progress_bar": True,  # else there is no progress to ask for
            "enable_progress_bar_print": False,  # it would draw on standard output
            "autoinstall_known_extensions": False,  # a spine's query must not download code
            "autoload_known_extensions": False,
            # Local files are read ahead by the system: with its own, a scan takes a quarter longer.
            "disable_parquet_prefetching": True,
            # A job asks several times for rows of the same files: footers are parsed once.
            "parquet_metadata_cache": True,
            **self.settings,
            **{name: limit for name, limit in limits.items() if limit is not None},
            "preserve_insertion_order": ordered,
        }

    @contextlib.contextmanager
    def connect(
        self, paths: Sequence[str], *, ordered: bool = False
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection that can read `paths`, spill, and touch nothing else."""
        with (
            self._spill_folder() as temp,
            contextlib.closing(duckdb.connect()) as con,
        ):
            for name, setting in self._all(ordered=ordered).items():
                _configure(con, name, setting)
            con.execute(f"SET temp_directory = {text(temp)}")
            con.execute(f"SET allowed_paths = [{', '.join(_allowed(paths))}]")
            con.execute("SET enable_external_access = false")
            con.execute("SET lock_configuration = true")
            yield con

    @contextlib.contextmanager
    def _spill_folder(self) -> Iterator[str]:
        where = self.temp_directory or Path(tempfile.gettempdir())
        with contextlib.ExitStack() as stack:
            try:
                where.mkdir(parents=True, exist_ok=True)
                folder = stack.enter_context(spill_folder(where))
            except OSError as error:
                raise ConfigError(
                    f"No temporary folder can be made in {where}: {error.strerror or error}.",
                    hint="point offline_store.temp_directory to a folder that can be written",
                ) from None
            yield str(folder)


@contextlib.contextmanager
def translated_errors(subject: str, scan: SourceScan | None = None) -> Iterator[None]:
    """Turn DuckDB's errors into ours; Arrow's too, which carry DuckDB's while rows are streamed."""
    try:
        yield
    except RuntimeError as error:
        if str(error) == "Query interrupted":  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from None
        raise
    except duckdb.OutOfMemoryException as error:
        raise ResourceLimitError(
            f"{subject}: memory or temporary space ran out ({first_line(error)}).",
            hint="raise offline_store.memory_limit, or point temp_directory to a larger disk",
        ) from None
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise _translated(error, subject, scan) from None


def _translated(error: Exception, subject: str, scan: SourceScan | None) -> FeatureStoreError:
    if "INTERRUPT Error" in str(error):
        return JobCancelledError()
    if "No space left" in str(error):
        return ResourceLimitError(
            f"{subject}: the temporary folder's disk is full.",
            hint="point offline_store.temp_directory to a larger disk",
        )
    if scan is None:
        return RequestError(f"{subject} failed: {first_line(error)}")
    check_files(scan)
    if scan.where is not None and not scan.filters_by_join:
        check_filter(scan)  # says which row it was, if it was one that the filter cannot decide
    named = (f for f in scan.files if f.path in str(error))
    file = max(named, key=lambda f: len(f.path), default=None)
    return unreadable(scan, first_line(error), file)


def _configure(con: duckdb.DuckDBPyConnection, name: str, setting: str | int) -> None:
    try:
        con.execute(f"SET {quote(name)} = {_literal(setting)}")
    except duckdb.Error as error:
        raise ConfigError(
            f"offline_store.{name}: {setting!r} cannot be used ({first_line(error)})."
        ) from None


def _allowed(paths: Sequence[str]) -> Iterator[str]:
    """Yield literals of paths, and of the patterns that stand for those with glob characters."""
    for path in paths:
        yield text(path)
        if (pattern := file_pattern(path)) != text(path):
            yield pattern


def _literal(setting: str | int) -> str:
    return text(setting) if isinstance(setting, str) else str(setting).lower()
