"""The events of a view as a view of one's own: other functions of the very same rows."""

from collections.abc import Sequence
from typing import Any, TypeVar

import pyarrow as pa

from featurestore.definitions import Aggregation, FeatureView
from featurestore.definitions.aggregation import ROWS
from featurestore.definitions.base import Model
from featurestore.definitions.transform import RowTransform

T = TypeVar("T", bound=Model)


class EventView(FeatureView):
    """Functions of the rows of another view, without those that its contract leaves out.

    Attributes:
        rows: The other view. Its rules may be about columns that no function here takes, and
            compare values in the types that it declares.
    """

    rows: FeatureView

    @property
    def row_columns(self) -> tuple[str, ...]:
        """The columns that functions take, and those that rules look at."""
        times = (self.source.timestamp_field, self.source.created_timestamp_column)
        others = {*self.join_keys, *times}
        seen = (name for rule in self.contract for name in rule.columns if name not in others)
        return tuple(dict.fromkeys((*super().row_columns, *seen)))

    def declared_type(self, name: str) -> pa.DataType | None:
        """Return the type that the other view declares."""
        return self.rows.declared_type(name)


def event_view(view: FeatureView, aggregations: Sequence[Aggregation]) -> EventView:
    """Return functions of the rows of a view."""
    return _over(view, aggregations, view.row_transform)


def arrivals(view: FeatureView) -> EventView:
    """Return the rows of a view, also those that its transform's WHERE or an inner join leaves out.

    They tell how far its source has come: what is of no interest has arrived all the same.
    """
    transform = view.row_transform
    if transform is not None:
        joins = [_changed(join, inner=False) for join in transform.joins]
        transform = _changed(transform, where=None, joins=joins)
    return _over(view, [Aggregation(ROWS, ["count"], [None])], transform)


def _over(
    view: FeatureView, aggregations: Sequence[Aggregation], transform: RowTransform | None
) -> EventView:
    return EventView(
        name=view.name,
        entities=view.entities,
        source=view.source,
        aggregations=aggregations,
        transform=transform,
        joins=view.joins,
        contract=view.contract,
        online=False,
        rows=view,
    )


def _changed(model: T, **changes: Any) -> T:
    fields = {name: getattr(model, name) for name in type(model).model_fields}
    return type(model)(**(fields | changes))
