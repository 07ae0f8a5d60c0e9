"""Aggregations over windows of time that end at the moment asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

import pyarrow as pa
from pydantic import BeforeValidator, PlainSerializer

from featurestore.definitions.base import DataType, Model, duration_micros
from featurestore.definitions.functions import AggregateFunction, parse_function
from featurestore.definitions.names import ColumnName, Text, check_column_name, check_distinct
from featurestore.errors import shown
from featurestore.expressions.check import columns_of
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Node, from_json, to_json
from featurestore.time import format_duration, parse_duration
from featurestore.types import Int64

ROWS: Final = "*"
"""The column that stands for whole rows, in `Aggregation("*", ["count"], ...)`."""
UNKNOWN: Final = pa.null()
"""The type of a column whose files were not looked at yet."""
MAX_WINDOW: Final = timedelta(days=365_000)

Closed = Literal["left", "right", "both", "neither"]


def _read_window(value: object) -> object:
    if value is None or value == "all":
        return None
    window = parse_duration(value) if isinstance(value, str) else value
    if not isinstance(window, timedelta):
        raise ValueError(f"{value!r} is not a window; write '90s', '5m', '1h', '7d' or None")  # noqa: TRY004 - as below
    if not timedelta(0) < window <= MAX_WINDOW:
        raise ValueError("a window is longer than zero and at most 365,000 days")
    return window


def window_name(window: timedelta | None) -> str:
    """Return a window as feature names have it: in the largest whole unit, "all" for None."""
    return "all" if window is None else format_duration(window)


def _read_functions(value: object) -> object:
    items = _list(value, "functions is a list of names, as in ['sum', 'p95']")
    return tuple(parse_function(item) if isinstance(item, str) else item for item in items)


def _read_windows(value: object) -> object:
    items = _list(value, "windows is a list, as in ['1h', '7d']; None in it is all history")
    return tuple(_read_window(item) for item in items)


def _list(value: object, rule: str) -> Sequence[object]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(rule)  # noqa: TRY004 - pydantic reports this as a validation error
    return value


def _read_tree(value: object) -> object:
    return from_json(value) if isinstance(value, list) else value


Tree = Annotated[
    Any, BeforeValidator(_read_tree), PlainSerializer(lambda t: None if t is None else to_json(t))
]
"""A parsed expression, in documents as JSON."""
Functions = Annotated[
    tuple[AggregateFunction, ...],
    BeforeValidator(_read_functions),
    PlainSerializer(lambda functions: [f.text for f in functions], return_type=list[str]),
]
Windows = Annotated[
    tuple[timedelta | None, ...],
    BeforeValidator(_read_windows),
    PlainSerializer(lambda windows: [window_name(w) for w in windows], return_type=list[str]),
]


@dataclass(frozen=True, slots=True)
class WindowFeature:
    """One feature of an aggregation: one function over one window.

    Attributes:
        name: The feature's name.
        column: The aggregated column, or "*".
        where: Predicate of the rows that count, or None for all.
        predicate: What it means, as a tree.
        function: What is computed.
        window_us: The window's length in microseconds; None for all history.
        closed: Which ends of the window belong to it.
        empty: What an empty window has instead of null (or 0 for counts); None for that.
        dtype: The column's type, `UNKNOWN` before its files were looked at.
    """

    name: str
    column: str
    where: str | None
    predicate: Node | None
    function: AggregateFunction
    window_us: int | None
    closed: Closed
    empty: Any
    dtype: pa.DataType

    @property
    def result_type(self) -> pa.DataType:
        """The feature's type; `UNKNOWN` if the column's is."""
        if self.dtype == UNKNOWN:
            return self.function.certain_type or UNKNOWN
        return self.function.result_type(self.dtype)

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The columns of a row that it is computed from."""
        own = () if self.column == ROWS else (self.column,)
        named = () if self.predicate is None else columns_of(self.predicate)
        return tuple(dict.fromkeys((*own, *(column.name for column in named))))

    def empty_json(self) -> bool | int | float | str | None:
        """Return what an empty window has, as JSON; None for null."""
        return 0 if self.function.is_count and self.empty is None else self.empty

    def empty_value(self) -> pa.Scalar:
        """Return what an empty window has, as the feature's type.

        Raises:
            ValueError: `empty` is not a value of that type.
        """
        value = self.empty_json()
        try:
            return pa.scalar(value, self.result_type)
        except (pa.ArrowException, TypeError, OverflowError):
            raise ValueError(
                f"empty={value!r} is no {self.result_type}, which {self.name!r} is"
            ) from None


def _parsed(where: str) -> Node:
    from featurestore.expressions.parse import parse_expression  # loads sqlglot

    try:
        return parse_expression(where)
    except InvalidExpressionError as error:
        raise ValueError(f"where = {shown(where)}: {error}") from None


def _check_columns(where: str, predicate: Any) -> None:
    columns = columns_of(predicate)
    if not columns:
        raise ValueError(f"where = {shown(where)} names no column of the source")
    for column in columns:
        if column.source is not None:
            raise ValueError(f"where = {shown(where)}: write {column.name!r} alone")


class Aggregation(Model):
    """Functions of a column over windows that end at the moment asked for.

    A window of length W at the moment q holds the rows with an event time in [q - W, q): an event
    never counts itself.

    Attributes:
        column: The column in the source, or "*" for whole rows (which can only be counted).
        functions: "count", "sum", "mean", "min", "max", "var", "stddev", "first", "last",
            "count_distinct", "median", percentiles such as "p95", "last_5" (newest first),
            "first_5" (oldest first).
        windows: Lengths such as "90s", "5m", "1h", "7d" (a day is 86,400 s) or timedeltas; None is
            all history.
        where: Predicate over the source's columns, in the SQL of on-demand features
            (`docs/on-demand.md`); rows for which it is false or null do not count. It needs a
            `name`.
        name: What stands for the column in the features' names.
        closed: "left" is [q - W, q), "right" is (q - W, q], "both" and "neither" as they say.
        empty: What a window without values has instead of null (or 0 for counts).
        dtype: The column's type; found in the source's files when left out.
        predicate: What `where` means; it is parsed once, when the aggregation is defined.
    """

    column: str
    functions: Functions
    windows: Windows
    where: Text | None = None
    name: ColumnName | None = None
    closed: Closed = "left"
    empty: Any = None
    dtype: DataType | None = None
    predicate: Tree | None = None

    def __init__(
        self, column: str, functions: Sequence[str], windows: Sequence[object], **data: Any
    ) -> None:
        super().__init__(column=column, functions=functions, windows=windows, **data)

    def model_post_init(self, _context: Any, /) -> None:
        """Check what concerns several attributes at once."""
        if not self.functions or not self.windows:
            raise ValueError("an aggregation has at least one function and one window")
        check_distinct([f.text for f in self.functions], "function")
        check_distinct([window_name(w) for w in self.windows], "window")
        if self.column == ROWS:
            if any(f.kind != "count" for f in self.functions):
                raise ValueError("rows ('*') can only be counted; name a column for the rest")
        else:
            check_column_name(self.column)
        self._check_where()
        if self.empty is not None and not isinstance(self.empty, bool | int | float | str):
            raise ValueError("empty is a plain value: a number, a text or a bool")
        for feature in self.features:
            if feature.result_type != UNKNOWN:
                feature.empty_value()

    def _check_where(self) -> None:
        if self.where is None:
            if self.predicate is not None:
                raise ValueError("predicate is what where= means; give that")
            return
        if self.name is None:
            raise ValueError("an aggregation with where= needs a name= of its own")
        if self.predicate is None:
            object.__setattr__(self, "predicate", _parsed(self.where))
        _check_columns(self.where, self.predicate)

    @property
    def features(self) -> tuple[WindowFeature, ...]:
        """The features, functions first, then windows, as written."""
        return tuple(self._features())

    def _features(self) -> Iterator[WindowFeature]:
        stem = self.name or ("" if self.column == ROWS else self.column)
        known = Int64 if self.column == ROWS else self.dtype
        for function in self.functions:
            for window in self.windows:
                name = "_".join(p for p in (stem, function.text, window_name(window)) if p)
                yield WindowFeature(
                    name=check_column_name(name),
                    column=self.column,
                    where=self.where,
                    predicate=self.predicate,
                    function=function,
                    window_us=None if window is None else duration_micros(window),
                    closed=self.closed,
                    empty=self.empty,
                    dtype=UNKNOWN if known is None else known,
                )

    def of_type(self, dtype: pa.DataType) -> "Aggregation":
        """Return the same aggregation over a column of this type."""
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return Aggregation(**(current | {"dtype": dtype}))
