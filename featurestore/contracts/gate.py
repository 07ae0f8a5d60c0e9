"""Contracts checked on the way: what is found is kept, and a failed rule ends the work."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from featurestore.contracts.report import Validation, ValidationReport
from featurestore.contracts.subject import Owner, owners_of
from featurestore.contracts.validator import Validator
from featurestore.definitions import FeatureView
from featurestore.errors import ContractError, RequestError, shown
from featurestore.offline.engine import RowFilter
from featurestore.registry.log import current_actor
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.state import RegistryState
from featurestore.registry.validations import ValidationRecord
from featurestore.time import to_micros

Cause = Literal["validate", "materialize", "dataset"]
KINDS: Final = {"source": "source", "view": "feature view"}
"""What stands in front of a slash -> the kind of object that is meant."""
MAX_SAID: Final = 3
"""Broken rules that a message names."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Checks contracts for one purpose, and keeps what is found in the registry.

    Attributes:
        project: The project.
        registry: Keeps the results.
        validator: Checks.
        cause: What asks for it.
    """

    project: str
    registry: SqlRegistry
    validator: Validator
    cause: Cause

    def check(
        self,
        owners: Iterable[Owner],
        rows: RowFilter | None = None,
        *,
        files: Collection[str] | None = None,
    ) -> ValidationReport:
        """Check contracts and keep what is found; what has none is left out.

        Args:
            owners: Whose contracts; each once.
            rows: Which rows; see `Validator.check`.
            files: Paths of the files to read; None for all.
        """
        found = []
        for owner in owners:
            if owner.contract:
                found.append(self.validator.check(owner, rows, files=files))
                self._keep(found[-1])
        return ValidationReport(validations=found)

    def let_through(
        self,
        views: Iterable[FeatureView],
        rows: RowFilter | None = None,
        *,
        files: Collection[str] | None = None,
    ) -> ValidationReport:
        """Check all that some views are made of: their sources, joined ones too, and themselves.

        Raises:
            ContractError: A rule whose policy is "fail" is broken.
        """
        report = self.check(owners_of(views), rows, files=files)
        require(report)
        return report

    def _keep(self, found: Validation) -> None:
        self.registry.record_validation(
            ValidationRecord(
                project=self.project,
                kind=found.kind,
                name=found.name,
                cause=self.cause,
                at_us=to_micros(datetime.now(UTC)),
                actor=current_actor(),
                status=found.status,
                rows=found.rows,
                bad_rows=found.bad_rows,
                document=found.to_document(),
            )
        )


def require(report: ValidationReport) -> None:
    """Raise ContractError if a rule failed."""
    rules = ((each, rule) for each in report.validations for rule in each.rules)
    broken = [(each, rule) for each, rule in rules if rule.status == "failed"]
    if not broken:
        return
    said = [
        f"{shown(rule.rule)} of {each.kind} {each.name!r} ({rule.extent})"
        for each, rule in broken[:MAX_SAID]
    ]
    more = f" and {len(broken) - MAX_SAID} more" if len(broken) > MAX_SAID else ""
    raise ContractError(
        f"The data breaks {', '.join(said)}{more}; nothing was written.",
        rules=[f"{each.name}.{rule.rule}" for each, rule in broken],
        hint=f"featurestore validate {broken[0][0].name} shows rows; correct the data, or the rule",
    )


def owners_named(state: RegistryState, names: Sequence[str] | None) -> list[Owner]:
    """Return what to check: sources first, in order of their names; or those named, as named.

    Args:
        state: What is registered.
        names: Names of sources and views, or as `source/x` and `view/x`; None for all that have a
            contract.

    Raises:
        NotFoundError: There is no such source or view.
        RequestError: A name means both, or has no contract.
    """
    if names is None:
        views = (view.definition for view in state.views.values())
        every: list[Owner] = [*state.sources.values(), *views]
        return [owner for owner in every if owner.contract]
    found = [_owner(state, name) for name in dict.fromkeys(names)]
    for owner in found:
        if not owner.contract:
            raise RequestError(
                f"{owner.kind.capitalize()} {owner.name!r} has no contract.",
                hint="give it rules: contract=[NotNull(...), ...]",
            )
    return found


def _owner(state: RegistryState, name: str) -> Owner:
    kind, slash, rest = name.partition("/")
    if slash and kind in KINDS:
        return state.source(rest) if kind == "source" else state.view(rest).definition
    if name in state.sources and name in state.views:
        raise RequestError(
            f"{name!r} is a source and a view.", hint=f"write source/{name} or view/{name}"
        )
    return state.sources[name] if name in state.sources else state.view(name).definition
