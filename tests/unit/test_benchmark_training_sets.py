"""Training sets of the benchmarks: one right answer each, found in more than one way."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks import bench_windows, harness, training_data, window_data


@pytest.fixture(scope="module", autouse=True)
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        folder = tmp_path_factory.mktemp("build")
        environment.setenv("FEATURESTORE_BENCHMARKS_BUILD", str(folder))
        yield


TRAINING_SETS: dict[str, Callable[[], training_data.TrainingSet]] = {
    "pit-4": lambda: training_data.pit_4("tiny"),
    "pit-hot": lambda: training_data.pit_hot("tiny", skewed=True),
    "pit-big": lambda: training_data.pit_big("tiny"),
    "taxi": lambda: training_data.taxi("tiny", times=10),
    "win": lambda: window_data.windows("tiny", shape="zipf"),
}


class TestTrainingSets:
    @pytest.mark.parametrize("name", TRAINING_SETS)
    def test_no_key_has_two_rows_at_one_time_so_there_is_one_right_answer(self, name: str) -> None:
        for view in TRAINING_SETS[name]().views:
            moments = pq.read_table(view.history, columns=[*view.keys, "event_timestamp"])
            assert moments.group_by(moments.column_names).aggregate([]).num_rows == len(moments)

    @pytest.mark.parametrize("name", TRAINING_SETS)
    def test_most_rows_have_an_answer_in_every_view_and_some_have_none(self, name: str) -> None:
        found = TRAINING_SETS[name]()
        answers = found.right_answer()
        assert answers["rows"] == found.rows == pq.read_metadata(found.spine).num_rows
        for view in found.views:
            answered = answers[f"{view.features[-1]}_count"]
            assert found.rows / 2 < answered < found.rows

    def test_as_of_answers_are_those_of_a_search_in_each_keys_rows(self) -> None:
        found = training_data.pit_4("tiny")
        view = found.views[-1]
        histories: dict[Any, list[tuple[Any, float]]] = {}
        for row in pq.read_table(view.history).to_pylist():  # in the order of event time
            key = tuple(row[name] for name in view.keys)
            histories.setdefault(key, []).append((row["event_timestamp"], row["f30"]))
        answers = []
        for row in pq.read_table(found.spine).to_pylist():
            rows = histories.get(tuple(row[name] for name in view.keys), [])
            older = [value for time, value in rows if time <= row["event_timestamp"]]
            answers += older[-1:]
        assert found.right_answer()["f30_count"] == len(answers)
        assert found.right_answer()["f30_sum"] == pytest.approx(sum(answers))

    def test_window_answers_are_those_of_a_loop_over_events(self) -> None:
        found = window_data.windows("tiny", shape="dense")
        events = pq.read_table(found.views[0].history).to_pylist()
        wanted = dict.fromkeys(
            window_data.feature_names(("count", "sum", "min", "max"), ("7d",)), 0.0
        )
        for row in pq.read_table(found.spine)[:50].to_pylist():
            end = row["event_timestamp"]
            inside = [
                event["amount"]
                for event in events
                if event["user_id"] == row["user_id"]
                and end - timedelta(days=7) <= event["event_timestamp"] < end
            ]
            for name, function in (("count", len), ("sum", sum), ("min", min), ("max", max)):
                wanted[f"amount_{name}_7d"] += function(inside) if inside else 0
        answers = window_data.window_digest(found.views[0].history, found.spine, first=50)
        assert {n: answers[f"{n}_sum"] for n in wanted} == pytest.approx(wanted)

    def test_skewed_means_that_a_quarter_of_all_rows_are_of_one_key(self) -> None:
        events = window_data.windows("tiny", shape="zipf").views[0].history
        keys = pq.read_table(events)["user_id"]
        assert 0.2 < pc.sum(pc.equal(keys, 1)).as_py() / len(keys) < 0.35

    def test_a_hundred_windows_have_the_names_that_features_get(self) -> None:
        from featurestore import Aggregation

        windows = window_data.many_windows()
        aggregation = Aggregation("amount", ["count", "sum"], windows=windows)
        names = [feature.name for feature in aggregation.features]
        assert names == list(window_data.feature_names(("count", "sum"), windows))
        assert set(window_data.WINDOWS) < set(windows)
        lengths = [feature.window_us for feature in aggregation.features[:100]]
        assert lengths == [window_data.window_us(window) for window in windows]

    def test_sql_that_takes_too_long_is_stopped_which_bounds_its_time_from_below(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bench_windows, "BOUND_S", 0.01)
        found = window_data.windows("tiny", shape="dense")
        plan = bench_windows.Plan("window_frames", "window frames", found, found)
        assert plan.measure() == harness.Sample(0.01)
        assert plan.stopped

    def test_what_is_paid_once_counts_once_where_a_time_is_extrapolated(self) -> None:
        found = bench_windows.extrapolated(1.1, 2.0, (10, 100, 2_000))
        assert found == pytest.approx(1.0 + 2_000 / 100)
        assert bench_windows.extrapolated(2.1, 2.0, (10, 100, 2_000)) == 2.0  # noise
