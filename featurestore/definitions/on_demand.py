"""On-demand feature views: features that are computed when somebody asks for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import pyarrow as pa
import pydantic
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from featurestore.definitions.aggregation import UNKNOWN, Tree
from featurestore.definitions.base import DataType, Definition, Document, Model
from featurestore.definitions.field import Field
from featurestore.definitions.names import ColumnName, check_column_name, check_distinct
from featurestore.definitions.on_demand_inputs import Input, Origin, Scope, function_inputs
from featurestore.definitions.request import RequestSource
from featurestore.definitions.view import FeatureView, FeatureViewSelection, selection_document
from featurestore.errors import DefinitionError, NotFoundError, shown
from featurestore.expressions.check import columns_of
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import from_json
from featurestore.functions.reference import check_reference, reference_to
from featurestore.types import is_online_type, parse_type, type_name

MAX_SOURCES = 100
MAX_FEATURES = 500


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


class PythonFunction(Model):
    """A Python function by name; its code stays where it is.

    Attributes:
        path: "package.module:name".
        sha256: Of the module's file, 64 hexadecimal digits; empty until `plan` has looked at it.
    """

    path: Annotated[str, AfterValidator(check_reference)]
    sha256: Annotated[str, pydantic.Field(pattern=r"^([0-9a-f]{64})?$")] = ""


def _read_function(value: object) -> object:
    if callable(value):
        value = reference_to(value)
    try:
        if isinstance(value, str):
            return PythonFunction(path=value)
        return PythonFunction(**value) if isinstance(value, Mapping) else value
    except DefinitionError as error:
        raise ValueError(error.message.partition(": ")[2]) from None


def _is_absent(value: object) -> bool:
    return not value


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
    """Features computed from other features and from request fields.

    They are computed when a training set or a lookup asks for them, by the same code, and are not
    stored. `docs/on-demand.md` says which part of DuckDB's SQL expressions may use, and what a
    function gets and returns.

    Attributes:
        sources: Views (perhaps under a role, or some of their features) and request sources. Where
            two have a feature of one name, it is called `view.feature`.
        features: The features in order: name -> SQL expression.
        function: Instead of expressions one Python function: "package.module:name", or the function
            itself, of which only that is kept.
        outputs: The features that the function returns, with their types; given as `schema=`.
    """

    kind: ClassVar[str] = "on-demand feature view"
    semantic_fields: ClassVar[frozenset[str]] = frozenset(
        {"sources", "features", "function", "schema"}
    )

    sources: Annotated[
        Sequence[FeatureView | FeatureViewSelection | RequestSource],
        BeforeValidator(_read_sources),
    ]
    features: Mapping[str, str] | Sequence[OnDemandFeature] = pydantic.Field(
        default=(), exclude_if=_is_absent
    )
    function: Annotated[
        str | Callable[..., Any] | PythonFunction | None, BeforeValidator(_read_function)
    ] = pydantic.Field(default=None, exclude_if=_is_absent)
    outputs: Annotated[Sequence[Field], AfterValidator(tuple)] = pydantic.Field(
        default=(), alias="schema", exclude_if=_is_absent
    )

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
        """Check what concerns several attributes at once."""
        if self.reference is not None:
            self._check_function()
        elif self.outputs or not self.features:
            raise ValueError(
                "schema goes with a function; expressions have the types that follow from them"
                if self.outputs
                else "an on-demand view has features={name: expression}, or a function and a schema"
            )
        fields = {field.casefold(): field for field in self.request_fields}
        for name in self.feature_names:
            if (field := fields.get(name.casefold())) is not None:
                raise ValueError(
                    f"feature {name!r} has the name of the request field {field!r}, beside"
                    " which it would stand in every training set"
                )

    def _check_function(self) -> None:
        if self.features:
            raise ValueError("an on-demand view has expressions or a function, not both")
        if not 1 <= len(self.outputs) <= MAX_FEATURES:
            raise ValueError(
                f"the schema of a function has 1 to {MAX_FEATURES} fields, those that it returns"
            )
        check_distinct([field.name for field in self.outputs], "feature")
        for field in self.outputs:
            if not is_online_type(field.dtype):
                raise ValueError(
                    f"feature {field.name!r} cannot be {type_name(field.dtype)}: a function returns"
                    " scalars and lists of scalars"
                )
        function_inputs(self.origins)

    @property
    def is_resolved(self) -> bool:
        """Whether all is known that `plan` finds out: types over windows, a function's module."""
        if self.reference is not None:
            known = all(given.dtype != UNKNOWN for given in self.columns.values())
            return known and bool(self.reference.sha256)
        return all(feature.dtype != UNKNOWN for feature in self.computed)

    def with_module(self, sha256: str) -> "OnDemandFeatureView":
        """Return this view with the hash of its function's module."""
        assert self.reference is not None  # noqa: S101 - who has a hash has a function
        pinned = PythonFunction(path=self.reference.path, sha256=sha256)
        return self.model_copy(update={"function": pinned})

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The sources as selections and request sources."""
        return tuple(s.select() if isinstance(s, FeatureView) else s for s in self.sources)

    @property
    def reference(self) -> PythonFunction | None:
        """The function by name; None where there are expressions."""
        assert self.function is None or isinstance(self.function, PythonFunction)  # noqa: S101 - `_read_function` saw to it
        return self.function

    @property
    def computed(self) -> tuple[OnDemandFeature, ...]:
        """The features with expressions, in order; none where a function returns them."""
        assert not isinstance(self.features, Mapping)  # noqa: S101 - `_compile` saw to it
        return tuple(self.features)

    @property
    def columns(self) -> dict[str, Input]:
        """What the function gets: column -> input, in order; nothing where there is none."""
        return {} if self.reference is None else function_inputs(self.origins)

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The features' names, in order, with their types."""
        features: Sequence[OnDemandFeature | Field] = self.outputs or self.computed
        return {feature.name: feature.dtype for feature in features}

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names, in order."""
        return tuple(self.types)

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

    def field(self, name: str) -> OnDemandFeature | Field:
        """Return the feature called `name`; NotFoundError suggests names that look alike."""
        features: Sequence[OnDemandFeature | Field] = self.outputs or self.computed
        for feature in features:
            if feature.name == name:
                return feature
        where = f" in on-demand feature view {self.name!r}"
        raise NotFoundError("feature", name, known=self.feature_names, where=where)

    def inputs_of(self, names: Sequence[str]) -> tuple[Input, ...]:
        """Return what the features called `names` are computed from, each once.

        A function's features all depend on all of its inputs: select fewer in `sources`.
        """
        if self.reference is not None:
            return tuple(self.columns.values())
        scope = Scope(self.origins)
        wanted = [feature for feature in self.computed if feature.name in names]
        columns = (column for feature in wanted for column in columns_of(feature.tree))
        found = (scope.find(column) for column in columns)
        return tuple({str(given): given for given in found}.values())

    def meanings(self) -> list[tuple[object, ...]]:
        """Return what each feature is: its name, its type, and how it is computed from what."""
        return [
            (name, type_name(dtype), self._how(name), repr(self._meant(name)))
            for name, dtype in self.types.items()
        ]

    def _how(self, name: str) -> str:
        if self.reference is not None:
            columns = [(c, type_name(given.dtype)) for c, given in self.columns.items()]
            return f"{self.reference.path} {self.reference.sha256} {columns}"
        return repr(next(feature.tree for feature in self.computed if feature.name == name))

    def _meant(self, name: str) -> list[tuple[object, ...]]:
        return [
            (
                str(i),
                None
                if isinstance(i.origin, RequestSource)
                else (i.origin.view.name, i.origin.key_columns),
            )
            for i in self.inputs_of([name])
        ]

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
