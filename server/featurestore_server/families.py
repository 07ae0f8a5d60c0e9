"""All metrics, by name: what they count, and which labels they have.

Workers count (`tally`), the parent adds up and answers scrapes (`exposition`). A test holds
docs/monitoring.md, the dashboard and the alerts to these names.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Labels: TypeAlias = tuple[str, ...]
"""Values of a family's labels, in their order."""

Sample: TypeAlias = float | Sequence[float]
"""A number; of a histogram the counts of its buckets, the one without bound last, then the sum."""

Samples: TypeAlias = Mapping[str, Mapping[Labels, Sample]]
"""What one process counted: names of families -> labels -> sample."""


class Kind(enum.Enum):
    """What a family's samples are, and so how those of several workers become one."""

    COUNTER = "counter"
    """Only grows; those of workers, past ones too, are added."""
    HISTOGRAM = "histogram"
    """Likewise, bucket by bucket."""
    GAUGE = "gauge"
    """Goes up and down; that of each living worker is shown, with a label `worker`."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One metric.

    Attributes:
        name: Its name, as scraped.
        kind: What its samples are.
        text: What it says, for people.
        labels: The names of its labels, without a gauge's `worker`.
        bounds: Upper bounds of a histogram's buckets, inclusive.
    """

    name: str
    kind: Kind
    text: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()


def sum_of(some: Sample | None, more: Sample) -> Sample:
    """Return two samples of one counter or histogram as one."""
    if some is None:
        return more
    if isinstance(some, Sequence) and isinstance(more, Sequence):
        return [a + b for a, b in zip(some, more, strict=True)]
    if isinstance(some, Sequence) or isinstance(more, Sequence):
        raise TypeError("A counter and a histogram have no sum.")
    return some + more


_SECONDS: Final = tuple(0.000_25 * 2**n for n in range(15))
"""From 0.25 ms, a lookup on an idle machine, to 4 s, beyond any deadline."""
_ENTITIES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name=f"featurestore_{name}", kind=Kind.COUNTER, text=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name=f"featurestore_{name}", kind=Kind.GAUGE, text=text, labels=labels)


def _histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return Family(
        name=f"featurestore_{name}", kind=Kind.HISTOGRAM, text=text, labels=labels, bounds=bounds
    )


# --- what workers count --------------------------------------------------------------------------

REQUESTS: Final = _counter(
    "requests_total", "Calls that ended.", "method", "service", "code", "reason"
)
DURATION: Final = _histogram(
    "request_duration_seconds",
    "From arrival to answer.",
    _SECONDS,
    "method",
    "service",
)
QUEUE: Final = _histogram(
    "request_queue_seconds", "How long calls waited before the work on them began.", _SECONDS
)
ENTITIES: Final = _histogram(
    "request_entities", "Entities of one answered lookup.", _ENTITIES, "service"
)
VALUES: Final = _counter("values_total", "Values served.", "service", "status")
IN_FLIGHT: Final = _gauge("calls_in_flight", "Lookups that wait or are being answered.")
STORE_READ: Final = _histogram(
    "store_read_duration_seconds",
    "One trip to the online store.",
    _SECONDS,
)
STORE_ERRORS: Final = _counter("store_read_errors_total", "Trips that failed.", "reason")
STORE_UP: Final = _gauge("store_up", "1 while the online store answers a worker's probes.")
REVISION: Final = _gauge("served_revision", "The revision of the registry that the worker serves.")
REFUSED: Final = _counter(
    "catalogs_refused_total", "Newer definitions that a worker could not serve."
)
LOGGED: Final = _counter(
    "served_log_rows_total",
    "Rows for the log of served features.",
    "outcome",
)

WORKERS: Final = (
    REQUESTS,
    DURATION,
    QUEUE,
    ENTITIES,
    VALUES,
    IN_FLIGHT,
    STORE_READ,
    STORE_ERRORS,
    STORE_UP,
    REVISION,
    REFUSED,
    LOGGED,
)

# --- what the parent knows -----------------------------------------------------------------------

CONFIGURED: Final = _gauge("workers_configured", "Worker processes that there should be.")
ALIVE: Final = _gauge("workers_alive", "Worker processes that there are.")
RESTARTS: Final = _counter("worker_restarts_total", "Worker processes that died and were replaced.")
RELOADS: Final = _counter("reloads_total", "Newer definitions and generations handed to workers.")
RELOAD_FAILURES: Final = _counter(
    "reload_failures_total", "Times that the registry could not be read for newer definitions."
)
RELOADED_AT: Final = _gauge(
    "last_reload_timestamp_seconds", "When definitions were last handed to workers, since 1970."
)
VIEW_AGE: Final = _gauge(
    "view_age_seconds", "How long ago the end of a view's last complete materialization is.", "view"
)
VIEW_EVENT_AGE: Final = _gauge(
    "view_event_age_seconds", "How long ago the newest event is that was materialized.", "view"
)
VIEW_GENERATION: Final = _gauge("view_served_generation", "The generation lookups read.", "view")
VIEW_FAILED: Final = _gauge(
    "view_run_failed", "1 while a view's last run has failed or was interrupted, else 0.", "view"
)
MEMORY: Final = _gauge("process_resident_memory_bytes", "Memory of a process.", "process")
CPU: Final = _counter("process_cpu_seconds_total", "Processor time of a process.", "process")
DESCRIPTORS: Final = _gauge("process_open_fds", "Open file descriptors of a process.", "process")
BUILD: Final = _gauge("build_info", "Always 1; its labels say what runs.", "version", "python")

PARENT: Final = (
    CONFIGURED,
    ALIVE,
    RESTARTS,
    RELOADS,
    RELOAD_FAILURES,
    RELOADED_AT,
    VIEW_AGE,
    VIEW_EVENT_AGE,
    VIEW_GENERATION,
    VIEW_FAILED,
    MEMORY,
    CPU,
    DESCRIPTORS,
    BUILD,
)

FAMILIES: Final = {family.name: family for family in (*WORKERS, *PARENT)}
