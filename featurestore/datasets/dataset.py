"""A dataset that is there: what it holds, and what can be done with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.datasets.manifest import Manifest
from featurestore.datasets.verification import (
    BATCH_ROWS,
    DatasetVerification,
    Progress,
    examine,
    size_faults,
    verify,
)
from featurestore.errors import DatasetDamagedError, FeatureStoreError, UnsupportedError
from featurestore.frames import to_pandas
from featurestore.registry.datasets import DatasetRecord
from featurestore.statistics import Profile

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from featurestore.datasets.catalog import Datasets
    from featurestore.datasets.rebuild import Rebuild


class Dataset:
    """One version of a dataset: a training set that is kept, and never changes.

    Its manifest is the one that was written: the registry has its hash. Files are looked at when
    they are read: always their sizes and the checksums of their pages; all of their bytes with
    `verify=True`, or by `verify()`. A flipped bit elsewhere than in a page, such as in a footer,
    is found by these alone.
    """

    def __init__(self, home: "Datasets", record: DatasetRecord) -> None:
        self._home = home
        self._record = record
        manifest, faults = examine(home.places, record)
        if manifest is None or faults:
            raise self._damaged(faults)
        self._manifest = manifest

    def __repr__(self) -> str:
        return f"<Dataset {self.name!r} version {self.version}: {self.num_rows:,} rows>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def version(self) -> int:
        """Its version, from 1."""
        return self._record.version

    @property
    def digest(self) -> str:
        """The digest of its content, 64 hexadecimal digits: equal for equal values."""
        return self._manifest.digest

    @property
    def num_rows(self) -> int:
        """Rows."""
        return self._manifest.rows

    @property
    def path(self) -> Path:
        """Its folder, which holds `manifest.json` and Parquet files, and is only to be read."""
        return self._home.places.version(self.name, self.version)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its Parquet files, in the order of their rows."""
        return tuple(self.path / file.name for file in self._manifest.files)

    @property
    def manifest(self) -> dict[str, Any]:
        """A copy of its manifest, as in `manifest.json`."""
        return self._manifest.to_document()

    @property
    def facts(self) -> Manifest:
        """The same as an object."""
        return self._manifest

    @property
    def record(self) -> DatasetRecord:
        """What the registry knows of it."""
        return self._record

    @property
    def profile(self) -> Profile | None:
        """Statistics of its columns, as they were written; None of one made without."""
        found = self._manifest.statistics
        try:
            return None if found is None else Profile.from_document(found)
        except (KeyError, TypeError, ValueError, FeatureStoreError):
            fault = "manifest.json: its statistics are none"
            raise DatasetDamagedError(
                dataset=self.name, version=self.version, faults=[fault]
            ) from None

    @property
    def schema(self) -> pa.Schema:
        """Its schema; raises like `to_batches`."""
        return self._opened(self._manifest.files[0].name).schema_arrow

    def to_batches(
        self, max_rows: int = BATCH_ROWS, *, verify: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Yield it in order, as record batches of at most `max_rows` rows.

        Args:
            max_rows: Rows.
            verify: Compare all bytes of all files with the manifest first.

        Raises:
            DatasetDamagedError: Something is not as it was written.
        """
        self._check(verify=verify)
        return self._batches(max_rows, None)

    def to_arrow(self, *, verify: bool = False) -> pa.Table:
        """Return it as an Arrow table; args and errors are those of `to_batches`."""
        self._check(verify=verify)
        return self.read(None)

    def to_polars(self, *, verify: bool = False) -> "pl.DataFrame":
        """Return it as a Polars data frame; args and errors are those of `to_batches`.

        Raises:
            UnsupportedError: Polars has no type for one of the spine's columns.
        """
        import polars as pl

        table = self.to_arrow(verify=verify)
        try:
            return pl.DataFrame(table)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise UnsupportedError(
                f"Polars cannot hold these columns: {str(error).splitlines()[0][:200]}",
                hint="use to_arrow()",
            ) from None

    def to_pandas(self, *, verify: bool = False) -> "pd.DataFrame":
        """Return it as a pandas data frame with Arrow-backed types; as `to_batches`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_pandas(self.to_arrow(verify=verify))

    def verify(
        self, *, content: bool = False, progress: Progress | None = None
    ) -> DatasetVerification:
        """Read all files and compare them with the manifest, and that with the registry.

        Args:
            content: Compute the digest of the values, too: beside the bytes' hashes that says that
                they can be read, and mean what they did.
            progress: Called with (what is being done, bytes done, bytes in all).
        """
        return verify(self._home.places, self._record, content=content, progress=progress)

    def rebuild(
        self,
        *,
        current: bool = False,
        keep: bool = False,
        progress: Progress | None = None,
    ) -> "Rebuild":
        """Compute it anew, and compare: is it the same, and if not, what changed?

        The spine is the dataset's own, the definitions are those of the manifest, and of the
        sources only the files that it lists are read: a definition that was applied since, or a
        file that was added, changes nothing. A listed file is read as it is now.

        Args:
            current: Use today's definitions and all files that the sources have today instead.
            keep: Keep the result as the next version of the dataset.
            progress: Called with (what is being done, rows done, rows in all).

        Raises:
            DatasetDamagedError: Its files are not what was written.
            DatasetChangedError: It cannot be computed any more; it names what changed.
        """
        from featurestore.datasets.rebuild import rebuild

        return rebuild(self._home, self, current=current, keep=keep, progress=progress)

    def read(self, columns: list[str] | None) -> pa.Table:
        """Return some of its columns, or all, without another look at sizes."""
        batches = self._batches(BATCH_ROWS, columns)
        schema = self.schema if columns is None else _chosen(self.schema, columns)
        return pa.Table.from_batches(batches, schema)

    def _batches(self, max_rows: int, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        for file in self._manifest.files:
            try:
                for batch in self._opened(file.name).iter_batches(max_rows):
                    # Not by the reader, to which a dot in a name means a field of a struct.
                    yield batch if columns is None else batch.select(columns)
            except (pa.ArrowException, OSError) as error:
                raise self._unreadable(file.name, error) from None

    def _opened(self, file: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.path / file, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(file, error) from None

    def _check(self, *, verify: bool) -> None:
        if verify:
            faults = list(self.verify().faults)
        else:
            faults = list(size_faults(self.path, self._manifest))
        if faults:
            raise self._damaged(faults)

    def _unreadable(self, file: str, error: Exception) -> DatasetDamagedError:
        line = (str(error).splitlines() or [type(error).__name__])[0][:200]
        return self._damaged([f"{file}: it cannot be read: {line}"])

    def _damaged(self, faults: list[Any]) -> DatasetDamagedError:
        lines = [str(fault) for fault in faults]
        return DatasetDamagedError(
            dataset=self._record.name, version=self._record.version, faults=lines
        )


def _chosen(schema: pa.Schema, columns: list[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in columns])
