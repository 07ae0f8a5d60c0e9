"""What a row-level transform joins to each row: one row of another source, or none."""

from collections.abc import Sequence

import pydantic

from featurestore.definitions.base import DataType, Model
from featurestore.definitions.names import ColumnName
from featurestore.definitions.source import FileSource
from featurestore.errors import close_names, did_you_mean, shown


class ColumnPair(Model):
    """Two columns that a join compares.

    Attributes:
        own: The column of the view's source.
        joined: That of the joined source.
    """

    own: ColumnName
    joined: ColumnName


class RowJoin(Model):
    """One JOIN of a transform, parsed and checked when its view was defined.

    Attributes:
        table: The joined source, as written behind JOIN.
        name: What the transform calls its columns by.
        keys: Which columns are equal.
        times: For a join as of the row's event time the two time columns; None for a static source.
        inner: Whether rows without a partner are left out.
        types: Column of the joined source -> the type it is read as; found in the files at `plan`.
    """

    table: str
    name: str
    keys: tuple[ColumnPair, ...]
    times: ColumnPair | None = None
    inner: bool = False
    types: dict[ColumnName, DataType] = pydantic.Field(default_factory=dict)

    def check(self, source: FileSource, joined: FileSource) -> None:
        """Refuse a join that is not one as of the row's time, nor one to a static source.

        Args:
            source: The view's source.
            joined: The source that is joined.

        Raises:
            ValueError: It says what to write.
        """
        if joined.static:
            if self.times is not None:
                raise ValueError(
                    f"transform joins {joined.name!r} by time, but it is static and has no times;"
                    f" write LEFT JOIN {self.table} ON and equal columns"
                )
            return
        times = ColumnPair(own=source.event_field, joined=joined.event_field)
        condition = f"{source.name}.{times.own} >= {self.name}.{times.joined}"
        if self.times is None:
            raise ValueError(
                f"transform joins {joined.name!r} without regard to time, so that a row would see"
                f" what came after it; write ASOF LEFT JOIN {self.table} ON ... AND {condition}, or"
                f" declare the source static=True if its rows hold for all times"
            )
        if self.times != times:
            raise ValueError(
                f"transform joins {joined.name!r} as of {shown(self.times.own)} and"
                f" {shown(self.times.joined)}; it has to be the event times of both:"
                f" {condition}"
            )


def joined_source(table: str, sources: Sequence[FileSource]) -> FileSource:
    """Return the source that a JOIN names, among those that the view lists.

    Raises:
        ValueError: There is none.
    """
    for source in sources:
        if source.name.casefold() == table.casefold():
            return source
    guess = did_you_mean(close_names(table, [source.name for source in sources]))
    raise ValueError(
        f"transform joins {shown(table)}, which is not listed;"
        f" {guess or f'give the view joins=[{table}], with the source'}"
    )
