"""What only the caller knows: values that come with a request, or with a spine's rows."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import pyarrow as pa
import pydantic
from pydantic import AfterValidator

from featurestore.definitions.base import Definition
from featurestore.definitions.field import Field
from featurestore.definitions.names import check_distinct
from featurestore.expressions.typed import INPUT_TYPES
from featurestore.types import type_name

MAX_REQUEST_FIELDS = 500


class RequestSource(Definition):
    """Values of the moment: the amount of a payment, the cart's size, the device.

    Online they come with the request, beside the join keys; offline they are columns of the spine.

    Attributes:
        fields: The values, with their types: bool, integers, floats, string, date32 or a timestamp;
            given as `schema=`.
    """

    kind: ClassVar[str] = "request source"
    semantic_fields: ClassVar[frozenset[str]] = frozenset({"schema"})

    fields: Annotated[Sequence[Field], AfterValidator(tuple)] = pydantic.Field(alias="schema")

    def model_post_init(self, _context: Any, /) -> None:
        """Check what concerns several fields at once."""
        if not 1 <= len(self.fields) <= MAX_REQUEST_FIELDS:
            raise ValueError(f"a request source has 1 to {MAX_REQUEST_FIELDS} fields")
        check_distinct([field.name for field in self.fields], "field")
        for field in self.fields:
            if type_name(field.dtype) not in INPUT_TYPES:
                raise ValueError(
                    f"field {field.name!r} cannot be {type_name(field.dtype)}; a request field is"
                    f" one of {', '.join(INPUT_TYPES)}"
                )

    @property
    def schema_types(self) -> dict[str, pa.DataType]:
        """The fields' names, in order, with their types."""
        return {field.name: field.dtype for field in self.fields}
