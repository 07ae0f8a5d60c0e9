"""Row-level transforms: one SELECT over a view's source, one row in, one or none out."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pydantic
from pydantic import field_validator

from featurestore.definitions.aggregation import Tree
from featurestore.definitions.base import DataType, Model
from featurestore.definitions.names import ColumnName, check_distinct
from featurestore.errors import close_names, did_you_mean, shown
from featurestore.expressions.check import columns_of
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Column, Node


class SelectedColumn(Model):
    """One column of a SELECT.

    Attributes:
        name: What it is called behind the transform.
        tree: What it is, over the source's columns.
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
    """

    sql: str
    table: str
    columns: tuple[SelectedColumn, ...]
    star: bool = False
    where: Tree | None = None
    types: dict[ColumnName, DataType] = pydantic.Field(default_factory=dict)

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
        """The source's columns whose types matter: of the filter, and of what is computed."""
        computed = [c.tree for c in self.columns if not isinstance(c.tree, Column)]
        trees = computed if self.where is None else [*computed, self.where]
        return tuple(dict.fromkeys(found.name for tree in trees for found in columns_of(tree)))

    @property
    def is_resolved(self) -> bool:
        """Whether the types of all inputs are known."""
        return self.types.keys() >= set(self.inputs)

    def with_types(self, types: Mapping[str, pa.DataType]) -> "RowTransform":
        """Return this transform with the types of its inputs."""
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return RowTransform(**(current | {"types": dict(types)}))

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
    }
