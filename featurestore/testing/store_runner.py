"""`FeatureStore` itself as a runner of scenarios: any engine, any online store, in this process."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from featurestore.online.store import OnlineStore
from featurestore.store import FeatureStore
from featurestore.testing.plain import PlainTable
from featurestore.testing.runners import Reply, is_core_error
from featurestore.testing.scenario import (
    ExpectedError,
    LookUp,
    Materialize,
    Push,
    Scenario,
    Train,
)
from featurestore.testing.scenarios import DATA_FOLDER, FUNCTION_FOLDER
from featurestore.time import Clock, from_micros, to_micros

if TYPE_CHECKING:
    from featurestore.testing.oracle import Status


class MovableClock(Clock):
    """A clock that stands where it was last put."""

    def put(self, now_us: int) -> None:
        """Make it this time, for everybody who has this clock."""
        object.__setattr__(self, "fixed", from_micros(now_us))


class StoreRunner:
    """Plays scenarios in a repository of its own.

    Args:
        folder: An empty folder, which becomes the repository.
        settings: What else `feature_store.yaml` would say, such as the online store.
        online_store: An open store to use instead of the configured one.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        *,
        online_store: OnlineStore | None = None,
    ) -> None:
        self.folder = folder
        self.clock = MovableClock()
        config = {"project": "scenario", "functions": FUNCTION_FOLDER, **settings}
        self.store = FeatureStore(folder, config=config, clock=self.clock)
        if online_store is not None:
            self.store.__dict__["online_store"] = online_store

    def start(self, scenario: Scenario) -> None:
        """Write the files and apply the definitions."""
        self.clock.put(scenario.now_us)
        self.files = {name: dict(files) for name, files in scenario.files.items()}
        for source, files in self.files.items():
            for path, table in files.items():
                table.write_parquet(self._path(source, path))
        for module, text in scenario.modules.items():
            written = self.folder / FUNCTION_FOLDER / module
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(text, encoding="utf-8")
        self.store.apply(scenario.definitions())

    def _path(self, source: str, file: str) -> Path:
        return self.folder / DATA_FOLDER / source / file

    def set_clock(self, now_us: int) -> None:
        """Make it this time."""
        self.clock.put(now_us)

    def append(self, source: str, file: str, rows: PlainTable) -> None:
        """Write a new file, or an old one with more rows."""
        before = self.files[source].get(file)
        table = rows if before is None else PlainTable(rows.columns, [*before.rows, *rows.rows])
        self.files[source][file] = table
        table.write_parquet(self._path(source, file))

    def push(self, call: Push) -> None:
        """Write rows of a view's source into the online store."""
        self.store.push(call.view, call.rows.to_arrow())

    def delete(self, entity: Mapping[str, object]) -> None:
        """Delete an entity from all online views about it."""
        self.store.delete_entity(entity)

    def train(self, call: Train) -> pa.Table:
        """Return the training set."""
        return self.store.get_historical_features(
            call.spine.to_arrow(),
            _asked(call.features),
            full_feature_names=call.full_feature_names,
            timestamp_field=call.timestamp_field,
            timezone=call.timezone,
            mode=call.mode,
        ).to_arrow()

    def materialize(self, call: Materialize) -> None:
        """Bring values online."""
        end, views = from_micros(call.end_us), call.views or None
        if call.incremental:
            self.store.materialize_incremental(end, views=views)
        else:
            start = None if call.start_us is None else from_micros(call.start_us)
            self.store.materialize(start, end, views=views)

    def look_up(self, call: LookUp) -> Reply:
        """Return the online values."""
        response = self.store.get_online_features(
            _asked(call.features),
            call.entities.python_rows(),
            full_feature_names=call.full_feature_names,
        )
        return Reply(
            table=response.to_arrow(),
            statuses={
                name: [cast("Status", status.name) for status in found]
                for name, found in response.statuses.items()
            },
            event_times={
                view: [micros(at) for at in times]
                for view, times in response.event_timestamps.items()
            },
            request_us=to_micros(response.request_timestamp),
        )

    def is_expected(self, error: Exception, expected: ExpectedError) -> bool:
        """Whether an error is of the class that the scenario names."""
        return is_core_error(error, expected)

    def close(self) -> None:
        """Let go of files and connections."""
        self.store.close()


def _asked(features: str | Sequence[str]) -> str | list[str]:
    return features if isinstance(features, str) else list(features)


def micros(at: datetime | None) -> int | None:
    """Return an instant as microseconds since the epoch."""
    return None if at is None else to_micros(at)
