"""What an apply would do: data that is printed, written as JSON, and committed as it is."""

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

from featurestore.definitions import FeatureView
from featurestore.definitions.base import Document
from featurestore.registry.state import ObjectRef

Action = Literal["create", "update", "delete"]
Impact = Literal["metadata", "additive", "breaking", "destructive"]

PLAN_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChange:
    """One value inside a document that differs.

    Attributes:
        path: Where, joined by dots: `ttl`, `tags.team`, `schema.amount.dtype`. Items of a list
            go by their names; a part that is not a plain word is in double quotes.
        before: The JSON value before, None where there was none.
        after: The JSON value after, None where there is none.
    """

    path: str
    before: Any
    after: Any

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {"path": self.path, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happens to one object.

    Attributes:
        fields: What differs in the object's own document; empty for "create" and "delete", and for
            a view whose meaning changes only through something that it uses.
        through: Entities and sources whose change gives this view a new meaning.
        impact: "metadata": only people see it. "additive": what works now goes on as it did.
            "breaking": values, columns or their order change for somebody. "destructive": it is
            gone.
        before: The document now; None for "create".
        after: The document then; None for "delete".
        generation_before: Of a view now, else None.
        generation_after: Of a view then, else None; greater than before iff its meaning changes.
        affects: Views and services that use the object now.
        static: Of a view that will be, the static sources that it joins, whose rows are taken as
            they are today, for all times.
    """

    action: Action
    kind: str
    name: str
    impact: Impact
    fields: tuple[FieldChange, ...] = ()
    through: tuple[ObjectRef, ...] = ()
    before: Document | None = None
    after: Document | None = None
    generation_before: int | None = None
    generation_after: int | None = None
    affects: tuple[ObjectRef, ...] = ()
    static: tuple[str, ...] = ()

    @property
    def ref(self) -> ObjectRef:
        """Which object this is about."""
        return ObjectRef(self.kind, self.name)

    @property
    def is_new_generation(self) -> bool:
        """Whether a registered view gets a new meaning."""
        return self.action == "update" and self.generation_before != self.generation_after

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {
            "action": self.action,
            "kind": self.kind,
            "name": self.name,
            "impact": self.impact,
            "fields": [change.to_document() for change in self.fields],
            "through": [_ref_document(ref) for ref in self.through],
            "before": self.before,
            "after": self.after,
            "generation_before": self.generation_before,
            "generation_after": self.generation_after,
            "affects": [_ref_document(ref) for ref in self.affects],
            "static": list(self.static),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All changes that lead from a revision of a project to what is wanted.

    Attributes:
        base_revision: The revision it was made from; it can be committed on that one only.
        target_views: The views that were asked for and those that change, as they will be, with
            their entities and sources: what has to be checked against the source files.
        changes: Creations and updates in order of dependency, then deletions in the reverse.
    """

    project: str
    base_revision: int
    changes: tuple[Change, ...] = ()
    target_views: tuple[FeatureView, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.changes

    @property
    def deletions(self) -> tuple[Change, ...]:
        """The changes that delete something."""
        return tuple(change for change in self.changes if change.action == "delete")

    @property
    def new_generations(self) -> tuple[str, ...]:
        """Names of the registered views that get a new meaning."""
        return tuple(change.name for change in self.changes if change.is_new_generation)

    def count(self, action: Action) -> int:
        """Return how many changes there are of one kind."""
        return sum(change.action == action for change in self.changes)

    @property
    def summary(self) -> str:
        """One line: `Plan: 2 to add, 1 to change (1 new generation), 0 to delete`."""
        if self.is_empty:
            return "Plan: nothing to do"
        fresh = len(self.new_generations)
        plural = "" if fresh == 1 else "s"
        generations = f" ({fresh} new generation{plural})" if fresh else ""
        return (
            f"Plan: {self.count('create')} to add, {self.count('update')} to change{generations},"
            f" {self.count('delete')} to delete"
        )

    def to_document(self) -> Document:
        """Return this as JSON-ready data; its `schema_version` rises when the form changes."""
        return {
            "schema_version": PLAN_SCHEMA_VERSION,
            "project": self.project,
            "base_revision": self.base_revision,
            "summary": {
                "create": self.count("create"),
                "update": self.count("update"),
                "delete": self.count("delete"),
                "new_generations": len(self.new_generations),
            },
            "changes": [change.to_document() for change in self.changes],
        }

    def to_json(self) -> str:
        """Return `to_document` as text."""
        return json.dumps(self.to_document())


def _ref_document(ref: ObjectRef) -> Document:
    return {"kind": ref.kind, "name": ref.name}
