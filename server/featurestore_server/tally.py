"""What a worker counts, in plain memory: under four microseconds for a call.

prometheus_client's own multiprocess mode writes every number through to a mapped file: a counter
takes 1.9 us and a histogram 3.7 us, so the same counts would take 20 us of a call of 300, and every
process that ever died would leave files that each scrape reads. Here a worker reports what it
counted once a second, and the parent adds up.
"""

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final

from featurestore.errors import StoreDataError, StoreUnavailableError
from featurestore.serving.lookup import LookupResult, Status
from featurestore_server import families
from featurestore_server.calls import Call, Observer
from featurestore_server.errors import answer_to, reason_of
from featurestore_server.families import Labels, Sample, Samples, sum_of
from featurestore_server.service import Asked, Witness

_OK: Final = ("OK", "")
_OTHER: Final = "other"
_MAX_METHODS: Final = 100
"""Methods told apart: a label must not grow with what callers make up."""
_STATUS_NAMES: Final = [(int(status), status.name) for status in Status]
_PRESENT: Final = int(Status.PRESENT)
_STATUSES: Final = max(Status) + 1
"""How long a list of counts by status is."""


class Histogram:
    """Counts of values by size. Not safe to use from several threads."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def sample(self) -> list[float]:
        """Return what was counted, as `families.Sample` has it."""
        return [*self._counts, self._sum]


class _Record:
    """What is counted for one method and service."""

    __slots__ = ("durations", "entities", "outcomes", "statuses")

    def __init__(self) -> None:
        self.outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.durations = Histogram(families.DURATION.bounds)
        self.entities = Histogram(families.ENTITIES.bounds)
        self.statuses = [0] * _STATUSES


class Tally(Observer):
    """Counts calls, trips to the store, and whatever else a worker does.

    Args:
        services: The feature services that there are: others have the label "", so that callers
            cannot make up labels.
    """

    def __init__(self, services: Collection[str]) -> None:
        self.services = services
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], _Record] = {}
        self._methods: set[str] = set()
        self._queue = Histogram(families.QUEUE.bounds)
        self._reads = Histogram(families.STORE_READ.bounds)
        self._counters: defaultdict[tuple[str, Labels], float] = defaultdict(int)
        self._gauges: dict[str, Callable[[], float]] = {}

    def ended(self, call: Call, error: Exception | None) -> None:
        """Count a call."""
        took_s = time.perf_counter() - call.came
        service = call.service if call.service in self.services else ""
        outcome = _OK if error is None else (answer_to(error).code, reason_of(error))
        with self._lock:
            record = self._records.get((call.method, service)) or self._record(call.method, service)
            record.outcomes[outcome] += 1
            record.durations.add(took_s)
            if call.began:
                self._queue.add(call.began - call.came)
            if call.statuses and error is None:
                record.entities.add(call.entities)
                for status, count in enumerate(call.statuses):
                    if count:
                        record.statuses[status] += count

    def _record(self, method: str, service: str) -> _Record:
        if method not in self._methods:
            if len(self._methods) >= _MAX_METHODS:
                method = _OTHER
            self._methods.add(method)
        return self._records.setdefault((method, service), _Record())

    def read(self, took_s: float, error: Exception | None) -> None:
        """Count a trip to the store."""
        with self._lock:
            self._reads.add(took_s)
        if error is not None:
            self.count(families.STORE_ERRORS.name, _store_reason(error))

    def count(self, family: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counters[family, labels] += by

    def show(self, family: str, value: Callable[[], float]) -> None:
        """Ask this for a gauge's value from now on."""
        self._gauges[family] = value

    def samples(self) -> Samples:
        """Return all that was counted so far."""
        found: dict[str, dict[Labels, Sample]] = {f.name: {} for f in families.WORKERS}
        gauges = {name: value() for name, value in self._gauges.items()}
        with self._lock:
            for (name, labels), count in self._counters.items():
                found[name][labels] = count
            for (method, service), record in self._records.items():
                _add_record(found, method, service, record)
            found[families.QUEUE.name][()] = self._queue.sample()
            found[families.STORE_READ.name][()] = self._reads.sample()
        for name, value in gauges.items():
            found[name][()] = value
        return found


def _add_record(
    found: dict[str, dict[Labels, Sample]], method: str, service: str, record: _Record
) -> None:
    for outcome, count in record.outcomes.items():
        found[families.REQUESTS.name][method, service, *outcome] = count
    found[families.DURATION.name][method, service] = record.durations.sample()
    if not any(record.statuses):
        return  # no method but lookups has entities and values
    entities = found[families.ENTITIES.name]
    entities[service,] = sum_of(entities.get((service,)), record.entities.sample())
    for status, name in _STATUS_NAMES:
        values = found[families.VALUES.name]
        values[service, name] = sum_of(values.get((service, name)), record.statuses[status])


def _store_reason(error: Exception) -> str:
    if isinstance(error, StoreUnavailableError):
        return "unavailable"
    return "data" if isinstance(error, StoreDataError) else "error"


class StatusCounter(Witness):
    """Writes down how many values of a reply have which status."""

    def answered(self, asked: Asked, result: LookupResult) -> None:
        """Fill `call.statuses`."""
        asked.call.statuses = count_statuses(result)


def count_statuses(result: LookupResult) -> list[int]:
    """Return how many values of a reply have each status: position n is status n."""
    total = [0] * _STATUSES
    seen, count = None, 0
    for feature in result.features:  # those of one view mostly share their statuses
        if feature.statuses is not seen:
            if seen is not None:
                _add_statuses(total, seen.tobytes(), count)
            seen, count = feature.statuses, 0
        count += 1
    if seen is not None:
        _add_statuses(total, seen.tobytes(), count)
    return total


def _add_statuses(total: list[int], statuses: bytes, times: int) -> None:
    found = statuses.count(_PRESENT)
    total[_PRESENT] += found * times
    if found == len(statuses):  # which is most often so
        return
    for status in range(_PRESENT + 1, _STATUSES):
        total[status] += statuses.count(status) * times
