"""The sentences of an explanation: rules, verdicts, and why rows are passed over."""

from collections.abc import Sequence
from dataclasses import dataclass

from featurestore.definitions.aggregation import WindowFeature
from featurestore.explanation.key_rows import LOWEST
from featurestore.explanation.model import WindowExplanation
from featurestore.explanation.rows import PassedOver, Reason, SourceRow, time_text
from featurestore.offline.engine import Mode
from featurestore.offline.scan import SourceScan

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def span_text(micros: int) -> str:
    """Return a length of time in its two largest units: `3d 4h`, `2m 5s`, `1.5ms`."""
    seconds, rest = divmod(abs(micros), 10**6)
    if not seconds:
        return f"{rest / 1000:g}ms" if rest else "0s"
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:,}{unit}")
    return " ".join(parts[:2])


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What was found of an entity in a source.

    Attributes:
        source: The source.
        key: Join key and value, as text.
        is_null_key: Whether a part of the key is null.
        at_us: The moment asked for.
        mode: Whether only rows count that had been written by then.
        ttl_us: The view's, where it matters.
        rows: Rows with this key and an event time.
        left_out: More of them, which the transform or a rule leaves out.
        causes: What leaves them out.
        null_times: More of them without an event time.
        passed_over: Why rows do not answer.
    """

    source: str
    key: tuple[tuple[str, str], ...]
    is_null_key: bool
    at_us: int
    mode: Mode
    ttl_us: int | None
    rows: int
    left_out: int
    causes: str
    null_times: int
    passed_over: tuple[PassedOver, ...]

    @property
    def whose(self) -> str:
        """The key as text."""
        return ", ".join(f"{name}={value}" for name, value in self.key) or "everybody"

    def count(self, reason: Reason) -> int:
        """Return how many rows are passed over for a reason."""
        return sum(each.count for each in self.passed_over if each.reason is reason)

    def nearest(self, reason: Reason) -> SourceRow | None:
        """Return the row that came closest to answering, of those that a reason holds for."""
        rows = (row for each in self.passed_over if each.reason is reason for row in each.rows)
        return next(rows, None)

    @property
    def withheld(self) -> tuple[Reason, SourceRow] | None:
        """The newest row by the moment asked for, where no row answers, and why it does not."""
        reasons = (Reason.FILTERED, Reason.NOT_WRITTEN, Reason.EXPIRED)
        found = ((reason, self.nearest(reason)) for reason in reasons)
        known = [(reason, row) for reason, row in found if row is not None and self._is_by(row)]
        return max(known, key=lambda each: _rank(each[1]), default=None)

    def _is_by(self, row: SourceRow) -> bool:
        return row.event_us is not None and row.event_us <= self.at_us


def _rank(row: SourceRow) -> tuple[int, int]:
    event_us, created_us = row.event_us, row.created_us
    return LOWEST if event_us is None else event_us, LOWEST if created_us is None else created_us


def counted(count: int, thing: str) -> str:
    """Return `1 row` or `1,200 rows`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


# --- rules ----------------------------------------------------------------------------------------


def _order(scan: SourceScan) -> str:
    parts = ["the greatest event time"]
    if scan.created is not None:
        parts.append("then the greatest created time (null lowest)")
    if scan.ties_by_nanoseconds:
        parts.append("then the nanoseconds that rounding took")
    parts.append("then the last in the order of file path and row")
    return ", ".join(parts)


def latest_rule(scan: SourceScan, mode: Mode, ttl_us: int | None) -> str:
    """Return what decides which row answers."""
    visible = "event time <= at"
    if ttl_us is not None:
        visible += f" and >= at - {span_text(ttl_us)} (ttl)"
    if mode == "as_served":
        visible += ", written by then (created <= at)"
    return f"of the rows with {visible}: {_order(scan)}"


def window_rule(scan: SourceScan, mode: Mode) -> str:
    """Return what decides which rows a window holds."""
    rule = "rows whose event time lies in the window"
    if mode == "as_served":
        rule += " and that had been written by its end (created <= at)"
    if scan.dedup:
        names = ", ".join(column.name for column in scan.dedup)
        rule += f", of one event ({names}) the version written last alone"
    return f"{rule}; nulls are skipped; first and last go by {_order(scan)}"


def why(
    reason: Reason,
    at_us: int,
    *,
    ttl_us: int | None = None,
    window: WindowFeature | None = None,
    causes: str = "",
    unknown: float = 0.0,
) -> str:
    """Return why rows are passed over, for people.

    Args:
        reason: The reason.
        at_us: The moment asked for.
        ttl_us: The view's, where it matters.
        window: What the rows are not in; None for a view with a schema.
        causes: What leaves rows out.
        unknown: Of how large a part of the rows nobody knows when they were written.
    """
    at = time_text(at_us)
    is_open = window is not None and window.closed in ("left", "neither")
    said = {
        Reason.LATER: f"later: event time {'at or after' if is_open else 'after'} {at}",
        Reason.NOT_WRITTEN: f"not yet written by {at} (as_served), or nobody knows when",
        Reason.EXPIRED: f"expired: more than {span_text(ttl_us or 0)} (ttl) before {at}",
        Reason.BEFORE: "before the window began",
        Reason.CORRECTED: f"corrected: same event time, and {_written_before(unknown)}",
        Reason.TIE: "tie: same times, and earlier in the order of files and rows",
        Reason.NANOSECONDS: "tie: same times to the microsecond, and earlier by nanoseconds",
        Reason.OLDER: "older: visible, and so is a newer row",
        Reason.FILTERED: f"left out: {causes}",
        Reason.NULL_TIME: "no event time: never visible",
        Reason.NULL_KEY: "a part of the join key is null: such rows belong to nobody",
    }
    if window is not None:
        said[Reason.CORRECTED] = "corrected: another version of the same event stands for it"
        said[Reason.WHERE] = f"left out by where: {window.where}"
        said[Reason.NULL_VALUE] = f"{window.column} is null"
    return said[reason]


def _written_before(unknown: float) -> str:
    known = "written before the row that answers"
    if not unknown:
        return known
    nobody = "nobody knows when it was written"
    return nobody if unknown == 1 else f"{known}, or {nobody}"


# --- verdicts -------------------------------------------------------------------------------------


def latest_verdict(facts: Facts, chosen: SourceRow | None) -> str:
    """Return why a view with a schema has its values."""
    if chosen is None:
        return _why_nothing(facts)
    passed = (Reason.OLDER, Reason.TIE, Reason.NANOSECONDS, Reason.CORRECTED)
    count = 1 + sum(map(facts.count, passed))
    if count == 1:
        return "the only visible row of this entity"
    if facts.count(Reason.TIE) or facts.count(Reason.NANOSECONDS):
        return f"of {counted(count, 'visible row')} the last of those with the newest times"
    if facts.count(Reason.CORRECTED):
        return f"of {counted(count, 'visible row')} the newest, in its latest version"
    return f"the newest of {counted(count, 'visible row')}"


def _why_nothing(facts: Facts) -> str:
    if facts.is_null_key:
        return "nothing: a part of the join key is null, and no row matches a null"
    if facts.withheld is not None:
        return _why_withheld(facts, *facts.withheld)
    if (row := facts.nearest(Reason.LATER)) is not None and row.event_us is not None:
        after = span_text(row.event_us - facts.at_us)
        return f"nothing: all rows are later; the first came {after} after"
    return _why_no_rows(facts)


def _why_withheld(facts: Facts, reason: Reason, row: SourceRow) -> str:
    """Return why the newest row does not answer: all older ones are no better off."""
    at, age_us = time_text(facts.at_us), facts.at_us - (row.event_us or 0)
    unwritten = row.created_us is None or row.created_us > facts.at_us
    besides = []
    if reason is Reason.FILTERED:
        besides.append(f"left out: {row.left_out or facts.causes}")
    if facts.mode == "as_served" and unwritten:
        besides.append(f"not yet written by {at}")
    if facts.ttl_us is not None and age_us > facts.ttl_us:
        return "; ".join(
            [f"nothing: expired; the newest row was {span_text(age_us)} old", *besides]
        )
    if reason is Reason.FILTERED:
        return f"nothing: the newest row by {at} is {', and '.join(besides)}"
    when = "nobody knows when" if row.created_us is None else f"at {time_text(row.created_us)}"
    return f"nothing: not yet written by {at}; the newest row was written {when}"


def _why_no_rows(facts: Facts) -> str:
    if facts.is_null_key:
        return "nothing: a part of the join key is null, and no row matches a null"
    if facts.left_out:
        return (
            f"nothing: all rows of {facts.whose} ({facts.left_out:,}) are left out: {facts.causes}"
        )
    if facts.null_times:
        return f"nothing: no row of {facts.whose} has an event time"
    if not facts.key:
        return f"nothing: source {facts.source} has no row with an event time"
    return f"nothing: source {facts.source} has no row with {facts.whose}"


def window_verdict(facts: Facts, windows: Sequence[WindowExplanation]) -> str:
    """Return why a view with aggregations has its values."""
    if not facts.rows:
        return f"{_why_no_rows(facts)}; windows are empty"
    held = [window.count for window in windows]
    total = f"{counted(facts.rows, 'row')} of this entity in the source"
    if not any(held):
        return f"windows are empty; {total}"
    if len(held) == 1:
        return f"{counted(held[0], 'row')} in the window, of {total}"
    return f"{min(held):,} to {counted(max(held), 'row')} in a window, of {total}"


def latest_notes(chosen: SourceRow | None, at_us: int, mode: Mode) -> tuple[str, ...]:
    """Return what is worth knowing about the row that answers."""
    notes = []
    if chosen is not None and chosen.event_us is not None:
        if chosen.created_us is not None and chosen.created_us > at_us and mode == "complete":
            late = span_text(chosen.created_us - at_us)
            notes.append(
                f"written {late} after the moment asked for: nobody knew it then;"
                " --mode as_served leaves it out"
            )
        elif chosen.created_us is not None and chosen.created_us < chosen.event_us:
            notes.append("created before its event took place: is its event time right?")
    return tuple(notes)
