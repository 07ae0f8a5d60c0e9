"""Row-level transforms: one SELECT over a view's source, one row in, one or none out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pydantic
from pydantic import field_validator

from featurestore.definitions.aggregation import Tree
from featurestore.definitions.base import DataType, Model
from featurestore.definitions.names import ColumnName, check_distinct
from featurestore.definitions.row_join import RowJoin, joined_source
from featurestore.definitions.source import FileSource
from featurestore.errors import close_names, did_you_mean, shown
from featurestore.expressions.check import columns_of
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Column, Node

if TYPE_CHECKING:
    from featurestore.expressions.select_joins import SelectJoin


class SelectedColumn(Model):
    """One column of a SELECT.

    Attributes:
        name: What it is called behind the transform.
        tree: What it is, over the source's columns; a joined source's have its name as `source`.
    """

    name: ColumnName
    tree: Tree


class RowTransform(Model):
    """A SELECT that was parsed and checked when its view was defined.

    Attributes:
        sql: The text.
        table: What it reads, as written behind FROM.
        columns: What it lists.
        star: Whether the source's other columns come through unchanged.
        where: The predicate of the rows that stay, or None for all.
        types: Source column -> the type it is computed with; found in the files at `plan`.
        joins: What is joined to each row, in the order of the text.
        bare: With joins, the columns that were written without a table in front: the source's.
    """

    sql: str
    table: str
    columns: tuple[SelectedColumn, ...]
    star: bool = False
    where: Tree | None = None
    types: dict[ColumnName, DataType] = pydantic.Field(default_factory=dict)
    joins: tuple[RowJoin, ...] = ()
    bare: tuple[ColumnName, ...] = ()

    @field_validator("columns", mode="after")
    @classmethod
    def _check_columns(cls, columns: tuple[SelectedColumn, ...]) -> tuple[SelectedColumn, ...]:
        check_distinct([column.name for column in columns], "selected column")
        return columns

    def find(self, name: str) -> Node | None:
        """Return what a column is, over the source's columns; None if it is not selected."""
        for column in self.columns:
            if column.name == name:
                tree: Node = column.tree
                return tree
        return Column(name) if self.star else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The source's columns whose types matter: of filter and joins, and what is computed."""
        own = (found.name for found in self._computed_from() if found.source is None)
        keys = (key.own for join in self.joins for key in join.keys)
        return tuple(dict.fromkeys((*own, *keys)))

    def inputs_of(self, join: RowJoin) -> tuple[str, ...]:
        """Return the columns of a joined source whose types matter: its keys, and what is used."""
        trees = [column.tree for column in self.columns]
        trees += [] if self.where is None else [self.where]
        used = (c.name for tree in trees for c in columns_of(tree) if c.source == join.name)
        return tuple(dict.fromkeys((*(key.joined for key in join.keys), *used)))

    def _computed_from(self) -> list[Column]:
        computed = [c.tree for c in self.columns if not isinstance(c.tree, Column)]
        trees = computed if self.where is None else [*computed, self.where]
        return [found for tree in trees for found in columns_of(tree)]

    @property
    def is_resolved(self) -> bool:
        """Whether the types of all inputs are known."""
        return self.types.keys() >= set(self.inputs) and all(
            join.types.keys() >= set(self.inputs_of(join)) for join in self.joins
        )

    def join(self, name: str) -> RowJoin:
        """Return the join whose columns are called by `name`."""
        return next(join for join in self.joins if join.name == name)

    def joins_of(self, trees: Iterable[Node | None]) -> tuple[RowJoin, ...]:
        """Return the joins that matter to some columns and to which rows there are."""
        needed = (tree for tree in (*trees, self.where) if tree is not None)
        names = {column.source for tree in needed for column in columns_of(tree)}
        return tuple(join for join in self.joins if join.inner or join.name in names)

    def with_types(
        self,
        types: Mapping[str, pa.DataType],
        joined: Mapping[str, Mapping[str, pa.DataType]] | None = None,
    ) -> "RowTransform":
        """Return this transform with the types of its inputs.

        Args:
            types: Column of the source -> type.
            joined: Name of a join -> column of the joined source -> type.
        """
        joins = [
            RowJoin(**(_fields(join) | {"types": dict((joined or {}).get(join.name, {}))}))
            for join in self.joins
        ]
        return RowTransform(**(_fields(self) | {"types": dict(types), "joins": joins}))

    def check_joins(self, source: FileSource, joined: Sequence[FileSource]) -> None:
        """Refuse joins to other sources than the view's, or in other ways than their times allow.

        Raises:
            ValueError: It says what to write.
        """
        used = set()
        for join in self.joins:
            found = joined_source(join.table, joined)
            used.add(found.name)
            join.check(source, found)
        for found in joined:
            if found.name not in used:
                raise ValueError(f"joins lists {found.name!r}, which the transform does not join")

    def late_filters(self) -> tuple[str, ...]:
        """Return the names of joins as of a time whose columns decide which rows there are."""
        names = set() if self.where is None else {c.source for c in columns_of(self.where)}
        return tuple(join.name for join in self.joins if join.times and join.name in names)

    def check(self, source: str, needed: Iterable[str], *, kept: Iterable[str]) -> None:
        """Refuse a transform that does not go with its view.

        Args:
            source: The source's name.
            needed: Columns that features are made of.
            kept: Join keys and time columns, which no transform may change.

        Raises:
            ValueError: It reads something else, lacks a column, or changes a key or a time.
        """
        if self.table.casefold() not in (source.casefold(), "source"):
            hint = "write FROM source, or its name"
            raise ValueError(f"transform reads {shown(self.table)}, not {source!r}; {hint}")
        names = [column.name for column in self.columns]
        for name in needed:
            if self.find(name) is None:
                guess = did_you_mean(close_names(name, names))
                raise ValueError(
                    f"transform selects no column {shown(name)}; {guess or 'list it, or select *'}"
                )
        unchanged = {name.casefold(): name for name in kept}
        for column in self.columns:
            own = unchanged.get(column.name.casefold())
            if own is not None and column.tree != Column(own):
                raise ValueError(
                    f"transform cannot compute {shown(column.name)}: join keys and times come from"
                    " the source unchanged, so that no row moves to another moment or entity"
                )


def read_transform(value: object) -> object:
    """Return a transform of what people or `to_document` write."""
    if isinstance(value, Mapping):
        return {key: part for key, part in value.items() if key != "lineage"}
    return _parsed(value) if isinstance(value, str) else value


def _parsed(sql: str) -> dict[str, Any]:
    from featurestore.expressions.select import parse_select  # loads sqlglot

    try:
        select = parse_select(sql)
    except InvalidExpressionError as error:
        raise ValueError(f"{shown(sql)}: {error}") from None
    return {
        "sql": sql,
        "table": select.table,
        "columns": tuple({"name": name, "tree": tree} for name, tree in select.columns),
        "star": select.star,
        "where": select.where,
        "bare": select.bare,
        "joins": tuple(map(_join_fields, select.joins)),
    }


def _join_fields(join: "SelectJoin") -> dict[str, Any]:
    def pair(columns: tuple[str, str]) -> dict[str, str]:
        return {"own": columns[0], "joined": columns[1]}

    return {
        "table": join.table,
        "name": join.name,
        "keys": tuple(map(pair, join.keys)),
        "times": None if join.times is None else pair(join.times),
        "inner": join.inner,
    }


def _fields(model: Model) -> dict[str, Any]:
    return {name: getattr(model, name) for name in type(model).model_fields}
