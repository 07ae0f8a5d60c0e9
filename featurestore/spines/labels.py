"""Labels: what happened after a moment, computed as windows and values as of a later moment.

The window of a label is the trailing window, closed on the right, of the moment `q + window`, which
holds `(q, q + window]`. So labels need no code of their own: engines, kernels, transforms,
predicates and the de-duplication of events are those of features. Nothing that a feature may see at
`q` (event times up to `q`) is in it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.definitions import Aggregation, FeatureView, FeatureViewSelection
from featurestore.definitions.aggregation import MAX_WINDOW
from featurestore.errors import RequestError, SpineError, shown
from featurestore.offline.timeline import Ints
from featurestore.spines.context import Context, Events
from featurestore.spines.maturity import (
    IMMATURE,
    Immature,
    check_mature,
    complete_until,
    instant_text,
    mature_rows,
)
from featurestore.spines.row_numbers import whole_rows
from featurestore.time import MICROSECOND, format_duration, parse_duration
from featurestore.training.labels import label_field
from featurestore.training.retrieve import retrieve
from featurestore.training.spine import LAST_US, times_us
from featurestore.training.watch import Progress

EXISTS: Final = "exists"
"""What a label may be besides the functions of windows: whether there is such an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a label says of the events after a moment.

    Attributes:
        of: Whose events.
        window: How long after the moment.
        aggregation: A function of windows, or `EXISTS`.
        column: What it is a function of; "*" for the events themselves.
        where: Predicate of the events that count.
        empty: What there is instead of null without such an event.
    """

    of: Events
    window: timedelta
    aggregation: str
    column: str
    where: str | None
    empty: Any

    def __post_init__(self) -> None:
        if isinstance(self.empty, float) and not math.isfinite(self.empty):
            raise SpineError(
                f"empty={self.empty} is no number.", hint="leave it out for null, or name another"
            )

    @property
    def function(self) -> str:
        """The function that is computed."""
        return "count" if self.aggregation == EXISTS else self.aggregation

    def document(self) -> dict[str, Any]:
        """Return what it is, for an `origin`."""
        found = {
            "of": self.of.name,
            "window": format_duration(self.window),
            "interval": "(q, q + window]",
            "aggregation": self.aggregation,
            "column": self.column,
            "where": self.where,
            "empty": self.empty,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What becomes of rows whose label cannot be known yet.

    Attributes:
        immature: "null" keeps them without a label, "drop" leaves them out, "raise" fails.
        complete_until_us: Up to when all events are known; None to find out.
    """

    immature: Immature
    complete_until_us: int | None

    def __post_init__(self) -> None:
        if self.immature not in IMMATURE:
            raise SpineError(f"immature={self.immature!r} is none of {', '.join(IMMATURE)}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A spine's table with one more column, and what is to be said of it.

    Attributes:
        table: The table.
        facts: Counts, and what was read, for an `origin`.
    """

    table: pa.Table
    facts: dict[str, Any]


def parse_ahead(window: str | timedelta, *, what: str) -> timedelta:
    """Return how far ahead a label looks.

    Raises:
        SpineError: It is no duration that is longer than zero.
    """
    try:
        found = parse_duration(window) if isinstance(window, str) else window
    except ValueError as error:
        raise SpineError(f"{what}: {error}.") from None
    if not timedelta(0) < found <= MAX_WINDOW:
        raise SpineError(
            f"{what}={window!r:.60} is no time ahead.",
            hint="write '90s', '1h', '14d'; a label looks at most 365,000 days ahead",
        )
    return found


def window_label(
    context: Context,
    table: pa.Table,
    name: str,
    label: Window,
    *,
    keys: Sequence[str],
    timestamp_field: str,
    join_key_map: Mapping[str, str],
    policy: Policy,
    progress: Progress | None,
) -> Labelled:
    """Return a spine with a label of the events after each row's time; see `Spine.label`."""
    own = list(join_key_map or keys)
    is_view = isinstance(label.of, FeatureView)
    aggregation = Aggregation(
        label.column,
        [label.function],
        [label.window],
        where=label.where,
        name=name,
        closed="right",
        empty=label.empty,
    )
    view = context.event_view(label.of, keys=None if is_view else own, aggregations=[aggregation])
    selection = view.with_join_key_map(join_key_map)
    asked = _Asked(context, table, timestamp_field, label.window, progress)
    return asked.labelled(name, selection, policy, exists=label.aggregation == EXISTS)


def value_label(
    context: Context,
    table: pa.Table,
    name: str,
    selection: FeatureViewSelection,
    *,
    after: timedelta,
    timestamp_field: str,
    policy: Policy,
    progress: Progress | None,
) -> Labelled:
    """Return a spine with a value as of some time after each row's; see `Spine.label_as_of`."""
    view = selection.view
    if view.aggregations:
        raise RequestError(
            f"View {view.name!r} has windows, which would look back at what is known already.",
            hint="use label(), whose window begins at the row's time",
        )
    context.check_roots(view.source, *view.joins)
    asked = _Asked(context, table, timestamp_field, after, progress)
    return asked.labelled(name, selection, policy)


class _Asked:
    """A spine's rows as questions at a later moment."""

    def __init__(
        self,
        context: Context,
        table: pa.Table,
        timestamp_field: str,
        ahead: timedelta,
        progress: Progress | None,
    ) -> None:
        self._context = context
        self._table = table
        self._timestamp_field = timestamp_field
        self._progress = progress
        times = times_us(table, timestamp_field, "UTC")
        self._has_time = np.asarray(times.is_valid())
        self._ends: Ints = _later(times.fill_null(0).to_numpy(), ahead // MICROSECOND)

    def labelled(
        self,
        name: str,
        selection: FeatureViewSelection,
        policy: Policy,
        *,
        exists: bool = False,
    ) -> Labelled:
        """Return the table with the feature of a selection, at the later moment, as a label."""
        view = selection.view
        horizon = complete_until(self._context, view, policy.complete_until_us)
        mature = mature_rows(self._ends, horizon) & self._has_time
        columns = list(selection.key_columns.values())
        values = self._values(selection, columns)
        known = self._has_time & whole_rows(self._table, columns)
        if policy.immature == "raise":
            check_mature(mature, known, name, horizon)
        if exists:
            values = pc.greater(values, 0)
        sure = mature & known
        values = pc.if_else(pa.array(sure), values, pa.scalar(None, values.type))
        table = self._table.append_column(label_field(pa.field(name, values.type)), values)
        early = known & ~mature
        if policy.immature == "drop" and early.any():
            table = table.filter(pa.array(~early))
        counts = {"mature": sure, "immature": early, "without_key_or_time": ~known}
        return Labelled(
            table=table,
            facts={
                "complete_until": instant_text(horizon),
                **{what: int(rows.sum()) for what, rows in counts.items()},
                "immature_rows": {"null": "null", "drop": "dropped"}.get(policy.immature, "none"),
            },
        )

    def _values(self, selection: FeatureViewSelection, columns: list[str]) -> pa.Array:
        times = pa.array(self._ends, mask=~self._has_time).view(pa.timestamp("us", "UTC"))
        wanted = [name for name in columns if name in self._table.column_names]
        asked = self._table.select(list(dict.fromkeys(wanted)))
        asked = asked.append_column(self._timestamp_field, times)
        job = retrieve(
            entity_df=asked.replace_schema_metadata(None),
            features=[selection],
            state=self._context.state,
            engine=self._context.engine,
            root=self._context.root,
            source_roots=self._context.source_roots,
            full_feature_names=True,
            timestamp_field=self._timestamp_field,
            timezone="UTC",
            mode="complete",
            progress=self._progress,
        )
        (feature,) = job.feature_names
        return job.to_arrow().column(feature).combine_chunks()


def _later(times: Ints, ahead_us: int) -> Ints:
    """Return times moved ahead, the last of all at most."""
    return np.where(times > LAST_US - ahead_us, LAST_US, times + ahead_us)


def feature_selection(
    context: Context, feature: str | FeatureViewSelection, join_key_map: Mapping[str, str]
) -> FeatureViewSelection:
    """Return the one feature that is meant by "view:feature" or `view[["feature"]]`.

    Raises:
        RequestError: It is not one feature of a view.
    """
    if isinstance(feature, str):
        view, colon, name = feature.partition(":")
        if not colon:
            raise RequestError(f"{shown(feature)} is no feature.", hint="write 'view:feature'")
        definition = context.state.view(view).definition
        feature = definition[definition.field(name).name]
    if len(feature.feature_names) != 1:
        raise RequestError("A label is the value of one feature.", hint="write 'view:feature'")
    return feature.with_join_key_map(join_key_map) if join_key_map else feature
