"""What all definitions share: frozen, compared by content, written as JSON documents."""

import hashlib
import json
from collections.abc import Mapping
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

from featurestore.definitions.names import ObjectName, Tags, Text
from featurestore.errors import DefinitionError, shown
from featurestore.time import MICROSECOND, format_duration, parse_duration
from featurestore.types import base_type, is_known_type, parse_type, type_name

Document = dict[str, Any]
"""A definition as JSON: what the registry keeps."""


def _read_type(value: object) -> object:
    if isinstance(value, pa.DataType) and is_known_type(value):
        return base_type(value)
    if isinstance(value, str):
        return parse_type(value)
    raise ValueError(f"{value!r} is not a type; use featurestore.types, as in Float64 or Int64")


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
            raise definition_error(type(self).__name__, data, error) from None


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
        """Return the definition as JSON-ready data; other definitions appear by name."""
        return self.model_dump(mode="json", by_alias=True)

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


def duration_micros(duration: timedelta) -> int:
    """Return a duration in whole microseconds."""
    return duration // MICROSECOND


def definition_error(
    model: str, data: Mapping[str, Any], error: ValidationError
) -> DefinitionError:
    """Return the first thing that validation found wrong, in a sentence that names the object."""
    name = data.get("name")
    subject = f"{model} {shown(name)}" if isinstance(name, str) else model
    detail = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in detail["loc"])
    reason = detail["msg"].removeprefix("Value error, ")
    return DefinitionError(f"{subject}: {f'{where}: ' if where else ''}{reason}")
