"""Python functions of on-demand views: found, checked against their hash, run on batches."""

from featurestore.functions.modules import FunctionLoader, LoadedFunction
from featurestore.functions.reference import check_reference, reference_to

__all__ = [
    "FunctionLoader",
    "LoadedFunction",
    "check_reference",
    "reference_to",
]
