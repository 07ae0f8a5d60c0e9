"""Spines written in SQL. DuckDB runs them whatever the engine, so that a query means one thing."""

from collections.abc import Mapping

import duckdb
import pyarrow as pa

from featurestore.errors import RequestError, SourceError
from featurestore.offline.duckdb_connection import DuckDBLimits, translated_errors
from featurestore.offline.duckdb_text import any_float, file_pattern, quote
from featurestore.offline.engine import SqlTable
from featurestore.offline.source_errors import first_line


def run_query(limits: DuckDBLimits, sql_text: str, tables: Mapping[str, SqlTable]) -> pa.Table:
    """Return the rows of a query in the order it yields them; see `OfflineEngine.query`."""
    paths = [path for table in tables.values() for path in table.paths]
    with limits.connect(paths, ordered=True) as con, translated_errors("The spine's query"):
        statements = con.extract_statements(sql_text)
        if [s.type for s in statements] != [duckdb.StatementType.SELECT]:
            raise RequestError(
                "A spine in SQL is one SELECT statement; this is"
                f" {', '.join(s.type.name for s in statements[:5]) or 'none'}.",
                hint="write one query, without INSERT, COPY, ATTACH, SET or the like",
            )
        unreadable = _create_views(con, sql_text, tables)
        try:
            return con.sql(sql_text).to_arrow_table()
        except duckdb.CatalogException as error:
            raise _unknown_name(error, tables, unreadable) from None


def _create_views(
    con: duckdb.DuckDBPyConnection, query: str, tables: Mapping[str, SqlTable]
) -> dict[str, str]:
    """Make views of the tables that a query may mean; return what is wrong with broken ones."""
    unreadable = {}
    for name, table in tables.items():
        if name.casefold() in query.casefold():
            try:
                _create_view(con, name, table)
            except duckdb.Error as error:
                unreadable[name] = first_line(error)
    return unreadable


def _unknown_name(
    error: duckdb.Error, tables: Mapping[str, SqlTable], unreadable: Mapping[str, str]
) -> RequestError | SourceError:
    for name, reason in unreadable.items():
        if f" {name} ".casefold() in str(error).casefold():
            file = next((path for path in tables[name].paths if path in reason), None)
            return SourceError(f"Source {name!r} cannot be read: {reason}", source=name, file=file)
    known = ", ".join(sorted(tables)[:20]) or "none"
    return RequestError(
        f"The spine's query failed: {first_line(error)}",
        hint=f"it can read the registered sources whose files exist: {known}",
    )


def _create_view(con: duckdb.DuckDBPyConnection, name: str, table: SqlTable) -> None:
    """Make files a view under their columns' names of today."""
    paths = ", ".join(file_pattern(path) for path in table.paths)
    read = f"SELECT * FROM read_parquet([{paths}], union_by_name = true)"
    described = con.execute(f"DESCRIBE {read}").fetchall()
    floats = [column for column, dtype, *_ in described if "FLOAT" in dtype or "DOUBLE" in dtype]
    pairs = ", ".join(f"{any_float(quote(column))} AS {quote(column)}" for column in floats)
    replaced = f" REPLACE ({pairs})" if pairs else ""
    pairs = ", ".join(f"{quote(old)} AS {quote(new)}" for old, new in table.renamed.items())
    renamed = f" RENAME ({pairs})" if pairs else ""
    con.execute(
        f"CREATE TEMP VIEW {quote(name)} AS"
        f" SELECT *{renamed} FROM (SELECT *{replaced} FROM ({read}))"
    )
