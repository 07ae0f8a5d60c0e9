"""Feature services: the features of one model, in order."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, field_serializer

from featurestore.definitions.base import Definition, Document
from featurestore.definitions.names import check_distinct
from featurestore.definitions.view import FeatureView, FeatureViewSelection
from featurestore.errors import NotFoundError

MAX_SELECTIONS = 500


def _read_selections(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError(  # noqa: TRY004 - pydantic reports this as a validation error
            "features is a list of views and selections, as in [view, other[['a']]]"
        )
    return tuple(item.select() if isinstance(item, FeatureView) else item for item in value)


class FeatureService(Definition):
    """What one model is trained on and served with.

    Attributes:
        features: Views (all their features) and selections (`view[["a", "b"]]`, roles), in the
            order the model wants its columns.
    """

    kind: ClassVar[str] = "feature service"
    semantic_fields: ClassVar[frozenset[str]] = frozenset({"features"})

    features: Annotated[
        Sequence[FeatureView | FeatureViewSelection], BeforeValidator(_read_selections)
    ]

    @property
    def selections(self) -> tuple[FeatureViewSelection, ...]:
        """The features as selections, one per view or role."""
        return tuple(s.select() if isinstance(s, FeatureView) else s for s in self.features)

    @field_serializer("features")
    def _documents(self, _features: object) -> list[Document]:
        return [
            {
                "view": s.view.name,
                "features": None if s.features is None else list(s.features),
                "alias": s.alias,
                "join_key_map": s.join_key_map,
            }
            for s in self.selections
        ]

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse an empty service, and two selections that share a role's name."""
        if not 1 <= len(self.features) <= MAX_SELECTIONS:
            raise ValueError(f"a service has 1 to {MAX_SELECTIONS} views, not {len(self.features)}")
        check_distinct([s.name for s in self.selections], "view or role")

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], *, views: Mapping[str, FeatureView] | None = None
    ) -> Self:
        """Return the service that `to_document` wrote, with the views it names.

        Raises:
            NotFoundError: It names a view or feature that is not there.
            DefinitionError: The document is not a service.
        """
        known = views or {}
        selections = []
        for item in document["features"]:
            if item["view"] not in known:
                where = f", which {cls.kind} {document['name']!r} uses"
                raise NotFoundError(FeatureView.kind, item["view"], known=known, where=where)
            selections.append(FeatureViewSelection(**(item | {"view": known[item["view"]]})))
        return cls(**(dict(document) | {"features": selections}))
