"""Kernels on texts: object arrays of str. Characters are code points, as DuckDB counts them."""

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from featurestore.expressions.vectors import Array

Kernel: TypeAlias = Callable[..., Array]

# Where a letter's other case is several letters, Unicode's simple mapping has one, or none at all.
_SIMPLE_UPPER: Final = {"ß": "ẞ"}
_SIMPLE_LOWER: Final = {"İ": "i"}


def _mapped(function: Callable[..., Any], dtype: Any = object) -> Kernel:
    def run(*columns: Array) -> Array:
        if len(columns) > 1:
            columns = tuple(np.broadcast_arrays(*columns))
        lists = [column.tolist() for column in columns]
        result = np.empty(len(lists[0]), dtype)
        result[:] = list(map(function, *lists))
        return result

    return run


def upper(text: str) -> str:
    """Return a text in capitals, letter by letter."""
    return text.upper() if text.isascii() else "".join(map(_upper, text))


def lower(text: str) -> str:
    """Return a text in small letters, letter by letter."""
    return text.lower() if text.isascii() else "".join(map(_lower, text))


def _upper(letter: str) -> str:
    for changed in (letter.upper(), letter.title()):
        if len(changed) == 1:
            return changed
    return _SIMPLE_UPPER.get(letter, letter)


def _lower(letter: str) -> str:
    changed = letter.lower()
    return changed if len(changed) == 1 else _SIMPLE_LOWER.get(letter, letter)


def text_kernel(op: str, option: Any) -> Kernel:
    """Return the kernel of a function on texts that are all there."""
    if op == "matches":
        return _matching(option)
    if op in _BY_OPTION:
        return _mapped(_BY_OPTION[op](option), np.bool_ if op == "like" else object)
    if op in _COUNTS:
        return _mapped(_COUNTS[op], np.int64)
    return _mapped(_TESTS[op], np.bool_) if op in _TESTS else _mapped(_TEXTS[op])


def concatenated(vectors: list[tuple[Array, Array | None]]) -> Array:
    """Return texts joined; a null adds nothing, as it holds an empty text."""
    joined: Array = _mapped(lambda *parts: "".join(parts))(*(values for values, _ in vectors))
    return joined


def _replace(text: str, found: str, by: str) -> str:
    return text.replace(found, by) if found else text


def _like(pattern: str) -> Callable[[str], bool]:
    parts = ({"%": ".*", "_": "."}.get(c) or re.escape(c) for c in pattern)
    match = re.compile("".join(parts), re.DOTALL).fullmatch
    return lambda text: match(text) is not None


def _matching(pattern: str) -> Kernel:
    """Return whether whole texts match a pattern: RE2's time is linear, and it is DuckDB's too."""

    def run(texts: Array) -> Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.match_substring_regex(pa.array(texts, pa.string()), pattern=whole(pattern))
        matching: Array = found.to_numpy(zero_copy_only=False)
        return matching

    return run


def whole(pattern: str) -> str:
    """Return a pattern of RE2 that a text matches only as a whole; `.` is no line break."""
    return rf"(?-s)\A(?:{pattern})\z"


def _right(counts: tuple[int, ...]) -> Callable[[str], str]:
    (count,) = counts
    return lambda text: text[max(0, len(text) - count) :]


def _substr(counts: tuple[int, ...]) -> Callable[[str], str]:
    start = counts[0] - 1
    end = start + counts[1] if len(counts) > 1 else None
    return lambda text: text[start:end]


_BY_OPTION: Final[dict[str, Callable[[Any], Callable[..., Any]]]] = {
    "like": _like,
    "left": lambda counts: lambda text: text[: counts[0]],
    "right": _right,
    "substr": _substr,
    "trim": lambda chars: lambda text: text.strip(" " if chars is None else chars),
    "ltrim": lambda chars: lambda text: text.lstrip(" " if chars is None else chars),
    "rtrim": lambda chars: lambda text: text.rstrip(" " if chars is None else chars),
}
_COUNTS: Final[dict[str, Callable[..., int]]] = {
    "length": len,
    "strpos": lambda text, part: text.find(part) + 1,
}
_TESTS: Final[dict[str, Callable[..., bool]]] = {
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": lambda text, part: part in text,
}
_TEXTS: Final[dict[str, Callable[..., str]]] = {
    "lower": lower,
    "upper": upper,
    "||": lambda a, b: a + b,
    "replace": _replace,
}
TEXT_OPS: Final = frozenset({"matches", *_BY_OPTION, *_COUNTS, *_TESTS, *_TEXTS})
