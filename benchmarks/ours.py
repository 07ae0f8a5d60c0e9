"""Our side of the workloads: the jobs of `benchmarks.sides`, through the public API alone.

python -m benchmarks.ours JOB ARGUMENTS_JSON REPORT_PATH
"""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import calls, data, lookup
from benchmarks.errors import WrongAnswerError
from benchmarks.job import serve_jobs
from benchmarks.process import own_peak_mb

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from featurestore import FeatureStore, FeatureView


def prepare(arguments: dict[str, Any]) -> dict[str, Any]:
    """Write the repository and apply the feature views. The clock stands at the data's end."""
    folder = Path(arguments["repository"])
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["project: bench", f"clock: {arguments['end']}"]
    if arguments["redis"]:
        lines.append(f"online_store: redis://{arguments['redis']}/0")
    if arguments["memory_limit"]:
        lines.append(f"offline_store: {{type: duckdb, memory_limit: {arguments['memory_limit']}}}")
    (folder / "feature_store.yaml").write_text("\n".join(lines) + "\n")
    views = [_view(view, arguments["ttl_days"]) for view in arguments["views"]]
    entities = {entity.name: entity for view in views for entity in view.entities}
    _store(arguments).apply([*entities.values(), *views])
    return {}


def _view(view: dict[str, Any], ttl_days: int | None) -> FeatureView:
    """A view of features or of aggregations, with an entity for each of its keys."""
    from featurestore import Aggregation, Entity, FeatureView, Field, FileSource
    from featurestore.types import Float64, Int64

    aggregations = [Aggregation(**aggregation) for aggregation in view["aggregations"]]
    fields = [] if aggregations else [Field(name=n, dtype=Float64) for n in view["features"]]
    return FeatureView(
        name=view["name"],
        entities=[Entity(name=k.removesuffix("_id"), join_keys={k: Int64}) for k in view["keys"]],
        ttl=timedelta(days=ttl_days) if ttl_days else None,
        schema=fields,
        aggregations=aggregations,
        source=FileSource(
            name=f"{view['name']}_history",
            path=view["history"],
            timestamp_field="event_timestamp",
        ),
    )


def training(arguments: dict[str, Any]) -> dict[str, Any]:
    """Join the spine to the views, to Arrow or to a Parquet file; the same once before, small."""
    import pyarrow.parquet as pq

    if "warmup" in arguments:
        training(arguments["warmup"])
    store = _store(arguments)
    spine = pq.read_table(arguments["spine"])
    target = arguments["target"]
    started = time.perf_counter()
    job = store.get_historical_features(entity_df=spine, features=_references(arguments))
    table = job.write_parquet(target) if target else job.to_arrow()
    seconds, peak_mb = time.perf_counter() - started, own_peak_mb()
    found = pq.read_table(target) if target else table
    digest = data.digest(found, _features(arguments))
    return {"seconds": seconds, "peak_mb": peak_mb, "digest": digest}


def streamed(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same in record batches, each of which is looked at and let go; that is not timed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if "warmup" in arguments:
        streamed(arguments["warmup"])
    features = _features(arguments)
    store = _store(arguments)
    spine = pq.read_table(arguments["spine"])
    started = time.perf_counter()
    job = store.get_historical_features(entity_df=spine, features=_references(arguments))
    seconds, found = time.perf_counter() - started, dict[str, float]()
    for batch, batch_seconds in _timed(job.to_batches()):
        seconds += batch_seconds
        for name, value in data.digest(pa.Table.from_batches([batch]), features).items():
            found[name] = found.get(name, 0.0) + value
    return {"seconds": seconds, "peak_mb": own_peak_mb(), "digest": found}


def _timed(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, float]]:
    """Each batch, and the seconds that it took to come."""
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        seconds = time.perf_counter() - started
        if batch is None:
            return
        yield batch, seconds


def materialize(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read the history, write the newest row of every entity into Redis."""
    store = _store(arguments)
    end = datetime.fromisoformat(arguments["end"])
    started = time.perf_counter()
    store.materialize(end=end)
    return {"seconds": time.perf_counter() - started}


def prefill(arguments: dict[str, Any]) -> dict[str, Any]:
    """Fill the online store for the lookups."""
    return materialize(arguments)


def request(arguments: dict[str, Any]) -> dict[str, Any]:
    """Write one lookup as a length-prefixed gRPC frame."""
    message = lookup.request(_references(arguments), arguments["keys"])
    Path(arguments["body"]).write_bytes(lookup.frame(message))
    return {"method": lookup.METHOD}


def check(arguments: dict[str, Any]) -> dict[str, Any]:
    """Ask the server once and compare every value with the data."""
    references = _references(arguments)
    reply = lookup.ask(arguments["address"], lookup.request(references, arguments["keys"]))
    lookup.require_values(reply, arguments["expected"])
    return {"reply_bytes": len(reply)}


def local(arguments: dict[str, Any]) -> dict[str, Any]:
    """Look up in this process, over and over, to Python values."""
    asked = json.loads(Path(arguments["asked"]).read_text())
    requests = [[{"user_id": key} for key in keys] for keys in asked["requests"]]
    prepared = _store(arguments).prepare_online(_references(arguments))
    if wrong := calls.wrong_value(prepared.get(requests[0]).to_dict(), asked["expected"]):
        raise WrongAnswerError(wrong)
    return calls.timed(lambda rows: prepared.get(rows).to_dict(), requests, arguments["seconds"])


def _store(arguments: dict[str, Any]) -> FeatureStore:
    from featurestore import FeatureStore

    return FeatureStore(arguments["repository"])


def _references(arguments: dict[str, Any]) -> list[str]:
    return [f"{view['name']}:{n}" for view in arguments["views"] for n in view["features"]]


def _features(arguments: dict[str, Any]) -> list[str]:
    return [name for view in arguments["views"] for name in view["features"]]


JOBS = {
    job.__name__: job
    for job in (prepare, training, streamed, materialize, prefill, request, check, local)
}

if __name__ == "__main__":
    serve_jobs(JOBS)
