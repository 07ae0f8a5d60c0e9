"""Feature services: the features of one model, in order."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, field_serializer

from featurestore.definitions.base import Definition, Document
from featurestore.definitions.names import check_distinct
from featurestore.definitions.on_demand import OnDemandFeatureView, OnDemandSelection
from featurestore.definitions.view import FeatureView, FeatureViewSelection, selection_document
from featurestore.errors import NotFoundError

MAX_SELECTIONS = 500

Selection = FeatureViewSelection | OnDemandSelection
"""A view of either kind as it is used."""


def _read_selections(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError(  # noqa: TRY004 - pydantic reports this as a validation error
            "features is a list of views and selections, as in [view, other[['a']]]"
        )
    whole = FeatureView | OnDemandFeatureView
    return tuple(item.select() if isinstance(item, whole) else item for item in value)


class FeatureService(Definition):
    """What one model is trained on and served with.

    Attributes:
        features: Views of either kind (all their features) and selections (`view[["a", "b"]]`,
            roles), in the order the model wants its columns.
    """

    kind: ClassVar[str] = "feature service"
    semantic_fields: ClassVar[frozenset[str]] = frozenset({"features"})

    features: Annotated[
        Sequence[FeatureView | FeatureViewSelection | OnDemandFeatureView | OnDemandSelection],
        BeforeValidator(_read_selections),
    ]

    @property
    def selections(self) -> tuple[Selection, ...]:
        """The features as selections, one per view or role."""
        whole = FeatureView | OnDemandFeatureView
        return tuple(s.select() if isinstance(s, whole) else s for s in self.features)

    @field_serializer("features")
    def _documents(self, _features: object) -> list[Document]:
        return [document_of(selection) for selection in self.selections]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an empty service, and two selections that share a role's name."""
        if not 1 <= len(self.features) <= MAX_SELECTIONS:
            raise ValueError(f"a service has 1 to {MAX_SELECTIONS} views, not {len(self.features)}")
        check_distinct([s.name for s in self.selections], "view or role")

    @classmethod
    def from_document(
        cls,
        document: Mapping[str, Any],
        *,
        views: Mapping[str, FeatureView] | None = None,
        on_demand_views: Mapping[str, OnDemandFeatureView] | None = None,
    ) -> Self:
        """Return the service that `to_document` wrote, with the views it names.

        Raises:
            NotFoundError: It names a view or feature that is not there.
            DefinitionError: The document is not a service.
        """
        known: dict[str, FeatureView | OnDemandFeatureView]
        known = {**(views or {}), **(on_demand_views or {})}
        selections = []
        for item in document["features"]:
            if item["view"] not in known:
                where = f", which {cls.kind} {document['name']!r} uses"
                raise NotFoundError(FeatureView.kind, item["view"], known=known, where=where)
            selections.append(selection_from(item, known[item["view"]]))
        return cls(**(dict(document) | {"features": selections}))


def document_of(selection: Selection) -> Document:
    """Return a selection as JSON-ready data; its view appears by name."""
    if isinstance(selection, FeatureViewSelection):
        return selection_document(selection)
    names = selection.features
    return {"view": selection.name, "features": None if names is None else list(names)}


def selection_from(item: Document, view: FeatureView | OnDemandFeatureView) -> Selection:
    """Return the selection that `document_of` wrote, of this view."""
    if isinstance(view, FeatureView):
        return FeatureViewSelection(**(item | {"view": view}))
    return OnDemandSelection(view=view, features=item["features"])
