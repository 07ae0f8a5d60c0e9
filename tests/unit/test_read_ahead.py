"""Work that threads do a little ahead."""

import threading
from collections.abc import Iterator

import pytest

from featurestore.offline.read_ahead import as_they_come


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_every_result_of_every_piece_comes_once(threads: int) -> None:
    def work(piece: int) -> Iterator[tuple[int, int]]:
        yield from ((piece, n) for n in range(piece))

    found = list(as_they_come(work, range(9), threads=threads))
    assert sorted(found) == [(piece, n) for piece in range(9) for n in range(piece)]
    assert list(as_they_come(work, [], threads=threads)) == []


def test_an_error_of_a_piece_is_the_callers() -> None:
    def work(piece: int) -> Iterator[int]:
        yield piece
        raise LookupError(piece)

    with pytest.raises(LookupError):
        list(as_they_come(work, range(5), threads=2))


def test_nothing_runs_ahead_of_its_reader_or_after_it() -> None:
    done = []

    def work(piece: int) -> Iterator[int]:
        for number in range(100):
            done.append((piece, number))
            yield number

    results = as_they_come(work, range(100), threads=2)
    for _ in range(3):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(done) <= 3 + 2 * 2
    assert not [t for t in threading.enumerate() if t.name.startswith("read")]
