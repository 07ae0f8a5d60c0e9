"""What a scrape says is what happened, whichever worker it happened in."""

import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from featurestore_server import families
from featurestore_server.calls import Call
from featurestore_server.errors import AddressError, AddressInUseError, OverloadedError
from featurestore_server.families import Kind
from featurestore_server.gathered import Gathered
from featurestore_server.scrapes import MAX_CONNECTIONS, MetricsServer
from featurestore_server.tally import Histogram, StatusCounter, Tally, count_statuses
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from featurestore.errors import StoreUnavailableError
from featurestore.online.store import OnlineStore
from featurestore.serving.lookup import FeatureColumn, LookupResult, Status
from tests.servers import workers_of

from . import shop
from .http_calls import PATH, http_served
from .observed import METHOD, PATIENCE_S, Observed, make_repository, observed, wait_for

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """A server of two workers that has answered five calls, one of them for what there is not."""
    root = tmp_path_factory.mktemp("plant")
    make_repository(root)
    with observed(root, "--workers", "2") as started:
        started.ask("all", 1, 2)
        started.ask("all", 3, 4, 5)
        started.ask("all", 1)
        started.ask("al", 1)
        started.ask("al", 1)
        wait_for(lambda: started.value("featurestore_requests_total", **_outcome("all")) == 3)
        wait_for(lambda: started.value("featurestore_requests_total", **_UNKNOWN) == 2)
        yield started


def _outcome(service: str, code: str = "OK", reason: str = "") -> dict[str, str]:
    return {"method": METHOD, "service": service, "code": code, "reason": reason}


# What callers make up does not become a label.
_UNKNOWN = _outcome("", "NOT_FOUND", "FEATURE_SERVICE_NOT_FOUND")


def test_requests_are_counted_with_their_outcome(server: Observed) -> None:
    samples = server.families()["featurestore_requests_total"].samples
    counted = {tuple(sorted(s.labels.items())): s.value for s in samples}
    expected = [(_outcome("all"), 3), (_UNKNOWN, 2)]
    assert counted == {tuple(sorted(labels.items())): count for labels, count in expected}


def test_every_request_is_in_the_histogram_of_durations(server: Observed) -> None:
    labels = {"method": METHOD, "service": "all"}
    count = server.value("featurestore_request_duration_seconds_count", **labels)
    took_s = server.value("featurestore_request_duration_seconds_sum", **labels)
    last = server.value("featurestore_request_duration_seconds_bucket", **labels, le="+Inf")
    assert count == last == 3
    assert 0 < took_s < 60


def test_the_queue_is_timed(server: Observed) -> None:
    assert server.value("featurestore_request_queue_seconds_count") == 5
    waited_s = server.value("featurestore_request_queue_seconds_sum")
    took_s = server.value(
        "featurestore_request_duration_seconds_sum", method=METHOD, service="all"
    ) + server.value("featurestore_request_duration_seconds_sum", method=METHOD, service="")
    assert 0 < waited_s < took_s


def test_entities_are_counted(server: Observed) -> None:
    name = "featurestore_request_entities"
    assert server.value(f"{name}_sum", service="all") == 6
    assert [server.value(f"{name}_bucket", service="all", le=le) for le in ("1.0", "2.0")] == [1, 2]


@pytest.mark.parametrize(("status", "count"), [("PRESENT", 3), ("NULL_VALUE", 1), ("NOT_FOUND", 2)])
def test_values_are_counted_by_status(server: Observed, status: str, count: int) -> None:
    assert server.value("featurestore_values_total", service="all", status=status) == count


def test_views_are_as_old_as_their_last_end(server: Observed) -> None:
    # The clock stands still at the time up to which was materialized; the rows are of January.
    assert server.value("featurestore_view_age_seconds", view="reading") == 0
    assert server.value("featurestore_view_event_age_seconds", view="reading") == 152 * 86_400
    assert server.value("featurestore_view_served_generation", view="reading") == 1
    assert server.value("featurestore_view_run_failed", view="reading") == 0


def test_workers_and_their_store_are_shown(server: Observed) -> None:
    assert server.value("featurestore_workers_configured") == 2
    assert server.value("featurestore_workers_alive") == 2
    for worker in ("0", "1"):
        assert server.value("featurestore_store_up", worker=worker) == 1
        assert server.value("featurestore_served_revision", worker=worker) == 1
        assert server.value("featurestore_calls_in_flight", worker=worker) == 0
    assert server.value("featurestore_store_read_duration_seconds_count") >= 3


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells")
def test_processes_are_shown(server: Observed) -> None:
    parent = psutil.Process(server.process.pid)
    shown = server.value("featurestore_process_resident_memory_bytes", process="parent")
    assert shown == pytest.approx(parent.memory_info().rss, rel=0.2)
    assert server.value("featurestore_process_open_fds", process="0") > 3
    assert server.value("featurestore_process_cpu_seconds_total", process="1") > 0


def test_no_metric_is_undocumented_and_none_is_missing(server: Observed) -> None:
    table = re.findall(
        r"^\| `(featurestore_\w+)` \| (\w+) \| (.*?) \|", DOCUMENT.read_text(), re.MULTILINE
    )
    documented = {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in table}
    declared = {
        f.name: (f.kind.value, set(f.labels) | ({"worker"} if _is_per_worker(f) else set()))
        for f in families.FAMILIES.values()
    }
    assert documented == declared
    scraped = server.families()
    assert scraped.keys() == documented.keys()
    for name, family in scraped.items():
        assert family.type == documented[name][0]
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == documented[name][1]


def _is_per_worker(family: families.Family) -> bool:
    return family.kind is Kind.GAUGE and family in families.WORKERS


def test_there_is_no_other_path(server: Observed) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.scrape("/")


def test_counts_survive_their_worker(tmp_path: Path) -> None:
    make_repository(tmp_path, "server: {backend: false}\n")
    with observed(tmp_path) as server:
        counted = {"name": "featurestore_requests_total", **_outcome("all")}
        server.ask("all", 1)
        wait_for(lambda: server.value(**counted) == 1)
        [worker] = workers_of(server.process.pid)
        worker.kill()
        wait_for(lambda: server.value("featurestore_worker_restarts_total") == 1)
        server.ask("all", 1)
        wait_for(lambda: server.value(**counted) == 2)
        assert server.value("featurestore_workers_alive") == 1


def test_reloads_are_counted(tmp_path: Path) -> None:
    from featurestore.definitions import FeatureService
    from featurestore.store import FeatureStore
    from tests.unit.projects import view

    make_repository(tmp_path, "server: {reload_every_ms: 50, backend: false}\n")
    with observed(tmp_path) as server, FeatureStore(tmp_path) as store:
        store.apply([FeatureService(name="more", features=[view()])])
        wait_for(lambda: server.value("featurestore_served_revision", worker="0") == 2)
        assert server.value("featurestore_reloads_total") == 1
        server.ask("more", 1)  # a service that was not there when counting began
        wait_for(lambda: server.value("featurestore_requests_total", **_outcome("more")) == 1)


def test_scrapes_are_answered_until_the_last_call_is_finished(tmp_path: Path) -> None:
    make_repository(tmp_path, "server: {backend: false}\n")
    with observed(tmp_path) as server:
        [worker] = psutil.Process(server.process.pid).children()
        worker.suspend()  # one that takes its time
        server.process.terminate()
        wait_for(lambda: "told to stop" in server.log.read_text())
        assert server.value("featurestore_workers_alive") == 1
        worker.resume()
        assert server.process.wait(PATIENCE_S) == 0
        assert "was killed" not in server.log.read_text()
        with pytest.raises(OSError, match="refused"):
            server.scrape()


# --- the parts ------------------------------------------------------------------------------------


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.add(value)
    assert histogram.sample() == [2, 2, 1, 7.5]


def test_made_up_methods_do_not_grow_without_bound() -> None:
    tally = Tally(["all"])
    for number in range(1_000):
        tally.ended(Call(f"/made/up{number}", b""), None)
    counted = tally.samples()[families.REQUESTS.name]
    assert len(counted) <= 101
    assert sum(sample for sample in counted.values() if isinstance(sample, int)) == 1_000


def test_failures_have_code_and_reason() -> None:
    tally = Tally([])
    tally.ended(Call("/a/b", b""), OverloadedError("Too much."))
    assert tally.samples()[families.REQUESTS.name] == {("/a/b", "", "UNAVAILABLE", "OVERLOADED"): 1}


def test_trips_that_fail_are_counted_and_timed() -> None:
    tally = Tally([])
    tally.read(0.003, StoreUnavailableError("gone"))
    tally.read(0.001, None)
    samples = tally.samples()
    assert samples[families.STORE_ERRORS.name] == {("unavailable",): 1}
    reads = samples[families.STORE_READ.name][()]
    assert isinstance(reads, list)
    assert (sum(reads[:-1]), reads[-1]) == (2, pytest.approx(0.004))


def test_statuses_are_counted_as_one_by_one() -> None:
    draw = np.random.default_rng(7)
    for shares in (1, 2, 5):
        columns = [draw.integers(1, 5, 40, dtype=np.uint8) for _ in range(shares)]
        columns.append(np.full(40, Status.PRESENT, np.uint8))
        features = [
            FeatureColumn(f"f{n}", "int64", column, column, 0)
            for n, column in enumerate(c for c in columns for _ in range(3))
        ]
        counted = count_statuses(LookupResult([], features, [], 0))
        every = np.concatenate([feature.statuses for feature in features])
        assert counted == [int((every == status).sum()) for status in range(5)]


def test_dead_workers_keep_their_counts_and_lose_their_gauges() -> None:
    gathered = Gathered()
    counts: families.Samples = {families.REFUSED.name: {(): 2.0}, families.STORE_UP.name: {(): 1.0}}
    gathered.take(0, 100, counts)
    gathered.take(1, 101, counts)
    gathered.take(0, 102, counts)  # another process in the place of the first
    assert gathered.total(families.REFUSED) == {(): 6.0}
    assert list(gathered.gauges(families.STORE_UP, workers=[1])) == [(1, 1.0)]


class Nothing(Collector):
    def collect(self) -> list[Metric]:
        return []


def test_an_address_that_is_taken_is_an_error() -> None:
    first = MetricsServer("127.0.0.1:0", Nothing())
    try:
        with pytest.raises(AddressInUseError, match=first.address):
            MetricsServer(first.address, Nothing())
    finally:
        first.stop()


def _ends_silently(connection: socket.socket) -> bool:
    connection.settimeout(PATIENCE_S)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_connections_beyond_a_number_are_closed_as_they_come() -> None:
    server = MetricsServer("127.0.0.1:0", Nothing())
    host, _, port = server.address.rpartition(":")
    threads = threading.active_count()
    try:
        with ExitStack() as stack:
            for _ in range(MAX_CONNECTIONS):
                stack.enter_context(socket.create_connection((host, int(port))))
            for _ in range(5):
                with socket.create_connection((host, int(port))) as more:
                    assert _ends_silently(more)
            assert threading.active_count() == threads + MAX_CONNECTIONS
        # As soon as they are gone, scrapes are answered again.
        wait_for(lambda: _answers(server.address))
    finally:
        server.stop()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_S) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


class Large(Collector):
    """More than a connection takes before its client reads."""

    def collect(self) -> list[Metric]:
        return [GaugeMetricFamily("large", "x" * (64 << 20), 1)]


def test_a_client_that_hangs_up_is_not_worth_a_word(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server = MetricsServer("127.0.0.1:0", Large())
    host, _, port = server.address.rpartition(":")
    threads = threading.active_count()
    try:
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(1)
        wait_for(lambda: threading.active_count() == threads)
    finally:
        server.stop()
    assert capfd.readouterr().err == ""
    assert caplog.records == []


@pytest.mark.parametrize("address", ["unix:/tmp/x", "nowhere", "192.0.2.1:0"])
def test_an_address_that_is_none_is_an_error(address: str) -> None:
    with pytest.raises(AddressError):
        MetricsServer(address, Nothing())


def test_http_is_counted_beside_grpc(store: OnlineStore) -> None:
    tally = Tally(["checkout"])
    asked = {"feature_service": "checkout", "entities": {"user_id": [1, 2]}}
    options: Any = {"observer": tally, "witnesses": [StatusCounter()]}
    with http_served(shop.catalog(), store, **options) as served:
        assert served.client.post(asked).status == 200
    samples = tally.samples()
    assert samples["featurestore_requests_total"] == {(PATH, "checkout", "OK", ""): 1}
    assert samples["featurestore_values_total"]["checkout", "PRESENT"] == 7
    assert samples["featurestore_values_total"]["checkout", "NULL_VALUE"] == 1
