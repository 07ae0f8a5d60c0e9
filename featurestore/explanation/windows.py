"""The rows of one entity as windows take them: which are in, and which have a feature's value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from featurestore.definitions.aggregation import ROWS, WindowFeature
from featurestore.explanation.key_rows import KeyRows, Marks
from featurestore.explanation.recomputed import deciding
from featurestore.explanation.verdicts import Verdicts, judge_window
from featurestore.offline.engine import Mode
from featurestore.offline.scan import SourceScan
from featurestore.offline.windows.predicate import counted_rows


@dataclass(frozen=True, kw_only=True)
class WindowRows:
    """Rows of a view with aggregations, of one entity.

    Attributes:
        rows: The rows, with the columns that the features need.
        scan: What they were read from.
        at_us: Where windows end.
        mode: See `FeatureStore.explain`.
    """

    rows: KeyRows
    scan: SourceScan
    at_us: int
    mode: Mode

    def judge(self, feature: WindowFeature) -> Verdicts:
        """Find the rows of a feature's window, and why others are not in it."""
        column = self._column(feature)
        return judge_window(
            self.rows,
            at_us=self.at_us,
            window_us=feature.window_us,
            closed=feature.closed,
            mode=self.mode,
            counted=self._counted(feature),
            valid=None if column is None else np.asarray(column.is_valid()),
        )

    def values(self, feature: WindowFeature, verdicts: Verdicts) -> pa.Array | None:
        """Return the values in a window, in the order of their rank; None where rows count."""
        column = self._column(feature)
        return None if column is None else column.take(pa.array(verdicts.answering))

    def deciding(
        self,
        features: Sequence[WindowFeature],
        verdicts: Verdicts,
        values: Mapping[str, pa.Scalar],
    ) -> dict[str, int]:
        """Return feature -> the position of the row that has its value, where there is one.

        Args:
            features: Features of one window of one column.
            verdicts: The rows in it.
            values: The features' values.
        """
        held = self.values(features[0], verdicts)
        found = {f.name: deciding(f, values[f.name], held) for f in features}
        return {n: int(verdicts.answering[at]) for n, at in found.items() if at is not None}

    def _counted(self, feature: WindowFeature) -> Marks | None:
        """Return the rows for which the aggregation's predicate is true; None for all."""
        if feature.predicate is None or not len(self.rows):
            return None
        # Of a column that is read as two types, predicates take the first.
        columns = {c.name: c for c in reversed(self.scan.features)}
        types = {name: column.dtype for name, column in columns.items()}

        def values(column: str) -> pa.Array:
            return self.rows.column(columns[column].alias).cast(types[column])

        return counted_rows(feature.predicate, types, values, source=self.scan.source.name)

    def _column(self, feature: WindowFeature) -> pa.Array | None:
        if feature.column == ROWS or not len(self.rows):
            return None
        wanted = (feature.column, feature.dtype)
        alias = next(c.alias for c in self.scan.features if (c.name, c.dtype) == wanted)
        return self.rows.column(alias).cast(feature.dtype)
