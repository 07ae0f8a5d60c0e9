"""Rules for the names of objects and columns (SEMANTICS, section 2)."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator

from featurestore.errors import shown
from featurestore.naming import check_object_name, duplicate_name

MAX_COLUMN_NAME = 255
MAX_TEXT = 4_096
MAX_TAGS = 64

_FORBIDDEN_CATEGORIES = ("Cc", "Cs")


def check_column_name(name: str) -> str:
    """Return `name` if a column or feature may have it.

    Raises:
        ValueError: It says which rule the name breaks.
    """
    if not 1 <= len(name) <= MAX_COLUMN_NAME:
        raise ValueError(f"{shown(name)} cannot name a column: it takes 1 to 255 characters")
    if ":" in name:
        raise ValueError(f"{shown(name)} cannot name a column: ':' separates a view from a feature")
    if any(unicodedata.category(c) in _FORBIDDEN_CATEGORIES for c in name):
        raise ValueError(
            f"{shown(name)} cannot name a column: it holds a control character or a surrogate"
        )
    return name


def check_text(text: str) -> str:
    """Return `text` if it can stand in a description, owner or tag."""
    if len(text) > MAX_TEXT:
        raise ValueError(
            f"a text of {len(text):,} characters is too long; {MAX_TEXT:,} are allowed"
        )
    if any(c == "\0" or unicodedata.category(c) == "Cs" for c in text):
        raise ValueError(f"{shown(text)} holds a NUL or a surrogate")
    return text


def check_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """Return `tags` if there are not too many and each can be stored."""
    if len(tags) > MAX_TAGS:
        raise ValueError(f"{len(tags)} tags are too many; {MAX_TAGS} are allowed")
    for key, value in tags.items():
        check_text(key)
        check_text(value)
    return tags


def check_distinct(names: Sequence[str], what: str) -> None:
    """Refuse names that are equal when case is ignored.

    Raises:
        ValueError: It names the two.
    """
    if (pair := duplicate_name(names)) is not None:
        first, second = pair
        detail = "twice" if first == second else f"and {shown(second)} (case is ignored)"
        raise ValueError(f"{what} {shown(first)} is there {detail}")


ObjectName = Annotated[str, AfterValidator(check_object_name)]
ColumnName = Annotated[str, AfterValidator(check_column_name)]
Text = Annotated[str, AfterValidator(check_text)]
Tags = Annotated[Mapping[str, str], AfterValidator(check_tags)]
