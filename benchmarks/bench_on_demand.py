"""on-demand: what expressions and a Python function cost for one row, and for a training set's."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.errors import WrongAnswerError
from benchmarks.harness import Sample, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from benchmarks.data import Size
    from benchmarks.harness import Measure, Run
    from benchmarks.result import Result
    from featurestore.expressions.vectors import Vector
    from featurestore.functions import FunctionLoader

EXPRESSIONS = 10
MANY_ROWS = 1_000_000
NAMES = tuple(f"f{n}" for n in range(EXPRESSIONS))
EXPRESSED = {"features": {f"amount_to_{f}": f"amount / nullif({f}, 0)" for f in NAMES}}
CALLED: dict[str, Any] = {
    "function": "on_demand_function:ratios",
    "schema": [{"name": f"amount_to_{f}", "dtype": "float64"} for f in NAMES],
}
CALLS = {1: 2_000, MANY_ROWS: 3}


def on_demand(run: Run) -> Iterator[Result]:
    """Ten expressions over ten inputs and an amount, and one function that yields the same ten.

    By themselves, and as a whole lookup of one row that comes with all inputs.
    """
    for name, rows in (("on-demand/row", 1), ("on-demand/rows", MANY_ROWS)):
        yield measured(
            run, name, "us", ours=partial(_computed, rows), limit=_timed(_by_hand(rows), rows)
        )
    for name, rows in (("on-demand/function-row", 1), ("on-demand/function-rows", MANY_ROWS)):
        body = _timed(_body_alone(rows), rows, features=1)
        yield measured(run, name, "us", ours=partial(_called, rows), limit=body)
    yield measured(run, "on-demand/lookup", "us", ours=partial(_looked_up, EXPRESSED))
    yield measured(run, "on-demand/function-lookup", "us", ours=partial(_looked_up, CALLED))


def _columns(rows: int) -> list[Vector]:
    """The request field, then the features; every tenth value of a feature is null."""
    random = np.random.default_rng(7)
    valid = np.arange(rows) % 10 != 9 if rows > 1 else None  # noqa: PLR2004 - every tenth
    features: list[Vector] = [(random.normal(size=rows), valid) for _ in range(EXPRESSIONS)]
    return [(random.normal(size=rows), None), *features]


def _computed(rows: int, _size: Size) -> Measure:
    from featurestore.expressions.computation import Computation
    from featurestore.expressions.features import ComputedFeature, bound
    from featurestore.expressions.parse import parse_expression

    features = [
        ComputedFeature(
            f"ratio:f{n}",
            "float64",
            bound(parse_expression(f"amount / nullif(f{n}, 0)"), lambda c: _position(c.name)),
        )
        for n in range(EXPRESSIONS)
    ]
    computation = Computation(["float64"] * (EXPRESSIONS + 1), features)
    columns = _columns(rows)
    found, expected = computation.run(columns, rows), _by_hand(rows)()
    if any(f[0].tobytes() != e[0].tobytes() for f, e in zip(found, expected, strict=True)):
        raise WrongAnswerError("An expression's values are not those that numpy gives.")
    return _timed(lambda: computation.run(columns, rows), rows)


def _position(name: str) -> int:
    return 0 if name == "amount" else int(name[1:]) + 1


def _by_hand(rows: int) -> Callable[[], list[Vector]]:
    amount, *features = _columns(rows)

    def run() -> list[Vector]:
        results: list[Vector] = []
        with np.errstate(all="ignore"):
            for values, valid in features:
                there = values != 0 if valid is None else valid & (values != 0)
                results.append((np.where(there, amount[0] / values, 0.0), there))
        return results

    return run


def _called(rows: int, _size: Size) -> Measure:
    """Time a call: from columns to checked columns, once the module is loaded."""
    import pyarrow as pa

    from featurestore.functions.batches import BatchFunction

    function = BatchFunction(
        view="ratios",
        function=_loader().pin(CALLED["function"]),
        inputs=pa.schema([(name, pa.float64()) for name in ("amount", *NAMES)]),
        outputs=pa.schema([(f"amount_to_{name}", pa.float64()) for name in NAMES]),
    )
    arrays = _arrays(rows)
    if function.run(arrays, rows) != _body_alone(rows)().columns:
        raise WrongAnswerError("A function's values are not those that it returned.")
    return _timed(lambda: function.run(arrays, rows), rows, features=1)


def _loader() -> FunctionLoader:
    from featurestore.functions import FunctionLoader

    return FunctionLoader([Path(__file__).parent])


def _arrays(rows: int) -> list[pa.Array]:
    from featurestore.expressions.arrow import to_arrow

    return [to_arrow(column, "float64") for column in _columns(rows)]


def _body_alone(rows: int) -> Callable[[], pa.RecordBatch]:
    import pyarrow as pa

    from benchmarks.on_demand_function import ratios

    batch = pa.RecordBatch.from_arrays(_arrays(rows), names=["amount", *NAMES])
    return lambda: ratios(batch)


def _looked_up(definition: dict[str, Any], _size: Size) -> Measure:
    """Time a lookup of one row without any store: from a request's columns to the reply's."""
    from featurestore.definitions import Field, OnDemandFeatureView, RequestSource
    from featurestore.online.memory import MemoryOnlineStore
    from featurestore.serving.catalog import serving_on_demand
    from featurestore.serving.on_demand import open_lookup
    from featurestore.serving.plan import ServingCatalog
    from featurestore.time import Clock
    from featurestore.types import Float64

    fields = [Field(name=name, dtype=Float64) for name in ("amount", *NAMES)]
    request = RequestSource(name="request", schema=fields)
    view = OnDemandFeatureView(name="ratios", sources=[request], **definition)
    if view.reference is not None:
        view = view.with_module(_loader().pin(view.reference.path).sha256)
    catalog = ServingCatalog(
        project="bench", revision=1, clock="system", on_demand={"ratios": serving_on_demand(view)}
    )
    plan = catalog.prepare([f"ratios:amount_to_{name}" for name in NAMES])
    lookup = open_lookup(MemoryOnlineStore(), plan, Clock(), functions=_loader())
    row = {name: values for name, (values, _) in zip(("amount", *NAMES), _columns(1), strict=True)}
    found = [feature.values for feature in lookup.run(row).features]
    if [np.asarray(v).tolist() for v in found] != [v.tolist() for v, _ in _by_hand(1)()]:
        raise WrongAnswerError("A lookup's values are not those that numpy gives.")
    return _timed(lambda: lookup.run(row), 1, features=1)


def _timed(run: Callable[[], object], rows: int, *, features: int = EXPRESSIONS) -> Measure:
    calls = CALLS[rows]

    def measure() -> Sample:
        start = time.thread_time()
        for _ in range(calls):
            run()
        return Sample((time.thread_time() - start) / calls / features * 1e6)

    return measure
