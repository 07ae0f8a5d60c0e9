"""Names, literals and types as DuckDB's SQL writes them."""

import pyarrow as pa

from featurestore.types import base_type

_TYPES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date32[day]": "DATE",
}


def quote(name: str) -> str:
    """Return a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Return a string literal."""
    return "'" + value.replace("'", "''") + "'"


def any_float(column: str) -> str:
    """Return the SQL of a column with floats of which DuckDB's optimizer knows nothing.

    The least and greatest float in a Parquet file's statistics leave NaN out, and DuckDB 2.0 takes
    them for bounds: it drops rows with NaN where `x > 1`, folds `isnan(x)` to false, and answers
    `max(x)` from them. TRY hides them and changes no value: reading a float cannot fail.
    """
    return f"TRY({column})"


def file_pattern(path: str) -> str:
    """Return a literal that matches exactly this path, whatever glob characters it holds."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in path)
    return text(escaped)


def sql_type(dtype: pa.DataType, *, inside: bool = False) -> str:
    """Return DuckDB's type for values of `dtype` while they are worked on.

    Times are numbers, and times `inside` structs and nested lists are left as they are.
    """
    dtype = base_type(dtype)
    if pa.types.is_timestamp(dtype):
        return "TIMESTAMPTZ" if inside else "BIGINT"
    if pa.types.is_list(dtype):
        element = dtype.value_type
        return f"{sql_type(element, inside=inside or pa.types.is_nested(element))}[]"
    if pa.types.is_struct(dtype):
        fields = ", ".join(f"{quote(f.name)} {sql_type(f.type, inside=True)}" for f in dtype)
        return f"STRUCT({fields})"
    if pa.types.is_decimal(dtype):
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    return _TYPES[str(dtype)]
