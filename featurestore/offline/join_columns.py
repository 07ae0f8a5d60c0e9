"""Which columns of which sources a view's rows need from its transform's joins."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from featurestore.definitions import FeatureView, FileSource
from featurestore.definitions.row_join import RowJoin
from featurestore.expressions.tree import Column
from featurestore.offline.column_types import key_type
from featurestore.offline.view_files import ViewFiles

Named = tuple[str, str, pa.DataType]
"""Alias, name and type of a column."""


@dataclass(slots=True)
class JoinColumns:
    """What is read for one join.

    Attributes:
        join: The join.
        source: What it reads.
        keys: Columns of the source, `k0` first, in the types in which both sides are compared.
        columns: Columns of the source whose values are joined, by their aliases in the row.
        own_keys: Aliases of the row's columns that are equal to the keys.
    """

    join: RowJoin
    source: FileSource
    keys: list[Named] = field(default_factory=list)
    columns: list[Named] = field(default_factory=list)
    own_keys: list[str] = field(default_factory=list)

    @property
    def is_used(self) -> bool:
        """Whether the join matters to the features that were asked for."""
        return self.join.inner or bool(self.columns)

    @property
    def read(self) -> list[Named]:
        """The keys, and as `f0..` the joined columns."""
        features = ((f"f{n}", name, dtype) for n, (_, name, dtype) in enumerate(self.columns))
        return [*self.keys, *features]


class JoinedColumns:
    """Gathers the columns that rows need of joined sources, `j0` first.

    Args:
        view: The view.
        files: The files of its sources.
    """

    def __init__(self, view: FeatureView, files: ViewFiles) -> None:
        self._view = view
        self._files = files
        transform = view.row_transform
        self._joins = {
            join.name: JoinColumns(join, view.joined_source(join))
            for join in (() if transform is None else transform.joins)
        }
        self._aliases: dict[tuple[Column, pa.DataType], str] = {}

    @property
    def used(self) -> tuple[JoinColumns, ...]:
        """The joins that matter, in the order of the text."""
        return tuple(join for join in self._joins.values() if join.is_used)

    def add(self, column: Column, dtype: pa.DataType) -> str:
        """Return the alias of a joined column that is read as some type."""
        if (column, dtype) not in self._aliases:
            alias = f"j{len(self._aliases)}"
            self._aliases[column, dtype] = alias
            assert column.source is not None  # noqa: S101 - it is a joined one
            self._joins[column.source].columns.append((alias, column.name, dtype))
        return self._aliases[column, dtype]

    def add_keys(self, own: Callable[[str], str]) -> None:
        """Add the keys of all joins that matter.

        Args:
            own: Returns the alias of a column of the view's source, which is then read.

        Raises:
            DefinitionError: The types of two sides cannot be equal.
        """
        for join in self.used:
            for n, pair in enumerate(join.join.keys):
                dtype = key_type(self._view, self._files, join.join, pair)
                join.own_keys.append(own(pair.own))
                join.keys.append((f"k{n}", pair.joined, dtype))
