"""Rows that an application writes, as one more file of their source."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from featurestore.definitions import FileSource
from featurestore.errors import AppendError, RowsError, shown
from featurestore.materialize.rows import Given, first_unfit, source_table, with_created
from featurestore.offline.files import list_files, new_files
from featurestore.offline.footer import read_footer
from featurestore.offline.instants import FarTimeError, Instants, to_local
from featurestore.offline.local_times import refused_kinds
from featurestore.types import type_name

_MICROS: Final = {"s": 1_000_000, "ms": 1_000}


@dataclass(frozen=True, kw_only=True)
class AddedFile:
    """A file that is to come to a source.

    Attributes:
        source: The source.
        path: Where it will lie.
        schema: Its columns: those of the source's last file.
    """

    source: FileSource
    path: Path
    schema: pa.Schema

    @classmethod
    def of(cls, source: FileSource, root: Path) -> "AddedFile":
        """Return a file with a name that no other one has.

        Raises:
            AppendError: Files cannot be added to this source.
            SourceError: It has no file that could say which columns there are.
        """
        place = new_files(source, root)
        if place is None:
            raise _no_place(source, "is no folder, and no glob such as 'data/*.parquet'")
        files = list_files(source, root)
        if any(file.partitions for file in files):
            raise _no_place(source, "keeps columns in the names of its folders")
        schema = read_footer(source.name, files[-1]).schema
        # In the order of pushes: between rows of equal times the last file decides.
        unique = f"pushed-{time.time_ns():020}-{secrets.token_hex(4)}"
        name = f"{place.prefix}{unique}{place.suffix}"
        return cls(source=source, path=place.folder / name, schema=schema.remove_metadata())

    def table(self, given: Given, *, now_us: int) -> pa.Table:
        """Return rows with the source's columns, of its types.

        Args:
            given: All columns of the source's files; created times may be left out.
            now_us: When rows were created that do not say it.

        Raises:
            RowsError: A column is missing, is not in the files, or does not fit its type.
        """
        given = with_created(self.source, given, now_us - now_us % self._created_step_us)
        types = {field.name: _plain(field.type) for field in self.schema}
        times = {name for name, dtype in types.items() if _is_time(dtype)}
        checked = {name: None if name in times else dtype for name, dtype in types.items()}
        table = source_table(given, checked, source=self.source.name, exactly=True)
        columns = [
            self._stored_times(name, table[name].combine_chunks(), types[name])
            if name in times
            else table[name]
            for name in types
        ]
        return pa.table(columns, names=list(types))

    @property
    def _created_step_us(self) -> int:
        """The precision of created times in the files: one that we make has no more."""
        name = self.source.created_timestamp_column
        if name is None or self.source.column_in_file(name) not in self.schema.names:
            return 1
        dtype = self.schema.field(self.source.column_in_file(name)).type
        return _MICROS.get(getattr(dtype, "unit", "us"), 1)

    def _stored_times(self, name: str, column: pa.Array, dtype: pa.DataType) -> pa.Array:
        found = column.type
        if found == dtype or pa.types.is_null(found):
            return column.cast(dtype)
        if pa.types.is_date(found):
            column, found = column.cast(pa.timestamp("ms")), pa.timestamp("ms")
        has_zone, wants_zone = found.tz is not None, getattr(dtype, "tz", None) is not None
        if has_zone and not wants_zone and self.source.timezone != "UTC":
            column, found = self._local_times(name, column), pa.timestamp(found.unit)
            has_zone = False
        if wants_zone and not has_zone and self.source.timezone != "UTC":
            raise RowsError(
                f"Column {shown(name)}: the rows' times have no zone, and those of the source's"
                f" files have one ({type_name(dtype)}).",
                column=name,
                hint="pass times with a zone; appending does not guess what local times mean",
            )
        if has_zone != wants_zone:  # both are read in UTC
            same = pa.timestamp(found.unit, getattr(dtype, "tz", None))
            column = column.cast(pa.int64()).cast(same)
        try:
            return column.cast(dtype)
        except pa.ArrowException:
            row = first_unfit(column, dtype)
            raise RowsError(
                f"Column {shown(name)} is {type_name(dtype)} in the source's files, which row {row}"
                " has too many digits for.",
                column=name,
                row=row,
            ) from None

    def _local_times(self, name: str, column: pa.Array) -> pa.Array:
        """Return instants as times of the source's zone, if they are read as the same instants."""
        reader = Instants(self.source)
        try:
            local = to_local(column, self.source.timezone)
            same = pc.equal(reader.micros(local, up=False), reader.micros(column, up=False))
        except FarTimeError as error:
            raise RowsError(f"Column {shown(name)}: {error}.", column=name) from None
        refused = reader.refused(local, refused_kinds(self.source))
        if refused is not None or pc.all(same, min_count=0).as_py() is False:
            row = same.index(False).as_py() if refused is None else refused[0]
            raise RowsError(
                f"Column {shown(name)}: the time of row {row} cannot be written as the files of the"
                f" source have it: that local time occurs twice in {self.source.timezone}.",
                column=name,
                row=row,
                hint="push without appending, or keep times with a zone in the source's files",
            )
        return local


def _no_place(source: FileSource, reason: str) -> AppendError:
    return AppendError(
        f"Rows cannot be appended to source {source.name!r}: {shown(source.path)} {reason}.",
        source=source.name,
        hint="push without appending, or write the file yourself and materialize",
    )


def _plain(dtype: pa.DataType) -> pa.DataType:
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _is_time(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(dtype) or pa.types.is_date(dtype))
