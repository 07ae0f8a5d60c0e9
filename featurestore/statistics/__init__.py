"""Statistics of tables while they are read: one pass, bounded memory."""

from featurestore.statistics.coverage import FeatureCoverage, MissingRows, ViewCoverage
from featurestore.statistics.profiler import Profiler, profile
from featurestore.statistics.report import ColumnProfile, Distinct, Profile, TopValues
from featurestore.statistics.spread import Histogram, Quantiles, Spread

__all__ = [
    "ColumnProfile",
    "Distinct",
    "FeatureCoverage",
    "Histogram",
    "MissingRows",
    "Profile",
    "Profiler",
    "Quantiles",
    "Spread",
    "TopValues",
    "ViewCoverage",
    "profile",
]
