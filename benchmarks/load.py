"""Load on a gRPC server: how much it can do, and how late its answers are at a given rate.

    python -m benchmarks.load JOB ARGUMENTS_JSON REPORT_PATH

Throughput comes from h2load (C), closed loop: as many requests are under way as there are streams,
a new one starts when one ends. It does not look at grpc-status, so the bytes of data that it
counted must be those of as many good replies. Without h2load a closed loop in Python takes its
place, and the unit of the result says so.

Latency comes from an open loop: requests are due at a fixed rate whether or not earlier ones were
answered, and an answer counts from the moment its request was due, not from when it was sent.
"""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore_sdk.throttling import LoadThrottle

from benchmarks.errors import JobFailedError, WrongAnswerError
from benchmarks.http2 import Connection
from benchmarks.job import serve_jobs

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 4
STREAMS = 4
# A reply may carry a time or a count whose length in bytes varies a little.
BYTES_TOLERANCE = 0.02
GRPC_PREFIX_BYTES = 5
# What has not come back by then is lost.
DRAIN_S = 10.0


def h2load_is_installed() -> bool:
    """Whether the C load generator is on the PATH."""
    return shutil.which("h2load") is not None


def h2load(arguments: dict[str, Any]) -> dict[str, Any]:
    """Requests a second by h2load; a first, shorter run warms both sides up and is thrown away."""
    _h2load_requests(arguments, arguments["warmup_s"])
    done, data_bytes = _h2load_requests(arguments, arguments["seconds"])
    expected = done * (arguments["reply_bytes"] + GRPC_PREFIX_BYTES)
    # More is no fault: replies still under way at the end have brought bytes too.
    if data_bytes < expected * (1 - BYTES_TOLERANCE):
        raise WrongAnswerError(
            f"{done} requests brought {data_bytes} bytes of data, not the {expected} of good "
            "replies: some were answered with an error."
        )
    return {"rate": done / arguments["seconds"]}


def _h2load_requests(arguments: dict[str, Any], seconds: int) -> tuple[int, int]:
    """Requests that ended in ``seconds``, and the bytes of data they brought."""
    command = [
        "h2load",
        f"--duration={seconds}",
        f"--clients={CONNECTIONS}",
        f"--max-concurrent-streams={STREAMS}",
        f"--data={arguments['body']}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"http://127.0.0.1:{arguments['port']}{arguments['method']}",
    ]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said.stdout)
    data = re.search(r"\((\d+)\) data", said.stdout)
    if said.returncode or counts is None or data is None:
        raise JobFailedError(f"h2load failed:\n{said.stdout}{said.stderr}")
    succeeded, *bad = (int(count) for count in counts.groups())
    if any(bad) or not succeeded:
        raise JobFailedError(f"h2load counted failures:\n{said.stdout}")
    return succeeded, int(data[1])


@dataclass(slots=True)
class Loop:
    """Connections to one server, and which request of theirs was due when."""

    connections: list[Connection]
    reply_bytes: int
    due: dict[tuple[int, int], float] = field(default_factory=dict)
    good_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    throttles: list[LoadThrottle] = field(default_factory=list)

    @property
    def latencies_s(self) -> list[float]:
        """Of good answers and others."""
        return self.good_s + self.refused_s

    @classmethod
    def opened(cls, arguments: dict[str, Any]) -> Loop:
        """Connect as often as the closed loop of h2load does."""
        body = Path(arguments["body"]).read_bytes()
        port, method = arguments["port"], arguments["method"]
        timeout_ms = arguments.get("timeout_ms")
        connections = [Connection(port, method, body, timeout_ms) for _ in range(CONNECTIONS)]
        return cls(connections, arguments["reply_bytes"])

    def send(self, connection: int, due_at: float) -> None:
        """Send one request that is, or was, due at ``due_at``."""
        self.due[connection, self.connections[connection].send()] = due_at

    def put(self, first: int, last: int, *, started: float, rate: float) -> int:
        """Send the requests ``first`` to ``last``; each is due at its place in the rate.

        Those are left out that our client would keep back, where there are throttles.

        Returns:
            How many were sent.
        """
        sent = 0
        for number in range(first, last):
            at = self._turn_of(number)
            if at is not None:
                self.due[at, self.connections[at].put()] = started + number / rate
                sent += 1
        for connection in self.connections:
            connection.flush()
        return sent

    def _turn_of(self, number: int) -> int | None:
        """Which connection a request goes to: the next that admits it, if there are throttles."""
        count = len(self.connections)
        turns = ((number + step) % count for step in range(count))
        return next((at for at in turns if not self.throttles or self.throttles[at].admits()), None)

    def turn(self, timeout_s: float) -> list[int]:
        """Wait for the sockets, at most so long; the connections that had an answer each."""
        by_socket = {each.connection: number for number, each in enumerate(self.connections)}
        writers = [each.connection for each in self.connections if each.wants_to_write]
        readable, writable, _ = select.select(list(by_socket), writers, [], max(0.0, timeout_s))
        for ready in writable:
            self.connections[by_socket[ready]].flush()
        return [each for ready in readable for each in self._answers(by_socket[ready])]

    def _answers(self, number: int) -> list[int]:
        answers = self.connections[number].receive()
        now = time.perf_counter()
        least = (self.reply_bytes + GRPC_PREFIX_BYTES) * (1 - BYTES_TOLERANCE)
        for answer in answers:
            is_good = answer.data_bytes >= least
            found = self.good_s if is_good else self.refused_s
            found.append(now - self.due.pop((number, answer.stream)))
            for throttle in self.throttles[number : number + 1]:
                throttle.taken() if is_good else throttle.refused()
        return [number] * len(answers)

    def close(self) -> None:
        """Close every connection."""
        for connection in self.connections:
            connection.close()


def open_loop(arguments: dict[str, Any]) -> dict[str, Any]:
    """Latencies at ``rate`` requests a second over ``seconds``, in ms."""
    loop = Loop.opened(arguments)
    rate, total = arguments["rate"], max(1, int(arguments["rate"] * arguments["seconds"]))
    started = time.perf_counter()
    last = started + total / rate + DRAIN_S
    sent = 0
    while (sent < total or loop.due) and (now := time.perf_counter()) < last:
        while sent < total and started + sent / rate <= now:
            loop.send(sent % CONNECTIONS, started + sent / rate)
            sent += 1
        next_due = started + sent / rate if sent < total else last
        loop.turn(next_due - time.perf_counter())
    loop.close()
    _require_good(loop, lost=total - len(loop.latencies_s))
    return {f"p{share}": _percentile_ms(loop.latencies_s, share) for share in (50, 99, 100)}


def overload(arguments: dict[str, Any]) -> dict[str, Any]:
    """What becomes of ``rate`` requests a second whose callers wait ``timeout_ms`` each.

    Good answers count if they came in time. Refusals are answers without data. With ``throttled``
    callers keep back what our client would.
    """
    loop = Loop.opened(arguments)
    if arguments.get("throttled"):
        loop.throttles = [LoadThrottle() for _ in loop.connections]
    rate, seconds = arguments["rate"], arguments["seconds"]
    started = time.perf_counter()
    end = started + seconds
    asked = sent = 0
    while (now := time.perf_counter()) < end + arguments["timeout_ms"] / 1e3:
        due = int((min(now, end) - started) * rate)
        if due > asked:
            sent += loop.put(asked, due, started=started, rate=rate)
            asked = due
        loop.turn(0.001 if now < end else 0.05)
    loop.close()
    latest = arguments["timeout_ms"] / 1e3
    return {
        "asked": asked / seconds,
        "sent": sent / seconds,
        "good": sum(each <= latest for each in loop.good_s) / seconds,
        "late": sum(each > latest for each in loop.good_s) / seconds,
        "refused": len(loop.refused_s) / seconds,
        "good_p50_ms": _percentile_ms(loop.good_s, 50) if loop.good_s else 0.0,
        "good_p99_ms": _percentile_ms(loop.good_s, 99) if loop.good_s else 0.0,
        "refused_p50_ms": _percentile_ms(loop.refused_s, 50) if loop.refused_s else 0.0,
        "refused_p99_ms": _percentile_ms(loop.refused_s, 99) if loop.refused_s else 0.0,
    }


def closed_loop(arguments: dict[str, Any]) -> dict[str, Any]:
    """Requests a second by a closed loop in Python: the stand-in for h2load."""
    loop = Loop.opened(arguments)
    _circulate(loop, arguments["warmup_s"], lambda number: loop.send(number, 0.0), start=True)
    loop.good_s.clear()
    loop.refused_s.clear()
    _circulate(loop, arguments["seconds"], lambda number: loop.send(number, 0.0), start=False)
    done = len(loop.latencies_s)
    loop.close()
    _require_good(loop, lost=0)
    return {"rate": done / arguments["seconds"]}


def _circulate(loop: Loop, seconds: float, again: Callable[[int], None], *, start: bool) -> None:
    if start:
        for number in range(CONNECTIONS * STREAMS):
            again(number % CONNECTIONS)
    end = time.perf_counter() + seconds
    while (now := time.perf_counter()) < end:
        for number in loop.turn(end - now):
            again(number)


def _require_good(loop: Loop, *, lost: int) -> None:
    if loop.refused_s or lost:
        raise WrongAnswerError(
            f"Of {len(loop.latencies_s) + lost} requests {len(loop.refused_s)} were answered with "
            f"an error and {lost} not at all within {DRAIN_S:.0f} s of the last."
        )


def _percentile_ms(latencies_s: list[float], share: int) -> float:
    """The nearest-rank percentile: an observed value, never one between two."""
    ordered = sorted(latencies_s)
    rank = -(-share * len(ordered) // 100)
    return ordered[max(0, rank - 1)] * 1_000


JOBS = {job.__name__: job for job in (h2load, open_loop, overload, closed_loop)}

if __name__ == "__main__":
    serve_jobs(JOBS)
