"""What a parent and its worker processes tell each other: lines of JSON.

A worker is told its task, then of every other catalog and of other keys; it answers once, when it
serves or cannot, and then reports what it counted, if that is wanted.
"""

import contextlib
import json
import os
import select
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from featurestore.certificates import TlsFiles
from featurestore.errors import FeatureStoreError
from featurestore_server.errors import WorkerError
from featurestore_server.families import Samples
from featurestore_server.options import (
    BackendLimits,
    BackendOptions,
    Limits,
    Observing,
    ServeOptions,
)

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
        tls: What connections are encrypted with; None for plain text.
        keys_json: Who may call, as `ServeOptions` has it.
        access_log: Whether each call is logged.
        backend: Where the backend listens; "" if there is none.
        http: The same over HTTP; None for not.
        observing: What operators get to see.
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
    tls: TlsFiles | None = None
    keys_json: str | None = None
    access_log: bool = False
    http: HttpTask | None = None
    observing: Observing = field(default_factory=Observing)
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
            tls=options.tls,
            keys_json=options.keys_json,
            access_log=options.access_log,
            backend=backend,
            http=http,
            observing=options.observing,
        )

    def to_line(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self), default=str) + "\n"

    @classmethod
    def from_line(cls, line: str) -> "WorkerTask":
        """Return the task that `to_line` wrote."""
        facts = json.loads(line)
        facts["targets"] = tuple(facts["targets"])
        facts["function_roots"] = tuple(facts["function_roots"])
        facts["limits"] = Limits(**facts["limits"])
        if facts["tls"]:
            files = {name: file and Path(file) for name, file in facts["tls"].items()}
            facts["tls"] = TlsFiles(**files)
        if http := facts["http"]:
            facts["http"] = HttpTask(**{name: tuple(values) for name, values in http.items()})
        facts["observing"] = Observing.of(facts["observing"])
        return cls(**facts)


@dataclass(frozen=True, kw_only=True)
class BackendTask:
    """What the backend is to do.

    Attributes:
        target: Where to listen.
        options: What it works with.
        grace_s: How long calls under way may go on after the signal to stop, in seconds.
        log_format: "text" or "json".
    """

    target: str
    options: BackendOptions
    grace_s: float
    log_format: str = "text"

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


def keys_line(keys_json: str) -> str:
    """Return what tells a worker to go by other keys."""
    return json.dumps({"keys_json": keys_json}) + "\n"


@dataclass(frozen=True, kw_only=True)
class News:
    """What a worker is told while it serves; what is None stays as it is."""

    catalog_json: str | None = None
    keys_json: str | None = None

    @classmethod
    def from_line(cls, line: str) -> "News":
        """Return what `catalog_line` or `keys_line` wrote."""
        return cls(**json.loads(line))


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


class Reports:
    """What a worker reports, read from a pipe without waiting longer than one wants to.

    Args:
        descriptor: The pipe's; it stays the caller's to close.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting = bytearray()
        os.set_blocking(descriptor, False)

    def first(self, timeout_s: float) -> str:
        """Wait for a line and return it; "" if the pipe ended before.

        Raises:
            TimeoutError: There was none in time.
        """
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._waiting:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._descriptor], [], [], left_s)[0]:
                raise TimeoutError
            if not self._receive():
                return ""
        return self._next_line()

    def lines(self) -> list[str]:
        """Return the lines that are there."""
        with contextlib.suppress(BlockingIOError):
            while self._receive():
                pass
        return [self._next_line() for _ in range(self._waiting.count(b"\n"))]

    def _receive(self) -> bool:
        more = os.read(self._descriptor, 1 << 16)
        self._waiting += more
        return bool(more)

    def _next_line(self) -> str:
        end = self._waiting.index(b"\n") + 1
        line = self._waiting[:end].decode()
        del self._waiting[:end]
        return line


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


def says_ready(line: str) -> bool:
    """Whether a report is that of a worker that serves."""
    return json.loads(line).get("ready") is True


def report_samples(out: TextIO, samples: Samples) -> None:
    """Tell the parent all that this worker has counted."""
    flat = {name: list(family.items()) for name, family in samples.items()}
    _write(out, {"samples": flat})


def read_samples(line: str) -> Samples:
    """Return what `report_samples` wrote; nothing of other reports."""
    flat: dict[str, list[Any]] = json.loads(line).get("samples", {})
    return {name: {tuple(labels): s for labels, s in family} for name, family in flat.items()}


def _write(out: TextIO, report: dict[str, Any]) -> None:
    out.write(json.dumps(report) + "\n")
    out.flush()
