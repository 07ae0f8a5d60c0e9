"""Features computed together from the same inputs: what training and serving both run."""

from collections.abc import Sequence

from featurestore.errors import ComputationError
from featurestore.expressions.check import columns_of, typed
from featurestore.expressions.errors import RowError
from featurestore.expressions.features import ComputedFeature
from featurestore.expressions.program import Program, quiet
from featurestore.expressions.tree import Column
from featurestore.expressions.vectors import Vector


class Computation:
    """Computes features for any number of rows. Safe to use from several threads.

    Args:
        input_types: The inputs' types.
        features: What to compute.

    Attributes:
        features: The same.
        used: Positions of the inputs that features are computed from; others may be anything.
    """

    def __init__(self, input_types: Sequence[str], features: Sequence[ComputedFeature]) -> None:
        def inputs(column: Column) -> tuple[int, str]:
            return int(column.name), input_types[int(column.name)]

        self.features = tuple(features)
        self.used = frozenset(
            int(column.name) for feature in features for column in columns_of(feature.tree)
        )
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
        results: list[Vector] = []
        try:
            with quiet():
                for program in self._programs:
                    results.append(program.run_quietly(inputs, count))  # noqa: PERF401 - see below
        except RowError as error:
            failed, row = self.features[len(results)], error.row + first_row
            raise ComputationError(feature=failed.name, row=row, reason=error.reason) from None
        return results
