"""Feast's side of the workloads. Runs under Feast's own Python, never under ours.

    python worker.py JOB ARGUMENTS_JSON REPORT_PATH

One job a process: it prepares outside the timing, measures one call of Feast's public API, and
writes its report as one JSON object, with the peak of its resident memory. Feast's own defaults,
except for the DuckDB offline store (its default one, Dask, loses rows): the Redis online store with
its newest-wins check, the local compute engine, no batch size, ten gRPC threads.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

REPOSITORY = """\
project: bench
provider: local
registry: registry.db
offline_store:
    type: duckdb
online_store:
    type: redis
    connection_string: "{redis}"
    key_ttl_seconds: {key_ttl_seconds}
entity_key_serialization_version: 3
"""
METHOD = "/GrpcFeatureServer/GetOnlineFeatures"
PREFILL_ROWS = 20_000
WARM_CALLS = 100


def prepare(arguments: dict[str, Any]) -> dict[str, Any]:
    """Write the repository and apply the feature views."""
    from feast import FeatureStore

    folder = Path(arguments["repository"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "feature_store.yaml").write_text(
        REPOSITORY.format(
            redis=arguments["redis"], key_ttl_seconds=arguments["key_ttl_seconds"] or "null"
        )
    )
    views = [_view(view, arguments["ttl_days"]) for view in arguments["views"]]
    entities = {entity.name: entity for _, entities in views for entity in entities}
    FeatureStore(str(folder)).apply([*entities.values(), *(view for view, _ in views)])
    return {}


def _view(view: dict[str, Any], ttl_days: int | None) -> tuple[Any, list[Any]]:
    """A feature view and its entities: one for each key, since Feast's have one key each."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, Int64

    keys = view["keys"]
    entities = [
        Entity(name=key.removesuffix("_id"), join_keys=[key], value_type=ValueType.INT64)
        for key in keys
    ]
    source = FileSource(
        name=f"{view['name']}_history", path=view["history"], timestamp_field="event_timestamp"
    )
    found = FeatureView(
        name=view["name"],
        entities=entities,
        ttl=timedelta(days=ttl_days or 0),
        schema=[
            *(Field(name=key, dtype=Int64) for key in keys),
            *(Field(name=name, dtype=Float64) for name in view["features"]),
        ],
        source=source,
    )
    return found, entities


def training(arguments: dict[str, Any]) -> dict[str, Any]:
    """Join the spine to the views, to Arrow or to a Parquet file; the same once before, small."""
    import pyarrow.parquet as pq
    from feast import FeatureStore

    if "warmup" in arguments:
        training(arguments["warmup"])
    store = FeatureStore(arguments["repository"])
    frame = pq.read_table(arguments["spine"]).to_pandas()
    target = arguments["target"]
    started = time.perf_counter()
    job = store.get_historical_features(entity_df=frame, features=_references(arguments))
    table = job.to_arrow()
    if target:  # Feast has no writer of its own for this
        pq.write_table(table, target)
    seconds, peak_mb = time.perf_counter() - started, _peak_mb()
    digest = _digest(table, _features(arguments))
    return {"seconds": seconds, "peak_mb": peak_mb, "digest": digest}


def materialize(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read the history, write the newest row of every entity into Redis."""
    from feast import FeatureStore

    store = FeatureStore(arguments["repository"])
    start = datetime.fromisoformat(arguments["start"])
    end = datetime.fromisoformat(arguments["end"])
    started = time.perf_counter()
    store.materialize(start, end)
    return {"seconds": time.perf_counter() - started}


def prefill(arguments: dict[str, Any]) -> dict[str, Any]:
    """Fill Redis for the lookups, outside any timing, in batches that keep memory flat."""
    import pyarrow.parquet as pq
    from feast import FeatureStore

    store = FeatureStore(arguments["repository"])
    for view, latest in arguments["latest"].items():
        for batch in pq.ParquetFile(latest).iter_batches(PREFILL_ROWS):
            store.write_to_online_store(view, batch.to_pandas())
    return {}


def request(arguments: dict[str, Any]) -> dict[str, Any]:
    """Write one lookup as a length-prefixed gRPC frame."""
    body = _request(arguments).SerializeToString()
    Path(arguments["body"]).write_bytes(struct.pack(">BI", 0, len(body)) + body)
    return {"method": METHOD}


def check(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask the server once and compare every value with the data."""
    import grpc
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesResponse

    with grpc.insecure_channel(arguments["address"]) as channel:
        call: Any = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        answer = call(_request(arguments).SerializeToString(), timeout=30, wait_for_ready=True)
    reply = GetOnlineFeaturesResponse.FromString(answer)
    columns = dict(zip(reply.metadata.feature_names.val, reply.results, strict=True))
    for name, wanted in arguments["expected"].items():
        found = [value.double_val for value in columns[name].values]
        if found != wanted:
            raise AssertionError(f"{name}: the server answered {found[:3]}, not {wanted[:3]} ...")
    return {"reply_bytes": len(answer)}


def local(arguments: dict[str, Any]) -> dict[str, Any]:
    """Look up in this process, over and over, to Python values."""
    from feast import FeatureStore

    store = FeatureStore(arguments["repository"])
    references = _references(arguments)
    asked = json.loads(Path(arguments["asked"]).read_text())
    requests = [[{"user_id": key} for key in keys] for keys in asked["requests"]]

    def look_up(rows: list[dict[str, int]]) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = store.get_online_features(references, rows).to_dict()
        return found

    answer = look_up(requests[0])
    for name, wanted in asked["expected"].items():
        if answer[name] != wanted:
            raise AssertionError(f"{name}: the answer is {answer[name][:3]}, not {wanted[:3]} ...")
    return _timed(look_up, requests, arguments["seconds"])


def _timed(call: Any, requests: list[Any], seconds: float) -> dict[str, Any]:
    """The same as `benchmarks.calls.timed`, which is not there for Feast's Python."""
    coming = cycle(requests)
    for _ in range(WARM_CALLS):
        call(next(coming))
    took: list[float] = []
    end, started = time.perf_counter() + seconds, 0.0
    while started < end:
        asked = next(coming)
        started = time.perf_counter()
        call(asked)
        took.append(time.perf_counter() - started)
    took.sort()
    return {
        "calls": len(took),
        "median_ms": took[len(took) // 2] * 1e3,
        "p99_ms": took[len(took) * 99 // 100] * 1e3,
    }


def _references(arguments: dict[str, Any]) -> list[str]:
    return [f"{view['name']}:{n}" for view in arguments["views"] for n in view["features"]]


def _features(arguments: dict[str, Any]) -> list[str]:
    return [name for view in arguments["views"] for name in view["features"]]


def _request(arguments: dict[str, Any]) -> Any:
    from feast.protos.feast.serving.ServingService_pb2 import GetOnlineFeaturesRequest

    message = GetOnlineFeaturesRequest()
    message.features.val.extend(_references(arguments))
    keys = message.entities["user_id"]
    for key in arguments["keys"]:
        keys.val.add(int64_val=key)
    return message


def _digest(table: Any, features: list[str]) -> dict[str, float]:
    import pyarrow.compute as pc

    found = {"rows": float(table.num_rows)}
    for name in features:
        found[f"{name}_count"] = float(len(table[name]) - table[name].null_count)
        found[f"{name}_sum"] = float(pc.sum(table[name]).as_py() or 0.0)
    return found


def _peak_mb() -> float:
    """The high-water mark of this process alone: the one getrusage gives is inherited by exec."""
    status = Path("/proc/self/status")
    if status.exists():
        marks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(marks[0].split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


JOBS = {
    job.__name__: job for job in (prepare, training, materialize, prefill, request, check, local)
}

if __name__ == "__main__":
    _, job, arguments_json, report = sys.argv
    result = JOBS[job](json.loads(arguments_json))
    Path(report).write_text(json.dumps({"peak_mb": _peak_mb(), **result}))
