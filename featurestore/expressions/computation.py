"""Features computed together from the same inputs: what training and serving both run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from featurestore.errors import ComputationError
from featurestore.expressions.check import typed
from featurestore.expressions.errors import RowError
from featurestore.expressions.program import Program
from featurestore.expressions.tree import Call, Column, Node, from_json, to_json
from featurestore.expressions.vectors import Vector


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
    if isinstance(node, Column):
        return Column(str(position(node)))
    if isinstance(node, Call):
        return Call(node.function, tuple(bound(arg, position) for arg in node.args), node.option)
    return node


class Computation:
    """Computes features for any number of rows. Safe to use from several threads.

    Args:
        input_types: The inputs' types.
        features: What to compute.
    """

    def __init__(self, input_types: Sequence[str], features: Sequence[ComputedFeature]) -> None:
        def inputs(column: Column) -> tuple[int, str]:
            return int(column.name), input_types[int(column.name)]

        self.features = tuple(features)
        self._programs = [Program(typed(feature.tree, inputs)) for feature in features]

    def run(self, inputs: Sequence[Vector], count: int, *, first_row: int = 0) -> list[Vector]:
        """Return the features of `count` rows, in order.

        Args:
            inputs: `count` values of each input.
            count: How many rows there are.
            first_row: The number of the first of them, for messages.

        Raises:
            ComputationError: A row has no value; it names the feature and the row.
        """
        results = []
        for feature, program in zip(self.features, self._programs, strict=True):
            try:
                results.append(program.run(inputs, count))
            except RowError as error:
                row = error.row + first_row
                raise ComputationError(feature=feature.name, row=row, reason=error.reason) from None
        return results
