"""pit-1, pit-4, pit-hot, pit-big, taxi: training sets from rows as of a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks import sides, training_data
from benchmarks.harness import measured, taken
from benchmarks.training import Training

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.harness import Run
    from benchmarks.result import Result

TARGETS = ("arrow", "parquet")
MEMORY_LIMIT = "4GB"
MEMORY_LIMIT_MB = 4e9 / 2**20
# Rows of pit-big's history for one of its spine.
BIG_ROWS_PER_SPINE_ROW = 5


def pit_1(run: Run) -> Iterator[Result]:
    """One spine, one view of ten rows a key; the peer does whatever size we do."""
    for target in TARGETS:
        training = Training(training_data.pit_1, target)
        yield measured(
            run,
            f"pit-1/{target}",
            "s",
            ours=training.of(run, sides.ours()),
            limit=training.scan(run),
            peer=training.of(run, run.peer) if run.peer else None,
        )


def pit_4(run: Run) -> Iterator[Result]:
    """One spine, four views, 35 features; time and memory beside the peer's."""
    for target in TARGETS:
        training = Training(training_data.pit_4, target)
        name = f"pit-4/{target}"
        found = taken(
            run,
            name,
            "s",
            ours=training.of(run, sides.ours()),
            peer=training.of(run, run.peer) if run.peer else None,
        )
        yield found.result(run, name, "s")
        yield found.memory(run, f"{name}-memory")


def pit_hot(run: Run) -> Iterator[Result]:
    """A quarter of all rows are of one key; the limit is ourselves where every key has as many."""
    skewed, even = (
        Training(partial(training_data.pit_hot, skewed=is_skewed)) for is_skewed in (True, False)
    )
    side = sides.ours()
    yield measured(
        run, "pit-hot", "s", ours=skewed.of(run, side), limit=even.of(run, side)(run.size)
    )


def pit_big(run: Run) -> Iterator[Result]:
    """More than fits into the memory that the engine may use; the process as a whole is judged."""
    training = Training(training_data.pit_big, "parquet", memory_limit=MEMORY_LIMIT)
    found = taken(
        run,
        "pit-big",
        "s",
        ours=training.of(run, sides.ours()),
        limit=training.scan(run, one_in=BIG_ROWS_PER_SPINE_ROW),
    )
    yield found.result(run, "pit-big", "s")
    yield found.memory(run, "pit-big/memory", limit_mb=MEMORY_LIMIT_MB)


def taxi(run: Run) -> Iterator[Result]:
    """Two views of a few hundred keys with thousands of rows each; a million trips, and ten."""
    for times in (1, 10):
        for target in TARGETS:
            training = Training(partial(training_data.taxi, times=times), target, per_second=True)
            yield measured(
                run, f"taxi/{times}x-{target}", "rows/s", ours=training.of(run, sides.ours())
            )
