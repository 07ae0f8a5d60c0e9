"""What a parent and its worker processes tell each other: lines of JSON.

A worker is told its task, then of every other catalog; it answers once, when it serves or cannot.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from featurestore.errors import FeatureStoreError
from featurestore_server.errors import WorkerError
from featurestore_server.options import BackendLimits, BackendOptions, Limits, ServeOptions

MAX_LINE_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class HttpTask:
    """What a worker is to do over HTTP.

    Attributes:
        targets: Where to listen.
        cors_origins: Origins whose pages may call.
    """

    targets: tuple[str, ...]
    cors_origins: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """What a worker is to do.

    Attributes:
        targets: Where to listen.
        catalog_json: What to serve.
        online_store: The online store, as `ServeOptions` has it.
        function_roots: Where the modules of Python functions lie.
        threads: Calls handled at the same time.
        reflection: Whether clients may ask what services there are.
        fast_lookups: Whether lookups go past grpcio's thread pool.
        grace_s: How long calls under way may go on after the signal to stop, in seconds.
        limits: What one request may take.
        backend: Where the backend listens; "" if there is none.
        http: The same over HTTP; None for not.
    """

    targets: tuple[str, ...]
    catalog_json: str
    online_store: dict[str, Any]
    function_roots: tuple[str, ...]
    threads: int
    reflection: bool
    fast_lookups: bool
    grace_s: float
    limits: Limits = field(default_factory=Limits)
    http: HttpTask | None = None
    backend: str = ""

    @classmethod
    def of(
        cls,
        options: ServeOptions,
        targets: tuple[str, ...],
        *,
        http_targets: tuple[str, ...] = (),
        backend: str = "",
    ) -> "WorkerTask":
        """Return the task of each worker of a server."""
        http = None
        if options.http:
            http = HttpTask(targets=http_targets, cors_origins=options.http.cors_origins)
        return cls(
            targets=targets,
            catalog_json=options.catalog_json,
            online_store=dict(options.online_store),
            function_roots=tuple(options.function_roots),
            threads=options.threads,
            reflection=options.reflection,
            fast_lookups=options.fast_lookups,
            grace_s=options.grace_s,
            limits=options.limits,
            backend=backend,
            http=http,
        )

    def to_line(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "WorkerTask":
        """Return the task that `to_line` wrote."""
        facts = json.loads(line)
        facts["targets"] = tuple(facts["targets"])
        facts["function_roots"] = tuple(facts["function_roots"])
        facts["limits"] = Limits(**facts["limits"])
        if http := facts["http"]:
            facts["http"] = HttpTask(**{name: tuple(values) for name, values in http.items()})
        return cls(**facts)


@dataclass(frozen=True, kw_only=True)
class BackendTask:
    """What the backend is to do.

    Attributes:
        target: Where to listen.
        options: What it works with.
        grace_s: How long calls under way may go on after the signal to stop, in seconds.
    """

    target: str
    options: BackendOptions
    grace_s: float

    def to_line(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "BackendTask":
        """Return the task that `to_line` wrote."""
        facts = json.loads(line)
        options = facts["options"]
        options["source_roots"] = tuple(options["source_roots"])
        options["limits"] = BackendLimits(**options["limits"])
        return cls(**facts | {"options": BackendOptions(**options)})


def catalog_line(catalog_json: str) -> str:
    """Return what tells a worker to serve another catalog."""
    return json.dumps({"catalog_json": catalog_json}) + "\n"


def read_catalog(line: str) -> str:
    """Return the catalog that `catalog_line` wrote."""
    catalog: str = json.loads(line)["catalog_json"]
    return catalog


def lines_from(descriptor: int) -> Iterator[str]:
    """Yield the lines that come through a pipe as they come, until it ends.

    Not through `sys.stdin`: a thread that waits in there holds a lock that the end of the process
    needs.
    """
    waiting = bytearray()
    while more := os.read(descriptor, 1 << 16):
        waiting += more
        while (end := waiting.find(b"\n")) >= 0:
            yield waiting[: end + 1].decode()
            del waiting[: end + 1]
        if len(waiting) > MAX_LINE_BYTES:
            return


def report_ready(out: TextIO) -> None:
    """Tell the parent that this worker serves."""
    _write(out, {"ready": True})


def report_failure(out: TextIO, error: Exception) -> None:
    """Tell the parent why this worker cannot serve."""
    known = error if isinstance(error, FeatureStoreError) else None
    message = known.message if known else f"{type(error).__name__}: {error}"
    _write(out, {"ready": False, "message": message, "hint": known.hint if known else None})


def check_report(line: str) -> None:
    """Read what a worker reported; an empty line means that it ended without a word.

    Raises:
        WorkerError: It cannot serve.
    """
    if not line:
        raise WorkerError("A worker process ended before it could serve; its log says why.")
    report = json.loads(line)
    if not report["ready"]:
        raise WorkerError(
            f"A worker process cannot serve: {report['message']}", hint=report["hint"]
        )


def _write(out: TextIO, report: dict[str, Any]) -> None:
    out.write(json.dumps(report) + "\n")
    out.flush()
