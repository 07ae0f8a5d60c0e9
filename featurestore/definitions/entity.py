"""What features are about, and by which columns it is known."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from featurestore.definitions.base import DataType, Definition
from featurestore.definitions.names import ColumnName, check_distinct
from featurestore.types import KEY_TYPES, type_name

MAX_JOIN_KEYS = 16


def _read_keys(value: object) -> object:
    """Accept the JSON form `[[name, type], ...]`, which keeps the order of the keys."""
    if isinstance(value, list | tuple):
        if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):  # noqa: PLR2004
            raise ValueError("join keys have types, as in join_keys={'user_id': Int64}")
        pairs = [tuple(pair) for pair in value]
        check_distinct([str(name) for name, _ in pairs], "join key")
        return dict(pairs)
    return value


def _check_keys(keys: dict[str, Any]) -> dict[str, Any]:
    check_distinct(list(keys), "join key")
    if not 1 <= len(keys) <= MAX_JOIN_KEYS:
        raise ValueError(f"an entity has 1 to {MAX_JOIN_KEYS} join keys, not {len(keys)}")
    for name, dtype in keys.items():
        if dtype not in KEY_TYPES:
            allowed = ", ".join(sorted(type_name(t) for t in KEY_TYPES))
            raise ValueError(
                f"join key {name!r} cannot be {type_name(dtype)}; a key is one of {allowed}"
            )
    return keys


def _write_keys(keys: dict[str, Any]) -> list[list[str]]:
    return [[name, type_name(dtype)] for name, dtype in keys.items()]


JoinKeys = Annotated[
    dict[ColumnName, DataType],
    BeforeValidator(_read_keys),
    AfterValidator(_check_keys),
    PlainSerializer(_write_keys, return_type=list[list[str]]),
]


class Entity(Definition):
    """A thing with features: a user, a plane, a route.

    Attributes:
        join_keys: Columns that identify it, in order, with their types: integers, string, binary,
            date32 or bool. Several make a composite key.
    """

    kind: ClassVar[str] = "entity"
    semantic_fields: ClassVar[frozenset[str]] = frozenset({"join_keys"})

    join_keys: JoinKeys
