"""Checks a contract in one reading of the rows: rules about rows by the shared evaluator.

Files are read row group by row group on the engine's threads, whichever engine it is, so that both
find the same. Only `Unique` holds values: DuckDB groups them, and spills to disk beyond its limit.
Bad rows are read once more, and only the row groups that have any, when they are written down.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from featurestore.contracts.interval import EVER
from featurestore.contracts.outcome import Outcome
from featurestore.contracts.quarantine import BadRows, write_quarantine
from featurestore.contracts.report import Validation, instant
from featurestore.contracts.rows import BatchFindings, RowChecks
from featurestore.contracts.subject import Subject, source_subject, view_subject
from featurestore.definitions import FeatureView, FileSource
from featurestore.definitions.contract import Policy, Unique
from featurestore.offline.arrow_rows import ArrowRows
from featurestore.offline.engine import OfflineEngine, RowFilter
from featurestore.offline.joined_tables import row_joins
from featurestore.offline.read_ahead import as_they_come
from featurestore.offline.scan import check_files

if TYPE_CHECKING:
    from featurestore.contracts.uniqueness import UniqueKeys
    from featurestore.offline.duckdb_connection import DuckDBLimits

Progress = Callable[[str, int, int], None]
"""Called with (what is read, rows done, rows in all)."""


@dataclass(frozen=True, kw_only=True)
class Validator:
    """Checks sources and views.

    Attributes:
        engine: Whose threads and memory are used.
        root: Folder that the sources' relative paths start at.
        now_us: What `Fresh` counts from, unless the rows end before.
        limits: What `Unique` may use.
        quarantine: The folder that bad rows are written to; None writes none.
        policy: What every rule does instead of its own policy; None for that. "quarantine" is for
            rules that can name rows: `Fresh` and `RowCount` keep their own.
        progress: Told of every batch, or None.
    """

    engine: OfflineEngine
    root: Path
    now_us: int
    limits: "DuckDBLimits"
    quarantine: Path | None = None
    policy: Policy | None = None
    progress: Progress | None = None

    def check(
        self,
        owner: FileSource | FeatureView,
        rows: RowFilter | None = None,
        *,
        files: Collection[str] | None = None,
    ) -> Validation:
        """Check a contract.

        Args:
            owner: What has it.
            rows: Which rows rules about rows look at, None for all; a row without an event time
                belongs to every interval. Rules about all rows look at those up to its end.
            files: Paths of the files to read; None for all.

        Raises:
            SourceError: A file cannot be read, or a view's transform has no value for a row.
            SourceChangedError: A file changed meanwhile (retryable).
            ResourceLimitError: The disk has no room for the values of `Unique`.
            OutputError: Bad rows cannot be written.
        """
        started = time.monotonic()
        subject = (
            view_subject(owner, self.root)
            if isinstance(owner, FeatureView)
            else source_subject(owner, self.root)
        )
        if files is not None:
            subject = subject.only(files)
        # How fresh rows were at an end that is over is what a run over old rows wants to know.
        as_of_us = self.now_us if rows is None else min(self.now_us, rows.until_us)
        outcome = Outcome(subject, policy=self.policy, as_of_us=as_of_us)
        interval = rows if subject.scan.event is not None else None
        with self._keys(subject) as keys:
            bad = BadRows()
            for found in self._findings(subject, outcome, interval, keys):
                outcome.add(found)
                bad.add(found.ordinals, found.reasons)
            if keys is not None:
                outcome.add_repeated(keys, bad)
        check_files(subject.scan)
        path, written = self._written(subject, bad)
        return Validation(
            kind=subject.kind,
            name=subject.name,
            start=None if rows is None or rows.after_us is None else instant(rows.after_us),
            end=None if rows is None or rows.until_us == EVER else instant(rows.until_us),
            rows=outcome.rows,
            bad_rows=outcome.bad_rows,
            rules=outcome.results(),
            quarantine=path,
            quarantined=written,
            seconds=round(time.monotonic() - started, 3),
        )

    def _findings(
        self,
        subject: Subject,
        outcome: Outcome,
        interval: RowFilter | None,
        keys: "UniqueKeys | None",
    ) -> Iterator[BatchFindings]:
        scan, threads = subject.scan, self.engine.threads
        if not scan.columns:  # there is nothing to look at but how many rows there are
            yield BatchFindings(rows=scan.row_count, counted=scan.row_count)
            return
        joins = row_joins(scan, threads=threads, memory_bytes=self.engine.memory_bytes)
        rows = ArrowRows(scan, joins)
        rows.check_local_times()
        checks = RowChecks(subject, interval, outcome.collected)
        aliases, done = checks.aliases, 0
        findings = as_they_come(
            lambda piece: map(checks.check, rows.read(piece, aliases)),
            rows.pieces,
            threads=threads,
        )
        for found in findings:
            done += found.counted
            if keys is not None and found.keys is not None:
                keys.add(found.keys)
            yield found
            if self.progress is not None:
                self.progress(subject.name, min(done, scan.row_count), scan.row_count)

    @contextlib.contextmanager
    def _keys(self, subject: Subject) -> Iterator["UniqueKeys | None"]:
        unique = [rule for rule in subject.rules if isinstance(rule, Unique)]
        if not unique:
            yield None
            return
        from featurestore.contracts.uniqueness import unique_keys

        names = dict.fromkeys(name for rule in unique for name in rule.key)
        columns = {subject.aliases[name]: subject.types[name] for name in names}
        number = pa.int64()
        fields = [(a, number if a in ("e", "c") else dtype) for a, dtype in columns.items()]
        schema = pa.schema([("o", number), *fields])
        title = f"{subject.kind.capitalize()} {subject.name!r}"
        with unique_keys(self.limits, title, schema) as keys:
            yield keys

    def _written(self, subject: Subject, bad: BadRows) -> tuple[Path | None, int]:
        """Write bad rows down, if there are any and a place for them."""
        rows = bad.rows()
        if self.quarantine is None or not len(rows[0]):
            return None, 0
        names = [rule.name for rule in subject.rules]
        target = self.quarantine / _file_name(subject, self.now_us)
        write_quarantine(subject.scan, rows, names, target, self.root)
        return target, len(rows[0])


def _file_name(subject: Subject, now_us: int) -> str:
    """Return a name that no other validation has: what was found before stays."""
    import secrets

    at = "".join(c for c in instant(now_us) if c.isalnum())
    kind = subject.kind.rpartition(" ")[2]
    return f"{kind}-{subject.name}-{at}-{secrets.token_hex(4)}.parquet"
