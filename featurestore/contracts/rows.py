"""The rules about rows, and what rules about all rows need, over one batch at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.contracts.subject import Subject
from featurestore.definitions.contract import NotNull, RowRule, Rule, Unique
from featurestore.expressions.arrow_expression import ArrowExpression
from featurestore.expressions.errors import RowError
from featurestore.offline.engine import RowFilter
from featurestore.offline.hidden_rows import compared_type
from featurestore.types import Timestamp, type_name

MAX_EXAMPLES: Final = 5
"""Rows that are shown for a rule."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Masks = npt.NDArray[np.uint64]
"""Of each row which rules it breaks: a bit for each rule, in their order."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row that breaks a rule.

    Attributes:
        ordinal: Where it is.
        values: The rule's columns; a time is microseconds' Arrow scalar, like the others.
    """

    ordinal: int
    values: Mapping[str, pa.Scalar]


@dataclass(slots=True, kw_only=True)
class BatchFindings:
    """What a batch says.

    Attributes:
        rows: Rows within the interval.
        counted: Rows up to its end, whatever its start.
        newest_us: Their greatest event time, or None.
        bad: Rows within the interval that break a rule about rows.
        failed: Number of a rule -> how many rows break it.
        examples: Number of a rule -> the first of these.
        ordinals: Of the rows that break a rule that is collected, rising.
        reasons: Which of these rules.
        keys: What `Unique` compares of the counted rows, by aliases, with `o`; None without one.
    """

    rows: int = 0
    counted: int = 0
    newest_us: int | None = None
    bad: int = 0
    failed: dict[int, int] = field(default_factory=dict)
    examples: dict[int, list[Row]] = field(default_factory=dict)
    ordinals: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    reasons: Masks = field(default_factory=lambda: np.empty(0, np.uint64))
    keys: pa.RecordBatch | None = None


class RowChecks:
    """Checks batches of one subject. Safe to use from several threads.

    Args:
        subject: What is checked.
        interval: Which rows; None for all.
        collected: Numbers of the rules whose rows are to be collected.
    """

    def __init__(
        self, subject: Subject, interval: RowFilter | None, collected: frozenset[int]
    ) -> None:
        self._subject = subject
        self._interval = interval
        self._collected = collected
        self._has_event = subject.scan.event is not None
        self._tests = {
            number: _test(rule, subject)
            for number, rule in enumerate(subject.rules)
            if isinstance(rule, RowRule)
        }
        unique = (rule.key for rule in subject.rules if isinstance(rule, Unique))
        names = dict.fromkeys(name for key in unique for name in key)
        self.key_aliases = tuple(dict.fromkeys(subject.aliases[name] for name in names))

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The subject's rules, by number."""
        return self._subject.rules

    @property
    def aliases(self) -> list[str]:
        """What has to be read."""
        columns = (name for rule in self._subject.rules for name in rule.columns)
        times = ["e"] if self._has_event else []
        if self._interval is not None and self._interval.created_after_us is not None:
            times += ["c"] if self._subject.scan.created else []
        return list(dict.fromkeys([*times, "o", *(self._subject.aliases[n] for n in columns)]))

    def check(self, batch: pa.RecordBatch) -> BatchFindings:
        """Return what a batch with these columns says."""
        counted, inside = self._which(batch)
        findings = BatchFindings(rows=int(inside.sum()), counted=int(counted.sum()))
        findings.newest_us = self._newest(batch, counted)
        if self.key_aliases:
            keys = batch.select(["o", *self.key_aliases])
            findings.keys = keys if counted.all() else keys.filter(pa.array(counted))
        self._check_rows(batch, inside, findings)
        return findings

    def _check_rows(self, batch: pa.RecordBatch, inside: Bools, findings: BatchFindings) -> None:
        bad = np.zeros(batch.num_rows, np.bool_)
        reasons = np.zeros(batch.num_rows, np.uint64)
        for number, test in self._tests.items():
            failing = test(self._column(batch), batch.num_rows) & inside
            places = np.flatnonzero(failing)
            if not len(places):
                continue
            bad |= failing
            findings.failed[number] = len(places)
            rule = self._subject.rules[number]
            findings.examples[number] = [
                self._row(batch, rule, int(place)) for place in places[:MAX_EXAMPLES]
            ]
            if number in self._collected:
                reasons[failing] |= np.uint64(1 << number)
        findings.bad = int(bad.sum())
        places = np.flatnonzero(reasons)
        findings.ordinals = batch.column("o").to_numpy()[places]
        findings.reasons = reasons[places]

    def _row(self, batch: pa.RecordBatch, rule: Rule, place: int) -> Row:
        column = self._column(batch)
        values = {name: column(name)[place] for name in rule.columns}
        return Row(batch.column("o")[place].as_py(), values)

    def _column(self, batch: pa.RecordBatch) -> Callable[[str], pa.Array]:
        def column(name: str) -> pa.Array:
            found = batch.column(self._subject.aliases[name])
            return found.cast(Timestamp) if self._subject.aliases[name] in ("e", "c") else found

        return column

    def _newest(self, batch: pa.RecordBatch, counted: Bools) -> int | None:
        if not self._has_event:
            return None
        times, valid = _numbers(batch.column("e"))
        there = times[counted & valid]
        return int(there.max()) if len(there) else None

    def _which(self, batch: pa.RecordBatch) -> tuple[Bools, Bools]:
        """Return which rows there are up to the interval's end, and which are within it.

        A row without an event time belongs to every interval.
        """
        every = np.ones(batch.num_rows, np.bool_)
        wanted = self._interval
        if wanted is None or not self._has_event:
            return every, every
        times, valid = _numbers(batch.column("e"))
        counted = ~valid | (times <= wanted.until_us)
        inside = counted.copy()
        if wanted.after_us is not None:
            inside &= ~valid | (times > wanted.after_us)
        if wanted.created_after_us is not None and self._subject.scan.created is not None:
            created, known = _numbers(batch.column("c"))
            new = ~known | (created > wanted.created_after_us)
            if wanted.or_event_after_us is not None:
                new |= times > wanted.or_event_after_us
            inside &= ~valid | new
        return counted, inside


def _numbers(column: pa.Array) -> tuple[Ints, Bools]:
    """Return int64 values, 0 where null, and where they are."""
    valid = np.asarray(column.is_valid())
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False)), valid


_Test = Callable[[Callable[[str], pa.Array], int], Bools]
"""From columns and the number of rows to which rows break a rule."""


def _test(rule: RowRule, subject: Subject) -> _Test:
    if isinstance(rule, NotNull):
        return lambda column, _: np.asarray(column(rule.column).is_null())
    types = {name: compared_type(subject.types[name]) for name in rule.columns}
    names = {name: type_name(dtype) for name, dtype in types.items()}
    expression = ArrowExpression(rule.passes(types.__getitem__), names)

    def test(column: Callable[[str], pa.Array], count: int) -> Bools:
        arrays = {name: column(name) for name in rule.columns}
        arrays = {n: a if a.type == types[n] else a.cast(types[n]) for n, a in arrays.items()}
        if len(arrays) == 1 and names[rule.columns[0]] == "string":
            return _failing_texts(expression, *arrays.items())
        return _failing(expression, arrays, 0, count)

    return test


def _failing_texts(expression: ArrowExpression, column: tuple[str, pa.Array]) -> Bools:
    """Return which rows of one column of texts break a rule; each text is looked at once.

    Texts cost the evaluator a Python object each, and most columns of texts have few of them.
    """
    name, texts = column
    encoded = texts.dictionary_encode(null_encoding="encode")
    found = _failing(expression, {name: encoded.dictionary}, 0, len(encoded.dictionary))
    failing: Bools = found[encoded.indices.to_numpy()]
    return failing


def _failing(
    expression: ArrowExpression, arrays: Mapping[str, pa.Array], start: int, count: int
) -> Bools:
    """Return which of some rows break a rule: it is false for them, or has no value (`1 // 0`)."""
    try:
        values, valid = expression.run(lambda name: arrays[name].slice(start, count), count)
    except RowError:
        if count == 1:
            return np.ones(1, np.bool_)
        half = count // 2
        parts = ((start, half), (start + half, count - half))
        return np.concatenate([_failing(expression, arrays, *part) for part in parts])
    passing = values if valid is None else values | ~valid
    return np.asarray(~passing.astype(np.bool_))
