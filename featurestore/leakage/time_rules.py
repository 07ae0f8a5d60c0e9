"""Rules that look at the times of a sample of rows."""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np

from featurestore.definitions import Definition, FeatureView, FileSource
from featurestore.leakage.changes import instant_of
from featurestore.leakage.findings import Finding, Severity, subject
from featurestore.leakage.time_sample import TimeSample
from featurestore.leakage.window_proof import Proof
from featurestore.time import MICROSECOND, format_duration

Found = Iterator[tuple[Definition, Finding]]
Prove = Callable[[int], Proof | None]

SECOND_US: Final = 1_000_000
GRIDS_US: Final = tuple(
    60 * SECOND_US * minutes for minutes in (10_080, 1_440, 720, 360, 60, 30, 15, 10, 5)
)
"""Week, day, half a day, six hours, hour, and parts of one. Whole minutes are too common."""
REGULAR: Final = 0.2
"""The share of an entity's rows that the next one has to follow at once, a grid's length later."""
ENOUGH: Final = 20
"""Of fewer rows nothing is concluded."""
MOST: Final = 0.99
AGGREGATES: Final = frozenset(
    {
        "average",
        "avg",
        "cnt",
        "count",
        "daily",
        "events",
        "hourly",
        "max",
        "mean",
        "median",
        "min",
        "num",
        "orders",
        "per",
        "rate",
        "ratio",
        "share",
        "std",
        "stddev",
        "sum",
        "total",
        "trips",
        "var",
        "variance",
        "volume",
        "weekly",
        "window",
    }
)
_LENGTH: Final = re.compile(r"\d+(s|m|min|h|hr|d|w)")


def source_findings(source: FileSource, sample: TimeSample, now_us: int) -> Found:
    """Yield what a source's times say by themselves."""
    yield from _before_event(source, sample)
    late = sample.event > now_us
    if late.any():
        worst = int(sample.event.max())
        yield (
            source,
            Finding(
                rule="future-events",
                severity="warning",
                object=subject(source),
                message=f"{_share(late)} take place after now, the latest at {instant_of(worst)}:"
                " a zone that is missing, or a plan that is stamped with what it is for.",
                evidence={"rows": int(late.sum()), "of": len(sample), "latest": instant_of(worst)},
                advice="stamp rows with when they were known, and check the source's timezone",
            ),
        )


def _before_event(source: FileSource, sample: TimeSample) -> Found:
    lateness = sample.lateness
    early = lateness < 0
    if not early.any():
        return
    known = np.flatnonzero(sample.created != -(2**63))
    worst = int(known[int(np.argmin(lateness))])
    example = {"event": instant_of(int(sample.event[worst]))}
    example["created"] = instant_of(int(sample.created[worst]))
    yield (
        source,
        Finding(
            rule="created-before-event",
            severity="warning",
            object=subject(source),
            message=f"{_share(early)} were written before their event, by up to"
            f" {_duration(-int(lateness.min()))}: what is known before it takes place has the wrong"
            " stamp, or one of the times has the wrong zone.",
            evidence={
                "rows": int(early.sum()),
                "of": len(lateness),
                "worst_seconds": -int(lateness.min()) / SECOND_US,
                "example": example,
            },
            advice="stamp rows with when they were known, and check the source's timezone",
        ),
    )


def view_findings(view: FeatureView, sample: TimeSample, prove: Prove) -> Found:
    """Yield what the times of its source say about a view.

    Args:
        view: The view.
        sample: Rows of its source.
        prove: Called with the length of time that rows may summarize, to count after.
    """
    if len(sample) < ENOUGH:
        return
    if not view.aggregations:
        yield from _short_ttl(view, sample)
        yield from _window_start(view, sample, prove)
    yield from _late_rows(view, sample)


def _short_ttl(view: FeatureView, sample: TimeSample) -> Found:
    gaps = sample.gaps
    if view.ttl_us is None or len(gaps) < ENOUGH:
        return
    usual = int(np.median(gaps))
    if view.ttl_us < usual:
        yield (
            view,
            Finding(
                rule="short-ttl",
                severity="warning",
                object=subject(view),
                message=f"Values expire after {_duration(view.ttl_us)}, but half of the rows are"
                f" followed by the entity's next one only after {_duration(usual)} or more: most of"
                " the time there is no value.",
                evidence={"ttl_seconds": view.ttl_us / 1e6, "usual_seconds": usual / 1e6},
                advice="give the view a longer ttl",
            ),
        )


def _late_rows(view: FeatureView, sample: TimeSample) -> Found:
    lateness, gaps = sample.lateness, sample.gaps
    windows = [w.window_us for w in view.window_features if w.window_us is not None]
    if len(lateness) < ENOUGH or not (windows or len(gaps) >= ENOUGH):
        return
    span = min(windows) if windows else int(np.median(gaps))
    what = "shortest window" if windows else "usual time between an entity's rows"
    half, most = (int(np.quantile(lateness, q)) for q in (0.5, 0.99))
    if most < span:
        return
    yield (
        view,
        Finding(
            rule="late-rows",
            severity="warning" if half >= span else "info",
            object=subject(view),
            message=f"Half of the rows are written {_duration(half)} or more after their event, one"
            f" in a hundred {_duration(most)}; the {what} is {_duration(span)}. mode='complete'"
            " trains on rows that serving does not have yet.",
            evidence={
                "p50_seconds": half / 1e6,
                "p99_seconds": most / 1e6,
                "span_seconds": span / 1e6,
            },
            advice="train with mode='as_served'",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Signs:
    """What speaks for stamps at the start of the time that rows summarize.

    Attributes:
        length_us: The length of that time.
        after_it: The share of rows that were written when it was over; None if nobody knows.
        names: Features that are called as aggregates are.
        proof: What events of another source say.
    """

    length_us: int
    after_it: float | None
    names: tuple[str, ...]
    proof: Proof | None

    @property
    def severity(self) -> Severity:
        if self.proof is not None or (self.names and self.after_it is not None):
            return "error"
        return "warning" if self.names or self.after_it is not None else "info"

    @property
    def speaks_against(self) -> bool:
        """Whether stamps are right: rows count what came before, or came before time was over."""
        if self.proof is not None:
            return not self.proof.leaks
        return self.after_it is not None and self.after_it < MOST

    def texts(self) -> Iterator[str]:
        """Yield the signs for people."""
        length = _duration(self.length_us)
        if self.proof is not None:
            yield (
                f"{self.proof.feature} is the number of events of source {self.proof.source} in the"
                f" {length} after the stamp in {100 * self.proof.after:.3g} % of"
                f" {self.proof.rows:,} rows, and of those before it in"
                f" {100 * self.proof.before:.3g} %"
            )
        yield f"all event times are whole multiples of {length}, one row each of an entity"
        if self.after_it is not None:
            yield f"rows are written {length} after their event or later"
        if self.names:
            yield f"features are called as aggregates are ({', '.join(self.names[:3])})"

    def figures(self) -> dict[str, Any]:
        """Return the signs as JSON-ready data."""
        return {
            "grid_seconds": self.length_us / SECOND_US,
            "written_after_share": self.after_it,
            "aggregates": list(self.names),
            "proof": None if self.proof is None else asdict(self.proof),
        }


def _window_start(view: FeatureView, sample: TimeSample, prove: Prove) -> Found:
    grid = _grid(sample)
    if grid is None:
        return
    lateness = sample.lateness
    signs = _Signs(
        length_us=grid,
        after_it=float(np.mean(lateness >= grid)) if len(lateness) else None,
        names=tuple(name for name in view.feature_names if looks_aggregated(name)),
        proof=prove(grid),
    )
    if signs.speaks_against:
        return
    verdict = {
        "error": "Rows are stamped with the start of the time that they summarize",
        "warning": "Rows may be stamped with the start of the time that they summarize",
        "info": "If rows summarize the time after their stamp, they leak",
    }[signs.severity]
    yield (
        view,
        Finding(
            rule="window-start",
            severity=signs.severity,
            object=subject(view),
            message=f"{verdict}: {'; '.join(signs.texts())}.",
            evidence={"rows": len(sample), **signs.figures()},
            advice=f"stamp each row with the end of its time (the start + {_duration(grid)}), or"
            " compute the features from events with aggregations; if stamps are right, silence the"
            " rule",
        ),
    )


def _grid(sample: TimeSample) -> int | None:
    """Return the length that event times are multiples of, if each entity has one row of each."""
    grid = next((g for g in GRIDS_US if not (sample.event % g).any()), None)
    moments = len(np.unique(sample.event))
    if grid is None or moments < ENOUGH // 4:
        return None
    gaps = sample.gaps
    if not len(gaps) or np.mean(gaps == grid) < REGULAR:
        return None
    pairs = np.unique(np.stack([sample.keys, sample.event]), axis=1).shape[1]
    return grid if pairs >= MOST * len(sample) else None


def looks_aggregated(name: str) -> bool:
    """Whether a feature is called as aggregates are: `mean_fare_window_1h`, `trips`, `n_30m`."""
    parts = re.split(r"[^a-z0-9]+", name.casefold())
    return not AGGREGATES.isdisjoint(parts) or any(_LENGTH.fullmatch(part) for part in parts)


def _share(rows: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> str:
    count = int(rows.sum())
    return f"{count:,} of {len(rows):,} rows ({100 * count / len(rows):.2g} %)"


def _duration(us: int) -> str:
    """Return a duration for people, cut to seconds where it is longer than that."""
    exact = us * MICROSECOND
    cut = timedelta(seconds=exact // timedelta(seconds=1))
    return format_duration(cut or exact) if us else "0s"
