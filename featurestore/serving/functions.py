"""Python functions of a lookup. Needs pyarrow, which other lookups do without."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from featurestore.expressions.arrow import from_arrow, to_arrow
from featurestore.expressions.vectors import NUMPY, Array, Vector
from featurestore.functions import FunctionLoader
from featurestore.functions.batches import BatchFunction
from featurestore.serving.computed import FunctionCall, OnDemandPlan, ServingFunction
from featurestore.serving.lookup import LookupResult
from featurestore.serving.plan import ServingCatalog
from featurestore.serving.response import feature_array
from featurestore.types import parse_type

Values = tuple[Array | list[Any], Array | None]
"""A computed column as a reply has it, and where it has values; None when it has them all."""


def load_all(catalog: ServingCatalog, functions: FunctionLoader) -> None:
    """Load every function that a catalog needs, so that a server that cannot run one says so first.

    Raises:
        FunctionLoadError: One of them cannot be loaded.
    """
    for view in catalog.on_demand.values():
        if view.function is not None:
            functions.load(view.function.reference, view.function.sha256)


class FunctionCalls:
    """The calls of a prepared lookup. Safe to use from several threads if the functions are.

    Args:
        plan: What is computed, and from what.
        functions: Loads the functions.

    Raises:
        FunctionLoadError: A function cannot be loaded.
    """

    def __init__(self, plan: OnDemandPlan, functions: FunctionLoader) -> None:
        self._plan = plan
        self._calls = [
            (call, _batch_function(call, plan.input_types, functions)) for call in plan.functions
        ]

    def run(
        self, fields: Mapping[str, Vector], result: LookupResult, count: int
    ) -> dict[int, Values]:
        """Return the columns of `count` entities: position in the plan's `names` -> values.

        Args:
            fields: The request fields.
            result: What was looked up.
            count: How many entities there are.

        Raises:
            FunctionCallError: A function failed, or returned something else than declared.
        """
        found: dict[int, Values] = {}
        for call, function in self._calls:
            arrays = [self._input(n, fields, result) for n in call.inputs]
            outputs = function.run(arrays, count)
            for place, wanted in zip(call.places, call.wanted, strict=True):
                found[place] = _values(outputs[wanted], self._plan.types[place])
        return found

    def _input(self, n: int, fields: Mapping[str, Vector], result: LookupResult) -> pa.Array:
        source = self._plan.inputs[n]
        if isinstance(source, str):
            return to_arrow(fields[source], self._plan.input_types[n])
        return feature_array(result.features[source])


def _batch_function(
    call: FunctionCall, input_types: Sequence[str], functions: FunctionLoader
) -> BatchFunction:
    served: ServingFunction = call.function
    types = [parse_type(input_types[n]) for n in call.inputs]
    return BatchFunction(
        view=call.view,
        function=functions.load(served.reference, served.sha256),
        inputs=pa.schema(list(zip(served.columns, types, strict=True))),
        outputs=pa.schema([(name, parse_type(dtype)) for name, dtype in served.outputs]),
    )


def _values(array: pa.Array, dtype: str) -> Values:
    if dtype in NUMPY and dtype != "string":
        return from_arrow(array, dtype)
    valid = None if not array.null_count else array.is_valid().to_numpy(zero_copy_only=False)
    if not dtype.startswith("list<"):
        return array.to_pylist(), valid
    return [_elements(value, dtype[len("list<") : -1]) for value in array], valid


def _elements(value: pa.ListScalar, dtype: str) -> Array | list[Any] | None:
    """Return a list as a stored one is decoded: numbers in numpy unless one of them is null."""
    if not value.is_valid:
        return None
    values, valid = _values(value.values, dtype)
    if valid is None or isinstance(values, list):
        return values
    return [v if ok else None for v, ok in zip(values.tolist(), valid.tolist(), strict=True)]
