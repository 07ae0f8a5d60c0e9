"""Names of objects, and names compared as users mean them: regardless of case."""

import re
from collections.abc import Iterable

from featurestore.errors import shown

_OBJECT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


def check_object_name(name: str) -> str:
    """Return `name` if an object may have it.

    Raises:
        ValueError: It says which rule the name breaks.
    """
    if not _OBJECT_NAME.fullmatch(name):
        raise ValueError(
            f"{shown(name)} cannot be a name: it takes 1 to 63 ASCII letters, digits and"
            " underscores, and begins with a letter"
        )
    if "__" in name:
        raise ValueError(
            f"{shown(name)} cannot be a name: '__' separates a view from a feature in full names"
        )
    return name


def duplicate_name(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that are equal when case is ignored, or None."""
    seen: dict[str, str] = {}
    for name in names:
        if (folded := name.casefold()) in seen:
            return seen[folded], name
        seen[folded] = name
    return None


def printable(text: str) -> str:
    """Return text with control characters escaped: it can break neither a line nor a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
