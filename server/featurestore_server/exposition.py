"""What a scrape is answered with: what workers counted, and what the parent knows."""

import os
import platform
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from featurestore_server import families
from featurestore_server.families import WORKERS, Family, Kind, Labels, Sample
from featurestore_server.standing import Reloads, Views
from featurestore_server.supervisor import Supervisor

Metric: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class ServerCollector(Collector):
    """All metrics of a server.

    Args:
        supervisor: Its workers.
        views: Where its views stand.
        reloads: How its definitions came to the workers.
    """

    def __init__(self, supervisor: Supervisor, views: Views, reloads: Reloads) -> None:
        self._supervisor = supervisor
        self._views = views
        self._reloads = reloads

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, with all of its samples."""
        alive = {n: w.pid for n, w in enumerate(self._supervisor.workers) if w.is_alive}
        for family in WORKERS:
            yield self._of_workers(family, alive.keys())
        parent = {family.name: _metric(family, family.labels) for family in families.PARENT}
        for family, labels, sample in self._of_parent(alive):
            _add(parent[family.name], family, labels, sample)
        yield from parent.values()

    def _of_workers(self, family: Family, alive: Collection[int]) -> Metric:
        gathered = self._supervisor.gathered
        if family.kind is Kind.GAUGE:
            metric = _metric(family, ("worker", *family.labels))
            for worker, sample in gathered.gauges(family, alive):
                _add(metric, family, (str(worker),), sample)
            return metric
        metric = _metric(family, family.labels)
        for labels, sample in gathered.total(family).items():
            _add(metric, family, labels, sample)
        return metric

    def _of_parent(self, alive: dict[int, int]) -> Iterator[tuple[Family, Labels, float]]:
        workers, reloads = self._supervisor.workers, self._reloads
        yield families.CONFIGURED, (), len(workers)
        yield families.ALIVE, (), len(alive)
        yield families.RESTARTS, (), sum(worker.restarts for worker in workers)
        yield families.RELOADS, (), reloads.done
        yield families.RELOAD_FAILURES, (), reloads.failed
        yield families.RELOADED_AT, (), reloads.last_at
        yield families.BUILD, (version("featurestore-server"), platform.python_version()), 1
        yield from self._views.samples()
        yield from _process_samples("parent", os.getpid())
        for number, pid in alive.items():
            yield from _process_samples(str(number), pid)


def _process_samples(name: str, pid: int) -> Iterator[tuple[Family, Labels, float]]:
    """Yield what Linux knows about a process; elsewhere, or if it is gone, nothing."""
    folder = Path("/proc", str(pid))
    with suppress(OSError):
        # After the name, which may hold anything and ends with the last parenthesis.
        fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        user, system, pages = int(fields[11]), int(fields[12]), int(fields[21])
        yield families.CPU, (name,), (user + system) / os.sysconf("SC_CLK_TCK")
        yield families.MEMORY, (name,), pages * os.sysconf("SC_PAGE_SIZE")
        yield families.DESCRIPTORS, (name,), sum(1 for _ in (folder / "fd").iterdir())


def _metric(family: Family, labels: Labels) -> Metric:
    if family.kind is Kind.COUNTER:
        return CounterMetricFamily(family.name, family.text, labels=labels)
    if family.kind is Kind.GAUGE:
        return GaugeMetricFamily(family.name, family.text, labels=labels)
    return HistogramMetricFamily(family.name, family.text, labels=labels)


def _add(metric: Metric, family: Family, labels: Labels, sample: Sample) -> None:
    if isinstance(metric, HistogramMetricFamily):
        *counts, total = cast("Sequence[float]", sample)
        bounds = [*map(str, family.bounds), "+Inf"]
        so_far, buckets = 0.0, []
        for bound, count in zip(bounds, counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        metric.add_metric(labels, buckets, total)
    else:
        metric.add_metric(labels, cast("float", sample))
