"""What the linter says: rules, findings, and how a finding is silenced."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from featurestore.definitions import Definition

Severity = Literal["error", "warning", "info"]

TAG: Final = "lint-ignore"
"""The tag that silences rules: `{"lint-ignore": "window-start, no-ttl: why that is right"}`."""
RULES: Final[Mapping[str, str]] = {
    "window-start": "rows are stamped with the start of the time that they summarize",
    "label-in-features": "a feature is the label, or says it",
    "created-before-event": "rows were written before their event took place",
    "static-changes": "a lookup table without times may change",
    "impure-function": "a Python function reads something else than its input",
    "future-events": "events take place after now",
    "late-rows": "rows are written long after their event",
    "no-ttl": "a newest value never gets too old",
    "short-ttl": "values expire before the next one comes",
    "naive-times": "times without a zone are taken for UTC",
}
"""Every rule, and what it finds."""
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that leaks, or looks like it.

    Attributes:
        rule: A name of `RULES`.
        severity: "error" is as good as certain, "warning" likely, "info" is for somebody to look.
        object: What it is about: "feature view trips", "source payments".
        message: What was found, in a sentence.
        evidence: Figures, JSON-ready.
        advice: What to do.
    """

    rule: str
    severity: Severity
    object: str
    message: str
    evidence: Mapping[str, Any]
    advice: str


def heard(findings: Iterable[tuple[Definition, Finding]]) -> Iterator[Finding]:
    """Yield the findings that their object's tags do not silence."""
    for definition, finding in findings:
        if finding.rule not in silenced(definition):
            yield finding


def silenced(definition: Definition) -> frozenset[str]:
    """Return the rules that an object's tags silence; what follows a colon is the reason."""
    text = definition.tags.get(TAG, "")
    return frozenset(name.strip() for name in text.partition(":")[0].split(","))


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first, then by object and rule."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.object, f.rule))


def subject(definition: Definition) -> str:
    """Return what an object is called in findings."""
    return f"{definition.kind} {definition.name}"
