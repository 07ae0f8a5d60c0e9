"""A view's lease, held and renewed while a run lasts."""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from featurestore.errors import RegistryError
from featurestore.registry.sql import SqlRegistry

LEASE_SECONDS = 30.0
"""How long a dead run is in the way of the next."""


def holder_name() -> str:
    """Return what a lease is taken as: unique, and telling in a message."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@contextmanager
def leased(registry: SqlRegistry, project: str, view: str, holder: str) -> Iterator[None]:
    """Hold a view's lease, and renew it from a thread of its own.

    Raises:
        LeaseHeldError: Another run holds it; or, in the end, it was lost meanwhile.
    """
    registry.acquire_lease(project, view, holder, seconds=LEASE_SECONDS)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(LEASE_SECONDS / 3):
            try:
                registry.renew_lease(project, view, holder, seconds=LEASE_SECONDS)
            except RegistryError as error:
                if not error.retryable:  # a registry that is locked is asked again in time
                    raise

    with ThreadPoolExecutor(1, thread_name_prefix="lease") as pool:
        renewal = pool.submit(renew)
        try:
            yield
            done.set()
            renewal.result()  # a lease that could not be renewed fails the run
        finally:
            done.set()
            registry.release_lease(project, view, holder)
