"""A store that can be held up, to have calls under way or waiting for as long as a test likes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import ReadRequest

from . import shop


class GatedStore(MemoryOnlineStore):
    """A store whose reads of real keys wait until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.reads = 0

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> list[list[bytes | None]]:
        if not any(key.startswith(b"\0") for request in requests for key in request.keys):
            self.reads += 1
            self.waiting.release()
            assert self.gate.wait(30)
        return super().read(requests, until=until)


@contextmanager
def gated() -> Iterator[GatedStore]:
    """Yield a filled one; its gate is open at the end, so that no thread stays behind."""
    store = GatedStore()
    shop.fill(store)
    try:
        yield store
    finally:
        store.gate.set()
