"""How values are spread, as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from featurestore.statistics.spread import Histogram, Quantiles, Spread
from featurestore.statistics.values import from_json, to_json

_TIMES: Final = ("date32", "timestamp[us, UTC]")


def spread_document(spread: Spread, dtype: str) -> dict[str, Any]:
    """Return the spread of values of a type, as `types.type_name` writes it, as JSON."""
    quantiles, histogram = spread.quantiles, spread.histogram
    return {
        "min": to_json(spread.min, dtype),
        "max": to_json(spread.max, dtype),
        "mean": to_json(spread.mean, dtype),
        "stddev": to_json(spread.stddev, dtype),
        "quantiles": None
        if quantiles is None
        else {
            "values": [[share, to_json(v, dtype)] for share, v in quantiles.values.items()],
            "exact": quantiles.exact,
            "error": quantiles.error,
        },
        "histogram": None
        if histogram is None
        else {
            "edges": [to_json(edge, dtype) for edge in histogram.edges],
            "counts": list(histogram.counts),
            "below": histogram.below,
            "above": histogram.above,
        },
    }


def spread_of(document: Mapping[str, Any], dtype: str) -> Spread:
    """Return what `spread_document` wrote.

    Raises:
        KeyError, TypeError, ValueError: It did not write this.
    """
    mean_type = dtype if dtype in _TIMES else "float64"
    return Spread(
        min=from_json(document["min"], dtype),
        max=from_json(document["max"], dtype),
        mean=from_json(document["mean"], mean_type),
        stddev=from_json(document["stddev"], "float64"),
        quantiles=_quantiles_of(document["quantiles"], dtype),
        histogram=_histogram_of(document["histogram"], dtype),
    )


def _quantiles_of(document: Mapping[str, Any] | None, dtype: str) -> Quantiles | None:
    if document is None:
        return None
    values: Sequence[Any] = document["values"]
    found = {float(share): from_json(value, dtype) for share, value in values}
    return Quantiles(values=found, error=document["error"])


def _histogram_of(document: Mapping[str, Any] | None, dtype: str) -> Histogram | None:
    if document is None:
        return None
    return Histogram(
        edges=tuple(from_json(edge, dtype) for edge in document["edges"]),
        counts=tuple(document["counts"]),
        below=document["below"],
        above=document["above"],
    )
