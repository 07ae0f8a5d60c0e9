"""pit-1: a training set from one view, to Arrow and to Parquet."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import data, sides
from benchmarks.harness import Sample, measured, require_digest
from benchmarks.process import run_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.data import Size
    from benchmarks.harness import Measure, Run
    from benchmarks.result import Result
    from benchmarks.sides import Side


def pit_1(run: Run) -> Iterator[Result]:
    """One spine, one view of ten rows a key; the peer does whatever size we do."""
    for target in ("arrow", "parquet"):
        yield measured(
            run,
            f"pit-1/{target}",
            "s",
            ours=partial(_training, run, sides.ours(), target),
            limit=_limit(run, target),
            peer=partial(_training, run, run.peer, target) if run.peer else None,
        )


def _training(run: Run, side: Side, target: str, size: Size) -> Measure:
    arguments = _arguments(run, side, target, size)
    arguments["warmup"] = _arguments(run, side, target, data.SIZES["tiny"])
    wanted = data.training_digest(size)

    def measure() -> Sample:
        report = side.job("training", arguments)
        require_digest(side.name, report["digest"], wanted)
        return Sample(report["seconds"], report["peak_mb"])

    return measure


def _arguments(run: Run, side: Side, target: str, size: Size) -> dict[str, Any]:
    """A repository over the history of ``size``, prepared once, and what to join to it."""
    repository = run.folder / f"{side.imports}-{size.name}"
    arguments = sides.arguments(size, repository)
    if not repository.exists():
        side.job("prepare", arguments)
    return arguments | {"spine": str(data.spine(size)), "target": _target(run, target)}


def _limit(run: Run, target: str) -> Measure:
    arguments = sides.arguments(run.size, run.folder) | {"target": _target(run, target)}

    def measure() -> Sample:
        report = run_job(sides.LIMITS, "scan", arguments)
        return Sample(report["seconds"], report["peak_mb"])

    return measure


def _target(run: Run, target: str) -> str | None:
    return str(run.folder / "training.parquet") if target == "parquet" else None
