"""A line of JSON for every call: who asked for what, and what became of it.

Never in it: values of features, keys of entities, secrets.
"""

import json
import os
import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from featurestore_server.calls import Call, Observer, request_id_of
from featurestore_server.errors import UnauthenticatedError, answer_to

WAITING_LINES: Final = 10_000
"""Lines that wait for whoever reads the log; more are dropped, and counted."""
_LINES_AT_ONCE: Final = 100
_END_S: Final = 5.0
_MAX_SERVICE: Final = 128
"""Longer names are cut; they are the caller's. So lines stay below the 4,096 bytes that a pipe
takes at once."""

_Entry = dict[str, Any]


class AccessLog(Observer):
    """Writes a line for every call, from a thread of its own.

    Calls do not wait for it: while nobody reads the log, lines are dropped, and the next line that
    is written says how many in `dropped`.

    Args:
        descriptor: The open file to write to; whole lines, so that processes may share it.
        now: Seconds since the epoch.
    """

    def __init__(self, descriptor: int, *, now: Callable[[], float] = time.time) -> None:
        self._descriptor = descriptor
        self._now = now
        self._waiting: queue.Queue[_Entry | None] = queue.Queue(WAITING_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="access_log", daemon=True)
        self._thread.start()

    def ended(self, call: Call, error: Exception | None) -> None:
        """Write down how a call ended."""
        try:
            self._waiting.put_nowait(self._entry(call, error))
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, for 5 seconds at most."""
        try:
            self._waiting.put(None, timeout=_END_S)
        except queue.Full:
            return  # nobody reads
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
        while True:
            entries = [self._waiting.get()]
            while len(entries) < _LINES_AT_ONCE and not self._waiting.empty():
                entries.append(self._waiting.get())
            self._write_lines([entry for entry in entries if entry is not None])
            if None in entries:
                return

    def _write_lines(self, entries: list[_Entry]) -> None:
        if not entries:
            return
        dropped, self._dropped = self._dropped, 0
        if dropped:
            entries[-1]["dropped"] = dropped
        try:
            # One write per line: lines of several processes do not mix in a pipe or file.
            for entry in entries:
                os.write(self._descriptor, _line(entry))
        except OSError:
            self._dropped += len(entries)


def _line(entry: _Entry) -> bytes:
    at = datetime.fromtimestamp(entry["time"], UTC).isoformat(timespec="milliseconds")
    return (json.dumps(entry | {"time": at.replace("+00:00", "Z")}) + "\n").encode()
