"""Windows in plain SQL, as a careful user would write them for DuckDB: two plans.

python -m benchmarks.window_sql JOB ARGUMENTS_JSON REPORT_PATH

Both get what we get: the spine in memory, the events in a Parquet file. Both answer with the
features in the spine's order as an Arrow table; the spine's own columns would cost nothing more.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.data import digest, parquet, quiet_duckdb
from benchmarks.job import serve_jobs
from benchmarks.process import own_peak_mb

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

UNITS = {"h": "HOUR", "d": "DAY"}


def range_join(arguments: dict[str, Any]) -> dict[str, Any]:
    """Join each spine row to the events of its longest window, and filter for the shorter ones."""
    return _answer(arguments, _range_join)


def window_frames(arguments: dict[str, Any]) -> dict[str, Any]:
    """Lay spine and events in one row of time, and aggregate over RANGE frames before each."""
    return _answer(arguments, _window_frames)


def _range_join(events: str, columns: dict[str, tuple[str, str]]) -> str:
    longest = max((window for _, window in columns.values()), key=_hours)
    features = ", ".join(
        f"{function}(e.amount) FILTER (e.event_timestamp >= s.q - {_interval(window)}) AS {name}"
        for name, (function, window) in columns.items()
    )
    return (
        f"SELECT {features} FROM spine s LEFT JOIN {events} e ON s.user_id = e.user_id "  # noqa: S608
        f"AND e.event_timestamp < s.q AND e.event_timestamp >= s.q - {_interval(longest)} "
        "GROUP BY s.n ORDER BY s.n"
    )


def _window_frames(events: str, columns: dict[str, tuple[str, str]]) -> str:
    features = ", ".join(
        f"{function}(amount) OVER w{window} AS {name}"
        for name, (function, window) in columns.items()
    )
    frames = ", ".join(
        f"w{window} AS (PARTITION BY user_id ORDER BY q RANGE BETWEEN {_interval(window)} PRECEDING"
        " AND INTERVAL 1 MICROSECOND PRECEDING)"
        for window in dict.fromkeys(window for _, window in columns.values())
    )
    both = (
        f"SELECT user_id, event_timestamp AS q, amount, NULL::BIGINT AS n FROM {events} "  # noqa: S608
        "WHERE user_id IN (SELECT user_id FROM spine) "
        "UNION ALL SELECT user_id, q, NULL, n FROM spine"
    )
    names = ", ".join(columns)
    return (
        f"SELECT {names} FROM (SELECT n, {features} FROM ({both}) WINDOW {frames}) "  # noqa: S608
        "WHERE n IS NOT NULL ORDER BY n"
    )


def _answer(
    arguments: dict[str, Any], plan: Callable[[str, dict[str, tuple[str, str]]], str]
) -> dict[str, Any]:
    """Run a plan, the same once before, small."""
    if "warmup" in arguments:
        _answer(arguments["warmup"], plan)
    spine = _spine(arguments)
    query = plan(parquet(Path(arguments["events"])), arguments["columns"])
    with quiet_duckdb() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        started = time.perf_counter()
        # A table of its own has a known size, without which plans go wrong.
        connection.register("given", spine)
        connection.execute("CREATE TEMP TABLE spine AS SELECT * FROM given")
        found = connection.sql(query).to_arrow_table()
        seconds, peak_mb = time.perf_counter() - started, own_peak_mb()
    return {"seconds": seconds, "peak_mb": peak_mb, "digest": digest(found, found.column_names)}


def _spine(arguments: dict[str, Any]) -> pa.Table:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(arguments["spine"])[: arguments["first"]]
    return pa.table(
        {
            "user_id": table["user_id"],
            "q": table["event_timestamp"],
            "n": np.arange(table.num_rows),
        }
    )


def _hours(window: str) -> int:
    return int(window[:-1]) * (24 if window.endswith("d") else 1)


def _interval(window: str) -> str:
    return f"INTERVAL {window[:-1]} {UNITS[window[-1]]}"


JOBS = {job.__name__: job for job in (range_join, window_frames)}

if __name__ == "__main__":
    serve_jobs(JOBS)
