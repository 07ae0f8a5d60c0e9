"""What every offline engine promises about materialization (SEMANTICS, section 6)."""

from contextlib import closing
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.offline.engine import OfflineEngine, RowFilter
from featurestore.offline.scan import SourceScan, open_scan, open_times
from featurestore.testing.local_time import round_up
from featurestore.testing.offline_cases import (
    DAY,
    FIXTURE_IS_SHARED,
    check_latest,
    crowded_history,
    history,
    latest_rows,
)
from featurestore.testing.oracle_rows import count_never_visible, read_source
from featurestore.testing.plain import from_array, parse_time
from featurestore.testing.strategies import History, histories

ROWS = """
user_id: int64 | at: time        | created: time | score: float64
1              | 10:00           | 10:05         | 1.0
1              | 11:00           | 11:05         | null
1              | 11:00           | 11:04         | 1.5
2              | 11:00:00.000001 | 11:05         | 2.0
2              | 09:00           | 11:30         | 2.5
3              | 10:00           | null          | 3.0
3              | 10:00           | null          | 3.5
null           | 10:00           | 10:05         | 9.0
4              | null            | 10:05         | 9.0
"""


def us(clock: str) -> int:
    """Return a time of the day of all tables, in microseconds."""
    return round_up(parse_time(clock + "Z", day=DAY).ns)


class LatestRowsConformance:
    """The newest row of every entity."""

    @pytest.mark.parametrize(
        "wanted",
        [
            RowFilter(until_us=us("12:00")),
            RowFilter(until_us=us("11:00")),
            RowFilter(until_us=us("10:59")),
            RowFilter(until_us=us("11:00"), after_us=us("10:00")),
            RowFilter(until_us=us("11:00:00.000001"), after_us=us("11:00")),
            RowFilter(until_us=us("08:00")),
            RowFilter(
                until_us=us("12:00"),
                created_after_us=us("11:05"),
                or_event_after_us=us("11:00"),
            ),
            RowFilter(
                until_us=us("11:00"), created_after_us=us("11:04"), or_event_after_us=us("12:00")
            ),
        ],
        ids=["all", "end", "before", "range", "range end", "none", "new", "newly created"],
    )
    def test_the_newest_row_of_those_wanted_is_offered(
        self, engine: OfflineEngine, wanted: RowFilter
    ) -> None:
        check_latest(engine, history(ROWS), wanted)

    def test_a_source_without_created_times_has_null_ones(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: time | score: float64
        1              | 10:00    | 1.0
        1              | 10:00    | 1.5
        2              | 10:00    | null
        """
        check_latest(engine, history(rows), RowFilter(until_us=us("12:00")))

    def test_a_view_without_keys_has_at_most_one_row(self, engine: OfflineEngine) -> None:
        rows = "at: time | score: float64\n10:00 | 1.0\n11:00 | 2.0\nnull | 3.0"
        for end in ("09:00", "10:00", "12:00"):
            check_latest(engine, history(rows, keys={}), RowFilter(until_us=us(end)))

    def test_many_tied_rows_have_one_winner_whatever_the_threads(
        self, engine: OfflineEngine, tmp_path: Path
    ) -> None:
        of = crowded_history(rows=3_200, users=280)
        of.write(tmp_path, row_group_rows=200)  # eight row groups a file, for threads to share
        wanted = RowFilter(until_us=2**60)
        best: dict[object, object] = {}
        for row in sorted(read_source(of.view, of.rows), key=lambda row: row.rank):
            best[row.key[0]] = row.values["score"]
        for _ in range(3):
            found, _ = latest_rows(engine, of, wanted, root=tmp_path)
            keys, scores = from_array(found["k0"]), from_array(found["f0"])
            assert dict(zip(keys, scores, strict=True)) == best
            assert len(keys) == len(best)

    @pytest.mark.parametrize("count", [1, 2, 5, 50, 600])
    def test_the_newest_rows_can_be_asked_for_in_parts(
        self, engine: OfflineEngine, tmp_path: Path, count: int
    ) -> None:
        of = crowded_history(rows=600, users=100)
        of.write(tmp_path, row_group_rows=50)
        whole, _ = latest_rows(engine, of, RowFilter(until_us=2**60), root=tmp_path)
        with closing(
            engine.latest(
                open_scan(of.view, of.view.feature_names, tmp_path), RowFilter(until_us=2**60)
            )
        ) as rows:
            ranges = list(rows.split(count))
            parts = [list(rows.batches(100, ordinals)) for ordinals in reversed(ranges)]
        assert 1 <= len(ranges) <= count
        assert ranges[0].start == 0
        assert all(a.stop == b.start for a, b in pairwise(ranges))
        sizes = [sum(batch.num_rows for batch in part) for part in parts]
        assert max(sizes) <= 3 * -(-100 // count), f"sizes of {count} parts: {sizes}"
        found = pa.Table.from_batches([batch for part in parts for batch in part], whole.schema)
        assert found.sort_by("k0").equals(whole.sort_by("k0"))

    def test_a_part_means_the_same_entities_in_a_later_call(
        self, engine: OfflineEngine, tmp_path: Path
    ) -> None:
        of = crowded_history(rows=3_000, users=300)
        of.write(tmp_path, row_group_rows=250)
        scan, wanted = (
            open_scan(of.view, of.view.feature_names, tmp_path),
            RowFilter(until_us=2**60),
        )
        with closing(engine.latest(scan, wanted)) as rows:
            some = rows.split(3)[1]
            first = pa.Table.from_batches(rows.batches(100, some))
        with closing(engine.latest(scan, wanted)) as rows:
            again = pa.Table.from_batches(rows.batches(100, some))
        assert 0 < first.num_rows < 300
        assert first.sort_by("k0").equals(again.sort_by("k0"))

    def test_a_part_may_hold_nothing(self, engine: OfflineEngine, tmp_path: Path) -> None:
        scan = self._scan(history(ROWS), tmp_path)
        with closing(engine.latest(scan, RowFilter(until_us=us("12:00")))) as rows:
            assert list(rows.batches(10, range(2**50, 2**51))) == []
        with closing(engine.latest(scan, RowFilter(until_us=us("08:00")))) as rows:
            [everything] = rows.split(4)
            assert sum(batch.num_rows for batch in rows.batches(10, everything)) == 0

    def test_keys_are_those_of_rows_that_can_be_visible(
        self, engine: OfflineEngine, tmp_path: Path
    ) -> None:
        scan = self._scan(history(ROWS), tmp_path)
        found = pa.Table.from_batches(list(engine.keys(scan)))
        assert sorted(from_array(found["k0"])) == [1, 2, 3]

    def test_ties_are_told_when_their_features_differ(
        self, engine: OfflineEngine, tmp_path: Path
    ) -> None:
        same = "\n1 | 10:00 | 10:05 | 1.0\n1 | 10:00 | 10:05 | 1.0\n"
        found = engine.ties(self._scan(history(ROWS.rstrip() + same), tmp_path))
        rows = pa.Table.from_batches(list(found)).to_pylist()
        assert rows == [{"k0": 3, "e": us("10:00"), "c": None}]

    def test_ties_differ_also_by_a_null(self, engine: OfflineEngine, tmp_path: Path) -> None:
        rows = "user_id: int64 | at: time | score: float64\n1 | 10:00 | null\n1 | 10:00 | 0.0"
        found = list(engine.ties(self._scan(history(rows), tmp_path)))
        assert [batch.to_pylist() for batch in found] == [[{"k0": 1, "e": us("10:00"), "c": None}]]

    @FIXTURE_IS_SHARED
    @given(data=st.data())
    def test_times_are_those_of_all_rows(self, engine: OfflineEngine, data: st.DataObject) -> None:
        of = data.draw(histories(created=True))
        instants = st.none() | st.sampled_from([round_up(ns) for ns in of.moments])
        after, until = data.draw(instants), data.draw(instants)
        without_keys = of.view.model_copy(update={"entities": ()})
        rows = read_source(without_keys, of.rows)
        expected: list[tuple[int | None, int | None]]
        expected = [
            (row.event_us, row.created_us)
            for row in rows
            if (after is None or row.event_us > after) and (until is None or row.event_us <= until)
        ]
        with TemporaryDirectory() as folder:
            of.write(Path(folder))
            scan = open_times(of.view.source, Path(folder))
            batches = list(engine.times(scan, after_us=after, until_us=until))
        found = [(row["e"], row["c"]) for batch in batches for row in batch.to_pylist()]
        known = [row for row in found if row[0] is not None]
        assert sorted(known, key=_nulls_first) == sorted(expected, key=_nulls_first)
        unbounded = after is None and until is None
        nulls = count_never_visible(without_keys, of.rows) if unbounded else 0
        assert len(found) - len(known) == nulls

    @staticmethod
    def _scan(of: History, root: Path) -> SourceScan:
        of.write(root)
        return open_scan(of.view, of.view.feature_names, root)

    @FIXTURE_IS_SHARED
    @given(data=st.data())
    def test_any_history_has_the_oracles_newest_rows(
        self, engine: OfflineEngine, data: st.DataObject
    ) -> None:
        of = data.draw(histories())
        instants = st.sampled_from([round_up(ns) for ns in of.moments])
        bound = st.none() | instants
        dated = of.view.source.created_timestamp_column is not None
        created_after = data.draw(bound) if dated else None
        check_latest(
            engine,
            of,
            RowFilter(
                until_us=data.draw(instants),
                after_us=data.draw(bound),
                created_after_us=created_after,
                or_event_after_us=None if created_after is None else data.draw(instants),
            ),
        )


def _nulls_first(row: tuple[int | None, int | None]) -> tuple[tuple[bool, int], ...]:
    return tuple((time is not None, time or 0) for time in row)
