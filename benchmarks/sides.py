"""The sides of a comparison: ourselves, and the peers in environments of their own.

Every side has the same jobs with the same arguments, each run in a fresh process:

prepare      write a repository, apply the feature views
training     join the spine to the views, to Arrow or to Parquet
materialize  read the history, write the newest row of every entity into Redis
prefill      the same state in the online store, outside of any timing
request      one lookup as a length-prefixed gRPC frame
check        ask the server once, compare every value with the data
local        look up in this process, over and over, after comparing every value of one answer
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import data, process
from benchmarks.errors import BenchmarkError
from benchmarks.peers import environment
from benchmarks.training_data import activity

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.data import Size
    from benchmarks.training_data import View

TTL_DAYS = 365


@dataclass(frozen=True, slots=True)
class Side:
    """One implementation of the jobs, and its programs.

    ``serve(port)`` is the command that starts the gRPC server, run inside the repository's folder;
    ``health_service`` is what its health check calls the lookups, or "" if it knows no parts.
    """

    name: str
    versions: dict[str, str]
    python: str
    worker: tuple[str, ...]
    program: tuple[str, ...]
    imports: str
    health_service: str
    serve: Callable[[int], list[str]]

    def job(
        self, job: str, arguments: Mapping[str, Any], *, core: int | None = None
    ) -> dict[str, Any]:
        """Run one job in a fresh process; its report."""
        return process.run_job(self.worker, job, arguments, core=core)


def ours() -> Side:
    """This product, as installed in the Python that runs the benchmarks."""
    script = Path(sys.executable).with_name("featurestore")
    program = (str(script),) if script.exists() else (sys.executable, "-m", "featurestore.cli")

    def serve(port: int) -> list[str]:
        return [*program, "serve", "--address", f"127.0.0.1:{port}"]

    return Side(
        name="featurestore",
        versions={},
        python=sys.executable,
        worker=(sys.executable, "-m", "benchmarks.ours"),
        program=program,
        imports="featurestore_sdk",
        health_service="featurestore.v1.ServingService",
        serve=serve,
    )


def feast() -> Side:
    """Feast, in an environment that is made at the first call (a minute)."""
    python = environment.python_of("feast")
    program = (str(python.with_name("feast")),)

    def serve(port: int) -> list[str]:
        return [*program, "listen", "-a", f"127.0.0.1:{port}"]

    version = environment.pinned_version("feast", "feast")
    worker = Path(__file__).parent / "peers" / "feast" / "worker.py"
    return Side(
        name=f"feast {version}",
        versions={"feast": version},
        python=str(python),
        worker=(str(python), str(worker)),
        program=program,
        imports="feast",
        health_service="",
        serve=serve,
    )


def polars() -> Side:
    """This product again with its other offline engine, chosen by the environment."""
    chosen = ("env", "FEATURESTORE_OFFLINE_STORE=polars")
    side = ours()
    return replace(
        side,
        name="featurestore with polars",
        worker=(*chosen, *side.worker),
        program=(*chosen, *side.program),
    )


def metered() -> Side:
    """This product again, with metrics: what they cost a lookup."""
    chosen = ("env", "FEATURESTORE_SERVER__METRICS_ADDRESS=127.0.0.1:0")
    side = ours()

    def serve(port: int) -> list[str]:
        return [*chosen, *side.serve(port)]

    # Folders are called after what a side imports, and these two are up at the same time.
    return replace(
        side, name="featurestore with metrics", imports="featurestore_server", serve=serve
    )


LIMITS = (sys.executable, "-m", "benchmarks.limits")
LOAD = (sys.executable, "-m", "benchmarks.load")
PEERS = {"feast": feast, "polars": polars, "metered": metered}


def peer_named(name: str) -> Side:
    """The peer called ``name``, installed.

    Raises:
        BenchmarkError: there is no such peer.
    """
    if name not in PEERS:
        raise BenchmarkError(f"No peer {name!r}; there are {', '.join(PEERS)}.")
    return PEERS[name]()


def arguments(
    size: Size,
    repository: Path,
    redis: str | None = None,
    *,
    ttl_days: int | None = TTL_DAYS,
    key_ttl_seconds: int | None = None,
) -> dict[str, Any]:
    """What every job about the one view of ten features is told.

    ``key_ttl_seconds`` is for a peer whose expiry in Redis does not follow the view's ttl.
    """
    found = arguments_of([activity(size)], repository, ttl_days=ttl_days)
    return found | {"redis": redis, "key_ttl_seconds": key_ttl_seconds}


def arguments_of(
    views: Sequence[View],
    repository: Path,
    *,
    ttl_days: int | None = TTL_DAYS,
    memory_limit: str | None = None,
) -> dict[str, Any]:
    """What every job is told: where the views' data is, and the times between which it lies.

    ``memory_limit`` is our own engine's, such as "4GB".
    """
    return {
        "repository": str(repository),
        "redis": None,
        "ttl_days": ttl_days,
        "key_ttl_seconds": None,
        "memory_limit": memory_limit,
        "views": [view.as_argument() for view in views],
        "start": data.START.isoformat(),
        "end": data.END.isoformat(),
    }
