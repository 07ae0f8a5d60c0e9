"""Values of features and keys on the command line: read from it, and written as JSON and text."""

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from featurestore.errors import EntityValueError, RequestError, shown
from featurestore.json_values import Json, json_column, json_value, plain_json, text
from featurestore.time import parse_instant

__all__ = ["entity_row", "entity_value", "json_column", "json_value", "plain_json", "text"]


# --- from the command line ------------------------------------------------------------------------


def entity_row(
    argument: str, types: Mapping[str, str], *, row: int, option: str = "--entity"
) -> dict[str, Any]:
    """Return the entity that `--entity` names: `user_id=42`, `a=1,b=2`, or a JSON object.

    Args:
        argument: What the user wrote. Text that holds a comma or quotes needs the JSON form.
        types: Key -> its type, as `types.type_name` writes it; a key that is not in it stays text.
        row: Which entity this is, for messages.
        option: What it was given by, for messages.

    Raises:
        RequestError: It has neither form.
        EntityValueError: A value is not of its key's type.
    """
    return {
        key: entity_value(value, types.get(key), field=key, row=row)
        for key, value in _pairs(argument, option).items()
    }


def _pairs(argument: str, option: str) -> dict[str, Any]:
    if argument.lstrip().startswith("{"):
        try:
            return dict(json.loads(argument))
        except (ValueError, RecursionError):
            raise RequestError(
                f"{option} {shown(argument)} is not a JSON object.",
                hint=f"""write {option} user_id=42, or {option} '{{"user_id": 42}}'""",
            ) from None
    pairs = [part.partition("=") for part in argument.split(",")] if argument else []
    if not all(key and equals for key, equals, _ in pairs):
        raise RequestError(
            f"{option} {shown(argument)} is not key=value.",
            hint=f"""write {option} user_id=42, or {option} '{{"user_id": 42}}' for unusual text""",
        )
    return {key: value for key, _, value in pairs}


def entity_value(value: Json, dtype: str | None, *, field: str, row: int) -> object:
    """Return a value of the command line or of JSON as the Python value that a lookup takes.

    Raises:
        EntityValueError: It is not of that type.
    """
    parse = _parser(dtype)
    if parse is None or not isinstance(value, str):
        return value
    try:
        return parse(value)
    except (ValueError, ArithmeticError):
        raise EntityValueError(
            f"{field}: {shown(value)} in entity {row} is not of type {dtype}.",
            field=field,
            row=row,
            hint=_EXAMPLES.get(str(dtype)),
        ) from None


def _parser(dtype: str | None) -> Callable[[str], object] | None:
    if dtype is None:
        return None
    if dtype.startswith("decimal"):
        from decimal import Decimal

        return Decimal
    return int if "int" in dtype and "<" not in dtype else _PARSERS.get(dtype)


def _parse_bool(value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value.lower() == "true"


def _parse_bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


def _parse_time(value: str) -> datetime:
    return parse_instant(value).astimezone(UTC)


_PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "bool": _parse_bool,
    "binary": _parse_bytes,
    "date32": date.fromisoformat,
    "float32": float,
    "float64": float,
    "timestamp[us, UTC]": _parse_time,
}
_EXAMPLES: Final = {
    "bool": "write true or false",
    "binary": "write it in base64",
    "date32": "write it as 2026-01-31",
    "timestamp[us, UTC]": "write it as 2026-01-31T12:00:00Z",
}
