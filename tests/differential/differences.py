"""What differs between Feast and us, and why: what has no reason here is a defect of one of us."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from tests.differential.repositories import HOUR_US, ROW, Case, View

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pyarrow as pa

MODES: Final = ("complete", "as_served")
Row = dict[str, Any]

REFUSALS: Final = {
    "a feature whose name ends in _y": "Feast drops every column whose name ends so after its own"
    " join, and then does not find the feature.",
}
"""Cases that Feast refuses, with the reason."""
DIFFERENCES: Final = {
    "order": "Feast promises no order: its rows come in the spine's as long as one thread of DuckDB"
    " has them all. They are matched by their number.",
    "tie": "Rows of one key, event time and created time: Feast numbers them by event and created"
    " time alone, so that any of them may win. Ours is the last in the order of files and rows.",
}
"""Differences of answers, with the reason."""


def refusal(case: Case, text: str) -> str | None:
    """Return which of `REFUSALS` an error of Feast is; None for one that has no reason."""
    if "_y' is not found" in text and any(n.endswith("_y") for v in case.views for n in v.features):
        return "a feature whose name ends in _y"
    return None


def compared(case: Case, mode: str, ours: pa.Table, feasts: pa.Table) -> Iterator[str]:
    """Yield each difference: the name of one of `DIFFERENCES`, or a text that says what differs."""
    numbers = feasts[ROW].to_pylist()
    if numbers != sorted(numbers):
        yield "order"
    if Counter(numbers) != Counter(ours[ROW].to_pylist()):
        yield f"Feast's rows are {sorted(numbers)}, those of the spine {ours.num_rows} in all"
        return
    by_number = {row[ROW]: row for row in feasts.to_pylist()}
    for row in ours.to_pylist():
        for view in case.views:
            theirs = by_number[row[ROW]]
            yield from _of_view(case, view, mode, row, theirs)


def _of_view(case: Case, view: View, mode: str, row: Row, theirs: Row) -> Iterator[str]:
    """Yield how the features of one view differ in one row."""
    if all(same(row[column], theirs[column]) for column in view.columns):
        return
    winners = _winners(case, view, mode, row)
    answer = [theirs[column] for column in view.columns]
    if len(winners) > 1 and any(_is_answer(winner, view, answer) for winner in winners):
        yield "tie"
        return
    yield (
        f"{mode}, spine row {row[ROW]}, {view.name}: Feast has {answer}, we have"
        f" {[row[column] for column in view.columns]}; newest are {winners}"
    )


def _is_answer(winner: Row, view: View, answer: list[Any]) -> bool:
    return all(same(winner[f], found) for f, found in zip(view.features, answer, strict=True))


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same; NaN is itself, and no null."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and bool(a == b)


def _winners(case: Case, view: View, mode: str, row: Row) -> list[Row]:
    """Return the visible rows of the greatest event and created time, from the rules alone."""
    at = row["event_timestamp"]
    seen = [
        found
        for found in case.rows[view.name].to_pylist()
        if _is_visible(view, mode, found, row) and at is not None
    ]
    newest = max((_rank(found) for found in seen), default=None)
    return [found for found in seen if _rank(found) == newest]


def _is_visible(view: View, mode: str, found: Row, row: Row) -> bool:
    at, event = row["event_timestamp"], found["event_timestamp"]
    if event is None or any(row[key] is None or found[key] != row[key] for key in view.keys):
        return False
    age_us = round((at - event).total_seconds() * 1e6)
    if age_us < 0 or (view.ttl_hours is not None and age_us > view.ttl_hours * HOUR_US):
        return False
    created = found.get("created")
    return mode == "complete" or (created is not None and created <= at)


def _rank(found: Mapping[str, Any]) -> tuple[Any, bool, Any]:
    created = found.get("created")
    return found["event_timestamp"], created is not None, created or found["event_timestamp"]
