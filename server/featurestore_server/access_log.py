"""A line of JSON for every call: who asked for what, and what became of it.

Never in it: values of features, keys of entities, secrets.
"""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from featurestore_server.calls import Call, Caller, Gate, Observer, Permission, request_id_of
from featurestore_server.errors import UnauthenticatedError, answer_to

WAITING_LINES: Final = 10_000
"""Lines that wait for whoever reads the log; more are dropped, and counted."""
WRITE_EVERY_S: Final = 0.1
"""Waking a thread for every line would cost each call more than writing its line does."""
_MAX_SERVICE: Final = 128
"""Longer names are cut; they are the caller's. So each line fits into `_WRITE_BYTES`."""
_WRITE_BYTES: Final = 4_096
"""What a pipe takes at once, so that lines of several processes do not mix."""
_END_S: Final = 5.0

_Entry = dict[str, Any]


class AccessLog(Observer):
    """Writes a line for every call, from a thread of its own.

    Calls do not wait for it: while nobody reads the log, lines are dropped, and the next line that
    is written says how many in `dropped`.

    Args:
        descriptor: The open file to write to; processes may share it.
        now: Seconds since the epoch.
    """

    def __init__(self, descriptor: int, *, now: Callable[[], float] = time.time) -> None:
        self._descriptor = descriptor
        self._now = now
        self._waiting: deque[_Entry] = deque()
        self._dropped = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write, name="access_log", daemon=True)
        self._thread.start()

    def ended(self, call: Call, error: Exception | None) -> None:
        """Write down how a call ended."""
        if len(self._waiting) < WAITING_LINES:
            self._waiting.append(self._entry(call, error))
        else:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, for 5 seconds at most."""
        self._closing.set()
        self._thread.join(_END_S)

    def _entry(self, call: Call, error: Exception | None) -> _Entry:
        answer = answer_to(error) if error else None
        refused = error if isinstance(error, UnauthenticatedError) else None
        caller = call.caller
        return {
            "time": self._now(),
            "request_id": request_id_of(call),
            "caller": caller.name if caller else "",
            "key_id": caller.key_id if caller else refused.key_id if refused else "",
            "peer": call.peer(),
            "method": call.method,
            "feature_service": call.service[:_MAX_SERVICE],
            "entities": call.entities,
            "status": answer.code if answer else "OK",
            "reason": answer.reason if answer else "",
            "cause": refused.cause if refused else "",
            "duration_ms": round((time.perf_counter() - call.came) * 1e3, 3),
        }

    # --- the thread ------------------------------------------------------------------------------

    def _write(self) -> None:
        while not self._closing.wait(WRITE_EVERY_S):
            self._write_waiting()
        self._write_waiting()

    def _write_waiting(self) -> None:
        for lines, count in _together(self._lines()):
            try:
                os.write(self._descriptor, lines)
            except OSError:
                self._dropped += count

    def _lines(self) -> Iterator[bytes]:
        while self._waiting:
            entry = self._waiting.popleft()
            if dropped := self._dropped:
                entry["dropped"] = dropped
                self._dropped -= dropped
            yield _line(entry)


def _line(entry: _Entry) -> bytes:
    at = datetime.fromtimestamp(entry["time"], UTC).isoformat(timespec="milliseconds")
    return (json.dumps(entry | {"time": at.replace("+00:00", "Z")}) + "\n").encode()


def _together(lines: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield as many whole lines as are written at once, with their number."""
    waiting: list[bytes] = []
    size = 0
    for line in lines:
        if waiting and size + len(line) > _WRITE_BYTES:
            yield b"".join(waiting), len(waiting)
            waiting, size = [], 0
        waiting.append(line)
        size += len(line)
    if waiting:
        yield b"".join(waiting), len(waiting)


class WitnessedGate(Gate):
    """Has the address of every caller noted when it comes: its connection may be gone at the end.

    Args:
        gate: Who decides.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def admit(self, call: Call) -> Caller:
        """Return who calls; raises what the gate does."""
        peer = call.peer()
        call.peer = lambda: peer
        return self._gate.admit(call)

    def authorize(self, caller: Caller, permission: Permission, *, service: str = "") -> None:
        """Return if the caller may do that; raises what the gate does."""
        self._gate.authorize(caller, permission, service=service)
