"""A feature to be computed, as plans carry it: plain data, without numpy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from featurestore.expressions.tree import Column, Node, from_json, to_json, with_columns


@dataclass(frozen=True, slots=True)
class ComputedFeature:
    """A feature to be computed.

    Attributes:
        name: As in "view:feature", for messages.
        dtype: The type of its values.
        tree: Its expression; columns are positions among the inputs: `bound`.
    """

    name: str
    dtype: str
    tree: Node

    def to_document(self) -> dict[str, Any]:
        """Return this as JSON-ready data."""
        return {"name": self.name, "dtype": self.dtype, "tree": to_json(self.tree)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> "ComputedFeature":
        """Return what `to_document` wrote; ValueError when it is something else."""
        return cls(document["name"], document["dtype"], from_json(document["tree"]))


def bound(node: Node, position: Callable[[Column], int]) -> Node:
    """Return a tree whose columns are positions among the inputs."""
    return with_columns(node, lambda column: Column(str(position(column))))
