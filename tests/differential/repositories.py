"""Random repositories that both sides can be asked about, small enough to be full of edges.

Times lie on a grid of half hours, and a ttl is a number of hours: rows fall on both ends of a ttl
and on the spine's own times, or a microsecond beside them. Keys are few, so that they repeat, and
some are null or unknown. Values number their rows where they can, so that every row is told apart.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore import Entity, FeatureView, Field, FileSource
from featurestore.types import parse_type

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOUR_US: Final = 3_600_000_000
START_US: Final = 1_704_067_200 * 1_000_000  # 2024-01-01
TIME: Final = pa.timestamp("us", tz="UTC")
KEY_TYPES: Final = {"user_id": "int64", "shop": "string"}
FEATURE_TYPES: Final = ("float64", "int64", "string", "bool")
MANY_ROWS: Final = 20_000
"""Spine rows of every fiftieth case: more than DuckDB gives to one thread."""
ROW: Final = "row"
"""Column of the spine that numbers its rows: Feast's result has no order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One view with its source.

    Attributes:
        name: Its name; the source's file is `{name}.parquet`.
        keys: Its join keys.
        features: Feature -> type.
        ttl_hours: None for unlimited.
        has_created: Whether rows say when they were written.
        is_naive: Whether the file's times have no zone, which both sides then read in UTC.
    """

    name: str
    keys: tuple[str, ...]
    features: dict[str, str]
    ttl_hours: int | None
    has_created: bool
    is_naive: bool

    @property
    def columns(self) -> list[str]:
        """The features' names in a result."""
        return [f"{self.name}__{feature}" for feature in self.features]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A repository, its data, and a spine."""

    views: tuple[View, ...]
    rows: dict[str, pa.Table]
    spine: pa.Table

    def write(self, folder: Path) -> None:
        """Write what both sides read."""
        folder.mkdir(parents=True)
        for view in self.views:
            table = self.rows[view.name]
            pq.write_table(
                _naive(table) if view.is_naive else table, folder / f"{view.name}.parquet"
            )
        pq.write_table(self.spine, folder / "spine.parquet")
        document = {"views": [asdict(view) for view in self.views], "key_types": KEY_TYPES}
        (folder / "case.json").write_text(json.dumps(document))

    def definitions(self) -> list[FeatureView]:
        """Return the views as we define them."""
        entities = {
            key: Entity(name=f"{key}_entity", join_keys={key: parse_type(dtype)})
            for key, dtype in KEY_TYPES.items()
        }
        return [_definition(view, [entities[key] for key in view.keys]) for view in self.views]


def _naive(table: pa.Table) -> pa.Table:
    is_time = pa.types.is_timestamp
    fields = [(f.name, pa.timestamp("us") if is_time(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(fields))


def _definition(view: View, entities: Sequence[Entity]) -> FeatureView:
    source = FileSource(
        name=f"{view.name}_rows",
        path=f"{view.name}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created" if view.has_created else None,
    )
    return FeatureView(
        name=view.name,
        entities=list(entities),
        source=source,
        ttl=None if view.ttl_hours is None else timedelta(hours=view.ttl_hours),
        schema=[Field(name=name, dtype=parse_type(t)) for name, t in view.features.items()],
    )


def draw(seed: int) -> Case:
    """Return the case of a number: always the same one."""
    random = np.random.default_rng(seed)
    views = tuple(_view(random, f"view{n}") for n in range(random.integers(1, 4)))
    rows = {view.name: _rows(random, view) for view in views}
    return Case(views=views, rows=rows, spine=_spine(random, many=seed % 50 == 0))


def _view(random: np.random.Generator, name: str) -> View:
    keys = (("user_id",), ("shop",), ("user_id", "shop"))[random.integers(3)]
    names = ["a", "b", "c_y"] if random.random() < 0.15 else ["a", "b", "c"]
    chosen = names[3 - int(random.integers(1, 4)) :]
    types = {feature: FEATURE_TYPES[random.integers(len(FEATURE_TYPES))] for feature in chosen}
    return View(
        name=name,
        keys=keys,
        features=types,
        ttl_hours=[None, 1, 3, 24][random.integers(4)],
        has_created=bool(random.random() < 0.6),
        is_naive=bool(random.random() < 0.3),
    )


def _times(random: np.random.Generator, count: int, *, null_share: float) -> pa.Array:
    grid = START_US + random.integers(0, 24, count) * (HOUR_US // 2)
    beside = grid + random.choice([0, 0, 0, 1, -1], count)
    return pa.array(beside, mask=random.random(count) < null_share).view(TIME)


def _keys(random: np.random.Generator, key: str, count: int, known: int) -> pa.Array:
    numbers = random.integers(0, known, count)
    null = random.random(count) < 0.08
    if key == "user_id":
        return pa.array(numbers, pa.int64(), mask=null)
    # "1" and "11" could run into one another in an id that is made of several keys.
    texts = np.array(["1", "11", "Z\u00fcrich", ""], object)
    return pa.array(texts[numbers % len(texts)], pa.string(), mask=null)


def _rows(random: np.random.Generator, view: View) -> pa.Table:
    count = int(random.choice([0, 1, 15, 40, 80]))
    columns: dict[str, Any] = {key: _keys(random, key, count, 3) for key in view.keys}
    columns["event_timestamp"] = _times(random, count, null_share=0.03)
    if view.has_created:
        columns["created"] = _times(random, count, null_share=0.1)
    for feature, dtype in view.features.items():
        columns[feature] = _values(random, dtype, count)
    return pa.table(columns)


def _values(random: np.random.Generator, dtype: str, count: int) -> pa.Array:
    null = random.random(count) < 0.15
    numbers = np.arange(count)
    if dtype == "float64":
        values = np.where(random.random(count) < 0.1, np.nan, numbers / 4)
        return pa.array(values, mask=null)
    if dtype == "string":
        return pa.array([f"v{n}" for n in numbers], pa.string(), mask=null)
    if dtype == "bool":
        return pa.array(numbers % 2 == 0, pa.bool_(), mask=null)
    return pa.array(2**53 + numbers, pa.int64(), mask=null)


def _spine(random: np.random.Generator, *, many: bool) -> pa.Table:
    count = MANY_ROWS if many else int(random.choice([1, 10, 40]))
    columns: dict[str, Any] = {key: _keys(random, key, count, 4) for key in KEY_TYPES}
    columns["event_timestamp"] = _times(random, count, null_share=0.05)
    table = pa.table(columns)
    again = random.integers(0, count, max(1, count // 5))
    table = pa.concat_tables([table, table.take(pa.array(again))])  # duplicates stay duplicates
    return table.append_column(ROW, pa.array(range(table.num_rows), pa.int64()))
