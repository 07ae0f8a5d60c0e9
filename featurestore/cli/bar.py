"""The progress bar of a terminal."""

import threading
from typing import Self, TextIO

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from featurestore.cli.output import console
from featurestore.cli.progress import rate_text
from featurestore.naming import printable


class RateColumn(ProgressColumn):
    """How much of how much, how fast, and how long it will take."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the text beside the bar of one task."""
        if task.total is None:
            return Text("")
        done, seconds = int(task.completed), task.elapsed or 0.0
        return Text(rate_text(done, int(task.total), seconds, self._unit))


class Bar:
    """One line per thing that is worked on; it appears after a while and leaves no trace.

    Args:
        stream: The terminal.
        unit: What is counted.
        after_s: How long to wait before anything is shown, in seconds.
    """

    def __init__(self, stream: TextIO, *, unit: str, after_s: float) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            RateColumn(unit),
            console=console(stream),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._timer = threading.Timer(after_s, self._bars.start)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        self._waiting = self._bars.add_task("reading", total=None)
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._bars.live.is_started:
            self._bars.stop()

    def report(self, what: str, done: int, total: int) -> None:
        """Move the bar of `what`."""
        if what not in self._tasks:
            self._bars.update(self._waiting, visible=False)
            self._tasks[what] = self._bars.add_task(printable(what), total=total)
        self._bars.update(self._tasks[what], completed=done, total=total)
