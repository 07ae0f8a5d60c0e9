"""Statistics of tables while they are read: one pass, bounded memory."""

from featurestore.statistics.profiler import Profiler, profile
from featurestore.statistics.report import (
    ColumnProfile,
    Distinct,
    Histogram,
    Profile,
    Quantiles,
    Spread,
    TopValues,
)

__all__ = [
    "ColumnProfile",
    "Distinct",
    "Histogram",
    "Profile",
    "Profiler",
    "Quantiles",
    "Spread",
    "TopValues",
    "profile",
]
