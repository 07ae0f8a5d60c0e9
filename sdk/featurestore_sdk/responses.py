"""What a lookup returned. Pure: made from a message, without I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesResponse
from featurestore_protos.v1.writing_pb2 import PushResponse
from google.protobuf.message import DecodeError, Message

from featurestore_sdk.errors import ServerError
from featurestore_sdk.values import decode, instant

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow as pa
    from featurestore_protos.v1.serving_pb2 import EntityColumn, FeatureColumn

Reply = TypeVar("Reply", bound=Message)


class Status(IntEnum):
    """What is known about one value."""

    PRESENT = 1
    """There is a value."""
    NULL_VALUE = 2
    """There is a row, and its value is null."""
    NOT_FOUND = 3
    """There is no row for this entity, or the entity's key is null."""
    OUTSIDE_MAX_AGE = 4
    """The row is older than the view's ttl allows; its value is withheld."""


def message_from(kind: type[Reply], reply: bytes) -> Reply:
    """Return a serialized reply as the message it should be.

    Raises:
        ServerError: It is not that message.
    """
    try:
        return kind.FromString(reply)
    except DecodeError:
        raise ServerError(f"The server's reply is no {kind.__name__}.") from None


_STATUSES: Final = {status.value: status for status in Status}


class OnlineFeatures:
    """The feature values of a batch of entities, in the order they were asked for.

    Columns are the join keys and then the features, under the names the reply gives them; a value
    is None (null) unless its status is PRESENT; a window of an entity that is NOT_FOUND has what an
    empty window has.
    """

    def __init__(self, response: GetOnlineFeaturesResponse) -> None:
        self._response = response
        self._columns: list[EntityColumn | FeatureColumn] = [
            *response.entities,
            *response.features,
        ]

    @classmethod
    def parse(cls, reply: bytes) -> Self:
        """Return what a serialized reply says.

        Raises:
            ServerError: It is no reply.
        """
        return cls(message_from(GetOnlineFeaturesResponse, reply))

    @property
    def project(self) -> str:
        """The project that answered."""
        return self._response.project

    @property
    def revision(self) -> int:
        """The revision of the project's registry that the answer follows."""
        return self._response.revision

    @property
    def request_timestamp(self) -> datetime:
        """When the request was answered, in UTC, by the server's clock."""
        return instant(self._response.request_timestamp_us)

    @property
    def entity_names(self) -> tuple[str, ...]:
        """The join keys' names."""
        return tuple(column.name for column in self._response.entities)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features' names."""
        return tuple(column.name for column in self._response.features)

    @property
    def dtypes(self) -> dict[str, str]:
        """The type of every column, such as `int64` or `list<float32>`."""
        return {column.name: column.dtype for column in self._columns}

    @property
    def statuses(self) -> dict[str, list[Status]]:
        """For every feature the status of each value."""
        return {
            column.name: [_STATUSES[status] for status in column.statuses]
            for column in self._response.features
        }

    @property
    def event_timestamps(self) -> dict[str, list[datetime | None]]:
        """For every view, or role of one, when each row took effect; None where there is no row."""
        return {
            view.name: [
                instant(micros) if found else None
                for micros, found in zip(
                    view.event_timestamps_us,
                    view.found or b"\1" * len(view.event_timestamps_us),
                    strict=True,
                )
            ]
            for view in self._response.views
        }

    @property
    def feature_views(self) -> dict[str, str]:
        """For every feature the view (or role of one) it comes from."""
        return {
            column.name: self._response.views[column.view].name
            for column in self._response.features
        }

    def to_dict(
        self, *, include_statuses: bool = False, include_event_timestamps: bool = False
    ) -> dict[str, list[Any]]:
        """Return a list of Python values for every column.

        Args:
            include_statuses: Add `{feature}__status` with the status's name.
            include_event_timestamps: Add `{feature}__event_timestamp`.

        Raises:
            OverflowError: A date or time is outside Python's years 1 to 9999; `to_arrow()` has it.
        """
        columns: dict[str, list[Any]] = {
            column.name: decode(column.values, column.dtype) for column in self._columns
        }
        if include_statuses:
            for name, statuses in self.statuses.items():
                columns[f"{name}__status"] = [status.name for status in statuses]
        if include_event_timestamps:
            times = self.event_timestamps
            for name, view in self.feature_views.items():
                columns[f"{name}__event_timestamp"] = list(times[view])
        return columns

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a dict for every entity, as `to_dict()` has its values."""
        columns = self.to_dict()
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_arrow(self) -> "pa.Table":
        """Return an Arrow table with the features' declared types (needs `pyarrow`)."""
        from featurestore_sdk.tables import arrow_table

        return arrow_table(self._columns)

    def to_polars(self) -> "pl.DataFrame":
        """Return a Polars frame with the features' declared types (needs `polars`)."""
        from featurestore_sdk.tables import polars_frame

        return polars_frame(self._columns)

    def to_pandas(self) -> "pd.DataFrame":
        """Return a pandas frame with Arrow-backed types (needs `pandas` and `pyarrow`)."""
        from featurestore_sdk.tables import pandas_frame

        return pandas_frame(self._columns)

    def to_numpy(
        self, features: Sequence[str] | None = None, *, dtype: str = "float64"
    ) -> "npt.NDArray[np.floating[Any]]":
        """Return features as a matrix for a model: a row per entity, a column per feature.

        Nulls become NaN, booleans 0 and 1, decimals the nearest float. Needs `numpy`.

        Args:
            features: The features wanted, in order; None takes all of the reply.
            dtype: "float64" or "float32".

        Raises:
            KeyError: The reply has no such feature.
            TypeError: A feature is not numeric.
        """
        from featurestore_sdk.tables import matrix

        by_name = {column.name: column for column in self._response.features}
        return matrix([by_name[name] for name in features or by_name], dtype=dtype)

    def __len__(self) -> int:
        """Return the number of entities."""
        features = self._response.features
        return len(features[0].statuses) if features else 0

    def __repr__(self) -> str:
        return (
            f"<OnlineFeatures: {len(self)} entities x {len(self.feature_names)} features"
            f" of {self.project} at {self.request_timestamp.isoformat()}>"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PushResult:
    """What became of rows that were pushed.

    Attributes:
        rows: Rows given.
        written: Rows that the store took.
        kept: Rows that lost to a newer stored one.
        filtered: Rows that the view's transform leaves out, or a rule whose policy is to.
        expired: Rows so old that the store might drop them at once; they were not offered.
        missed_generations: Generations of the view, other than the one that lookups read, that
            could not take the rows: they lack them when lookups switch.
    """

    rows: int
    written: int
    kept: int
    filtered: int
    expired: int
    missed_generations: tuple[int, ...]

    @classmethod
    def parse(cls, reply: bytes) -> Self:
        """Return what a serialized reply says.

        Raises:
            ServerError: It is no reply.
        """
        found = message_from(PushResponse, reply)
        return cls(
            rows=found.rows,
            written=found.written,
            kept=found.kept,
            filtered=found.filtered,
            expired=found.expired,
            missed_generations=tuple(found.missed_generations),
        )
