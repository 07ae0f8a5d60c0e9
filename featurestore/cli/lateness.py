"""`describe --lateness`: how long after their event a source's rows were written."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from featurestore.cli.output import print_facts, print_heading
from featurestore.cli.progress import progress
from featurestore.cli.session import Session
from featurestore.errors import RequestError

if TYPE_CHECKING:
    from featurestore.monitoring.lateness import LatenessReport
    from featurestore.store import FeatureStore

_UNITS: Final = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
_DURATIONS: Final = ("p50", "p90", "p99", "p999", "greatest", "declared", "suggested")
_COUNTS: Final = ("rows", "measured", "null_events", "null_created", "late", "early", "covered")


def describe_lateness(
    session: Session,
    store: "FeatureStore",
    kind: str,
    name: str,
    *,
    start: str | None,
    end: str | None,
) -> None:
    """Measure a source and print what was found."""
    if kind != "source":
        raise RequestError(
            f"{kind} {name!r} has no lateness: sources have.",
            hint="name a source: featurestore list sources",
        )
    with progress(session, "rows") as report:
        told = store.lateness(name, start=start, end=end, progress=report)
    if session.as_json:
        session.answer({"kind": "source", "name": name, "lateness": _document(told)})
        return
    print_heading(session.out, f"lateness of source {name}", apart=False)
    print_facts(session.out, _facts(told))


def _document(told: "LatenessReport") -> dict[str, Any]:
    from featurestore.time import format_duration

    durations = {name: getattr(told, name) for name in _DURATIONS}
    return {
        **{name: getattr(told, name) for name in _COUNTS},
        "late_share": told.late_share,
        "covered_share": told.covered_share,
        **{n: None if d is None else format_duration(d) for n, d in durations.items()},
        "reason": told.reason,
    }


def _facts(told: "LatenessReport") -> dict[str, object]:
    from featurestore.time import format_duration

    return {
        "rows": told.rows,
        "without event time": told.null_events or None,
        "without created time": told.null_created or None,
        "written after their event": _part(told.late, told),
        "written before their event": _part(told.early, told) if told.early else None,
        "half are no later than": _shown(told.p50),
        "90 %": _shown(told.p90),
        "99 %": _shown(told.p99),
        "99.9 %": _shown(told.p999),
        "all": _shown(told.greatest),
        "declared lateness": _declared(told),
        "suggested lateness": None if told.suggested is None else format_duration(told.suggested),
        "because": told.reason,
    }


def _declared(told: "LatenessReport") -> str:
    from featurestore.time import format_duration

    return f"{format_duration(told.declared)}, covers {_part(told.covered, told)}"


def _part(count: int, told: "LatenessReport") -> str:
    share = f" ({10_000 * count // told.measured / 100:g} %)" if told.measured else ""
    return f"{count:,}{share}"


def _shown(duration: timedelta | None) -> str | None:
    """Return a duration in its two largest units, cut: `1h 2m`, `3s 250ms`, `-5m`."""
    if duration is None:
        return None
    rest = abs(duration) // timedelta(microseconds=1)
    parts: list[str] = []
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
    text = " ".join(part for part in parts[:2] if part) or "0s"
    return f"-{text}" if duration < timedelta(0) else text
