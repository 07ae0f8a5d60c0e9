"""What a training set joins to its spine."""

from dataclasses import dataclass

import pyarrow as pa

from featurestore.definitions.aggregation import WindowFeature
from featurestore.offline.scan import SourceScan


@dataclass(frozen=True, kw_only=True)
class JoinTask:
    """One view to be joined: its scan and the spine's rows in its terms (`q`, `k0..`).

    Attributes:
        windows: The features to compute, for a view with aggregations; `scan` then has the columns
            that they need.
    """

    label: str
    scan: SourceScan
    keys: pa.Table
    ttl_us: int | None
    windows: tuple[WindowFeature, ...] = ()

    @property
    def dtypes(self) -> tuple[pa.DataType, ...]:
        """The features' types, in order."""
        if self.windows:
            return tuple(feature.result_type for feature in self.windows)
        return tuple(column.dtype for column in self.scan.features)
