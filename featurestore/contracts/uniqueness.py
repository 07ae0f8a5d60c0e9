"""Values that must not repeat, grouped by DuckDB: beyond its memory limit it spills to disk."""

import contextlib
from collections.abc import Iterator, Sequence

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.contracts.rows import MAX_EXAMPLES, Row
from featurestore.offline.duckdb_connection import DuckDBLimits, translated_errors

Ints = npt.NDArray[np.int64]


class UniqueKeys:
    """Values of rows, and which of them were there before. For one thread.

    Args:
        con: A connection of its own.
        subject: What is checked, for messages.
        schema: `o` and the columns, by aliases.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, subject: str, schema: pa.Schema) -> None:
        self._con = con
        self._subject = subject
        with translated_errors(subject):
            con.register("given", schema.empty_table())
            con.execute("CREATE TEMP TABLE seen AS SELECT * FROM given")

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep the values of some rows."""
        with translated_errors(self._subject):
            self._con.register("given", pa.Table.from_batches([batch]))
            self._con.execute("INSERT INTO seen SELECT * FROM given")

    def find(self, aliases: Sequence[str]) -> "Repeated":
        """Return the rows whose values an earlier row has; a null is like no other value."""
        names = ", ".join(aliases)
        there = " AND ".join(f"{alias} IS NOT NULL" for alias in aliases)
        self._run(
            f"CREATE OR REPLACE TEMP TABLE repeated AS SELECT {names}, min(o) AS first,"  # noqa: S608 - aliases
            f" count(*) AS n FROM seen WHERE {there} GROUP BY {names} HAVING count(*) > 1"
        )
        ((count,),) = self._run("SELECT coalesce(sum(n - 1), 0)::BIGINT FROM repeated")
        return Repeated(self._con, self._subject, tuple(aliases), int(count))

    def _run(self, query: str) -> list[tuple[int, ...]]:
        with translated_errors(self._subject):
            return self._con.execute(query).fetchall()


class Repeated:
    """Rows that repeat a value; of its first occurrence there is none here.

    Attributes:
        count: How many there are.
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        subject: str,
        aliases: tuple[str, ...],
        count: int,
    ) -> None:
        self._con = con
        self._subject = subject
        self._aliases = aliases
        self.count = count

    def examples(self, names: Sequence[str]) -> list[Row]:
        """Return the first of them; the columns are called `names`."""
        if not self.count:
            return []
        shown = ", ".join(f"seen.{alias}" for alias in self._aliases)
        found = self._query(f"seen.o, {shown}", MAX_EXAMPLES)
        return [
            Row(
                found["o"][place].as_py(),
                {n: found[a][place] for n, a in zip(names, self._aliases, strict=True)},
            )
            for place in range(found.num_rows)
        ]

    def ordinals(self, most: int) -> Ints:
        """Return where the first `most` of them are, rising."""
        if not self.count:
            return np.empty(0, np.int64)
        return np.asarray(self._query("seen.o", most)["o"].to_numpy(), dtype=np.int64)

    def _query(self, columns: str, most: int) -> pa.Table:
        using = ", ".join(self._aliases)
        with translated_errors(self._subject):
            return self._con.sql(
                f"SELECT {columns} FROM seen JOIN repeated USING ({using})"  # noqa: S608 - aliases
                f" WHERE seen.o <> repeated.first ORDER BY seen.o LIMIT {most}"
            ).to_arrow_table()


@contextlib.contextmanager
def unique_keys(limits: DuckDBLimits, subject: str, schema: pa.Schema) -> Iterator[UniqueKeys]:
    """Open a place for the values that must not repeat.

    Raises, from its methods: ResourceLimitError when memory or temporary space runs out.
    """
    with limits.connect([]) as con:
        yield UniqueKeys(con, subject, schema)
