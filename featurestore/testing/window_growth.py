"""Growths of sources whose views have aggregations: the law of materialization for windows.

Windows move with their end, so every run computes all of them anew: rows may come as late as they
like, and full and incremental runs do the same. A run with a start is refused, so there is none.
Events may come again, corrected, also for another entity.
"""

from datetime import timedelta
from typing import Final

from hypothesis import strategies as st

from featurestore.definitions import Aggregation, Entity, FeatureView, FileSource
from featurestore.testing.growth import BASE_US, KEYS, Growth, asked_keys, batches
from featurestore.testing.scenario import Append, Materialize
from featurestore.types import parse_type

# Scores are halves, so all of these are exact in whatever order an engine adds; means and
# variances need not be, and online and training may well take different orders.
_FUNCTIONS: Final = ("count", "sum", "min", "max", "first", "last", "count_distinct", "median")


@st.composite
def window_growths(draw: st.DrawFn) -> Growth:
    """Draw a source, how it grows, and the runs in between; all within a few microseconds."""
    view = draw(_views())
    shift = draw(st.sampled_from((0, -9)))
    first, *later = [draw(batches(view, number, shift)) for number in range(draw(_COUNTS))]
    end_us = BASE_US + draw(st.integers(1, 9))
    runs = st.builds(
        Materialize,
        end_us=st.integers(BASE_US, end_us),
        incremental=st.booleans(),
    )
    steps: list[Append | Materialize] = []
    for number, table in enumerate(later, start=1):
        steps += draw(st.lists(runs, max_size=2))
        steps.append(Append(source=view.source.name, file=f"{number}.parquet", rows=table))
    steps.append(Materialize(end_us=end_us, incremental=draw(st.booleans())))
    keys = asked_keys(view, {"0.parquet": [row for t in (first, *later) for row in t.rows]})
    return Growth(view=view, first=first, steps=steps, end_us=end_us, keys=keys)


_COUNTS: Final = st.integers(2, 4)


@st.composite
def _views(draw: st.DrawFn) -> FeatureView:
    keys = {name: parse_type(dtype) for name, dtype in draw(st.sampled_from(KEYS)).items()}
    functions = draw(st.lists(st.sampled_from(_FUNCTIONS), min_size=1, max_size=3, unique=True))
    windows = draw(st.lists(st.sampled_from(_WINDOWS), min_size=1, max_size=2, unique=True))
    closed = draw(st.sampled_from(("left", "right", "both", "neither")))
    ttl_us = draw(st.sampled_from((None, 1)))
    return FeatureView(
        name="growing",
        entities=[Entity(name="thing", join_keys=keys)] if keys else [],
        source=FileSource(
            name="events",
            path="data/events/*.parquet",
            timestamp_field="event",
            created_timestamp_column="created" if draw(st.booleans()) else None,
            dedup_keys=draw(st.sampled_from((None, ["event_id"], ["event", "event_id"]))),
        ),
        schema=(),
        aggregations=[
            Aggregation("score", functions, windows, closed=closed),
            Aggregation(
                "score", ["sum"], windows, empty=draw(st.sampled_from((None, 7))), name="e"
            ),
            Aggregation("row", draw(st.sampled_from(_ROW_FUNCTIONS)), windows, closed=closed),
            Aggregation("*", ["count"], windows, where='score > 0 AND "row" < 20', name="some"),
        ],
        ttl=None if ttl_us is None else timedelta(microseconds=ttl_us),
    )


_WINDOWS: Final = ("1us", "2us", "5us", "1h", None)
_ROW_FUNCTIONS: Final = (["sum"], ["last", "last_2"], ["median", "first_1"])
