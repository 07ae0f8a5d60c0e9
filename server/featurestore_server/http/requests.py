"""The bytes of a JSON document -> a request for a lookup."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NoReturn, cast

from featurestore.errors import EntityValueError, close_names, did_you_mean, shown
from featurestore.serving.lookup import LookupResult
from featurestore.serving.plan import Columns
from featurestore_server.dialects import Dialect
from featurestore_server.errors import MalformedMessageError
from featurestore_server.http.replies import write_reply
from featurestore_server.http.values import Json, finite, read_column
from featurestore_server.options import Limits
from featurestore_server.requests import Selection, check_entities, check_features

Form = Literal["columns", "rows"]

MAX_ENTITY_COUNT: Final = 2**32 - 1
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NAMES: Final = (
    "project",
    "feature_service",
    "features",
    "entities",
    "full_feature_names",
    "entity_count",
    "format",
)


class JsonRequest:
    """A request in JSON; see `LookupRequest`.

    Raises:
        MalformedMessageError: A field is unknown, missing, or of the wrong type.
        LimitExceededError: It names too many features.
    """

    __slots__ = (
        "_entities",
        "_form",
        "_limits",
        "entity_count",
        "full_feature_names",
        "project",
        "selection",
    )

    def __init__(self, document: Mapping[str, Json], limits: Limits) -> None:
        _check_names(document)
        self._limits = limits
        self.project: str = _field(document, "project", str, "")
        self.selection = _selection(document, limits)
        self.full_feature_names: bool = _field(document, "full_feature_names", bool, default=False)
        self._entities = _entities(document)
        self._form = _form(document, self._entities)
        self.entity_count = _entity_count(document, self._entities)

    def columns(self, types: Columns) -> Mapping[str, Sequence[Any]]:
        """Return the columns of entities as Python values of the types that are asked for.

        Columns that nobody asks for stay as they are: the lookup refuses them by name.
        """
        declared = dict(types)
        return {
            name: read_column(values, declared[name], field=name) if name in declared else values
            for name, values in self._listed(declared).items()
        }

    def _listed(self, declared: Mapping[str, str]) -> Mapping[str, list[Json]]:
        entities = self._entities
        if isinstance(entities, list):
            check_entities(len(entities), self._limits, field="entities")
            return _columns_of(entities) if entities else {name: [] for name in declared}
        for name, values in entities.items():
            if not isinstance(values, list):
                _malformed(
                    f"The values of {shown(name)} are no array.",
                    f"entities.{name}",
                    "write one value per entity in an array, or entities as an array of objects",
                )
            check_entities(len(values), self._limits, field=f"entities.{name}")
        return entities

    def reply(self, result: LookupResult, *, project: str, revision: int) -> bytes:
        """Return the reply as JSON, in the form that was asked for."""
        return write_reply(result, project=project, revision=revision, by_row=self._form == "rows")


class _Json(Dialect):
    def read(self, request: bytes, limits: Limits) -> JsonRequest:
        return JsonRequest(_document(request), limits)


JSON: Final = _Json()


# --- the document --------------------------------------------------------------------------------


def _document(body: bytes) -> Mapping[str, Json]:
    try:
        text = body.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise MalformedMessageError(
            f"Byte {error.start} of the body is no UTF-8.", hint="send JSON in UTF-8"
        ) from None
    try:
        document = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedMessageError(
            f"The body is no JSON: {error.msg}, line {error.lineno}, column {error.colno}."
        ) from None
    except RecursionError:
        raise MalformedMessageError("The body is nested too deeply.") from None
    except ValueError:  # an integer of more digits than Python reads
        raise MalformedMessageError("The body has a number that is too large.") from None
    if not isinstance(document, dict):
        _malformed("The body is no JSON object.", "", 'it begins with {"feature_service": ...')
    if "\\u" in text:
        _check_text(document)
    return document


def _check_text(document: Json) -> None:
    """Refuse halves of surrogate pairs, which no UTF-8 can hold; only escapes can make them."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise MalformedMessageError(
            "The body has a lone surrogate (\\ud800 to \\udfff), which is no text."
        ) from None


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        _malformed(f"An object of the body has {shown(twice)} twice.", "")
    return made


def _finite(text: str) -> float:
    try:
        return finite(text)
    except ValueError:
        raise MalformedMessageError(f"{shown(text)} is more than a float can hold.") from None


def _no_constant(text: str) -> NoReturn:
    raise MalformedMessageError(f"{text} is no JSON.", hint=f'write it as text: "{text}"')


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
)


# --- its fields ----------------------------------------------------------------------------------


def _check_names(document: Mapping[str, Json]) -> None:
    for name in document:
        if name not in _NAMES:
            _malformed(
                f"There is no field {shown(name)} in a request.",
                name,
                did_you_mean(close_names(name, _NAMES)) or f"the fields are {', '.join(_NAMES)}",
            )


def _field(document: Mapping[str, Json], name: str, kind: type, default: Any) -> Any:
    value = document.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        word = {str: "text", bool: "true or false", int: "a whole number"}[kind]
        _malformed(f"{name!r} is not {word}.", name)
    return value


def _selection(document: Mapping[str, Json], limits: Limits) -> Selection:
    service, names = document.get("feature_service"), document.get("features")
    if service is not None and names is not None:
        _malformed(
            "The request has both feature_service and features.", "selection", "send one of them"
        )
    if service is None and names is None:
        _malformed("The request names no features.", "selection", "set feature_service or features")
    if service is not None:
        return cast("str", _field(document, "feature_service", str, ""))
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        _malformed("'features' is no array of \"view:feature\".", "features")
    check_features(names, limits)
    return tuple(names)


def _entities(document: Mapping[str, Json]) -> dict[str, Json] | list[dict[str, Json]]:
    entities = document.get("entities")
    if entities is None:
        return {}
    is_rows = isinstance(entities, list) and all(type(row) is dict for row in entities)
    if not is_rows and not isinstance(entities, dict):
        _malformed(
            "'entities' is neither an object of columns nor an array of objects.",
            "entities",
            'write {"user_id": [1, 2]} or [{"user_id": 1}, {"user_id": 2}]',
        )
    return cast("dict[str, Json] | list[dict[str, Json]]", entities)


def _columns_of(rows: Sequence[Mapping[str, Json]]) -> dict[str, list[Json]]:
    """Return the columns of rows, all of which have the same names."""
    names = rows[0].keys()
    for number, row in enumerate(rows):
        if row.keys() != names:
            name = min(row.keys() ^ names)
            raise EntityValueError(
                f"Only some entities have {shown(name)}: entities 0 and {number} differ.",
                field=name,
                row=number,
                hint="write null where there is no value",
            )
    return {name: [row[name] for row in rows] for name in names}


def _form(document: Mapping[str, Json], entities: Json) -> Form:
    form = _field(document, "format", str, None)
    if form is None:
        return "rows" if isinstance(entities, list) else "columns"
    if form not in ("columns", "rows"):
        _malformed('\'format\' is neither "columns" nor "rows".', "format")
    return cast("Form", form)


def _entity_count(document: Mapping[str, Json], entities: Json) -> int | None:
    count = _field(document, "entity_count", int, 0)
    if not 0 <= count <= MAX_ENTITY_COUNT:
        _malformed(f"'entity_count' is outside 0 to {MAX_ENTITY_COUNT}.", "entity_count")
    if not isinstance(entities, list):
        return count or None
    if count not in (0, len(entities)):
        _malformed(
            f"'entity_count' is {count}, and there are {len(entities)} entities.", "entity_count"
        )
    return len(entities)


def _malformed(message: str, field: str, hint: str | None = None) -> NoReturn:
    raise MalformedMessageError(message, field=field, hint=hint)
