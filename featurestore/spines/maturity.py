"""How far a source is known to be complete, and so which labels can be known at all."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from featurestore.definitions import Aggregation, FeatureView
from featurestore.definitions.aggregation import ROWS
from featurestore.errors import RequestError, SpineError, shown
from featurestore.offline.engine import RowFilter
from featurestore.offline.scan import open_scan
from featurestore.offline.timeline import Ints
from featurestore.spines.context import Context
from featurestore.spines.event_view import arrivals
from featurestore.time import MICROSECOND, format_instant, from_micros

Immature = Literal["null", "drop", "raise"]
IMMATURE: Final[tuple[Immature, ...]] = ("null", "drop", "raise")


def complete_until(context: Context, view: FeatureView, given_us: int | None) -> int | None:
    """Return up to when all events behind a view are known, in microseconds; None for never.

    That is what the caller says, or else of its source, and of each that is joined, the time of the
    newest event that is not after now, less the `lateness`: whatever comes later may still be on
    its way. Rows without a whole key, and those that a contract leaves out, are no events, and say
    nothing: a wrong time is what bad rows often have.

    Raises:
        RequestError: The caller says a time after now.
        SourceError: The files cannot be read.
    """
    now_us = context.clock.now_micros()
    if given_us is not None:
        if given_us > now_us:
            raise RequestError(
                f"complete_until={_text(given_us)} is after now ({_text(now_us)}): nobody knows"
                " what will happen."
            )
        return given_us
    ends = [_newest(context, rows, now_us) for rows in _arrivals(context, view)]
    known = [end for end in ends if end is not None]
    return min(known) if known and len(known) == len(ends) else None


def _arrivals(context: Context, view: FeatureView) -> Iterator[FeatureView]:
    """Yield the rows of a view's source as somebody's events, and those of each joined one."""
    yield arrivals(view)
    joins = () if view.row_transform is None else view.row_transform.joins
    count = Aggregation(ROWS, ["count"], [None])
    for join in joins:
        source = view.joined_source(join)
        if not source.static:
            keys = list(dict.fromkeys(pair.joined for pair in join.keys))
            yield context.event_view(source, keys=keys, aggregations=[count])


def _newest(context: Context, view: FeatureView, now_us: int) -> int | None:
    scan = replace(open_scan(view, (), context.root), dedup=())
    if not scan.nulls_possible:
        scan = replace(scan, keys=())  # one winner of all is found sooner than one of each key
    latest = context.engine.latest(scan, RowFilter(until_us=now_us))
    try:
        newest = latest.summary.max_event_us
    finally:
        latest.close()
    return None if newest is None else newest - view.source.lateness // MICROSECOND


def mature_rows(ends: Ints, horizon_us: int | None) -> npt.NDArray[np.bool_]:
    """Return whether all that labels are made of is known, of windows that end at `ends`."""
    if horizon_us is None:
        return np.zeros(len(ends), dtype=bool)
    return ends <= horizon_us


def check_mature(
    mature: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_], label: str, horizon_us: int | None
) -> None:
    """Refuse rows that have a key and a time, and are not mature.

    Raises:
        SpineError: It names the first, and how many there are.
    """
    early = np.flatnonzero(known & ~mature)
    if len(early):
        until = "never" if horizon_us is None else f"until {_text(horizon_us)}"
        raise SpineError(
            f"Label {shown(label)} cannot be known yet for {len(early):,} of {len(known):,} rows,"
            f" the first of them row {early[0]:,}: its events are complete {until}.",
            row=int(early[0]),
            hint="end the spine earlier, or leave such rows null or out: immature='null' or 'drop'",
        )


def _text(micros: int) -> str:
    return format_instant(from_micros(micros))


def instant_text(micros: int | None) -> str | None:
    """Return an instant as an `origin` has it."""
    return None if micros is None else _text(micros)
