"""What every offline engine promises about training sets (SEMANTICS, sections 2 and 3)."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pyarrow as pa
import pytest
from hypothesis import given

from featurestore.errors import UnsupportedError
from featurestore.offline.as_of import explain
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.scan import open_scan
from featurestore.offline.spine_keys import number_keys
from featurestore.testing.offline_cases import (
    DAY,
    FIXTURE_IS_SHARED,
    check_training_set,
    crowded_history,
    crowded_spine,
    expected_training_set,
    history,
    training_set,
)
from featurestore.testing.oracle_rows import Mode
from featurestore.testing.plain import difference
from featurestore.testing.strategies import History, TrainingCase, training_cases
from featurestore.testing.text_tables import read_table

KEY_VALUES: Final = {
    "bool": ("true", "false"),
    "int8": ("-128", "-1", "0", "127"),
    "int16": ("-32768", "-1", "0", "32767"),
    "int32": ("-2147483648", "-1", "0", "2147483647"),
    "int64": ("-9223372036854775808", "-1", "9007199254740992", "9007199254740993"),
    "uint8": ("0", "128", "255"),
    "uint16": ("0", "65535"),
    "uint32": ("0", "4294967295"),
    "uint64": ("0", "9007199254740993", "18446744073709551615"),
    "string": ('""', "a", "A", "1", "01", '"a "', '"\\u0000"', "é", '"e\\u0301"', "🛫"),
    "binary": ("0x", "0x00", "0x0000", "0xff", "0xffff", "0x61"),
    "date32": ("0001-01-01", "1969-12-31", "1970-01-01", "9999-12-31"),
}
OTHER_KEYS: Final = {"binary": "0xff00", "string": "x"}


def check(
    engine: OfflineEngine,
    of: History,
    spine: str,
    *,
    mode: Mode = "complete",
    timezone: str = "UTC",
) -> None:
    """Compare an engine's training set with the oracle's; a mode it does not promise it refuses."""
    table = read_table(spine, day=DAY)
    case = TrainingCase(history=of, spine=table, timezone=timezone, mode=mode)
    if mode == "as_served" and not engine.capabilities.as_served:
        with pytest.raises(UnsupportedError):
            check_training_set(engine, case)
    else:
        check_training_set(engine, case)


class TrainingSetConformance:
    """The row that answers, and the shape of the result."""

    def test_the_newest_row_not_after_the_spines_time_answers(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: time | score: float64
        1              | 12:00    | 3.0
        1              | 10:00    | 1.0
        2              | 11:00    | 9.0
        1              | 11:00    | 2.0
        """
        spine = """
        user_id: int64 | event_timestamp: time
        1              | 11:59:59.999999
        1              | 11:00
        1              | 10:59:59.999999
        1              | 09:59:59.999999
        2              | 13:00
        """
        check(engine, history(rows), spine)

    def test_a_value_expires_after_its_ttl(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: time | score: float64
        1              | 10:00    | 1.0
        1              | 10:30    | null
        2              | 10:00    | 2.0
        """
        spine = """
        user_id: int64 | event_timestamp: time
        2              | 10:00
        2              | 11:00
        2              | 11:00:00.000001
        1              | 11:00
        1              | 11:30
        1              | 11:30:00.000001
        """
        check(engine, history(rows, ttl="1h"), spine)

    def test_a_null_in_the_newest_row_is_the_answer(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: time | score: float64 | country: string
        1              | 10:00    | 1.0            | AT
        1              | 11:00    | null           | CH
        """
        spine = """
        user_id: int64 | event_timestamp: time
        1              | 11:00
        1              | 10:00
        """
        features = {"score": "float64", "country": "string"}
        check(engine, history(rows, features=features), spine)

    def test_a_correction_wins_wherever_it_stands(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: time | created: time | score: float64
        1              | 10:00    | 12:00         | 1.5
        1              | 10:00    | 11:00         | 1.0
        1              | 10:00    | null          | 0.5
        2              | 10:00    | null          | 2.0
        2              | 10:00    | 11:00         | 2.5
        3              | 10:00    | null          | 3.0
        3              | 10:00    | null          | 3.5
        """
        spine = """
        user_id: int64 | event_timestamp: time
        1              | 10:00
        2              | 10:00
        3              | 10:00
        """
        check(engine, history(rows), spine)

    def test_of_tied_rows_the_last_in_byte_order_of_paths_answers(
        self, engine: OfflineEngine
    ) -> None:
        row = "user_id: int64 | at: time | score: float64\n{0} | 10:00 | {1}"
        two = row + "\n{0} | 10:00 | {2}"
        files = {
            "é.parquet": row.format(1, 7.0),
            "z.parquet": row.format(1, 6.0),
            "a/z.parquet": two.format(2, 5.0, 5.5),
            "a.parquet": two.format(2, 4.0, 4.5),
            "a-b/z.parquet": row.format(2, 3.0),
            "B.parquet": row.format(3, 2.0),
            "10.parquet": row.format(3, 1.0),
        }
        spine = "user_id: int64 | event_timestamp: time\n1 | 11:00\n2 | 11:00\n3 | 11:00"
        check(engine, history(files), spine)

    def test_rows_that_meet_after_rounding_keep_their_nanosecond_order(
        self, engine: OfflineEngine
    ) -> None:
        files = {
            "a.parquet": """
            user_id: int64 | at: timestamp[ns]  | score: float64
            1              | 10:00:00.000000999 | 1.9
            1              | 10:00:00.000000001 | 1.0
            2              | 10:00:00.000000999 | 2.0
            3              | 10:00:00.000001    | 3.0
            """,
            "b.parquet": """
            user_id: int64 | at: timestamp[us, UTC] | score: float64
            2              | 10:00:00.000001        | 2.5
            3              | 10:00:00.000001        | 3.5
            """,
            "c.parquet": """
            user_id: int64 | at: timestamp[ns, UTC] | score: float64
            2              | 10:00:00.000000001     | 2.9
            """,
        }
        spine = """
        user_id: int64 | event_timestamp: timestamp[ns]
        1              | 10:00:00.000000999
        1              | 10:00:00.000001
        2              | 10:00:00.000001
        3              | 10:00:00.000001
        """
        check(engine, history(files), spine)

    def test_no_row_of_the_spine_is_lost_moved_or_merged(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: time | score: float64
        1              | 10:00    | 1.0
        null           | 10:00    | 9.0
        2              | null     | 9.0
        """
        spine = """
        event_timestamp: time | label: string | user_id: int64
        11:00                 | a             | 3
        11:00                 | b             | 1
        11:00                 | c             | null
        null                  | d             | 1
        11:00                 | b             | 1
        09:00                 | e             | 1
        11:00                 | f             | 2
        """
        check(engine, history(rows), spine)

    def test_all_parts_of_a_key_must_match(self, engine: OfflineEngine) -> None:
        rows = """
        origin: string | number: int32 | at: time | score: float64
        A              | 11            | 10:00    | 1.0
        A1             | 1             | 10:00    | 2.0
        null           | 1             | 10:00    | 3.0
        """
        spine = """
        number: int16 | origin: large_string | event_timestamp: time
        11            | A                    | 11:00
        1             | A1                   | 11:00
        1             | A                    | 11:00
        1             | null                 | 11:00
        null          | A                    | 11:00
        """
        of = history(rows, keys={"origin": "string", "number": "int32"})
        check(engine, of, spine)

    @pytest.mark.parametrize("dtype", sorted(KEY_VALUES))
    def test_keys_of_every_type_match_alone_and_beside_others(
        self, engine: OfflineEngine, dtype: str
    ) -> None:
        # The second has it before and behind parts of either kind of any length.
        for types in ((dtype,), ("string", "binary", dtype, "string", dtype, "binary")):
            keys = {f"k{n}": name for n, name in enumerate(types)}
            header = " | ".join(f"{name}: {t}" for name, t in keys.items())
            cells = [
                " | ".join(value if t == dtype else OTHER_KEYS[t] for t in types)
                for value in KEY_VALUES[dtype]
            ]
            rows = "\n".join(f"{key} | 10:00 | {n}.5" for n, key in enumerate(cells))
            asked = "\n".join(f"{key} | 11:00" for key in [*cells, *cells])
            of = history(f"{header} | at: time | score: float64\n{rows}", keys=keys)
            check(engine, of, f"{header} | event_timestamp: time\n{asked}")

    def test_a_view_without_keys_has_one_row_for_everybody(self, engine: OfflineEngine) -> None:
        rows = """
        at: time | created: time | score: float64
        10:00    | 10:30         | 1.0
        11:00    | 11:30         | 2.0
        11:00    | 12:30         | 2.5
        """
        spine = "event_timestamp: time\n11:00\n10:30\nnull\n09:00\n12:00\n12:30\n11:00"
        check(engine, history(rows, keys={}), spine)
        check(engine, history(rows, keys={}), spine, mode="as_served")

    def test_nothing_comes_of_nothing(self, engine: OfflineEngine) -> None:
        header = "user_id: int64 | at: time | created: time | score: float64\n"
        row = header + "1 | 10:00 | 10:00 | 1.0"
        spine = "user_id: int64 | event_timestamp: time\n"
        for mode in ("complete", "as_served"):
            check(engine, history(header), spine + "1 | 11:00", mode=mode)
            check(engine, history(row), spine, mode=mode)
            check(engine, history(header), spine, mode=mode)

    def test_as_served_nothing_written_later_shows_or_hides(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: time | created: time | score: float64
        1              | 10:00    | 10:05         | 1.0
        1              | 09:00    | 11:00         | 0.9
        1              | 10:00    | 12:00         | 1.5
        2              | 12:00    | 08:00         | 2.0
        2              | 11:00    | null          | 2.5
        """
        spine = """
        user_id: int64 | event_timestamp: time
        1              | 10:04
        1              | 10:05
        1              | 11:30
        1              | 12:00
        2              | 11:59
        2              | 12:00
        """
        check(engine, history(rows), spine, mode="as_served")
        check(engine, history(rows, ttl="90m"), spine, mode="as_served")

    def test_a_history_large_enough_for_several_threads_has_one_answer(
        self, engine: OfflineEngine, tmp_path: Path
    ) -> None:
        of = crowded_history(rows=3_200, users=20)
        case = TrainingCase(
            history=of, spine=crowded_spine(rows=100, users=25), timezone="UTC", mode="complete"
        )
        of.write(tmp_path, row_group_rows=200)  # eight row groups a file, for threads to share
        expected = expected_training_set(case)
        for _ in range(3):
            found = training_set(engine, case, root=tmp_path)
            assert (text := difference(found, expected)) is None, text

    def test_calls_from_several_threads_do_not_mix(
        self, engine: OfflineEngine, tmp_path: Path
    ) -> None:
        of = crowded_history(rows=300, users=5)
        of.write(tmp_path)
        cases = [
            TrainingCase(
                history=of, spine=crowded_spine(rows=n, users=5), timezone="UTC", mode="complete"
            )
            for n in range(1, 9)
        ]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda case: training_set(engine, case, root=tmp_path), cases))
        expected = [expected_training_set(case) for case in cases]
        texts = [difference(a, b) for a, b in zip(found, expected, strict=True)]
        assert texts == [None] * len(cases)

    def test_an_explanation_says_something(self, engine: OfflineEngine, tmp_path: Path) -> None:
        of = crowded_history(rows=3, users=1)
        of.write(tmp_path)
        scan = open_scan(of.view, of.view.feature_names, tmp_path)
        spine = pa.table({"q": pa.array([0], pa.int64()), "k0": pa.array([0], pa.int64())})
        assert explain(engine, scan, number_keys(spine), ttl_us=None).strip()

    @FIXTURE_IS_SHARED
    @given(case=training_cases())
    def test_any_history_has_the_oracles_answer(
        self, engine: OfflineEngine, case: TrainingCase
    ) -> None:
        if case.mode == "complete" or engine.capabilities.as_served:
            check_training_set(engine, case)
