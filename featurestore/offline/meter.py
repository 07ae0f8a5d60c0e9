"""How far a call has got, and whether it is to end: what other threads see of it."""

from featurestore.errors import JobCancelledError


class Meter:
    """Counts what one call at a time does. `share` and `stop` are for any thread."""

    def __init__(self) -> None:
        self._done = 0
        self._total = 0
        self._stopped = False

    def begin(self, total: int) -> None:
        """Begin a call that does `total` steps."""
        self._done, self._total, self._stopped = 0, total, False

    def advance(self, count: int) -> None:
        """Count steps.

        Raises:
            JobCancelledError: The call was told to stop.
        """
        if self._stopped:
            raise JobCancelledError
        self._done += count

    def end(self) -> None:
        """End the call."""
        self._total = 0

    def stop(self) -> None:
        """Let the call that is under way end with an error at its next step."""
        self._stopped = True

    @property
    def share(self) -> float | None:
        """Which part of the call is done, 0 to 1; None if there is none."""
        total = self._total
        return min(1.0, self._done / total) if total else None
