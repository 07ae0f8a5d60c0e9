"""A spine: a table of keys and times that knows how it was made, and which columns are labels."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from featurestore.definitions import FeatureViewSelection
from featurestore.definitions.names import check_column_name
from featurestore.errors import (
    NameCollisionError,
    SpineError,
    close_names,
    did_you_mean,
    shown,
)
from featurestore.frames import to_pandas
from featurestore.naming import duplicate_name
from featurestore.offline.atomic import atomic_file
from featurestore.spines.context import Context, Events
from featurestore.spines.duplicates import Conflicts, Keep, deduplicated
from featurestore.spines.grid import instant_us
from featurestore.spines.labels import (
    Labelled,
    Policy,
    Window,
    feature_selection,
    parse_ahead,
    value_label,
    window_label,
)
from featurestore.spines.maturity import Immature
from featurestore.spines.sampling import sampled
from featurestore.time import format_duration, parse_instant
from featurestore.training.labels import ORIGIN, label_names
from featurestore.training.output import write_tables
from featurestore.training.watch import Progress

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Instant = datetime | str
"""An aware datetime (a naive one is UTC) or RFC 3339 text."""
VERSION: Final = 1
"""Of the form of an `origin`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Spine:
    """Whose features are wanted, as of when; perhaps with labels: what became of them.

    `get_historical_features` takes it as it is. It never changes: every method that would change it
    returns another one. `store.spines` makes them.

    Attributes:
        table: The rows, n of them: keys, the time (`timestamp[us, UTC]`), other columns.
        keys: Names of the key columns.
        timestamp_field: Name of the time column.
        steps: What was done to make it, first to last, JSON-ready.
        context: What labels are computed from.
    """

    table: pa.Table
    keys: tuple[str, ...]
    timestamp_field: str
    steps: tuple[Mapping[str, Any], ...]
    context: Context = field(compare=False)

    def __repr__(self) -> str:
        labels = f", labels {', '.join(self.labels)}" if self.labels else ""
        return f"Spine({self.num_rows:,} rows, keys {', '.join(self.keys) or 'none'}{labels})"

    def __len__(self) -> int:
        return self.num_rows

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the rows as an Arrow stream; the schema says which columns are labels."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return int(self.table.num_rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the columns that are labels: to be predicted, never to be asked as a feature."""
        return label_names(self.table.schema)

    @property
    def origin(self) -> dict[str, Any]:
        """How it was made, JSON-ready: every step with its arguments, counts, seeds and files."""
        return {
            "version": VERSION,
            "keys": list(self.keys),
            "timestamp_field": self.timestamp_field,
            "labels": list(self.labels),
            "rows": self.num_rows,
            "steps": [dict(step) for step in self.steps],
        }

    # --- other forms -------------------------------------------------------------------------

    def to_arrow(self) -> pa.Table:
        """Return the rows; the schema's metadata has the origin, and each label's field a mark."""
        return self.table.replace_schema_metadata(
            {ORIGIN: json.dumps(self.origin, allow_nan=False).encode()}
        )

    def to_polars(self) -> "pl.DataFrame":
        """Return the rows as a Polars data frame, which knows nothing of labels."""
        import polars as pl

        return pl.DataFrame(self.table)

    def to_pandas(self) -> "pd.DataFrame":
        """Return the rows as a pandas data frame with Arrow-backed types.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_pandas(self.table)

    def write_parquet(self, path: str | Path) -> Path:
        """Write the rows to one Parquet file, which appears whole or not at all.

        `store.spines.from_table(path)` reads it with its labels and its origin.

        Raises:
            OutputError: It cannot be written.
        """
        target, table = Path(path), self.to_arrow()
        with atomic_file(target) as temporary:
            write_tables(
                [table], table.schema, temporary, threads=1, check=lambda: None, what=target
            )
        return target

    # --- fewer rows --------------------------------------------------------------------------

    def sample(
        self,
        n: int | None = None,
        *,
        fraction: float | None = None,
        seed: int = 0,
        by: str | Sequence[str] = (),
    ) -> "Spine":
        """Return some of the rows, in their order.

        Rows are chosen by a hash of their keys and time with the seed, so the same rows give the
        same sample, in whatever order they come, and another column does not change it.

        Args:
            n: So many rows; with `by`, of each group, or all of a group that has fewer.
            fraction: Or this share, 0 to 1. Whether a row is in it depends on the row alone, so a
                larger share holds the smaller one, and rows that come later change nothing; so many
                rows in all is not exact. With `by` it is, in each group, to the next whole number.
            seed: Chooses; 0 to 2**63 - 1.
            by: Columns that tell groups apart: a label for a stratified sample, the keys for a
                limit per entity.

        Raises:
            SpineError: An argument cannot be used, or there is no such column.
        """
        groups = [by] if isinstance(by, str) else list(by)
        self.check_columns(groups)
        kept = sampled(
            self.table,
            [*self.keys, self.timestamp_field],
            n=n,
            fraction=fraction,
            seed=seed,
            by=groups,
        )
        table = self.table.filter(pa.array(kept))
        size = {"n": n} if n is not None else {"fraction": fraction}
        step = {"step": "sample", **size, "seed": seed, "by": groups}
        return self._with(table, step | {"rows_before": self.num_rows, "rows": table.num_rows})

    def deduplicate(self, *, keep: Keep = "first", conflicts: Conflicts = "raise") -> "Spine":
        """Return one row of each keys and time; the origin's last step says how many went.

        A row without a whole key or a time is nobody's, like no other, and stays.

        Args:
            keep: Which row stays: the "first" or the "last".
            conflicts: What becomes of rows with the same keys and time, but different labels:
                "raise" an error, "keep" the one that `keep` says, or "drop" all of them.

        Raises:
            SpineError: Labels conflict, and `conflicts` is "raise".
        """
        found = deduplicated(
            self.table,
            [*self.keys, self.timestamp_field],
            self.labels,
            keep=keep,
            conflicts=conflicts,
        )
        table = self.table.filter(pa.array(found.kept))
        step = {"step": "deduplicate", "keep": keep, "conflicts": conflicts}
        counts = {"conflicting": found.conflicts, "dropped": self.num_rows - table.num_rows}
        return self._with(table, step | counts | {"rows": table.num_rows})

    # --- labels ------------------------------------------------------------------------------

    def label(
        self,
        name: str,
        of: str | Events,
        *,
        window: str | timedelta,
        aggregation: str = "count",
        column: str = "*",
        where: str | None = None,
        empty: bool | int | float | str | None = None,
        join_key_map: Mapping[str, str] | None = None,
        immature: Immature = "null",
        complete_until: Instant | None = None,
        progress: Progress | None = None,
    ) -> "Spine":
        """Return the spine with one more column: what happened within some time after each row's.

        For a row at q it is a function of the events with `q < event_ts <= q + window`. A feature
        at q sees no event after q, so none is in both. All that is known today counts (mode
        "complete"), and of an event that came several times (`dedup_keys`) its last version.

        A label is *mature* if `q + window <= complete_until`. An immature one is never a number,
        and nor is that of a row without a key or a time: both are null. The origin's last step
        counts them.

        Args:
            name: The column's name.
            of: The view or source with the events, or its name. A view's transform applies.
            window: How long after a row's time: "90s", "1h", "14d" (a day is 86,400 s).
            aggregation: A function of windows ("count", "sum", "max", "first", "p95", "last_3"),
                or "exists": whether there is such an event.
            column: What is aggregated; "*" are the events themselves.
            where: Predicate of the events that count, in the SQL of on-demand features.
            empty: What there is without such an event; null, or 0 of counts, when left out.
            join_key_map: Key of the view -> column of the spine, where they differ. Of a source all
                key columns -> the spine's; when left out, they are called as the spine's keys are.
            immature: What becomes of rows whose label cannot be known yet: "null" leaves them
                without one, "drop" leaves them out, "raise" fails.
            complete_until: Up to when all events are in the files. When left out, the time of the
                source's newest event that is not after the store's now, less its `lateness`; rows
                in quarantine and rows without a whole key do not count.
            progress: See `get_historical_features`.

        Raises:
            SpineError: Rows are immature, and `immature` is "raise"; or a key column is missing.
            NameCollisionError: The spine has a column of that name.
            DefinitionError: The aggregation, the column or the predicate cannot be used.
        """
        label = Window(
            of=self.context.find(of),
            window=parse_ahead(window, what="window"),
            aggregation=aggregation,
            column=column,
            where=where,
            empty=empty,
        )
        self._check_new(name)
        found = window_label(
            self.context,
            self.table,
            name,
            label,
            keys=self.keys,
            timestamp_field=self.timestamp_field,
            join_key_map=join_key_map or {},
            policy=_policy(immature, complete_until),
            progress=progress,
        )
        return self._labelled(name, label.document(), found)

    def label_as_of(
        self,
        name: str,
        feature: str | FeatureViewSelection,
        *,
        after: str | timedelta,
        join_key_map: Mapping[str, str] | None = None,
        immature: Immature = "null",
        complete_until: Instant | None = None,
        progress: Progress | None = None,
    ) -> "Spine":
        """Return the spine with one more column: a feature's value some time after each row's.

        It is what a training set has at q + after: the newest row by then, which may be older than
        q where nothing changed. A feature at q may have seen that row, too: a status that stayed.

        Args:
            name: The column's name.
            feature: "view:feature", or `view[["feature"]]`; of a view with a schema.
            after: How long after a row's time.
            join_key_map: See `label`.
            immature: See `label`.
            complete_until: See `label`.
            progress: See `label`.

        Raises:
            SpineError, NameCollisionError: See `label`.
            RequestError: It is not one feature of a view with a schema.
        """
        ahead = parse_ahead(after, what="after")
        self._check_new(name)
        selection = feature_selection(self.context, feature, join_key_map or {})
        found = value_label(
            self.context,
            self.table,
            name,
            selection,
            after=ahead,
            timestamp_field=self.timestamp_field,
            policy=_policy(immature, complete_until),
            progress=progress,
        )
        meant = f"{selection.view.name}:{selection.feature_names[0]}"
        return self._labelled(name, {"of": meant, "after": format_duration(ahead)}, found)

    # --- inside ------------------------------------------------------------------------------

    def _labelled(self, name: str, document: Mapping[str, Any], found: Labelled) -> "Spine":
        step = {"step": "label", "name": name, **document, **found.facts}
        return self._with(found.table, step | {"rows": found.table.num_rows})

    def _with(self, table: pa.Table, step: Mapping[str, Any]) -> "Spine":
        return replace(self, table=table, steps=(*self.steps, step))

    def check_columns(self, names: Sequence[str]) -> None:
        """Refuse names of columns that the spine does not have."""
        for name in names:
            if name not in self.table.column_names:
                guess = did_you_mean(close_names(name, self.table.column_names))
                raise SpineError(f"The spine has no column {shown(name)}.", hint=guess, column=name)

    def _check_new(self, name: str) -> None:
        try:
            check_column_name(name)
        except ValueError as error:
            raise SpineError(f"A label's name: {error}.") from None
        if (taken := duplicate_name([*self.table.column_names, name])) is not None:
            raise NameCollisionError(
                f"The spine has a column {shown(taken[0])} already.",
                names=taken,
                hint="name the label otherwise",
            )


def _policy(immature: Immature, complete_until: Instant | None) -> Policy:
    return Policy(immature=immature, complete_until_us=micros_of(complete_until, "complete_until"))


def micros_of(instant: Instant | None, what: str) -> int | None:
    """Return an instant in microseconds; a naive one is UTC.

    Raises:
        SpineError: The text is no instant.
    """
    if instant is None:
        return None
    try:
        return instant_us(parse_instant(instant) if isinstance(instant, str) else instant)
    except ValueError as error:
        raise SpineError(f"{what}: {error}.") from None
    except (AttributeError, TypeError, OverflowError):
        raise SpineError(f"{what}={instant!r:.60} is no instant.") from None
