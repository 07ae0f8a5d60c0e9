"""Feature views: which columns or windows, keyed by what, valid for how long."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self, TypeVar

import pyarrow as pa
import pydantic
from pydantic import AfterValidator, BeforeValidator, field_serializer

from featurestore.definitions.aggregation import ROWS, UNKNOWN, Aggregation, WindowFeature
from featurestore.definitions.base import (
    Definition,
    Document,
    Duration,
    Model,
    duration_micros,
    fingerprint,
)
from featurestore.definitions.contract import Contract, hidden_meaning
from featurestore.definitions.entity import Entity
from featurestore.definitions.field import Field
from featurestore.definitions.names import ColumnName, ObjectName, check_distinct
from featurestore.definitions.row_join import RowJoin, joined_source
from featurestore.definitions.source import FileSource
from featurestore.definitions.transform import RowTransform, read_transform
from featurestore.definitions.view_contract import check_view_contract, hidden_by
from featurestore.errors import DefinitionError, NotFoundError, shown
from featurestore.expressions.check import columns_of
from featurestore.expressions.tree import Column, Node, to_json, with_columns
from featurestore.types import is_online_type, type_name

T = TypeVar("T")

MAX_FEATURES = 2_000
MAX_TTL = timedelta(days=365_000)


def _check_ttl(ttl: timedelta | None) -> timedelta | None:
    if ttl is not None and not timedelta(0) < ttl <= MAX_TTL:
        raise ValueError(
            "ttl must be longer than zero and at most 365,000 days; leave it out for no limit"
        )
    return ttl


class FeatureView(Definition):
    """Features that come from one source: an entity's latest row, or aggregates of its rows.

    Attributes:
        entities: Whose features these are; their join keys together identify a row. None at all
            means one row of features for everybody.
        source: Where the rows come from.
        fields: The features, in order; given as `schema=`, or made from the aggregations.
        aggregations: Functions over windows; a view has these or a schema.
        transform: A SELECT over the source, as in `"SELECT amount / 100 AS amount_usd FROM source
            WHERE status <> 'test'"`: its columns are what the schema or the aggregations name, and
            rows that it leaves out are never visible. `docs/transforms.md` says what it may hold.
        joins: The other sources that the transform joins to its rows.
        ttl: How old a row may be, counted from its event time, before it counts as missing: offline
            at the spine's time, online at the time of the request. None means it never expires. Of
            windows it limits online how long ago they were computed; offline it does nothing.
        online: Whether it is materialized and served.
        contract: Rules that its rows have to keep, behind the transform: over join keys, times and
            the columns that features are made of. `docs/contracts.md` says which there are.
    """

    kind: ClassVar[str] = "feature view"
    semantic_fields: ClassVar[frozenset[str]] = frozenset(
        {"entities", "source", "schema", "aggregations", "transform", "joins", "ttl"}
    )

    entities: Annotated[Sequence[Entity], AfterValidator(tuple)] = ()
    source: FileSource
    fields: Annotated[Sequence[Field], AfterValidator(tuple)] = pydantic.Field(
        default=(), alias="schema"
    )
    aggregations: Annotated[Sequence[Aggregation], AfterValidator(tuple)] = ()
    transform: Annotated[str | RowTransform | None, BeforeValidator(read_transform)] = None
    joins: Annotated[Sequence[FileSource], AfterValidator(tuple)] = ()
    ttl: Annotated[Duration | None, AfterValidator(_check_ttl)] = None
    online: bool = True
    contract: Contract = ()

    @field_serializer("entities")
    def _entity_names(self, entities: Sequence[Entity]) -> list[str]:
        return [entity.name for entity in entities]

    @field_serializer("source")
    def _source_name(self, source: FileSource) -> str:
        return source.name

    @field_serializer("joins")
    def _join_names(self, joins: Sequence[FileSource]) -> list[str]:
        return [source.name for source in joins]

    @field_serializer("fields")
    def _schema(self, fields: Sequence[Field]) -> list[Document]:
        """Write the fields of aggregations, too, once their types are known."""
        known = all(field.dtype != UNKNOWN for field in fields)
        return [field.model_dump(mode="json") for field in fields] if known else []

    @field_serializer("transform")
    def _transform_document(self, _transform: str | RowTransform | None) -> Document | None:
        """Write where each feature's values come from, too."""
        transform = self.row_transform
        if transform is None:
            return None
        return transform.model_dump(mode="json") | {"lineage": self.lineage}

    def model_post_init(self, _context: Any, /) -> None:
        """Check what concerns several attributes at once."""
        if self.aggregations:
            if self.fields:
                raise ValueError("a view has a schema or aggregations, not both")
            object.__setattr__(self, "fields", tuple(map(_window_field, self.window_features)))
        self._check_columns()
        check_view_contract(self)
        if self.online:
            self._check_online_types()

    def _check_columns(self) -> None:
        if not 1 <= len(self.fields) <= MAX_FEATURES:
            raise ValueError(f"a view has 1 to {MAX_FEATURES:,} features, not {len(self.fields)}")
        check_distinct([e.name for e in self.entities], "entity")
        check_distinct(list(self.join_keys), "join key")
        check_distinct([f.name for f in self.fields], "feature")
        reserved = {k.casefold(): f"the join key {k!r}" for k in self.join_keys}
        if self.source.static:
            raise ValueError(
                f"source {self.source.name!r} is static: it has no times, and can only be joined in"
                " a transform"
            )
        times = (self.source.timestamp_field, self.source.created_timestamp_column)
        reserved |= {t.casefold(): f"the source's time column {t!r}" for t in times if t}
        if self.row_transform is not None:
            self._check_transform(self.row_transform, [*self.join_keys, *(t for t in times if t)])
        elif self.joins:
            raise ValueError("joins are what a transform joins, and there is none")
        self._check_renamed()
        for field in self.fields:
            if (taken := reserved.get(field.name.casefold())) is not None:
                raise ValueError(
                    f"feature {field.name!r} has the name of {taken}; rename the column with the"
                    " source's field_mapping"
                )

    def _check_renamed(self) -> None:
        _check_mapping(self.source, (*self.join_keys, *self.source_columns))
        if (transform := self.row_transform) is not None:
            for join in transform.joins:
                _check_mapping(self.joined_source(join), transform.inputs_of(join))

    def _check_transform(self, transform: RowTransform, kept: Sequence[str]) -> None:
        check_distinct([source.name for source in self.joins], "joined source")
        transform.check_joins(self.source, self.joins)
        transform.check(self.source.name, self.row_columns, kept=kept)
        if self.online and (late := transform.late_filters()):
            raise ValueError(
                f"WHERE looks at {shown(late[0])}, which is joined as of the row's time: a late row"
                " of it could take back a row that is served already; make the values null instead"
                " (CASE WHEN ... END), or set online=False"
            )
        known = {*self.row_columns, *kept}
        for column in transform.columns if not self.aggregations else ():
            if column.name not in known:
                raise ValueError(
                    f"transform selects {shown(column.name)}, which the schema does not have"
                )

    def _check_online_types(self) -> None:
        for field in self.fields:
            if field.dtype != UNKNOWN and not is_online_type(field.dtype):
                raise ValueError(
                    f"feature {field.name!r} of type {type_name(field.dtype)} cannot be served"
                    " online; leave it out, or set online=False"
                )

    @property
    def join_keys(self) -> dict[str, pa.DataType]:
        """The join keys of all entities, in order, with their types."""
        return {name: dtype for entity in self.entities for name, dtype in _keys(entity)}

    @property
    def ttl_us(self) -> int | None:
        """The ttl in microseconds."""
        return None if self.ttl is None else duration_micros(self.ttl)

    @cached_property
    def window_features(self) -> tuple[WindowFeature, ...]:
        """The features of the aggregations, in order; empty for a view with a schema."""
        return tuple(feature for a in self.aggregations for feature in a.features)

    @property
    def is_resolved(self) -> bool:
        """Whether the types of all columns are known; see `with_column_types`."""
        known = all(a.dtype is not None or a.column == ROWS for a in self.aggregations)
        return known and (self.row_transform is None or self.row_transform.is_resolved)

    @property
    def row_transform(self) -> RowTransform | None:
        """The transform as it was read; None without one."""
        assert not isinstance(self.transform, str)  # noqa: S101 - `read_transform` saw to it
        return self.transform

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The columns of a row that features are made of, behind the transform if there is one."""
        if not self.aggregations:
            return self.feature_names
        found = (name for feature in self.window_features for name in feature.row_columns)
        return tuple(dict.fromkeys(found))

    def row_column(self, name: str) -> Node | None:
        """Return what a column of a row is, over the source's columns; None if there is none."""
        return Column(name) if self.row_transform is None else self.row_transform.find(name)

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The source's columns that features are made of, or which rows there are depends on."""
        trees = [self.row_column(name) for name in self.row_columns]
        trees += hidden_by(self)
        keys: list[str] = []
        if self.row_transform is not None:
            joins = self.row_transform.joins_of(trees)
            keys = [key.own for join in joins for key in join.keys]
            trees.append(self.row_transform.where)
        found = (c for t in trees if t is not None for c in columns_of(t))
        return tuple(dict.fromkeys((*(c.name for c in found if c.source is None), *keys)))

    @property
    def lineage(self) -> dict[str, list[str]]:
        """Feature -> the columns that its values are computed from, beside filter and joins.

        Those of the view's source go by their names, those of a joined one as `merchants.category`.
        """
        made = {f.name: f.row_columns for f in self.window_features} or {
            name: (name,) for name in self.feature_names
        }
        return {feature: self._columns_behind(names) for feature, names in made.items()}

    def _columns_behind(self, names: Sequence[str]) -> list[str]:
        trees = (self.row_column(name) for name in names)
        found = (c for t in trees if t is not None for c in columns_of(t))
        return list(dict.fromkeys(map(self._origin, found)))

    def _origin(self, column: Column) -> str:
        if column.source is None or self.row_transform is None:
            return column.name
        return f"{self.joined_source(self.row_transform.join(column.source)).name}.{column.name}"

    @property
    def static_sources(self) -> tuple[str, ...]:
        """Names of the joined sources whose rows are taken as they are today, for all times."""
        return tuple(source.name for source in self.joins if source.static)

    def joined_source(self, join: RowJoin) -> FileSource:
        """Return the source that one of the transform's joins reads."""
        return joined_source(join.table, self.joins)

    def with_column_types(self, types: Mapping[str, pa.DataType]) -> "FeatureView":
        """Return this view with the types of the columns that its aggregations take.

        Args:
            types: Column -> type, for each aggregation that does not say it itself.
        """
        aggregations = [
            a if a.dtype is not None or a.column not in types else a.of_type(types[a.column])
            for a in self.aggregations
        ]
        return self._with(aggregations=aggregations)

    def with_input_types(
        self,
        types: Mapping[str, pa.DataType],
        joined: Mapping[str, Mapping[str, pa.DataType]] | None = None,
    ) -> "FeatureView":
        """Return this view with the types of what its transform computes and joins with."""
        return (
            self
            if self.row_transform is None
            else self._with(transform=self.row_transform.with_types(types, joined))
        )

    def _with(self, **changes: Any) -> Self:
        current = {name: getattr(self, name) for name in type(self).model_fields}
        fields = current.pop("fields")
        schema = () if self.aggregations else fields
        return type(self)(**(current | {"schema": schema} | changes))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names, in schema order."""
        return tuple(field.name for field in self.fields)

    def field(self, name: str) -> Field:
        """Return the feature called `name`.

        Raises:
            NotFoundError: There is none; it suggests names that look alike.
        """
        for field in self.fields:
            if field.name == name:
                return field
        where = f" in feature view {self.name!r}"
        raise NotFoundError("feature", name, known=self.feature_names, where=where)

    def declared_type(self, name: str) -> pa.DataType | None:
        """Return the type of a column of the rows; None of windows, which take it as files have it.

        Raises:
            NotFoundError: A view with a schema has no such feature.
        """
        return None if self.aggregations else self.field(name).dtype

    def meaning(self) -> str:
        """Return a hash of all that decides the values; a new one is a new generation."""
        parts: Document = {"ttl": self.ttl_us}
        parts["schema"] = [[field.name, type_name(field.dtype)] for field in self.fields]
        if self.aggregations:
            parts["aggregations"] = [a.model_dump(mode="json") for a in self.aggregations]
        if (transformed := self._transformed()) is not None:
            parts["transform"] = transformed
        parts["join_keys"] = [[k, type_name(t)] for k, t in self.join_keys.items()]
        parts["source"] = self.source.meaning(of_events=bool(self.aggregations))
        if hidden := hidden_meaning(self.contract):
            parts["hidden"] = hidden
        return fingerprint(parts)

    def _transformed(self) -> Document | None:
        """Return what the transform makes of the rows that features are made of; None for nothing.

        Only that counts: neither how the SELECT is written, nor a column that no feature needs.
        """
        if self.row_transform is None:
            return None
        transform = self.row_transform
        trees = {name: self.row_column(name) for name in self.row_columns}
        joins = transform.joins_of(trees.values())
        numbers = {join.name: str(number) for number, join in enumerate(joins)}

        def meaning(tree: Node | None) -> Any:
            return None if tree is None else to_json(with_columns(tree, numbered))

        def numbered(column: Column) -> Column:
            return Column(column.name, numbers.get(column.source or ""))

        made = {name: meaning(tree) for name, tree in trees.items() if tree != Column(name)}
        where = meaning(transform.where)
        if not (made or where or joins):
            return None
        parts: Document = {"columns": made, "where": where}
        if joins:
            parts["joins"] = [self._join_meaning(join) for join in joins]
        return parts

    def _join_meaning(self, join: RowJoin) -> Document:
        document = join.model_dump(mode="json", include={"keys", "times", "inner"})
        return document | {"source": self.joined_source(join).meaning(of_events=False)}

    @classmethod
    def from_document(
        cls,
        document: Mapping[str, Any],
        *,
        entities: Mapping[str, Entity] | None = None,
        sources: Mapping[str, FileSource] | None = None,
    ) -> Self:
        """Return the view that `to_document` wrote, with the definitions it names.

        Raises:
            NotFoundError: It names an entity or source that is not among those given.
            DefinitionError: The document is not a view.
        """
        data = dict(document)
        if data.get("aggregations"):
            data["schema"] = ()  # they say it
        data["entities"] = tuple(
            _look_up("entity", name, entities or {}, cls.kind, document)
            for name in document["entities"]
        )
        data["source"] = _look_up("source", document["source"], sources or {}, cls.kind, document)
        data["joins"] = tuple(
            _look_up("source", name, sources or {}, cls.kind, document)
            for name in document.get("joins", ())
        )
        return cls(**data)

    def __getitem__(self, features: str | Sequence[str]) -> "FeatureViewSelection":
        """Return a choice of this view's features, in the order given: `view[["a", "b"]]`."""
        return self.select()[features]

    def with_name(self, name: str) -> "FeatureViewSelection":
        """Return this view under another name: a role, such as "dest_weather"."""
        return self.select().with_name(name)

    def with_join_key_map(self, join_key_map: Mapping[str, str]) -> "FeatureViewSelection":
        """Return this view with its join keys read from other columns: `{"airport": "dest"}`."""
        return self.select().with_join_key_map(join_key_map)

    def select(self) -> "FeatureViewSelection":
        """Return all features of this view as a selection."""
        return FeatureViewSelection(view=self)


class FeatureViewSelection(Model):
    """A view as it is used: some of its features, perhaps under a role.

    Attributes:
        view: The view.
        features: Names of the features, in the order wanted; None for all, also those added later.
        alias: The role's name, which stands for the view's in full feature names.
        join_key_map: Join key of the view -> column of the spine or request to take it from.
    """

    view: FeatureView
    features: tuple[ColumnName, ...] | None = None
    alias: ObjectName | None = None
    join_key_map: dict[ColumnName, ColumnName] = pydantic.Field(default_factory=dict)

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse features and join keys that the view does not have."""
        if self.features is not None:
            check_distinct(self.features, f"view {self.view.name!r}: feature")
        for name in self.features or ():
            self.view.field(name)
        for key in self.join_key_map:
            if key not in self.view.join_keys:
                known = self.view.join_keys
                raise NotFoundError("join key", key, known=known, where=f" in {self.view.name!r}")
        check_distinct(list(self.key_columns.values()), f"view {self.view.name!r}: key column")

    @property
    def name(self) -> str:
        """The role's name, or the view's."""
        return self.alias or self.view.name

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The chosen features' names, in order."""
        return self.view.feature_names if self.features is None else self.features

    @property
    def key_columns(self) -> dict[str, str]:
        """Join key of the view -> column to take it from, in key order."""
        return {key: self.join_key_map.get(key, key) for key in self.view.join_keys}

    def __getitem__(self, features: str | Sequence[str]) -> "FeatureViewSelection":
        """Return the same role with these features only, in the order given."""
        names = (features,) if isinstance(features, str) else tuple(features)
        if not names:
            raise DefinitionError(f"A selection of view {self.view.name!r} names no feature.")
        return self._with(features=names)

    def with_name(self, name: str) -> "FeatureViewSelection":
        """Return the same selection under another name."""
        return self._with(alias=name)

    def with_join_key_map(self, join_key_map: Mapping[str, str]) -> "FeatureViewSelection":
        """Return the same selection with its join keys read from other columns."""
        return self._with(join_key_map=dict(join_key_map))

    def _with(self, **changes: Any) -> "FeatureViewSelection":
        current = {name: getattr(self, name) for name in type(self).model_fields}
        return FeatureViewSelection(**(current | changes))


def _window_field(feature: WindowFeature) -> Field:
    if feature.result_type == UNKNOWN:  # no user may declare this type
        return Field.model_construct(name=feature.name, dtype=UNKNOWN, description="", tags={})
    return Field(name=feature.name, dtype=feature.result_type)


def selection_document(selection: FeatureViewSelection) -> Document:
    """Return a selection as JSON-ready data; its view appears by name."""
    return {
        "view": selection.view.name,
        "features": None if selection.features is None else list(selection.features),
        "alias": selection.alias,
        "join_key_map": selection.join_key_map,
    }


def _check_mapping(source: FileSource, names: Sequence[str]) -> None:
    mapping = source.field_mapping
    for name in names:
        if name in mapping and name not in mapping.values():
            raise ValueError(
                f"{name!r} is called {mapping[name]!r} here: the source's field_mapping renames it"
            )


def _keys(entity: Entity) -> list[tuple[str, pa.DataType]]:
    return list(entity.join_keys.items())


def _look_up(kind: str, name: str, known: Mapping[str, T], what: str, doc: Mapping[str, Any]) -> T:
    if name not in known:
        raise NotFoundError(kind, name, known=known, where=f", which {what} {doc['name']!r} uses")
    return known[name]
