"""On-demand feature views: features that are computed when somebody asks for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import pyarrow as pa
from pydantic import (
    BeforeValidator,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from featurestore.definitions.aggregation import UNKNOWN, Tree
from featurestore.definitions.base import DataType, Definition, Document, Model
from featurestore.definitions.names import ColumnName, check_column_name, check_distinct
from featurestore.definitions.request import RequestSource
from featurestore.definitions.view import FeatureView, FeatureViewSelection, selection_document
from featurestore.errors import (
    DefinitionError,
    NotFoundError,
    close_names,
    did_you_mean,
    shown,
)
from featurestore.expressions.check import columns_of, typed
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Column, Node, from_json
from featurestore.expressions.typed import Typed
from featurestore.types import parse_type, type_name

MAX_SOURCES = 100
MAX_FEATURES = 500

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


class OnDemandFeature(Model):
    """One computed feature.

    Attributes:
        name: Its name.
        expression: The text that it was defined with.
        dtype: The type of its values, which follows from the expression.
        tree: What the text means; it is parsed once, when the feature is defined.
    """

    name: ColumnName
    expression: str
    dtype: DataType
    tree: Tree


def _read_sources(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError("sources is a list of views and request sources")  # noqa: TRY004 - for pydantic
    for item in value:
        if isinstance(item, OnDemandFeatureView | OnDemandSelection):
            raise ValueError(  # noqa: TRY004 - pydantic reports this as a validation error
                f"{item.name!r} is an on-demand view itself; repeat its expression instead"
            )
    return tuple(item.select() if isinstance(item, FeatureView) else item for item in value)


class OnDemandFeatureView(Definition):
    """Features computed from other features and from request fields, by SQL expressions.

    They are computed when a training set or a lookup asks for them, by the same code, and are not
    stored. `docs/on-demand.md` says which part of DuckDB's SQL expressions may use.

    Attributes:
        sources: Views (perhaps under a role, or some of their features) and request sources. Where
            two have a feature of one name, an expression says `view.feature`.
        features: The features in order: name -> expression.
    """

    kind: ClassVar[str] = "on-demand feature view"
    semantic_fields: ClassVar[frozenset[str]] = frozenset({"sources", "features"})

    sources: Annotated[
        Sequence[FeatureView | FeatureViewSelection | RequestSource],
        BeforeValidator(_read_sources),
    ]
    features: Mapping[str, str] | Sequence[OnDemandFeature]

    @field_validator("sources", mode="after")
    @classmethod
    def _check_sources(cls, sources: Sequence[Origin]) -> Sequence[Origin]:
        if not 1 <= len(sources) <= MAX_SOURCES:
            raise ValueError(f"an on-demand view has 1 to {MAX_SOURCES} sources")
        check_distinct([source.name for source in sources], "source")
        return sources

    @field_validator("features", mode="before")
    @classmethod
    def _compile(cls, value: object, info: ValidationInfo) -> object:
        if "sources" not in info.data:  # they are wrong themselves, and that is reported
            return {}
        named = _named_expressions(value)
        if not 1 <= len(named) <= MAX_FEATURES:
            raise ValueError(f"an on-demand view has 1 to {MAX_FEATURES} features")
        check_distinct([name for name, _, _ in named], "feature")
        scope = Scope(info.data["sources"])
        return tuple(_compiled(scope, *item) for item in named)

    @field_serializer("sources")
    def _source_documents(self, sources: Sequence[Origin]) -> list[Document]:
        return [
            {"request": s.name} if isinstance(s, RequestSource) else selection_document(s)
            for s in sources
        ]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse a feature that could never stand beside the request field of its name."""
        fields = {field.casefold(): field for field in self.request_fields}
        for feature in self.computed:
            if (field := fields.get(feature.name.casefold())) is not None:
                raise ValueError(
                    f"feature {feature.name!r} has the name of the request field {field!r}, beside"
                    " which it would stand in every training set"
                )

    @property
    def is_resolved(self) -> bool:
        """Whether the types of all features are known; those over windows may wait for `plan`."""
        return all(feature.dtype != UNKNOWN for feature in self.computed)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The sources as selections and request sources."""
        return tuple(s.select() if isinstance(s, FeatureView) else s for s in self.sources)

    @property
    def computed(self) -> tuple[OnDemandFeature, ...]:
        """The features, in order."""
        assert not isinstance(self.features, Mapping)  # noqa: S101 - `_compile` saw to it
        return tuple(self.features)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names, in order."""
        return tuple(feature.name for feature in self.computed)

    @property
    def request_fields(self) -> dict[str, pa.DataType]:
        """All fields of the request sources with their types: what a caller has to bring."""
        sources = (s for s in self.origins if isinstance(s, RequestSource))
        return {name: dtype for s in sources for name, dtype in s.schema_types.items()}

    @property
    def key_columns(self) -> dict[str, pa.DataType]:
        """The columns that hold the join keys of all views among the sources, with their types."""
        return {
            column: source.view.join_keys[key]
            for source in self.origins
            if isinstance(source, FeatureViewSelection)
            for key, column in source.key_columns.items()
        }

    @property
    def brought(self) -> dict[str, pa.DataType]:
        """What a caller brings, whichever features are asked for: join keys and request fields."""
        return self.key_columns | self.request_fields

    def field(self, name: str) -> OnDemandFeature:
        """Return the feature called `name`; NotFoundError suggests names that look alike."""
        for feature in self.computed:
            if feature.name == name:
                return feature
        where = f" in on-demand feature view {self.name!r}"
        raise NotFoundError("feature", name, known=self.feature_names, where=where)

    def inputs_of(self, names: Sequence[str]) -> tuple[Input, ...]:
        """Return what the features called `names` are computed from, each once."""
        scope = Scope(self.origins)
        columns = (c for name in names for c in columns_of(self.field(name).tree))
        found = (scope.find(column) for column in columns)
        return tuple({str(given): given for given in found}.values())

    def meanings(self) -> list[tuple[object, ...]]:
        """Return what each feature is: its name, its type, and how it is computed from what."""
        return [self._meaning(feature) for feature in self.computed]

    def _meaning(self, feature: OnDemandFeature) -> tuple[object, ...]:
        origins = [
            (
                str(i),
                None
                if isinstance(i.origin, RequestSource)
                else (i.origin.view.name, i.origin.key_columns),
            )
            for i in self.inputs_of([feature.name])
        ]
        return (feature.name, type_name(feature.dtype), repr(feature.tree), repr(origins))

    @classmethod
    def from_document(
        cls,
        document: Mapping[str, Any],
        *,
        views: Mapping[str, FeatureView] | None = None,
        request_sources: Mapping[str, RequestSource] | None = None,
    ) -> Self:
        """Return the view that `to_document` wrote, with the definitions it names.

        Raises:
            NotFoundError: It names a view, feature or request source that is not among those given.
            DefinitionError: The document is not an on-demand view, or its expressions do not fit
                the types that their inputs have now.
        """
        sources: list[Origin] = []
        for item in document["sources"]:
            kind, known = (
                (RequestSource.kind, request_sources)
                if "request" in item
                else (FeatureView.kind, views)
            )
            name = item.get("request", item.get("view"))
            if known is None or name not in known:
                where = f", which {cls.kind} {document['name']!r} uses"
                raise NotFoundError(kind, name, known=known or (), where=where)
            found: Any = known[name]
            sources.append(
                found if "request" in item else FeatureViewSelection(**(item | {"view": found}))
            )
        return cls(**(dict(document) | {"sources": sources}))

    def __getitem__(self, features: str | Sequence[str]) -> "OnDemandSelection":
        """Return a choice of this view's features, in the order given: `view[["a", "b"]]`."""
        names = (features,) if isinstance(features, str) else tuple(features)
        if not names:
            raise DefinitionError(f"A selection of view {self.name!r} names no feature.")
        return OnDemandSelection(view=self, features=names)

    def select(self) -> "OnDemandSelection":
        """Return all features of this view as a selection."""
        return OnDemandSelection(view=self)


class OnDemandSelection(Model):
    """An on-demand view as it is used: all or some of its features.

    Attributes:
        view: The view.
        features: Names of the features, in the order wanted; None for all, also those added later.
    """

    view: OnDemandFeatureView
    features: tuple[ColumnName, ...] | None = None

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse features that the view does not have."""
        if self.features is not None:
            check_distinct(self.features, f"view {self.view.name!r}: feature")
        for name in self.features or ():
            self.view.field(name)

    @property
    def name(self) -> str:
        """The view's name."""
        return self.view.name

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The chosen features' names, in order."""
        return self.view.feature_names if self.features is None else self.features


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


def _named_expressions(value: object) -> list[tuple[str, str, Any]]:
    """Return (name, text, tree or None) of features as people or `to_document` write them."""
    if isinstance(value, Mapping):
        items = [(name, text, None) for name, text in value.items()]
    elif isinstance(value, list | tuple):
        items = [_stored(item) for item in value]
    else:
        raise ValueError("features maps names to expressions, as in {'ratio': 'a / b'}")  # noqa: TRY004
    for name, text, _ in items:
        if not isinstance(name, str) or not isinstance(text, str):
            raise ValueError("features maps names to expressions, both of them text")  # noqa: TRY004
        check_column_name(name)
    return items


def _stored(item: object) -> tuple[Any, Any, Any]:
    if isinstance(item, OnDemandFeature):
        return item.name, item.expression, item.tree
    if isinstance(item, Mapping) and {"name", "expression"} <= item.keys():
        return item["name"], item["expression"], item.get("tree")
    raise ValueError("features maps names to expressions, as in {'ratio': 'a / b'}")


def _compiled(scope: Scope, name: str, text: str, tree: Any) -> OnDemandFeature:
    try:
        if tree is None:
            from featurestore.expressions.parse import parse_expression  # loads sqlglot

            tree = parse_expression(text)
        elif isinstance(tree, list):
            tree = from_json(tree)
        if any(scope.find(column).dtype == UNKNOWN for column in columns_of(tree)):
            # A window's column whose files were not looked at yet: `plan` does, and checks then.
            return OnDemandFeature.model_construct(
                name=name, expression=text, dtype=UNKNOWN, tree=tree
            )
        dtype = scope.typed(tree).dtype
    except InvalidExpressionError as error:
        raise ValueError(f"{shown(name)} = {shown(text)}: {error}") from None
    return OnDemandFeature(name=name, expression=text, dtype=parse_type(dtype), tree=tree)
