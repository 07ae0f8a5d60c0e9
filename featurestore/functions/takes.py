"""What a function is called with: its annotation says it, and thereby that it is one of ours.

Without an annotation a function is refused. A registry may name any function of any module below a
root, and one that says nothing of batches was not written to be called with one.
"""

import inspect
import typing
from collections.abc import Callable
from typing import Any, Final, Literal

from featurestore.errors import shown

Takes = Literal["record batch", "table", "polars"]

_WRITTEN: Final[dict[str, Takes]] = {
    "pa.RecordBatch": "record batch",
    "pyarrow.RecordBatch": "record batch",
    "RecordBatch": "record batch",
    "pa.Table": "table",
    "pyarrow.Table": "table",
    "pl.DataFrame": "polars",
    "polars.DataFrame": "polars",
}
"""Annotations that are text which cannot be evaluated: imported for type checkers alone."""


def what_it_takes(function: Callable[..., Any]) -> Takes:
    """Return what a function is called with.

    Raises:
        ValueError: It cannot be called with one argument, or does not say what that is.
    """
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ValueError("is asynchronous or a generator, which on-demand features cannot call")
    parameters = list(inspect.signature(function).parameters.values())
    needed = [p for p in parameters if p.default is p.empty and p.kind not in _OPTIONAL]
    if not parameters or len(needed) > 1 or parameters[0].kind not in _POSITIONAL:
        raise ValueError("cannot be called with one argument, the batch of its inputs")
    found = _taken(_annotation(function, parameters[0]))
    if found is None:
        raise ValueError(
            "does not say what it takes: annotate its argument with pyarrow.RecordBatch,"
            f" pyarrow.Table or polars.DataFrame, not {shown(str(parameters[0].annotation))}"
            if parameters[0].annotation is not inspect.Parameter.empty
            else "does not say what it takes: annotate its argument with pyarrow.RecordBatch,"
            " pyarrow.Table or polars.DataFrame"
        )
    return found


_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)
_OPTIONAL: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> object:
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    try:
        return typing.get_type_hints(function)[parameter.name]
    except Exception:  # noqa: BLE001 - evaluating an annotation may raise anything
        return parameter.annotation


def _taken(annotation: object) -> Takes | None:
    if isinstance(annotation, str):
        return _WRITTEN.get(annotation)
    if not isinstance(annotation, type):
        return None
    root = annotation.__module__.partition(".")[0]
    return _WRITTEN.get(f"{root}.{annotation.__name__}")
