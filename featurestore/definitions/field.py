"""One named, typed column of a view."""

import pydantic

from featurestore.definitions.base import DataType, Model
from featurestore.definitions.names import ColumnName, Tags, Text


class Field(Model):
    """A feature: its name, which is also its column in the source, and its type.

    Attributes:
        name: 1 to 255 characters, without control characters, surrogates or ':'.
        dtype: An Arrow type, or one of `featurestore.types`.
        description: For people.
        tags: Free labels.
    """

    name: ColumnName
    dtype: DataType
    description: Text = ""
    tags: Tags = pydantic.Field(default_factory=dict)
