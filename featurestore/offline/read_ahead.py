"""Work on the pieces of a source by several threads, a little ahead of who uses it."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

P = TypeVar("P")
T = TypeVar("T")


def as_they_come(
    work: Callable[[P], Iterator[T]], pieces: Iterable[P], *, threads: int
) -> Iterator[T]:
    """Yield what `work` yields of all pieces, in any order; a result of each thread is ahead."""
    waiting = iter(pieces)
    under_way: dict[Future[T | None], Iterator[T]] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="read") as pool:

        def go_on(results: Iterator[T]) -> None:
            under_way[pool.submit(next, results, None)] = results

        for piece in islice(waiting, threads):
            go_on(work(piece))
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                results, found = under_way.pop(future), future.result()
                if found is not None:
                    go_on(results)
                    yield found
                    continue
                for piece in islice(waiting, 1):
                    go_on(work(piece))
