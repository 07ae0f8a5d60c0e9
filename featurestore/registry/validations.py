"""What checks of contracts found, as the registry keeps it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

KEPT_VALIDATIONS: Final = 100
"""So many of one source or view are kept, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRecord:
    """One check of one contract.

    Attributes:
        project: The project.
        kind: "source" or "feature view".
        name: Its name.
        cause: "validate", "materialize" or "dataset".
        at_us: When it was over, microseconds since the epoch, by the system's clock.
        actor: Who asked for it.
        status: The worst that became of a rule: "passed", "warned", "quarantined" or "failed".
        rows: Rows that were looked at.
        bad_rows: Those that break a rule about rows.
        document: `Validation.to_document()`.
        revision: The registry's revision then; the registry fills it in.
    """

    project: str
    kind: str
    name: str
    cause: str
    at_us: int
    actor: str
    status: str
    rows: int
    bad_rows: int
    document: Mapping[str, Any]
    revision: int = 0
