"""What becomes of each rule, as batches come in."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featurestore.contracts.quarantine import BadRows
from featurestore.contracts.report import OF_POLICY, Example, RuleResult, instant, plain
from featurestore.contracts.rows import MAX_EXAMPLES, BatchFindings, Row
from featurestore.contracts.subject import Subject
from featurestore.definitions.base import duration_micros
from featurestore.definitions.contract import Fresh, Policy, RowCount, RowRule, Rule, Unique
from featurestore.offline.ordinals import place_of

if TYPE_CHECKING:
    from featurestore.contracts.uniqueness import UniqueKeys


class Outcome:
    """Gathers what batches say, in any order.

    Args:
        subject: What is checked.
        policy: What rules do instead of their own policy; None for that.
        as_of_us: What `Fresh` counts from.

    Attributes:
        rows: Rows within the interval.
        bad_rows: Those that break a rule about rows.
    """

    def __init__(self, subject: Subject, *, policy: Policy | None, as_of_us: int) -> None:
        self._subject = subject
        self._as_of_us = as_of_us
        self._policies = [_policy(rule, policy) for rule in subject.rules]
        self._failed: dict[int, int] = defaultdict(int)
        self._examples: dict[int, list[Row]] = defaultdict(list)
        self._counted = 0
        self._newest_us: int | None = None
        self.rows = 0
        self.bad_rows = 0

    @property
    def collected(self) -> frozenset[int]:
        """Numbers of the rules about rows whose rows are to be written down."""
        return frozenset(
            number
            for number, rule in enumerate(self._subject.rules)
            if isinstance(rule, RowRule) and self._policies[number] == "quarantine"
        )

    def add(self, found: BatchFindings) -> None:
        """Take what a batch says."""
        self.rows += found.rows
        self.bad_rows += found.bad
        self._counted += found.counted
        if found.newest_us is not None:
            newest = found.newest_us if self._newest_us is None else self._newest_us
            self._newest_us = max(newest, found.newest_us)
        for number, count in found.failed.items():
            self._failed[number] += count
            every = self._examples[number] + found.examples[number]
            every.sort(key=lambda row: row.ordinal)
            self._examples[number] = every[:MAX_EXAMPLES]

    def add_repeated(self, keys: "UniqueKeys", bad: BadRows) -> None:
        """Find the rows that are not unique, of all that were read."""
        for number, rule in enumerate(self._subject.rules):
            if not isinstance(rule, Unique):
                continue
            repeated = keys.find([self._subject.aliases[name] for name in rule.key])
            self._failed[number] = repeated.count
            self._examples[number] = repeated.examples(rule.key)
            if self._policies[number] == "quarantine":
                ordinals = repeated.ordinals(bad.most)
                bad.add(ordinals, np.full(len(ordinals), 1 << number, np.uint64))

    def results(self) -> Sequence[RuleResult]:
        """Return what became of each rule, in order."""
        return tuple(map(self._result, range(len(self._subject.rules))))

    def _result(self, number: int) -> RuleResult:
        rule, policy = self._subject.rules[number], self._policies[number]
        failed, found = self._failed[number], None
        if isinstance(rule, Fresh | RowCount):
            holds, found = self._of_all(rule)
            failed = int(not holds)
        return RuleResult(
            rule=rule.name,
            kind=rule.kind,
            text=rule.text,
            policy=policy,
            status=OF_POLICY[policy] if failed else "passed",
            rows=self.rows if isinstance(rule, RowRule) else self._counted,
            failed=failed,
            found=found,
            examples=[self._example(row) for row in self._examples[number]],
        )

    def _of_all(self, rule: Fresh | RowCount) -> tuple[bool, str]:
        if isinstance(rule, RowCount):
            holds = (rule.min is None or self._counted >= rule.min) and (
                rule.max is None or self._counted <= rule.max
            )
            return holds, f"{self._counted:,} rows"
        if self._newest_us is None:
            return False, "no event"
        holds = self._as_of_us - self._newest_us <= duration_micros(rule.max_age)
        return (
            holds,
            f"newest event {instant(self._newest_us)}, seen from {instant(self._as_of_us)}",
        )

    def _example(self, row: Row) -> Example:
        file, number = place_of(self._subject.scan, row.ordinal)
        values = {name: self._plain(name, value) for name, value in row.values.items()}
        return Example(file=file.path, row=number, values=values)

    def _plain(self, name: str, value: object) -> object:
        """Return a value; times that were compared as numbers are times."""
        import pyarrow as pa

        assert isinstance(value, pa.Scalar)  # noqa: S101 - narrows for mypy
        is_time = self._subject.aliases[name] in ("e", "c") and pa.types.is_integer(value.type)
        return plain(value.cast(self._subject.types[name]) if is_time else value)


def _policy(rule: Rule, wanted: Policy | None) -> Policy:
    if wanted is None or (wanted == "quarantine" and isinstance(rule, Fresh | RowCount)):
        return rule.policy
    return wanted
