"""What a validation found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow as pa

from featurestore.contracts.subject import Kind
from featurestore.definitions.contract import Policy
from featurestore.time import format_instant, from_micros

Status = Literal["passed", "warned", "quarantined", "failed"]
MAX_SHOWN: Final = 200
"""Characters of a value that is shown."""
_SEVERITY: Final[tuple[Status, ...]] = ("passed", "warned", "quarantined", "failed")
OF_POLICY: Final[Mapping[Policy, Status]] = {
    "warn": "warned",
    "quarantine": "quarantined",
    "fail": "failed",
}
"""What becomes of a broken rule."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A row that breaks a rule.

    Attributes:
        file: The file that it is in.
        row: Its number there, from 0.
        values: The rule's columns, JSON-ready: what JSON lacks is text, a long text is cut.
    """

    file: str
    row: int
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """What became of one rule.

    Attributes:
        rule: Its name.
        kind: "not_null", "in_range", "one_of", "matches", "sql", "unique", "fresh", "row_count".
        text: What it says.
        policy: What a breach of it does, by the rule or by who asked.
        status: "passed", or by the policy "warned", "quarantined" or "failed".
        rows: Rows that were looked at.
        failed: Those that break it; of a rule about all rows together 1 or 0.
        found: Of such a rule, what is instead; else None.
        examples: The first of the rows that break it.
    """

    rule: str
    kind: str
    text: str
    policy: Policy
    status: Status
    rows: int
    failed: int
    found: str | None = None
    examples: Sequence[Example] = ()

    @property
    def extent(self) -> str:
        """How far it does not hold, in a few words."""
        return self.found or f"{self.failed:,} of {self.rows:,} rows"

    @property
    def share(self) -> float:
        """The share of the rows that break it; 0 of none."""
        return self.failed / self.rows if self.rows and self.found is None else 0.0

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "rule": self.rule,
            "kind": self.kind,
            "text": self.text,
            "policy": self.policy,
            "status": self.status,
            "rows": self.rows,
            "failed": self.failed,
            "share": self.share,
            "found": self.found,
            "examples": [
                {"file": each.file, "row": each.row, "values": dict(each.values)}
                for each in self.examples
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What became of the contract of one source or view.

    Attributes:
        kind: "source" or "feature view".
        name: Its name.
        start: Exclusive start of the rows that were looked at, RFC 3339; None for none.
        end: Inclusive end; None for none.
        rows: Rows that were looked at.
        bad_rows: Those that break a rule about rows.
        rules: What became of each rule, in order.
        quarantine: The file that bad rows were written to, or None.
        quarantined: How many there are in it.
        seconds: How long it took.
    """

    kind: Kind
    name: str
    start: str | None
    end: str | None
    rows: int
    bad_rows: int
    rules: Sequence[RuleResult]
    quarantine: Path | None = None
    quarantined: int = 0
    seconds: float = 0.0

    @property
    def status(self) -> Status:
        """The worst that became of a rule."""
        return worst([rule.status for rule in self.rules])

    @property
    def broken(self) -> tuple[RuleResult, ...]:
        """The rules that do not hold."""
        return tuple(rule for rule in self.rules if rule.status != "passed")

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "kind": self.kind,
            "name": self.name,
            "status": self.status,
            "start": self.start,
            "end": self.end,
            "rows": self.rows,
            "bad_rows": self.bad_rows,
            "quarantine": None if self.quarantine is None else str(self.quarantine),
            "quarantined": self.quarantined,
            "seconds": self.seconds,
            "rules": [rule.to_document() for rule in self.rules],
        }


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """What a call of `validate` found.

    Attributes:
        validations: Of every source and view with a contract, in the order asked.
    """

    validations: Sequence[Validation]

    @property
    def status(self) -> Status:
        """The worst of all; "passed" where nothing has a contract."""
        return worst([each.status for each in self.validations])

    @property
    def ok(self) -> bool:
        """Whether nothing failed; warnings and rows in quarantine are no failure."""
        return self.status != "failed"

    @property
    def broken(self) -> tuple[str, ...]:
        """The rules that do not hold, in a few words each."""
        return tuple(
            f"{each.kind} {each.name}: {rule.rule} ({rule.policy}), {rule.extent}"
            for each in self.validations
            for rule in each.broken
        )

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "ok": self.ok,
            "status": self.status,
            "validations": [each.to_document() for each in self.validations],
        }


def worst(found: Sequence[Status]) -> Status:
    """Return the most severe of some statuses."""
    return max(found, key=_SEVERITY.index, default="passed")


def plain(scalar: pa.Scalar) -> Any:
    """Return a value for people and for JSON."""
    if pa.types.is_timestamp(scalar.type):
        return None if not scalar.is_valid else instant(scalar.cast(pa.int64()).as_py())
    value = scalar.as_py()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, bytes):
        value = value.hex()
    text = value.isoformat() if isinstance(value, date | datetime) else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def instant(micros: int) -> str:
    """Return an instant as text, however far away it is."""
    try:
        return format_instant(from_micros(micros))
    except OverflowError:
        return f"{micros} us since 1970"
