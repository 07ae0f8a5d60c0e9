"""Cells that differ, and what may excuse them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.materialize.plan import remaining_us
from featurestore.offline.files import changed_files
from featurestore.online.codec import is_pushed, is_tombstone, read_version
from featurestore.registry.runs import RunRecord, Watermark
from featurestore.registry.state import RegisteredView


def differing_cells(expected: pa.ChunkedArray, found: pa.Array) -> Iterator[int]:
    """Yield the rows in which two columns of one type differ, bit for bit; null equals null."""
    left, right = expected.combine_chunks(), found
    one_null = pc.xor(left.is_null(), right.is_null())
    if pa.types.is_list(left.type):
        pairs = zip(_lists(left), _lists(right), strict=True)
        other = np.array([a != b for a, b in pairs], dtype=bool)
    else:
        same = pc.equal(_plain(left), _plain(right))
        other = ~np.asarray(pc.fill_null(same, fill_value=True))
    yield from np.flatnonzero(np.asarray(one_null) | other).tolist()


def _lists(array: pa.ListArray) -> list[object]:
    """Return a column of lists as Python's, with plain elements; a null is empty."""
    lists = pa.ListArray.from_arrays(array.offsets, _plain(array.values))
    return [
        items if ok else []
        for items, ok in zip(lists.to_pylist(), array.is_valid().to_pylist(), strict=True)
    ]


def _plain(array: pa.Array) -> pa.Array:
    """Return floats, times and dates as the integers that they are made of.

    Those tell NaNs and signed zeros apart, and have no years that Python does not know.
    """
    if pa.types.is_floating(array.type) or pa.types.is_temporal(array.type):
        return array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())  # noqa: PLR2004
    return array


def shown_value(scalar: pa.Scalar) -> Any:
    """Return a value as Python's; a time in a year that Python does not know as its number."""
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        if isinstance(scalar, pa.ListScalar):
            return str(_plain(scalar.values).to_pylist())
        return str(_plain(pa.array([scalar], scalar.type))[0])


@dataclass(frozen=True, kw_only=True)
class Excuses:
    """What is known of a generation that may explain a difference.

    Attributes:
        end_us: End of the last full or incremental run.
        other_end_us: Greatest end of runs that do not move the watermark (with a start, or failed):
            rows of event times between the two may have been written by those.
        later_runs: Start (or None) and end of runs since that one: backfills of files that came
            after it, and failed runs.
        lifetime_us: How long after its event time a row is kept, or None.
        now_us: The time now.
        age_us: Real time since the last run wrote; a store counts down in real time even when the
            configured clock stands still.
        rewritten: Whether files that the last run read have changed or gone since.
        several_runs: Whether more than one run wrote; among exact ties the last one to write wins,
            so a single run has no such excuse.
    """

    end_us: int
    other_end_us: int
    later_runs: tuple[tuple[int | None, int], ...]
    lifetime_us: int | None
    now_us: int
    age_us: int
    rewritten: bool
    several_runs: bool

    @classmethod
    def of(
        cls,
        view: RegisteredView,
        watermark: Watermark,
        runs: Sequence[RunRecord],
        *,
        now_us: int,
        age_us: int,
    ) -> "Excuses":
        """Gather the excuses of one generation."""
        own = [run for run in runs if run.generation == view.generation]
        others = [r.end_us for r in own if r.kind == "window" or r.status == "failed"]
        return cls(
            end_us=watermark.end_us,
            other_end_us=max(others, default=watermark.end_us),
            later_runs=tuple((r.start_us, r.end_us) for r in own if _is_after(r, watermark)),
            lifetime_us=remaining_us(view.definition),
            now_us=now_us,
            age_us=age_us,
            rewritten=changed_files(watermark.source_files),
            several_runs=len(own) > 1,
        )

    def category(
        self,
        stored: bytes | None,
        *,
        expected_event_us: int | None,
        is_tie: Callable[[int, int | None], bool],
    ) -> str:
        """Return what explains a differing cell, or "DEFECT".

        Args:
            stored: The row in the store, or None.
            expected_event_us: Event time of the row that the sources say is right, or None.
            is_tie: Whether the source has different rows with this event and created time.
        """
        if stored is None:
            expired = self._expired(expected_event_us)
            return "expired" if expired else self._unless_rewritten()
        event, created = read_version(stored)
        is_behind = expected_event_us is not None and event < expected_event_us
        if not is_behind and is_tombstone(stored):
            return "deleted"
        if not is_behind and is_pushed(stored):
            return "pushed"
        if self._was_written_otherwise(event):
            return "pushed"
        if self.several_runs and is_tie(event, created):
            return "tie"
        return self._unless_rewritten()

    def _was_written_otherwise(self, event_us: int) -> bool:
        later = any(s is None or s < event_us <= e for s, e in self.later_runs if event_us <= e)
        return later or self.end_us < event_us <= self.other_end_us

    def _expired(self, event_us: int | None) -> bool:
        if event_us is None or self.lifetime_us is None:
            return False
        return event_us + self.lifetime_us <= max(self.now_us, self.end_us + self.age_us)

    def _unless_rewritten(self) -> str:
        return "source rewritten" if self.rewritten else "DEFECT"


def _is_after(run: RunRecord, watermark: Watermark) -> bool:
    return watermark.updated_at is not None and run.finished_at > watermark.updated_at
