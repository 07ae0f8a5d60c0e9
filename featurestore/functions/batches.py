"""Calls of functions: columns in, declared columns out, and a typed error for anything else.

Needs pyarrow, which only a process loads that runs functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from featurestore.errors import FunctionCallError
from featurestore.functions.failures import reason_of
from featurestore.functions.modules import LoadedFunction
from featurestore.types import Timestamp, can_widen, type_name

_FEW_NAMES: Final = 5


class _UnusableResultError(Exception):
    """What a function returned is not what its view declares; the text says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFunction:
    """A function of an on-demand view. Safe to use from several threads if the function is.

    Attributes:
        view: The on-demand view.
        function: The function.
        inputs: The columns that it gets, in order.
        outputs: The columns that it has to return, in any order.
    """

    view: str
    function: LoadedFunction
    inputs: pa.Schema
    outputs: pa.Schema

    def run(self, arrays: Sequence[pa.Array], count: int, *, first_row: int = 0) -> list[pa.Array]:
        """Return the outputs of `count` rows, in the declared order and with the declared types.

        Args:
            arrays: `count` values of each input.
            count: How many rows there are; without rows the function is not called.
            first_row: The number of the first of them, for messages.

        Raises:
            FunctionCallError: The function raised something, or returned something else than
                declared; it names the view, the function and the rows.
        """
        if not count:
            return [pa.array([], field.type) for field in self.outputs]
        batch = pa.RecordBatch.from_arrays(list(arrays), schema=self.inputs)
        try:
            result = self.function.call(self._as_taken(batch))
            return self._outputs(result, count)
        except _UnusableResultError as error:
            reason = f"it returned {error}"
            raise self._failure(reason, count, first_row) from None
        except (Exception, SystemExit) as error:
            reason = reason_of(error, self.function.file)
            raise self._failure(reason, count, first_row) from error

    def _failure(self, reason: str, count: int, first_row: int) -> FunctionCallError:
        return FunctionCallError(
            view=self.view,
            function=self.function.reference,
            first_row=first_row,
            last_row=first_row + count - 1,
            reason=reason,
        )

    def _as_taken(self, batch: pa.RecordBatch) -> Any:
        if self.function.takes == "record batch":
            return batch
        if self.function.takes == "table":
            return pa.Table.from_batches([batch])
        import polars as pl

        return pl.DataFrame(batch)

    def _outputs(self, result: object, count: int) -> list[pa.Array]:
        table = _as_arrow(result)
        if table.num_rows != count:
            raise _UnusableResultError(f"{table.num_rows:,} rows for {count:,}")
        _check_names(table.schema.names, self.outputs.names)
        return [_declared(table.column(field.name), field) for field in self.outputs]


def _as_arrow(result: object) -> pa.RecordBatch | pa.Table:
    if isinstance(result, pa.RecordBatch | pa.Table):
        return result
    kind = type(result)
    if (kind.__module__.partition(".")[0], kind.__name__) == ("polars", "DataFrame"):
        return pa.table(result)
    raise _UnusableResultError(
        f"a {kind.__name__}, where a pyarrow.RecordBatch, a pyarrow.Table or a polars.DataFrame is"
        " expected"
    )


def _check_names(found: Sequence[str], declared: Sequence[str]) -> None:
    if sorted(found) == sorted(declared):
        return
    if missing := [name for name in declared if name not in found]:
        raise _UnusableResultError(f"no column {_listed(missing)}; it has {_listed(found)}")
    if extra := [name for name in found if name not in declared]:
        raise _UnusableResultError(f"the column {_listed(extra)}, which its view does not declare")
    raise _UnusableResultError(f"a column twice: it has {_listed(found)}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:80]) for name in names[:_FEW_NAMES])
    return f"{shown}, ..." if len(names) > _FEW_NAMES else shown or "none"


def _declared(column: pa.Array | pa.ChunkedArray, field: pa.Field) -> pa.Array:
    """Return a column in its declared type; what could lose something is refused."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.type == field.type:
        return array
    if not can_widen(array.type, field.type):
        raise _UnusableResultError(
            f"{field.name!r} as {type_name(array.type)}, which its view declares as"
            f" {type_name(field.type)}"
        )
    try:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return array.cast(field.type)
    except pa.ArrowInvalid as error:
        what = "a time finer than a microsecond" if field.type == Timestamp else str(error)[:100]
        raise _UnusableResultError(f"{what} in {field.name!r}") from None
