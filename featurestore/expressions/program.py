"""The evaluator: a typed tree becomes a closure over columns, once; then it only runs.

The same closure computes a training set's chunk and one request's row.
"""

from collections.abc import Callable
from functools import reduce
from typing import Final

import numpy as np

from featurestore.expressions import choices, numbers
from featurestore.expressions.casts import cast_kernel
from featurestore.expressions.choices import Columns, Compile, Run
from featurestore.expressions.texts import TEXT_OPS, concatenated, text_kernel
from featurestore.expressions.times import (
    EPOCHS,
    difference_kernel,
    part_kernel,
    truncation_kernel,
)
from featurestore.expressions.typed import FLOATS, Typed
from featurestore.expressions.vectors import (
    NUMPY,
    Array,
    Vector,
    all_true,
    any_true,
    both,
    constant,
    full,
)

_FEW_CONSTANTS: Final = 4


def quiet() -> np.errstate:
    """Return the context in which numpy keeps quiet about infinities and NaN."""
    return np.errstate(all="ignore")


class Program:
    """An expression that is ready to run. Safe to use from several threads.

    Args:
        node: The typed tree; its columns are positions among the inputs.
    """

    def __init__(self, node: Typed) -> None:
        self.dtype = node.dtype
        self._run = compiled(node)

    def run(self, columns: Columns, count: int) -> Vector:
        """Return the values of `count` rows.

        Args:
            columns: The inputs, `count` values each, in the types that the tree was checked with.
            count: How many rows there are.

        Raises:
            RowError: A row has no value.
        """
        with quiet():
            return self.run_quietly(columns, count)

    def run_quietly(self, columns: Columns, count: int) -> Vector:
        """Run inside `quiet`, which costs a microsecond, and which several programs may share."""
        if not count:
            return np.empty(0, NUMPY[self.dtype]), None
        values, valid = full(self._run(columns, count), count)
        if valid is None or all_true(valid):
            return values, None
        zero = "" if self.dtype == "string" else NUMPY[self.dtype].type(0)
        return np.where(valid, values, zero), valid


def compiled(node: Typed) -> Run:
    """Return what computes a typed tree."""
    if node.op == "column":
        position: int = node.value
        return lambda columns, _: columns[position]
    if node.op == "constant":
        vector = constant(node.dtype, node.value)
        return lambda _columns, _: vector
    if (choice := _CHOICES.get(node.op)) is not None:
        return choice(node, compiled)
    if (special := _SPECIAL.get(node.op)) is not None:
        return special(node)
    if node.op in numbers.MIRRORED:
        return _comparison(node)
    return _strict(node)


# --- functions that are null when an argument is ---------------------------------------------


def _strict(node: Typed) -> Run:
    if node.op in TEXT_OPS:
        return _plain(text_kernel(node.op, node.value), node)
    if (made := _MADE.get(node.op)) is not None:
        return _plain(made(node.value), node)
    if (kernel := _KERNELS.get(node.op)) is not None:
        return _plain(kernel, node)
    if (checked := _CHECKED.get(node.op)) is not None:
        return _checked(checked, node)
    if node.args[0].dtype in FLOATS:
        return _plain(numbers.FLOAT[node.op], node)
    return _checked(numbers.INTEGER[node.op], node)


_MADE: Final[dict[str, Callable[..., Callable[..., Array]]]] = {
    "date_part": part_kernel,
    "date_diff": difference_kernel,
    "date_trunc": truncation_kernel,
    "round": numbers.rounded,
}
"""Functions whose kernel depends on the option."""
_KERNELS: Final[dict[str, Callable[..., Array]]] = {**EPOCHS, "sign": numbers.sign}


def _plain(kernel: Callable[..., Array], node: Typed) -> Run:
    if len(node.args) == 1:
        inner = compiled(node.args[0])

        def run_one(columns: Columns, count: int) -> Vector:
            values, valid = inner(columns, count)
            return kernel(values), valid

        return run_one
    if len(node.args) > 2:  # noqa: PLR2004 - one and two are what matters for speed
        return _many(kernel, node)
    left, right = compiled(node.args[0]), compiled(node.args[1])

    def run_two(columns: Columns, count: int) -> Vector:
        a, a_valid = left(columns, count)
        b, b_valid = right(columns, count)
        return kernel(a, b), both(a_valid, b_valid)

    return run_two


def _many(kernel: Callable[..., Array], node: Typed) -> Run:
    parts = [compiled(arg) for arg in node.args]

    def run(columns: Columns, count: int) -> Vector:
        vectors = [part(columns, count) for part in parts]
        return kernel(*(v for v, _ in vectors)), reduce(both, (valid for _, valid in vectors))

    return run


def _checked(kernel: numbers.Checked, node: Typed) -> Run:
    parts = [compiled(arg) for arg in node.args]

    def run(columns: Columns, count: int) -> Vector:
        vectors = [part(columns, count) for part in parts]
        valid = reduce(both, (valid for _, valid in vectors))
        values, bad, reason = kernel(*(v for v, _ in vectors))
        if any_true(bad):
            numbers.refuse(bad, valid, reason)
        return values, valid

    return run


def _days_added(sign: int) -> numbers.Checked:
    bounds = np.iinfo(np.int32)

    def run(day: Array, days: Array) -> tuple[Array, Array, str]:
        moved = day.astype(np.int64) + sign * days.astype(np.int64)
        outside = (moved < bounds.min) | (moved > bounds.max)
        return moved.astype(np.int32), outside, "a date out of range"

    return run


def _days_between(end: Array, start: Array) -> tuple[Array, Array, str]:
    return end.astype(np.int64) - start, np.zeros(1, np.bool_), ""


_CHECKED: Final[dict[str, numbers.Checked]] = {
    "days +": _days_added(1),
    "days -": _days_added(-1),
    "days between": _days_between,
}


# --- comparisons -----------------------------------------------------------------------------


def _comparison(node: Typed) -> Run:
    left, right = node.args
    op = node.op
    if left.op == "constant" and right.op != "constant":
        left, right, op = right, left, numbers.MIRRORED[op]
    is_simple = right.op == "constant" and left.dtype in FLOATS and right.value is not None
    compare = numbers.compared_to_constant if is_simple else numbers.compared
    return _plain(lambda a, b: compare(op, a, b), Typed(op, "bool", (left, right)))


def _among(node: Typed) -> Run:
    values = [arg.value for arg in node.args[1:]]
    items = [constant(node.args[0].dtype, value)[0] for value in values]
    if node.args[0].dtype == "string":
        chosen = frozenset(values)

        def kernel(a: Array) -> Array:
            return np.fromiter((value in chosen for value in a), np.bool_, len(a))
    elif len(items) <= _FEW_CONSTANTS:

        def kernel(a: Array) -> Array:
            return np.asarray(reduce(np.logical_or, (a == item for item in items)))
    else:
        together = np.concatenate(items)

        def kernel(a: Array) -> Array:
            return np.isin(a, together)

    return _plain(kernel, Typed("in", "bool", node.args[:1]))


def _concat(node: Typed) -> Run:
    parts = [compiled(arg) for arg in node.args]

    def run(columns: Columns, count: int) -> Vector:
        vectors = [_without_nulls(part(columns, count)) for part in parts]
        return concatenated(vectors), None

    return run


def _without_nulls(vector: Vector) -> Vector:
    values, valid = vector
    return (values if valid is None else np.where(valid, values, "")), None


def _cast(node: Typed) -> Run:
    (arg,) = node.args
    inner, kernel = compiled(arg), cast_kernel(arg.dtype, node.dtype)
    is_try, reason = node.op == "try_cast", f"{arg.dtype} beyond {node.dtype} in CAST"

    def run(columns: Columns, count: int) -> Vector:
        before, valid = inner(columns, count)
        values, bad = kernel(before)
        if bad is None or not any_true(bad):
            return values, valid
        if is_try:
            return values, both(valid, ~bad)
        numbers.refuse(bad, valid, reason)
        return values, valid

    return run


_CHOICES: Final[dict[str, Callable[[Typed, Compile], Run]]] = {
    "is distinct from": choices.distinct,
    "is not distinct from": choices.distinct,
    "and": choices.and_,
    "or": choices.or_,
    "not": choices.not_,
    "is null": choices.is_null,
    "case": choices.case,
    "coalesce": choices.coalesce,
    "nullif": choices.nullif,
    "greatest": choices.extreme,
    "least": choices.extreme,
}
_SPECIAL: Final[dict[str, Callable[[Typed], Run]]] = {
    "in": _among,
    "concat": _concat,
    "cast": _cast,
    "try_cast": _cast,
}
