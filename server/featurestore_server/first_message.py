"""The first message of a call, which a caller may take its time over, or never send.

grpcio's methods with one request wait for it in a thread, before they run: whoever sends headers
alone keeps threads from everybody else. Methods that take a stream run at once, and are the same
on the wire; they decide who may keep them waiting, and for how long.
"""

import threading
from collections.abc import Iterator
from typing import Final, TypeVar

import grpc

from featurestore.errors import JobCancelledError
from featurestore_server.errors import MalformedMessageError

Message = TypeVar("Message")

FIRST_MESSAGE_S: Final = 10.0
"""How long somebody who was let in may think about what to ask."""
_GONE_S: Final = 0.1
"""How long after the end of what a caller sends it may turn out that the caller has gone."""


def first_message(
    requests: Iterator[Message],
    context: grpc.ServicerContext,
    *,
    patience_s: float = FIRST_MESSAGE_S,
    field: str = "",
) -> Message:
    """Return the first message of a call; who does not send it in time is cut off.

    Args:
        requests: What the caller sends.
        context: Its call.
        patience_s: How long it may take.
        field: What the message would have said.

    Raises:
        MalformedMessageError: The caller sends none.
        JobCancelledError: The call has ended.
    """
    late = threading.Timer(patience_s, context.cancel)
    late.daemon = True
    late.start()
    try:
        first = next(requests, None)
    finally:
        late.cancel()
    if first is None:
        _check_not_gone(context)
        raise MalformedMessageError("The call ends before it says what is wanted.", field=field)
    return first


def _check_not_gone(context: grpc.ServicerContext) -> None:
    ended = threading.Event()
    if not context.add_callback(ended.set) or ended.wait(_GONE_S):
        raise JobCancelledError
