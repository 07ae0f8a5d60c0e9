"""Both clients behind one face, so that every test of one is a test of the other."""

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol, cast

import pytest
from featurestore_sdk import AsyncFeatureStoreClient, FeatureStoreClient


class Connect(Protocol):
    """Makes a client of either kind; the test's end closes it."""

    def __call__(self, address: Any, **options: Any) -> FeatureStoreClient: ...


class LoopThread:
    """An event loop that runs in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Blocking:
    """Something async, whose methods wait: they run on the loop of another thread."""

    def __init__(self, wrapped: Any, loop: LoopThread) -> None:
        self._wrapped = wrapped
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._wrapped, name)
        return self._waiting(attribute) if inspect.ismethod(attribute) else attribute

    def _waiting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def wait(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            if inspect.isawaitable(found):
                return self._loop.run(found)
            if isinstance(found, AsyncIterator):
                return self._iterated(found)
            return (
                Blocking(found, self._loop) if type(found).__name__.startswith("Async") else found
            )

        return wait

    def _iterated(self, found: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while (item := self._loop.run(anext(found, None))) is not None:
                yield item
        finally:
            self._loop.run(cast("AsyncGenerator[Any, None]", found).aclose())


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    with ExitStack() as stack:

        def sync(address: Any, **options: Any) -> FeatureStoreClient:
            return stack.enter_context(FeatureStoreClient(address, **options))

        def twin(address: Any, **options: Any) -> FeatureStoreClient:
            loop = LoopThread()
            stack.callback(loop.stop)
            client = Blocking(AsyncFeatureStoreClient(address, **options), loop)
            stack.callback(client.close)
            return cast("FeatureStoreClient", client)

        yield sync if request.param == "sync" else twin
