"""Request fields as a spine has them: columns by the fields' names, checked before any work."""

from collections.abc import Mapping

import pyarrow as pa

from featurestore.errors import EntityValueError, SpineError, close_names, did_you_mean, shown
from featurestore.expressions.arrow import to_arrow
from featurestore.online.request_values import TIME, request_vector
from featurestore.training.spine import times_us
from featurestore.types import Timestamp, base_type, parse_type, type_name


def request_table(fields: Mapping[str, str], spine: pa.Table, timezone: str) -> pa.Table:
    """Return the request fields of n spine rows, in their declared types.

    Args:
        fields: Name -> declared type.
        spine: Has a column of each name; what is taken for a type is what a lookup takes.
        timezone: Zone in which naive times of the spine are read.

    Raises:
        SpineError: A column is missing, or a value is not of the declared type; it names both.
    """
    columns = {name: _column(name, dtype, spine, timezone) for name, dtype in fields.items()}
    schema = pa.schema([(name, parse_type(dtype)) for name, dtype in fields.items()])
    return pa.table(columns, schema=schema)


def _column(name: str, dtype: str, spine: pa.Table, timezone: str) -> pa.Array:
    indices = spine.schema.get_all_field_indices(name)
    if len(indices) != 1:
        guess = did_you_mean(close_names(name, spine.column_names))
        raise SpineError(
            f"The spine has {'two columns' if indices else 'no column'} {shown(name)}, which is a"
            " request field of the on-demand features.",
            column=name,
            hint=guess or "add the value that a request would have brought",
        )
    column = spine.column(indices[0]).combine_chunks()
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), parse_type(dtype))
    if dtype == TIME:
        return _times(name, spine, timezone)
    found = base_type(column.type)
    try:
        return to_arrow(request_vector(dtype, _plain(column, found), field=name), dtype)
    except EntityValueError as error:
        raise SpineError(
            f"Column {shown(name)} of the spine ({type_name(found)}): {error.message}",
            column=name,
            row=error.row,
            hint=f"cast the column to {dtype}, or correct the request source's schema",
        ) from None


def _times(name: str, spine: pa.Table, timezone: str) -> pa.Array:
    return times_us(spine, name, timezone).cast(pa.int64()).view(Timestamp)


def _plain(column: pa.Array, found: pa.DataType) -> pa.Array:
    """Return a column without dictionaries and large or view variants of its type."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    return column if column.type == found else column.cast(found)
