"""The history of a project: who applied what, and when."""

import getpass
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from featurestore.definitions.base import Document
from featurestore.registry.plan import FieldChange
from featurestore.time import format_instant

MAX_ACTOR: Final = 255


def current_actor() -> str:
    """Return who runs this process, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One change that was applied.

    Attributes:
        revision: The project's revision that it led to; changes of one plan share it.
        at: When, in UTC, by the clock of who applied.
        actor: Who applied, cut to 255 characters.
        action: "create", "update" or "delete".
        impact: See `plan.Change`.
        fields: What differed in the object's document.
        generation_before: Of a view, else None.
        generation_after: Of a view, else None.
    """

    project: str
    revision: int
    at: datetime
    actor: str
    action: str
    kind: str
    name: str
    impact: str
    fields: tuple[FieldChange, ...]
    generation_before: int | None
    generation_after: int | None

    def to_document(self) -> Document:
        """Return this as JSON-ready data; `at` is RFC 3339."""
        document: Document = {name: getattr(self, name) for name in self.__slots__}
        document["at"] = format_instant(self.at)
        document["fields"] = [field.to_document() for field in self.fields]
        return document
