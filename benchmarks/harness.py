"""How every workload is measured: turn by turn, medians, right answers only."""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from benchmarks import data, result
from benchmarks.errors import WrongAnswerError
from benchmarks.result import LimitFigure, PeerFigure, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from benchmarks.data import Size
    from benchmarks.sides import Side

# A sum of many floats depends on their order; near zero the difference counts, else its share.
DIGEST_TOLERANCE = 1e-6
DIGEST_RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: a figure in the workload's unit, and the memory it took (MiB)."""

    figure: float
    peak_mb: float | None = None


# Takes one measurement; what has to be prepared was prepared when it was made.
Measure: TypeAlias = "Callable[[], Sample]"


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of a workload is asked for."""

    size: Size
    repeat: int
    folder: Path
    peer: Side | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def using(self, **versions: str) -> Run:
        """The same run with more versions to report."""
        return replace(self, versions={**self.versions, **versions})


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one run, beside the data (the system's own may be small, or in memory)."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=data.build_folder()) as folder:
        yield Path(folder)


def turns(measures: Mapping[str, Measure], repeat: int) -> dict[str, Sample]:
    """Measure every side ``repeat`` times, one after the other in each round; the medians.

    The order is reversed in every second round, so that what a side leaves behind (a warm file
    cache, a busy disk) is not always met by the same neighbour.
    """
    found: dict[str, list[Sample]] = {name: [] for name in measures}
    for number in range(repeat):
        order = list(measures) if number % 2 == 0 else list(measures)[::-1]
        for name in order:
            sample = measures[name]()
            say(f"  {name}: {sample.figure:.4g}")
            found[name].append(sample)
    return {name: _median(samples) for name, samples in found.items()}


def _median(samples: list[Sample]) -> Sample:
    peaks = [sample.peak_mb for sample in samples if sample.peak_mb is not None]
    return Sample(
        figure=statistics.median(sample.figure for sample in samples),
        peak_mb=statistics.median(peaks) if peaks else None,
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """The medians of one workload's turns.

    ``found`` has "ours" and perhaps "limit" at the run's size; ``met`` has "ours" and perhaps
    "peer" at the size that the peer can do.
    """

    found: Mapping[str, Sample]
    met: Mapping[str, Sample]
    peer_size: Size

    def result(self, run: Run, name: str, unit: str) -> Result:
        """What was measured, beside the limit and the peer."""
        return self._judged(run, name, unit, self.found, self.met)

    def memory(self, run: Run, name: str, *, limit_mb: float | None = None) -> Result:
        """The peaks of memory (MiB) of the same turns, beside the peer's and a limit."""
        found, met = _peaks(self.found), _peaks(self.met)
        found.pop("limit", None)  # it does something else, with other memory
        if limit_mb is not None:
            found["limit"] = Sample(limit_mb)
        return self._judged(run, name, "MiB", found, met)

    def _judged(
        self,
        run: Run,
        name: str,
        unit: str,
        found: Mapping[str, Sample],
        met: Mapping[str, Sample],
    ) -> Result:
        peer = None
        if "peer" in met:
            peer = beside_peer(run, unit, ours=met["ours"], peer=met["peer"], size=self.peer_size)
        return judged(run, name, unit, ours=found["ours"], limit=found.get("limit"), peer=peer)


def _peaks(samples: Mapping[str, Sample]) -> dict[str, Sample]:
    return {n: Sample(s.peak_mb) for n, s in samples.items() if s.peak_mb is not None}


def measured(
    run: Run,
    name: str,
    unit: str,
    *,
    ours: Callable[[Size], Measure],
    limit: Measure | None = None,
    peer: Callable[[Size], Measure] | None = None,
    peer_sizes: Collection[str] = tuple(data.SIZES),
) -> Result:
    """Measure ourselves, the limit and the peer in turns; see `taken`."""
    found = taken(run, name, unit, ours=ours, limit=limit, peer=peer, peer_sizes=peer_sizes)
    return found.result(run, name, unit)


def taken(
    run: Run,
    name: str,
    unit: str,
    *,
    ours: Callable[[Size], Measure],
    limit: Measure | None = None,
    peer: Callable[[Size], Measure] | None = None,
    peer_sizes: Collection[str] = tuple(data.SIZES),
) -> Taken:
    """Measure ourselves, the limit and the peer in turns.

    A peer that cannot do the run's size (``peer_sizes`` holds the names of those it can) is met at
    the reduced size, by ourselves too, in turns of their own.
    """
    peer_size = run.size if run.size.name in peer_sizes else data.SIZES["reduced"]
    measures = {"ours": ours(run.size)}
    if limit:
        measures["limit"] = limit
    if peer and peer_size == run.size:
        measures["peer"] = peer(run.size)
    say(f"{sized(name, run.size)}, {unit}")
    found = turns(measures, run.repeat)
    met = found
    if peer and peer_size != run.size:
        say(f"{sized(name, peer_size)}, {unit}")
        met = turns({"ours": ours(peer_size), "peer": peer(peer_size)}, run.repeat)
    return Taken(found, met, peer_size)


def judged(
    run: Run,
    name: str,
    unit: str,
    *,
    ours: Sample,
    limit: Sample | None = None,
    peer: PeerFigure | None = None,
) -> Result:
    """The result: our figure beside the limit's and the peer's."""
    beside = None
    if limit:
        ratio = result.limit_ratio(unit, ours=ours.figure, limit=limit.figure)
        beside = LimitFigure(figure=_rounded(limit.figure), ratio=_rounded(ratio))
    return Result(
        name=sized(name, run.size),
        unit=unit,
        figure=_rounded(ours.figure),
        peer=peer,
        limit=beside,
        peak_mb=None if ours.peak_mb is None else round(ours.peak_mb, 1),
        versions=result.versions(dict(run.versions)),
        machine=result.machine(),
    )


def beside_peer(run: Run, unit: str, *, ours: Sample, peer: Sample, size: Size) -> PeerFigure:
    """The peer's figure; its name says the size when both had to run at another one."""
    assert run.peer is not None
    name = run.peer.name
    return peer_figure(name if size == run.size else sized(name, size), unit, ours=ours, peer=peer)


def peer_figure(name: str, unit: str, *, ours: Sample, peer: Sample) -> PeerFigure:
    """The figure of something that did the same as we did."""
    ratio = result.peer_ratio(unit, ours=ours.figure, peer=peer.figure)
    return PeerFigure(name=name, figure=_rounded(peer.figure), ratio=_rounded(ratio))


def sized(name: str, size: Size) -> str:
    """``name`` at the full size, else ``name@size``: figures of two sizes never share a name."""
    return name if size.name == "full" else f"{name}@{size.name}"


def require_digest(side: str, found: Mapping[str, float], wanted: Mapping[str, float]) -> None:
    """Refuse a training set that does not hold what the data says.

    Raises:
        WrongAnswerError: a row count, or the count or sum of a feature, differs.
    """
    for name, value in wanted.items():
        if not _is_close(found[name], value):
            raise WrongAnswerError(
                f"{side} answered {name} = {found[name]!r}; the data says {value!r}."
            )


def _is_close(found: float, wanted: float) -> bool:
    return math.isclose(found, wanted, rel_tol=DIGEST_RELATIVE_TOLERANCE, abs_tol=DIGEST_TOLERANCE)


def say(line: str) -> None:
    """Progress: stderr, so that stdout holds results alone."""
    print(line, file=sys.stderr, flush=True)


def _rounded(figure: float) -> float:
    return float(f"{figure:.5g}")
