"""What does not compute all arguments for all rows, or is not null when one of them is.

CASE and COALESCE compute a branch for the rows that need it alone, so that
`CASE WHEN b <> 0 THEN a // b END` never fails.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeAlias

import numpy as np

from featurestore.expressions import numbers
from featurestore.expressions.errors import RowError
from featurestore.expressions.typed import FLOATS, Typed
from featurestore.expressions.vectors import (
    NUMPY,
    Array,
    Vector,
    all_true,
    both,
    full,
)

Columns: TypeAlias = Sequence[Vector]
Run: TypeAlias = Callable[[Columns, int], Vector]
"""From the inputs and the number of rows to a vector, of that length or a constant's."""
Compile: TypeAlias = Callable[[Typed], Run]


def distinct(node: Typed, compile_: Compile) -> Run:
    """IS [NOT] DISTINCT FROM: null equals null, and is unlike all else."""
    left, right = map(compile_, node.args)
    is_distinct = node.op == "is distinct from"

    def run(columns: Columns, count: int) -> Vector:
        a, a_valid = left(columns, count)
        b, b_valid = right(columns, count)
        same = numbers.compared("=", a, b)
        if a_valid is not None or b_valid is not None:
            a_there = np.ones(1, np.bool_) if a_valid is None else a_valid
            b_there = np.ones(1, np.bool_) if b_valid is None else b_valid
            same = np.where(a_there & b_there, same, ~a_there & ~b_there)
        return (~same if is_distinct else same), None

    return run


# --- three-valued logic ------------------------------------------------------------------------


def and_(node: Typed, compile_: Compile) -> Run:
    """AND: one FALSE decides."""
    return _connective(node, compile_, np.logical_and, deciding=False)


def or_(node: Typed, compile_: Compile) -> Run:
    """OR: one TRUE decides."""
    return _connective(node, compile_, np.logical_or, deciding=True)


def _connective(
    node: Typed, compile_: Compile, kernel: Callable[[Array, Array], Array], *, deciding: bool
) -> Run:
    left, right = map(compile_, node.args)

    def decides(values: Array, valid: Array | None) -> Array:
        found = values if deciding else ~values
        return found if valid is None else found & valid

    def run(columns: Columns, count: int) -> Vector:
        a, a_valid = left(columns, count)
        b, b_valid = right(columns, count)
        valid = both(a_valid, b_valid)
        if valid is None:
            return kernel(a, b), None
        decided = decides(a, a_valid) | decides(b, b_valid)
        return np.where(decided, deciding, kernel(a, b)), valid | decided

    return run


def not_(node: Typed, compile_: Compile) -> Run:
    """NOT: null stays null."""
    inner = compile_(node.args[0])

    def run(columns: Columns, count: int) -> Vector:
        values, valid = inner(columns, count)
        return ~values, valid

    return run


def is_null(node: Typed, compile_: Compile) -> Run:
    """IS NULL."""
    inner = compile_(node.args[0])

    def run(columns: Columns, count: int) -> Vector:
        _, valid = inner(columns, count)
        return (np.zeros(1, np.bool_) if valid is None else ~valid), None

    return run


# --- choices -----------------------------------------------------------------------------------


def case(node: Typed, compile_: Compile) -> Run:
    """CASE: the first condition that holds decides; null does not hold."""
    *pairs, default = node.args
    turns = [
        (compile_(condition), compile_(value), (_used(condition), _used(value)))
        for condition, value in zip(pairs[::2], pairs[1::2], strict=True)
    ]
    last, last_used = compile_(default), _used(default)
    dtype = node.dtype

    def run_one(columns: Columns) -> Vector:
        for condition, value, _ in turns:
            values, valid = condition(columns, 1)
            if values[0] and (valid is None or valid[0]):
                return value(columns, 1)
        return last(columns, 1)

    def run(columns: Columns, count: int) -> Vector:
        if count == 1:
            return run_one(columns)
        rows = np.arange(count)
        result = _Result(dtype, count)
        for condition, value, (needed, used) in turns:
            values, valid = full(_on(condition, columns, rows, needed, count), len(rows))
            hit = values if valid is None else values & valid
            result.put(rows[hit], _on(value, columns, rows[hit], used, count))
            rows = rows[~hit]
        result.put(rows, _on(last, columns, rows, last_used, count))
        return result.values, result.valid

    return run


def coalesce(node: Typed, compile_: Compile) -> Run:
    """COALESCE: the first value that is not null."""
    parts = [(compile_(arg), _used(arg)) for arg in node.args]
    first = parts[0][0]
    dtype = node.dtype

    def run(columns: Columns, count: int) -> Vector:
        values, valid = first(columns, count)
        if valid is None or all_true(valid):
            return values, None
        result = _Result(dtype, count)
        rows = np.arange(count)
        for part, used in parts:
            values, valid = full(_on(part, columns, rows, used, count), len(rows))
            found = slice(None) if valid is None else valid
            result.put(rows[found], (values[found], None))
            if valid is None:
                break
            rows = rows[~valid]
        return result.values, result.valid

    return run


class _Result:
    """A vector that is filled part by part; null where nothing was put."""

    def __init__(self, dtype: str, count: int) -> None:
        self.values = np.zeros(count, NUMPY[dtype])
        if dtype == "string":
            self.values[:] = ""
        self.valid = np.zeros(count, np.bool_)

    def put(self, rows: Array, vector: Vector) -> None:
        """Write a vector to these rows."""
        if len(rows):
            self.values[rows] = vector[0]
            self.valid[rows] = True if vector[1] is None else vector[1]


def _on(part: Run, columns: Columns, rows: Array, used: frozenset[int], count: int) -> Vector:
    """Compute something for some of the rows; a row's error names it among all."""
    if len(rows) == count:
        return part(columns, count)
    if not len(rows):
        return np.empty(0, np.bool_), None
    chosen: list[Vector] = [
        (values[rows], None if valid is None else valid[rows]) if position in used else (rows, None)
        for position, (values, valid) in enumerate(columns)
    ]
    try:
        return part(chosen, len(rows))
    except RowError as error:
        raise RowError(int(rows[error.row]), error.reason) from None


def _used(node: Typed) -> frozenset[int]:
    """Return the positions of the inputs that a tree needs."""
    if node.op == "column":
        return frozenset((node.value,))
    return frozenset().union(*map(_used, node.args)) if node.args else frozenset()


def nullif(node: Typed, compile_: Compile) -> Run:
    """NULLIF: the first value, null where it equals the second."""
    value, left, right = node.args
    get_value = compile_(value)
    get_left = get_value if left is value else compile_(left)
    get_right = compile_(right)
    simple = right.op == "constant" and left.dtype in FLOATS and right.value is not None
    compare = numbers.compared_to_constant if simple else numbers.compared

    def run(columns: Columns, count: int) -> Vector:
        values, valid = get_value(columns, count)
        a, a_valid = (values, valid) if get_left is get_value else get_left(columns, count)
        b, b_valid = get_right(columns, count)
        equal = compare("=", a, b)
        there = both(a_valid, b_valid)
        differs = ~equal if there is None else ~(equal & there)
        if all_true(differs):
            return values, valid
        return values, both(valid, differs)

    return run


def extreme(node: Typed, compile_: Compile) -> Run:
    """GREATEST and LEAST: nulls are passed over."""
    parts = [compile_(arg) for arg in node.args]
    op = ">" if node.op == "greatest" else "<"

    def better(best: Vector, other: Vector) -> Vector:
        (a, a_valid), (b, b_valid) = best, other
        wins = numbers.compared(op, b, a)
        if b_valid is not None:
            wins = wins & b_valid
        if a_valid is None:
            return np.where(wins, b, a), None
        there = np.ones(1, np.bool_) if b_valid is None else b_valid
        wins = wins | (~a_valid & there)
        return np.where(wins, b, a), a_valid | there

    def run(columns: Columns, count: int) -> Vector:
        return reduce(better, (part(columns, count) for part in parts))

    return run
