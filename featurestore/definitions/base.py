"""What all definitions share: frozen, compared by content, written as JSON documents."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Self

import pyarrow as pa
import pydantic
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    ValidationError,
)

from featurestore.definitions.names import (
    ObjectName,
    Tags,
    Text,
    check_column_name,
    check_distinct,
)
from featurestore.errors import DefinitionError, close_names, did_you_mean, shown
from featurestore.time import MICROSECOND, format_duration, parse_duration
from featurestore.types import base_type, is_known_type, parse_type, type_name

Document = dict[str, Any]
"""A definition as JSON: what the registry keeps."""


MAX_PLAIN_NAME = 63


def _read_type(value: object) -> object:
    if isinstance(value, str):
        return parse_type(value)
    try:
        if isinstance(value, pa.DataType) and is_known_type(value):
            _check_struct_fields(value)
            return base_type(value)
    except RecursionError:
        raise ValueError("the type is nested too deeply") from None
    raise ValueError(f"{value!r} is not a type; use featurestore.types, as in Float64 or Int64")


def _check_struct_fields(dtype: pa.DataType) -> None:
    """Refuse names that readers would confuse, however deep in a type they are."""
    fields = [dtype.field(i) for i in range(dtype.num_fields)]
    if pa.types.is_struct(dtype):
        check_distinct([check_column_name(field.name) for field in fields], "struct field")
    for field in fields:
        _check_struct_fields(field.type)


def _read_duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


DataType = Annotated[
    pa.DataType, BeforeValidator(_read_type), PlainSerializer(type_name, return_type=str)
]
Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(format_duration, return_type=str),
]


class Model(BaseModel):
    """A frozen piece of a definition whose validation errors are `DefinitionError`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, strict=False
    )

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise definition_error(type(self), data, error) from None


class Definition(Model):
    """An object that a registry keeps under its name.

    Attributes:
        name: Unique among objects of its kind regardless of case.
        description: For people.
        owner: Who answers for it, for instance an e-mail address.
        tags: Free labels.
    """

    kind: ClassVar[str]
    """How the kind is called in messages and in the registry, as in "feature view"."""
    semantic_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields whose change changes what values mean; the others are for people."""

    name: ObjectName
    description: Text = ""
    owner: Text = ""
    tags: Tags = pydantic.Field(default_factory=dict)

    def to_document(self) -> Document:
        """Return the definition as JSON-ready data; other definitions appear by name.

        Without rules there is no word of a contract, so that what has none is written as it was
        before there were any.
        """
        document = self.model_dump(mode="json", by_alias=True)
        if not document.get("contract", True):
            del document["contract"]
        return document

    def semantics(self) -> Document:
        """Return what its values mean, as JSON-ready data."""
        document = self.to_document()
        return {name: document.get(name) for name in sorted(self.semantic_fields)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the definition that `to_document` wrote.

        Raises:
            DefinitionError: The document is not one of this kind.
        """
        return cls(**document)


def fingerprint(document: object) -> str:
    """Return 32 hexadecimal characters of BLAKE2b over the canonical JSON of `document`."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def in_order(parts: Iterable[Any]) -> list[Any]:
    """Return JSON-ready data in the order of its canonical JSON, each once."""
    texts = {json.dumps(part, sort_keys=True) for part in parts}
    return [json.loads(text) for text in sorted(texts)]


def duration_micros(duration: timedelta) -> int:
    """Return a duration in whole microseconds."""
    return duration // MICROSECOND


def definition_error(
    model: type[Model], data: Mapping[str, Any], error: ValidationError
) -> DefinitionError:
    """Return the first thing that validation found wrong, in a sentence that names the object."""
    name = data.get("name")
    subject = f"{model.__name__} {shown(name)}" if isinstance(name, str) else model.__name__
    details = error.errors(include_url=False, include_input=False)
    # A misspelt argument explains the one that is missing.
    detail = next((d for d in details if d["type"] == "extra_forbidden"), details[0])
    where = ".".join(_shown_part(part) for part in detail["loc"] if part != "[key]")
    if detail["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in model.model_fields.items()]
        hint = did_you_mean(close_names(str(detail["loc"][-1]), known))
        return DefinitionError(
            f"{subject}: there is no argument {where}.", hint=hint or f"known: {', '.join(known)}"
        )
    if detail["type"] == "missing":
        return DefinitionError(f"{subject}: {where} is missing")
    reason = detail["msg"].removeprefix("Value error, ")
    return DefinitionError(f"{subject}: {f'{where}: ' if where else ''}{reason}")


def _shown_part(part: int | str) -> str:
    """Return a part of a path for a message: a user's own key may be anything."""
    text = str(part)
    is_plain = len(text) <= MAX_PLAIN_NAME and (text.isidentifier() or text.isdigit())
    return text if is_plain else shown(text)
