"""One result: what was measured, and how it stands to the limit and to a peer."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from benchmarks.errors import BenchmarkError

OUR_PACKAGES = ("featurestore", "duckdb", "pyarrow", "numpy", "polars", "grpcio", "redis")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PeerFigure(_Frozen):
    """What a peer did with the same data. ``ratio`` > 1: we are better, by that factor."""

    name: str
    figure: float
    ratio: float


class LimitFigure(_Frozen):
    """What the machine can do at best. ``ratio``: how many times the limit's cost we pay."""

    figure: float
    ratio: float


class Result(_Frozen):
    """One figure of one workload; the medians of one run.

    ``name`` ends in ``@size`` unless the size was the full one. ``unit`` says which way is better:
    more of anything "/s", less of everything else. ``peak_mb`` is resident memory (MiB) at its
    highest in the measured process, or in the server and its workers; None where it says nothing.
    """

    name: str
    unit: str
    figure: float
    peer: PeerFigure | None
    limit: LimitFigure | None
    peak_mb: float | None
    versions: dict[str, str]
    machine: dict[str, str | int | float]


def more_is_better(unit: str) -> bool:
    """Whether a greater figure in ``unit`` is the better one."""
    return unit.endswith("/s")


def peer_ratio(unit: str, *, ours: float, peer: float) -> float:
    """How many times better we are than the peer."""
    return ours / peer if more_is_better(unit) else peer / ours


def limit_ratio(unit: str, *, ours: float, limit: float) -> float:
    """How many times the limit we are away: 1 is the limit itself, for rates too."""
    return limit / ours if more_is_better(unit) else ours / limit


def versions(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The versions that a figure depends on."""
    found = {"python": platform.python_version()}
    for package in OUR_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found | (extra or {})


def machine() -> dict[str, str | int | float]:
    """What the figures were measured on, and how busy it was."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_model(),
        "cores": psutil.cpu_count() or 1,
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor() or platform.machine()
    lines = cpuinfo.read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def to_line(result: Result) -> str:
    """One line of JSON."""
    return result.model_dump_json()


def read(path: Path) -> dict[str, Result]:
    """The results of a file that ``run --json`` wrote, by name; the last one of a name stands.

    Raises:
        BenchmarkError: the file cannot be read, or a line of it is no result.
    """
    adapter = TypeAdapter(Result)
    found: dict[str, Result] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            result = adapter.validate_json(line)
        except ValidationError as error:
            reason = error.errors()[0]
            place = ".".join(str(part) for part in reason["loc"]) or "the line"
            raise BenchmarkError(
                f"{path}, line {number}: no result of a benchmark: {place}: {reason['msg']}."
            ) from None
        found[result.name] = result
    if not found:
        raise BenchmarkError(f"{path} holds no result. Write one with: run NAME --json > FILE")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BenchmarkError(f"{path} cannot be read: {error}.") from error
