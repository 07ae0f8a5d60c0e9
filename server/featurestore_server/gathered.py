"""What all workers counted, living and dead, added up in the parent."""

import threading
from collections.abc import Collection, Iterator, Mapping

from featurestore_server.families import WORKERS, Family, Kind, Labels, Sample, Samples, sum_of


class Gathered:
    """The sum of workers' reports. Safe to use from several threads.

    What a worker counted in the last second before it died is lost.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[int, tuple[int, Samples]] = {}
        self._ended: dict[str, dict[Labels, Sample]] = {}

    def take(self, worker: int, pid: int, samples: Samples) -> None:
        """Take a worker's report.

        Args:
            worker: Which one; the process that takes a dead one's place has its number.
            pid: Its process.
            samples: All that this process has counted.
        """
        with self._lock:
            before = self._latest.get(worker)
            if before and before[0] != pid:
                self._end(before[1])
            self._latest[worker] = (pid, samples)

    def _end(self, samples: Samples) -> None:
        for family in WORKERS:
            if family.kind is not Kind.GAUGE:
                _add(self._ended.setdefault(family.name, {}), samples.get(family.name, {}))

    def total(self, family: Family) -> dict[Labels, Sample]:
        """Return a counter's or histogram's samples."""
        with self._lock:
            total = dict(self._ended.get(family.name, {}))
            for _, samples in self._latest.values():
                _add(total, samples.get(family.name, {}))
            return total

    def gauges(self, family: Family, workers: Collection[int]) -> Iterator[tuple[int, Sample]]:
        """Yield a gauge of some workers, each with the worker's number."""
        with self._lock:
            latest = [(n, samples) for n, (_, samples) in self._latest.items() if n in workers]
        for worker, samples in latest:
            for sample in samples.get(family.name, {}).values():
                yield worker, sample


def _add(total: dict[Labels, Sample], more: Mapping[Labels, Sample]) -> None:
    for labels, sample in more.items():
        total[labels] = sum_of(total.get(labels), sample)
