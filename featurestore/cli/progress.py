"""How far a long command has got: a bar on a terminal, plain lines elsewhere, on standard error."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final, TextIO

from featurestore.cli.session import Session
from featurestore.naming import printable

Report = Callable[[str, int, int], None]
"""Called with (what is being worked on, done, in all)."""

QUIET_S: Final = 1.0
"""What takes less than this, from its first report on, says nothing."""
LINE_EVERY_S: Final = 5.0


@contextlib.contextmanager
def progress(session: Session, unit: str) -> Iterator[Report]:
    """Show what is reported while the block lasts, once it has lasted a second.

    Args:
        session: Says whether and where to show it: not with --quiet, and not with --json.
        unit: What is counted, as in "rows".
    """
    if session.quiet or session.as_json:
        yield _ignore
    elif session.err.isatty():
        from featurestore.cli.bar import Bar

        with Bar(session.err, unit=unit, after_s=QUIET_S) as bar:
            yield bar.report
    else:
        yield Lines(session.err, unit=unit).report


def _ignore(_what: str, _done: int, _total: int) -> None:
    """Show nothing."""


class Lines:
    """Progress as lines of text, one every few seconds."""

    def __init__(
        self, stream: TextIO, *, unit: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._unit = unit
        self._now = now
        self._next: float | None = None
        self._what: str | None = None
        self._began = self._last = now()

    def report(self, what: str, done: int, total: int) -> None:
        """Write a line, if it is time for one."""
        now = self._now()
        if what != self._what:
            self._what, self._began = what, self._last
        self._last = now
        if self._next is None:
            self._next = now + QUIET_S
        if now >= self._next:
            self._next = now + LINE_EVERY_S
            text = rate_text(done, total, now - self._began, self._unit)
            self._stream.write(f"{printable(what)}: {text}\n")
            self._stream.flush()


def rate_text(done: int, total: int, seconds: float, unit: str) -> str:
    """Return `20,000 of 80,000 rows (25 %), 10,000 rows/s, 0:00:06 left`."""
    share = f" ({100 * done // total} %)" if total else ""
    text = f"{done:,} of {total:,} {unit}{share}"
    if done and seconds > 0:
        left = round((total - done) * seconds / done)
        text += f", {done / seconds:,.0f} {unit}/s, {clock_text(left)} left"
    return text


def clock_text(seconds: int) -> str:
    """Return a duration as `h:mm:ss`."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
