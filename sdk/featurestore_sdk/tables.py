"""Columns of a reply as Arrow, Polars, pandas or numpy have them. Only imported when asked for."""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from featurestore_protos.v1.values_pb2 import Values

from featurestore_sdk.errors import MissingExtraError
from featurestore_sdk.values import element_type, stored, with_nulls

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow as pa

_DECIMAL: Final = re.compile(r"decimal128\((\d+), (-?\d+)\)")
_NOT_NUMERIC: Final = ("string", "binary", "date32", "timestamp", "list<")


class Column(Protocol):
    """A column of a reply, be it of a join key or of a feature."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def dtype(self) -> str:
        """Its type."""
        ...

    @property
    def values(self) -> Values:
        """Its values."""
        ...


def arrow_table(columns: Sequence[Column]) -> "pa.Table":
    """Return an Arrow table; a name per column, in order."""
    pa = optional("pyarrow", "arrow", "to_arrow()")
    arrays = [_arrow_array(pa, _stored_or_none(column), column.dtype) for column in columns]
    return pa.table(arrays, names=[column.name for column in columns])


def _arrow_array(pa: Any, values: Sequence[Any], dtype: str) -> "pa.Array":
    target = _arrow_type(pa, dtype)
    if dtype.startswith("decimal"):
        return pa.array(values, pa.string()).cast(target)
    if dtype.startswith("list<"):
        return _arrow_lists(pa, values, dtype)
    if dtype == "date32":
        return pa.array(values, pa.int32()).view(target)
    if dtype.startswith("timestamp"):
        return pa.array(values, pa.int64()).view(target)
    return pa.array(values, target)


def _arrow_lists(pa: Any, values: Sequence[Any], dtype: str) -> "pa.Array":
    ends = [0]
    for value in values:
        ends.append(ends[-1] + (0 if value is None else len(value)))
    flat = [element for value in values if value is not None for element in value]
    elements = _arrow_array(pa, flat, element_type(dtype))
    missing = [value is None for value in values]
    # An offset that is null marks a null list; the last offset belongs to no list.
    offsets = [None if null else end for null, end in zip([*missing, False], ends, strict=True)]
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), elements, type=_arrow_type(pa, dtype)
    )


def _arrow_type(pa: Any, dtype: str) -> "pa.DataType":
    if match := _DECIMAL.fullmatch(dtype):
        return pa.decimal128(int(match[1]), int(match[2]))
    if dtype.startswith("list<"):
        return pa.list_(_arrow_type(pa, element_type(dtype)))
    if dtype.startswith("timestamp"):
        return pa.timestamp("us", tz="UTC")
    found: pa.DataType = getattr(pa, "bool_" if dtype == "bool" else dtype)()
    return found


def polars_frame(columns: Sequence[Column]) -> "pl.DataFrame":
    """Return a Polars frame; a name per column, in order."""
    polars = optional("polars", "polars", "to_polars()")
    frame: pl.DataFrame = polars.DataFrame([_polars_series(polars, column) for column in columns])
    return frame


def _polars_series(polars: Any, column: Column) -> "pl.Series":
    values = _stored_or_none(column)
    carried = _polars_type(polars, column.dtype, carried=True)
    series = polars.Series(column.name, values, dtype=carried)
    return cast("pl.Series", series.cast(_polars_type(polars, column.dtype, carried=False)))


def _polars_type(polars: Any, dtype: str, *, carried: bool) -> Any:
    """Return a Polars type; if `carried`, that of the values as they travel."""
    if dtype.startswith("list<"):
        return polars.List(_polars_type(polars, element_type(dtype), carried=carried))
    if match := _DECIMAL.fullmatch(dtype):
        return polars.String if carried else polars.Decimal(int(match[1]), int(match[2]))
    if dtype == "date32":
        return polars.Int32 if carried else polars.Date
    if dtype.startswith("timestamp"):
        return polars.Int64 if carried else polars.Datetime("us", "UTC")
    names = {"bool": "Boolean", "string": "String", "binary": "Binary"}
    return getattr(polars, names.get(dtype) or dtype.title().replace("Uint", "UInt"))


def pandas_frame(columns: Sequence[Column]) -> "pd.DataFrame":
    """Return a pandas frame of Arrow-backed columns."""
    pd = optional("pandas", "pandas", "to_pandas()")
    return arrow_table(columns).to_pandas(types_mapper=pd.ArrowDtype)


def matrix(columns: Sequence[Column], *, dtype: str) -> "npt.NDArray[np.floating[Any]]":
    """Return numeric columns side by side, nulls as NaN."""
    numpy = optional("numpy", "numpy", "to_numpy()")
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype is 'float64' or 'float32', not {dtype!r}")
    for column in columns:
        if column.dtype.startswith(_NOT_NUMERIC):
            raise TypeError(
                f"feature {column.name!r} is a {column.dtype}, not a number; choose others with"
                " to_numpy(features=[...])"
            )
    rows = _length(columns[0]) if columns else 0
    found: npt.NDArray[np.floating[Any]] = numpy.empty((rows, len(columns)), dtype=dtype)
    for index, column in enumerate(columns):
        found[:, index] = numpy.array(stored(column.values, column.dtype), dtype=dtype)
        if column.values.nulls:
            found[numpy.frombuffer(column.values.nulls, numpy.bool_), index] = numpy.nan
    return found


def _length(column: Column) -> int:
    return len(stored(column.values, column.dtype))


def _stored_or_none(column: Column) -> Sequence[Any]:
    values = stored(column.values, column.dtype)
    return with_nulls(values, column.values.nulls) if column.values.nulls else list(values)


def optional(package: str, extra: str, purpose: str) -> Any:
    """Return a package that need not be installed.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        return import_module(package)
    except ImportError:
        raise MissingExtraError(package=package, extra=extra, purpose=purpose) from None
