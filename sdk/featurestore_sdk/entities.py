"""What callers may pass as entities, brought into one form: a list of plain values per name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from featurestore_sdk.errors import FieldViolation, InvalidRequestError, MissingExtraError

Entities = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]] | Any
"""A column of values per join key and request field; a list of rows; or a table of pandas, Polars,
Arrow or anything with the Arrow PyCapsule interface, such as a DuckDB relation."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How errors about columns of values speak of them.

    Attributes:
        argument: The name of the argument that holds them.
        field: The field of the request that takes them.
    """

    argument: str
    field: str


ENTITIES: Final = Wording("entities", "entities")
ROWS: Final = Wording("rows", "columns")


def columns_of(entities: Entities, wording: Wording = ENTITIES) -> dict[str, list[Any]]:
    """Return a list of plain Python values for every name.

    Values of pandas that stand for "missing" (NaN, NaT, NA) become None; a NaN elsewhere stays one.

    Raises:
        InvalidRequestError: This is not a form of entities.
        MissingExtraError: Reading this table needs pyarrow.
    """
    library = type(entities).__module__.partition(".")[0]
    if library == "polars" and hasattr(entities, "collect_schema"):
        return _of_polars(entities)
    if library == "pandas" and hasattr(entities, "items"):
        return {_name(name): _of_pandas(series) for name, series in entities.items()}
    if isinstance(entities, Mapping):
        return {_name(n): list_of(n, column, wording) for n, column in entities.items()}
    if hasattr(entities, "__arrow_c_stream__") or hasattr(entities, "__arrow_c_array__"):
        return _of_arrow(entities, wording)
    if isinstance(entities, Sequence) and not isinstance(entities, str | bytes):
        return _of_rows(entities, wording)
    raise InvalidRequestError(
        f"{wording.argument} cannot be a {type(entities).__name__}; pass a dict of columns, a list"
        " of rows, or a pandas, Polars or Arrow table."
    )


def list_of(name: str, column: Any, wording: Wording = ENTITIES) -> list[Any]:
    """Return one column as a list; the column may be of numpy, pandas, Polars or Arrow."""
    library = type(column).__module__.partition(".")[0]
    if library == "numpy":
        return _checked_list(name, plain_numpy(column), wording)
    if library == "pandas" and hasattr(column, "isna"):
        return _of_pandas(column)
    if library == "polars" and hasattr(column, "to_list"):  # iterating gives lists as Series
        return _checked_list(name, column.to_list(), wording)
    if library == "pyarrow" and hasattr(column, "to_pylist"):
        return _of_arrow_column(column)
    return _checked_list(name, column, wording)


def plain_numpy(array: Any) -> Any:
    """Return a numpy array as a list, a numpy scalar as the Python value it stands for."""
    if array.dtype.kind == "M" and array.dtype != "datetime64[D]":  # whole days are dates already
        array = array.astype("datetime64[us]")  # nanoseconds would come out as bare integers
    return array.tolist()


def _checked_list(name: str, column: Any, wording: Wording) -> list[Any]:
    if isinstance(column, Iterable) and not isinstance(column, str | bytes | Mapping):
        return list(column)
    message = f"the values of {name!r} are a single {type(column).__name__}; pass a list of them."
    raise InvalidRequestError(
        message, violations=[FieldViolation(field=f"{wording.field}.{name}", description=message)]
    )


def _name(name: object) -> str:
    if isinstance(name, str):
        return name
    raise InvalidRequestError(f"names of columns are strings, not {name!r}.")


def _of_rows(rows: Sequence[Any], wording: Wording) -> dict[str, list[Any]]:
    if not rows:
        raise InvalidRequestError(f"{wording.argument} is an empty list, which names no columns.")
    columns: dict[str, list[Any]] = {}
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InvalidRequestError(
                f"{wording.argument}[{index}] is a {type(row).__name__}; a list of"
                f" {wording.argument} holds dicts."
            )
        if index == 0:
            columns = {_name(name): [] for name in row}
        if row.keys() != columns.keys():
            raise _ragged(index, row, columns, wording)
        for name, value in row.items():
            columns[name].append(value)
    return columns


def _ragged(
    index: int, row: Mapping[str, Any], columns: Mapping[str, Any], wording: Wording
) -> InvalidRequestError:
    names = sorted(map(str, row.keys() ^ columns.keys()))
    what = wording.argument
    message = f"{what}[{index}] and {what}[0] differ in {', '.join(map(repr, names))}."
    return InvalidRequestError(
        message,
        violations=[
            FieldViolation(field=f"{wording.field}.{n}[{index}]", description=message)
            for n in names
        ],
    )


def _of_polars(frame: Any) -> dict[str, list[Any]]:
    if hasattr(frame, "collect"):
        frame = frame.collect()
    columns: dict[str, list[Any]] = frame.to_dict(as_series=False)
    return columns


def _of_pandas(series: Any) -> list[Any]:
    """Return a column of pandas, which writes "missing" as NaN, NaT or NA."""
    values = series.tolist()
    return [None if missing else v for v, missing in zip(values, series.isna(), strict=True)]


def _of_arrow(table: Any, wording: Wording) -> dict[str, list[Any]]:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError(
            package="pyarrow",
            extra="arrow",
            purpose=f"Passing {wording.argument} as an Arrow table",
        ) from None
    table = pa.table(table)
    return {
        name: _of_arrow_column(column)
        for name, column in zip(table.column_names, table.columns, strict=True)
    }


def _of_arrow_column(column: Any) -> list[Any]:
    if str(column.type).startswith("timestamp[ns"):
        column = _floored(column)  # to_pylist refuses nanoseconds without pandas
    values: list[Any] = column.to_pylist()
    return values


def _floored(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    floored = pc.floor_temporal(column, unit="microsecond")
    return floored.cast(pa.timestamp("us", column.type.tz))
