"""What on-demand features are computed from, and by which names."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from featurestore.definitions.names import check_distinct
from featurestore.definitions.request import RequestSource
from featurestore.definitions.view import FeatureViewSelection
from featurestore.errors import close_names, did_you_mean, shown
from featurestore.expressions.check import typed
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Column, Node
from featurestore.expressions.typed import Typed
from featurestore.types import type_name

Origin = FeatureViewSelection | RequestSource


@dataclass(frozen=True, slots=True)
class Input:
    """Something that an on-demand feature can be computed from.

    Attributes:
        origin: The view, as it is used, or the request source.
        name: The feature's or field's name.
        dtype: Its type.
    """

    origin: Origin
    name: str
    dtype: pa.DataType

    @property
    def is_request_field(self) -> bool:
        """Whether the caller brings it."""
        return isinstance(self.origin, RequestSource)

    def __str__(self) -> str:
        return f"{self.origin.name}.{self.name}"


class Scope:
    """The inputs that expressions may name.

    Args:
        sources: The on-demand view's sources.
    """

    def __init__(self, sources: Sequence[Origin]) -> None:
        self._by_name: dict[str, list[Input]] = {}
        self._sources = {source.name: dict(_inputs(source)) for source in sources}
        for inputs in self._sources.values():
            for name, found in inputs.items():
                self._by_name.setdefault(name, []).append(found)

    def find(self, column: Column) -> Input:
        """Return the input that a column of an expression means.

        Raises:
            InvalidExpressionError: There is none, or there are several.
        """
        if column.source is not None:
            return self._qualified(column)
        found = self._by_name.get(column.name, [])
        if len(found) > 1:
            names = " or ".join(map(str, found))
            raise InvalidExpressionError(f"{shown(column.name)} is in two sources; write {names}")
        if not found:
            hint = did_you_mean(close_names(column.name, self._by_name))
            raise InvalidExpressionError(
                f"there is no input {shown(column.name)}; {hint or self._listed()}"
            )
        return found[0]

    def _listed(self) -> str:
        names = list(self._by_name)
        return f"inputs are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"  # noqa: PLR2004

    def _qualified(self, column: Column) -> Input:
        source = str(column.source)
        if source not in self._sources:
            hint = did_you_mean(close_names(source, self._sources))
            raise InvalidExpressionError(
                f"there is no source {shown(source)}; {hint or 'name it in sources'}"
            )
        inputs = self._sources[source]
        if column.name not in inputs:
            hint = did_you_mean(close_names(column.name, inputs))
            raise InvalidExpressionError(
                f"source {source!r} has no {shown(column.name)}{f'; {hint}' if hint else ''}"
            )
        return inputs[column.name]

    def typed(self, tree: Node) -> Typed:
        """Return a tree with its types; positions are not of use here."""
        return typed(tree, lambda column: (0, type_name(self.find(column).dtype)))


def _inputs(source: Origin) -> list[tuple[str, Input]]:
    if isinstance(source, RequestSource):
        types: Mapping[str, pa.DataType] = source.schema_types
    else:
        types = {name: source.view.field(name).dtype for name in source.feature_names}
    return [(name, Input(source, name, dtype)) for name, dtype in types.items()]


def function_inputs(sources: Sequence[Origin]) -> dict[str, Input]:
    """Return what a Python function gets: column -> input, all features and fields in order.

    A column has the input's name, or `source.name` where two sources have one of that name.

    Raises:
        ValueError: Two columns would still have one name.
    """
    found = [given for source in sources for _, given in _inputs(source)]
    counts = Counter(given.name for given in found)
    columns = [str(given) if counts[given.name] > 1 else given.name for given in found]
    check_distinct(columns, "input")
    return dict(zip(columns, found, strict=True))
