"""What every offline engine promises about sources: local times, types, names, broken files."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from featurestore.errors import (
    RequestError,
    SourceChangedError,
    SourceError,
    SourceTimeError,
    UnsupportedError,
)
from featurestore.offline.engine import OfflineEngine, RowFilter, SqlTable
from featurestore.offline.scan import open_scan
from featurestore.testing.offline_cases import DAY, history, training_set
from featurestore.testing.offline_training import check
from featurestore.testing.plain import from_array
from featurestore.testing.strategies import FOLDER, History, TrainingCase
from featurestore.testing.text_tables import read_table

AUTUMN = """
user_id: int64 | at: timestamp[us]          | score: float64
1              | 2024-11-03 00:59:59.999999 | 1.0
1              | 2024-11-03 01:00           | 2.0
1              | 2024-11-03 01:59:59.999999 | 3.0
1              | 2024-11-03 02:00           | 4.0
"""
AUTUMN_SPINE = """
user_id: int64 | event_timestamp: time
1              | 2024-11-03 04:59:59.999999
1              | 2024-11-03 05:00
1              | 2024-11-03 05:59:59.999999
1              | 2024-11-03 06:00
1              | 2024-11-03 06:59:59.999999
1              | 2024-11-03 07:00
"""
SPRING = """
user_id: int64 | at: timestamp[us]          | score: float64
1              | 2024-03-10 01:59:59.999999 | 1.0
1              | 2024-03-10 02:30           | 2.0
1              | 2024-03-10 02:15           | 3.0
2              | 2024-03-10 03:00           | 4.0
"""
SPRING_SPINE = """
user_id: int64 | event_timestamp: time
1              | 2024-03-10 06:59:59.999999
1              | 2024-03-10 07:00
2              | 2024-03-10 06:59:59.999999
2              | 2024-03-10 07:00
"""
ONE_ROW = """
user_id: int64 | at: time | score: float64
1              | 10:00    | 1.0
"""
ONE_SPINE_ROW = """
user_id: int64 | event_timestamp: time
1              | 11:00
"""


def training_rows(engine: OfflineEngine, of: History, root: Path) -> list[object]:
    """Return the answer to the spine of one row; the history's files are there already."""
    spine = read_table(ONE_SPINE_ROW, day=DAY)
    case = TrainingCase(history=of, spine=spine, timezone="UTC", mode="complete")
    return from_array(training_set(engine, case, root=root)["score"])


class SourceConformance:
    """What files hold, and what they must not do to an answer."""

    @pytest.mark.parametrize("ambiguous", ["earliest", "latest"])
    def test_a_local_time_that_occurs_twice_follows_the_sources_policy(
        self, engine: OfflineEngine, ambiguous: str
    ) -> None:
        of = history(AUTUMN, timezone="America/New_York", ambiguous=ambiguous)
        check(engine, of, AUTUMN_SPINE)

    def test_a_local_time_that_never_occurs_is_the_moment_of_the_change(
        self, engine: OfflineEngine
    ) -> None:
        check(engine, history(SPRING, timezone="America/New_York", missing="forward"), SPRING_SPINE)

    def test_rounding_never_carries_a_local_time_over_a_clock_change(
        self, engine: OfflineEngine
    ) -> None:
        rows = AUTUMN.replace("[us]", "[ns]").replace("999999 ", "999999001 ")
        for ambiguous in ("earliest", "latest"):
            of = history(rows, timezone="America/New_York", ambiguous=ambiguous)
            check(engine, of, AUTUMN_SPINE)

    @pytest.mark.parametrize(
        ("rows", "how", "row"), [(AUTUMN, "twice", 1), (SPRING, "never", 1)], ids=["twice", "never"]
    )
    def test_without_a_policy_the_error_names_file_column_and_row(
        self, engine: OfflineEngine, tmp_path: Path, rows: str, how: str, row: int
    ) -> None:
        empty = rows.strip().splitlines()[0]
        of = history({"a.parquet": empty, "b/c.parquet": rows}, timezone="America/New_York")
        of.write(tmp_path)
        with pytest.raises(SourceTimeError, match=how) as caught:
            training_rows(engine, of, tmp_path)
        error = caught.value
        assert (error.source, error.column, error.row) == ("profiles", "at", row)
        assert str(error.file).endswith("b/c.parquet")

    def test_files_may_hold_their_columns_in_other_types_and_orders(
        self, engine: OfflineEngine
    ) -> None:
        files = {
            "a.parquet": """
            user_id: int8 | at: timestamp[s]  | score: float32 | name: dictionary<string>
            1             | 10:00             | 0.1            | a
            """,
            "b.parquet": """
            name: large_string | score: float64 | at: timestamp[ns, Asia/Tokyo] | user_id: uint32
            b                  | 0.1            | 20:00+09:00                   | 1
            """,
            "c.parquet": """
            user_id: int64 | at: null | score: null | name: null
            1              | null     | null        | null
            """,
            "d.parquet": """
            user_id: int64 | at: timestamp[ms] | score: int16 | name: string_view
            1              | 12:00             | -7           | ""
            """,
        }
        spine = """
        user_id: int64 | event_timestamp: time
        1              | 10:30
        1              | 11:30
        1              | 12:30
        """
        check(engine, history(files, features={"score": "float64", "name": "string"}), spine)

    def test_every_type_comes_back_as_it_was_written(self, engine: OfflineEngine) -> None:
        columns = {
            "flag": ("bool", "true", "false"),
            "i8": ("int8", "-128", "127"),
            "u64": ("uint64", "18446744073709551615", "0"),
            "i64": ("int64", "-9223372036854775808", "9007199254740993"),
            "f32": ("float32", "0.1", "nan"),
            "f64": ("float64", "-0.0", "inf"),
            "money": ("decimal128(38, 2)", "123456789012345678901234567890123456.78", "-0.01"),
            "text": ("string", '""', '"\\u0000 é 🛫"'),
            "bytes": ("binary", "0x", "0x00ff"),
            "day": ("date32", "0001-01-01", "9999-12-31"),
            "seen": ("time", "1969-12-31 23:59:59.999999", "2300-01-01 00:00:00.000001"),
            "ints": ("list<int64>", "[]", "[9007199254740993, null]"),
            "floats": ("list<float32>", "[0.1, NaN]", "[null]"),
            "times": ("list<time>", '["2024-03-05 10:00:00.000001"]', "[null]"),
        }
        lines = [" | ".join(f"{name}: {values[0]}" for name, values in columns.items())]
        lines += [" | ".join(values[n] for values in columns.values()) for n in (1, 2)]
        lines.append(" | ".join("null" for _ in columns))
        prefixes = ["user_id: int64 | at: time", "1 | 10:00", "2 | 10:00", "3 | 10:00"]
        table = "\n".join(f"{a} | {b}" for a, b in zip(prefixes, lines, strict=True))
        features = {name: values[0] for name, values in columns.items()}
        features |= {"seen": "timestamp[us, UTC]", "times": "list<timestamp[us, UTC]>"}
        spine = "user_id: int64 | event_timestamp: time\n1 | 11:00\n2 | 11:00\n3 | 11:00\n4 | 11:00"
        check(engine, history(table, features=features), spine)

    def test_columns_that_differ_only_by_case_are_not_confused(self, engine: OfflineEngine) -> None:
        rows = """
        USER_ID: int64 | user_id: int64 | AT: time | at: time | Score: string | score: float64
        2              | 1              | 12:00    | 10:00    | x             | 1.0
        1              | 2              | 09:00    | 10:00    | y             | 2.0
        """
        spine = "user_id: int64 | event_timestamp: time\n1 | 11:00\n2 | 11:00\n1 | 09:30"
        check(engine, history(rows), spine)

    def test_columns_may_have_any_name(self, engine: OfflineEngine) -> None:
        names = ['"', "'; DROP TABLE x; --", "a b", "*", "🛫", "{x}", "e", "k0", "f1", "select"]
        names += ["filename", "file_row_number", "%s"]
        header = " | ".join(
            ["user_id: int64", "at: time", *(f"{_quoted(n)}: int64" for n in names)]
        )
        row = " | ".join(["1", "10:00", *(str(number) for number in range(len(names)))])
        of = history(f"{header}\n{row}", features=dict.fromkeys(names, "int64"))
        check(engine, of, ONE_SPINE_ROW)

    def test_file_names_are_taken_literally(self, engine: OfflineEngine) -> None:
        names = ("it's.parquet", "a[b]*?.parquet", "%20.parquet", "x=1/{y}.parquet", "é 🛫.parquet")
        table = "user_id: int64 | at: time | score: float64\n{} | 10:00 | {}"
        files = {name: table.format(n, n) for n, name in enumerate(names)}
        rows = "\n".join(f"{n} | 11:00" for n in range(len(names)))
        check(engine, history(files), f"user_id: int64 | event_timestamp: time\n{rows}")

    def test_a_file_that_changes_under_way_fails_the_call(
        self, engine: OfflineEngine, tmp_path: Path
    ) -> None:
        of = history(ONE_ROW)
        of.write(tmp_path)
        scan = open_scan(of.view, of.view.feature_names, tmp_path)
        more = history(ONE_ROW + "1 | 11:00 | 2.0")
        more.write(tmp_path)
        with (
            pytest.raises(SourceChangedError) as caught,
            closing(engine.latest(scan, RowFilter(until_us=2**60))) as latest,
        ):
            list(latest.batches(10))
        assert str(caught.value.file).endswith("a.parquet")

    def test_a_broken_file_is_named(self, engine: OfflineEngine, tmp_path: Path) -> None:
        rows = "\n".join(f"1 | 10:00:00.{n:06} | {n}.5" for n in range(1_000))
        of = history(f"user_id: int64 | at: time | score: float64\n{rows}")
        of.write(tmp_path)
        path = tmp_path / FOLDER / "a.parquet"
        whole = path.read_bytes()
        path.write_bytes(b"\xff" * 8_000 + whole[8_000:])
        with pytest.raises(SourceError, match=r"a\.parquet"):
            training_rows(engine, of, tmp_path)

    def test_a_query_keeps_its_order_and_reads_only_what_it_is_given(
        self, engine: OfflineEngine, tmp_path: Path
    ) -> None:
        of = history("user_id: int64 | at: time | score: float64\n2 | 10:00 | 1\n1 | 10:00 | 2")
        of.write(tmp_path)
        inside = str(tmp_path / FOLDER / "a.parquet")
        outside = tmp_path / "outside.parquet"
        of.files["a.parquet"].write_parquet(outside)
        tables = {"profiles": SqlTable(paths=(inside,), renamed={"user_id": "uid"})}
        if not engine.capabilities.sql_spines:
            with pytest.raises(UnsupportedError):
                engine.query("SELECT uid FROM profiles", tables)
            return
        found = engine.query("SELECT uid FROM profiles ORDER BY score DESC", tables)
        assert from_array(found["uid"]) == [1, 2]
        for refused in (
            "DROP VIEW profiles",
            "SELECT 1; SELECT 2",
            f"SELECT * FROM read_parquet('{outside}')",  # noqa: S608 - must be refused
            f"COPY profiles TO '{tmp_path / 'copy.parquet'}'",
            "SELECT * FROM nothing",
            "",
        ):
            with pytest.raises(RequestError):
                engine.query(refused, tables)
        assert not (tmp_path / "copy.parquet").exists()

    @pytest.mark.parametrize("condition", ["score > 1", "isnan(score)", "NOT (score <= 1)"])
    def test_a_query_finds_nan_whatever_a_file_says_of_its_least_and_greatest(
        self, engine: OfflineEngine, tmp_path: Path, condition: str
    ) -> None:
        if not engine.capabilities.sql_spines:
            pytest.skip("no spines in SQL")
        of = history("user_id: int64 | at: time | score: float64\n1 | 10:00 | 0\n2 | 10:00 | nan")
        of.write(tmp_path)
        tables = {"t": SqlTable(paths=(str(tmp_path / FOLDER / "a.parquet"),), renamed={})}
        found = engine.query(f"SELECT user_id, score FROM t WHERE {condition}", tables)  # noqa: S608
        assert from_array(found["user_id"]) == [2]
        assert str(found["score"].type) == "double"


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
