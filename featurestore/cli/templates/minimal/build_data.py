"""Writes two small Parquet files: what happened to three customers, and some moments to ask about.

Replace them by your own files; `features.py` says where they are and what is in them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

# One row per change: the newest row before a moment is what was true at that moment.
CUSTOMERS = [
    (1, datetime(2026, 1, 5, 9, 0, tzinfo=UTC), "NO", 1000.0, 1),
    (2, datetime(2026, 1, 7, 12, 30, tzinfo=UTC), "DE", 500.0, 2),
    (1, datetime(2026, 2, 1, 8, 15, tzinfo=UTC), "NO", 2500.0, 4),
    (3, datetime(2026, 2, 3, 17, 45, tzinfo=UTC), "FR", None, 1),
    (2, datetime(2026, 3, 1, 10, 0, tzinfo=UTC), "AT", 500.0, 5),
]
# Customer 4 is unknown, and customer 3 was, in January: both rows stay, with nulls.
MOMENTS = [
    (1, datetime(2026, 1, 31, 23, 59, tzinfo=UTC), False),
    (1, datetime(2026, 2, 2, 12, 0, tzinfo=UTC), True),
    (2, datetime(2026, 2, 2, 12, 0, tzinfo=UTC), False),
    (3, datetime(2026, 1, 31, 23, 59, tzinfo=UTC), False),
    (4, datetime(2026, 3, 15, 0, 0, tzinfo=UTC), False),
]


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What `build` wrote.

    Attributes:
        rows: File below the repository -> its rows.
    """

    rows: dict[str, int]

    def lines(self) -> list[str]:
        """Return the report as lines for people."""
        return [f"{rows:>3} rows in {file}" for file, rows in self.rows.items()]


def build(repo: Path) -> BuildReport:
    """Write the Parquet files of this template below `repo`, replacing those that are there."""
    customers = ["customer_id", "event_timestamp", "country", "credit_limit", "orders"]
    tables = {
        "data/customers.parquet": pl.DataFrame(CUSTOMERS, schema=customers, orient="row"),
        "data/moments.parquet": pl.DataFrame(
            MOMENTS, schema=["customer_id", "event_timestamp", "repaid_late"], orient="row"
        ),
    }
    (repo / "data").mkdir(parents=True, exist_ok=True)
    for file, table in tables.items():
        table.write_parquet(repo / file)
    return BuildReport(rows={file: table.height for file, table in tables.items()})


if __name__ == "__main__":
    print("\n".join(build(Path(__file__).resolve().parent).lines()))
