"""Whether a call that failed is tried again, and when. Pure: the clients do the waiting."""

import random
import time
from typing import Final

from featurestore_sdk.errors import ClientError, UnavailableError
from featurestore_sdk.failures import is_unsent, was_kept_back
from featurestore_sdk.options import RetryPolicy

JITTER: Final = 0.2
_MAX_TOKENS: Final = 100.0
_TOKENS_A_SUCCESS: Final = 0.1


class Throttle:
    """Stops the retries of a client most of whose calls fail: they would multiply an outage.

    A failure takes a token, a success gives a tenth of one back, and there are retries while more
    than half of a hundred are left (as in gRPC's own policy, gRFC A6). Threads may race: a token
    more or less decides nothing.
    """

    def __init__(self) -> None:
        self._tokens = _MAX_TOKENS

    def succeeded(self) -> None:
        """Count a call that was answered."""
        if self._tokens < _MAX_TOKENS:
            self._tokens = min(_MAX_TOKENS, self._tokens + _TOKENS_A_SUCCESS)

    def failed(self) -> bool:
        """Count a call that found the server unavailable; return whether to try again."""
        self._tokens = max(0.0, self._tokens - 1)
        return self._tokens > _MAX_TOKENS / 2


class Tries:
    """The tries of one call.

    Args:
        policy: How many, and with which pauses.
        throttle: That of the client.
        timeout_s: How long they may take together, in seconds; None for ever.
        repeatable: Whether the server may get the call twice. If not, it is repeated only when it
            surely never left this machine.
        addresses: How many addresses there are. One that cannot be connected to is passed over for
            the next, at once and without counting as a try.
    """

    __slots__ = (
        "_deadline",
        "_others",
        "_pause_s",
        "_policy",
        "_repeatable",
        "_throttle",
        "_tried",
    )

    def __init__(
        self,
        policy: RetryPolicy,
        throttle: Throttle,
        *,
        timeout_s: float | None,
        repeatable: bool = True,
        addresses: int = 1,
    ) -> None:
        self._policy = policy
        self._throttle = throttle
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._repeatable = repeatable
        self._others = addresses - 1
        self._tried = 1
        self._pause_s = policy.first_pause_s

    def left_s(self) -> float | None:
        """Return how long the next try may take, in seconds; None without a limit."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def pause_after(self, failure: ClientError) -> float | None:
        """Return the pause before the next try, in seconds, or None when there is none."""
        if not isinstance(failure, UnavailableError):
            return None
        unsent = is_unsent(failure)
        if unsent and self._others > 0 and self.left_s() != 0.0:
            self._others -= 1
            return 0.0
        may_repeat = self._repeatable or unsent or was_kept_back(failure)
        if not self._throttle.failed() or not may_repeat:
            return None
        if self._tried >= self._policy.attempts:
            return None
        self._tried += 1
        pause_s = self._next_pause_s(failure)
        left_s = self.left_s()
        return pause_s if left_s is None or pause_s < left_s else None

    def _next_pause_s(self, failure: ClientError) -> float:
        if failure.retry_after_s is not None:
            # Never earlier than the server asks.
            return failure.retry_after_s * random.uniform(1, 1 + JITTER)  # noqa: S311
        pause_s, longest_s = self._pause_s, self._policy.last_pause_s
        self._pause_s = min(pause_s * self._policy.growth, longest_s)
        return pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
