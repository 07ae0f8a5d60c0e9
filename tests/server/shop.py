"""A small project to serve: its catalog, and the rows in its store."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from featurestore.online.codec import RowCodec, encode_keys
from featurestore.online.store import EncodedRows, OnlineStore, TableId
from featurestore.serving.plan import (
    ServingCatalog,
    ServingSelection,
    ServingService,
    ServingView,
)
from featurestore.time import format_instant, to_micros
from featurestore.types import parse_type

NOW: Final = datetime(2024, 3, 5, 12, tzinfo=UTC)
DAY: Final = timedelta(days=1)

# A value of every type that can be served, chosen where something could go wrong on the way.
VALUES: Final[Mapping[str, Sequence[Any]]] = {
    "bool": [True, False],
    "int8": [-128, 127],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**53 + 1],
    "uint8": [255, 0],
    "uint16": [2**16 - 1, 0],
    "uint32": [2**32 - 1, 0],
    "uint64": [2**64 - 1, 2**53 + 1],
    "float32": [np.float32(0.1), float("nan")],
    "float64": [5e-324, float("-inf")],
    "string": ["", "naïve 🛫 \0"],
    "binary": [b"", b"\x00\xff{}"],
    "decimal128(38, 2)": ["123456789012345678901234567890123456.78", "-0.01"],
    "date32": [-719_162, 2_932_896],
    "timestamp[us, UTC]": [-1, 253_402_300_799_999_999],
    "list<bool>": [[], [True, None]],
    "list<int8>": [[-128], []],
    "list<int64>": [[2**53 + 1, None], [1]],
    "list<uint64>": [[2**64 - 1], [0]],
    "list<float32>": [[0.5, float("nan")], []],
    "list<float64>": [[0.1], [None]],
    "list<string>": [["", None, "ü"], []],
    "list<binary>": [[b"\xff"], [None]],
    "list<decimal128(5, 2)>": [["1.50", None], []],
    "list<date32>": [[19_787], [None]],
    "list<timestamp[us, UTC]>": [[5], []],
}


def arrow(dtype: str, values: Sequence[Any]) -> pa.Array:
    """Values of `VALUES` as Arrow; None is null."""
    target = parse_type(dtype)
    if pa.types.is_list(target):
        carried = pa.list_(_carried(target.value_type))
        return pa.array(values, carried).cast(target)
    return pa.array(values, _carried(target)).cast(target)


def _carried(target: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(target):
        return pa.string()
    if pa.types.is_date32(target):
        return pa.int32()
    return pa.int64() if pa.types.is_timestamp(target) else target


def view(
    name: str,
    keys: Mapping[str, str],
    columns: Mapping[str, str],
    *,
    ttl: timedelta | None = None,
    project: str = "shop",
) -> ServingView:
    return ServingView(
        name=name,
        table=TableId(project=project, view=name, generation=1),
        ttl_us=None if ttl is None else ttl // timedelta(microseconds=1),
        keys=tuple(keys.items()),
        columns=tuple(columns.items()),
    )


USERS: Final = view(
    "users",
    {"user_id": "int64"},
    {"credit": "float64", "country": "string", "visits": "int64"},
    ttl=DAY,
)
PRICES: Final = view(
    "prices", {"item": "string", "country": "string"}, {"price": "decimal128(5, 2)"}
)
RATES: Final = view("rates", {}, {"rate": "float32"})
TYPES: Final = view("types", {"id": "int64"}, {f"t{i}": t for i, t in enumerate(VALUES)})
CALENDAR: Final = view("calendar", {"day": "date32"}, {"holiday": "bool"})


def selection(
    view: ServingView,
    features: Sequence[str] | None = None,
    *,
    alias: str | None = None,
    renamed: Mapping[str, str] | None = None,
) -> ServingSelection:
    return ServingSelection(
        view=view.name,
        alias=alias or view.name,
        features=None if features is None else tuple(features),
        key_columns=tuple((key, (renamed or {}).get(key, key)) for key, _ in view.keys),
    )


def catalog(*, clock: str = format_instant(NOW)) -> ServingCatalog:
    return ServingCatalog(
        project="shop",
        revision=7,
        clock=clock,
        views={view.name: view for view in (USERS, PRICES, RATES, TYPES, CALENDAR)},
        services={service.name: service for service in _services()},
    )


def _services() -> tuple[ServingService, ...]:
    return (
        ServingService(name="checkout", selections=(selection(USERS), selection(RATES))),
        ServingService(name="types", selections=(selection(TYPES),)),
        ServingService(
            name="transfer",
            selections=(
                selection(USERS, ["credit"], alias="sender", renamed={"user_id": "from_id"}),
                selection(USERS, ["credit"], alias="receiver", renamed={"user_id": "to_id"}),
            ),
        ),
    )


def write(
    store: OnlineStore,
    target: ServingView,
    columns: Mapping[str, Sequence[Any]],
    *,
    event: datetime | Sequence[datetime] = NOW,
) -> None:
    """Store rows; `columns` has the keys and the columns of the view."""
    made = {name: arrow(dtype, columns[name]) for name, dtype in (*target.keys, *target.columns)}
    count = len(made[target.columns[0][0]])
    events = [event] * count if isinstance(event, datetime) else event
    keys = encode_keys([t for _, t in target.keys], [made[name] for name, _ in target.keys])
    codec = RowCodec([t for _, t in target.columns])
    values = codec.encode(
        np.array([to_micros(at) for at in events], np.int64),
        None,
        [made[name] for name, _ in target.columns],
    )
    assert None not in keys
    rows = EncodedRows(keys=[key for key in keys if key is not None], values=values)
    store.write(target.table, rows)


def fill(store: OnlineStore) -> None:
    """Store the shop's rows: user 1 is complete, 2 has a null, 3 is too old, others are unknown."""
    write(
        store,
        USERS,
        {
            "user_id": [1, 2, 3],
            "credit": [1.5, None, 3.5],
            "country": ["AT", "CH", "DE"],
            "visits": [10, 20, 30],
        },
        event=[NOW - timedelta(hours=1), NOW - DAY, NOW - DAY - timedelta(microseconds=1)],
    )
    write(store, PRICES, {"item": ["tea"], "country": ["AT"], "price": ["9.90"]})
    write(store, RATES, {"rate": [0.25]})
    types = {f"t{i}": [*values, None] for i, values in enumerate(VALUES.values())}
    write(store, TYPES, {"id": [1, 2, 3], **types})
    write(store, CALENDAR, {"day": [19_787], "holiday": [True]})
