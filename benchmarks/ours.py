"""Our side of the workloads: the jobs of `benchmarks.sides`, through the public API alone.

python -m benchmarks.ours JOB ARGUMENTS_JSON REPORT_PATH
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import data, lookup
from benchmarks.job import serve_jobs
from benchmarks.process import own_peak_mb

if TYPE_CHECKING:
    from featurestore import FeatureStore


def prepare(arguments: dict[str, Any]) -> dict[str, Any]:
    """Write the repository and apply the one feature view. The clock stands at the data's end."""
    from featurestore import Entity, FeatureView, Field, FileSource
    from featurestore.types import Float64, Int64

    folder = Path(arguments["repository"])
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["project: bench", f"clock: {arguments['end']}"]
    if arguments["redis"]:
        lines.append(f"online_store: redis://{arguments['redis']}/0")
    (folder / "feature_store.yaml").write_text("\n".join(lines) + "\n")
    user = Entity(name="user", join_keys={"user_id": Int64})
    view = FeatureView(
        name=lookup.VIEW,
        entities=[user],
        ttl=arguments["ttl_days"] and timedelta(days=arguments["ttl_days"]),
        schema=[Field(name=name, dtype=Float64) for name in arguments["features"]],
        source=FileSource(
            name="history", path=arguments["history"], timestamp_field="event_timestamp"
        ),
    )
    _store(arguments).apply([user, view])
    return {}


def training(arguments: dict[str, Any]) -> dict[str, Any]:
    """Join the spine to the view, to Arrow or to a Parquet file; the same once before, small."""
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
    digest = data.digest(found, arguments["features"])
    return {"seconds": seconds, "peak_mb": peak_mb, "digest": digest}


def materialize(arguments: dict[str, Any]) -> dict[str, Any]:
    """Read the history, write the newest row of every entity into Redis."""
    store = _store(arguments)
    end = datetime.fromisoformat(arguments["end"])
    started = time.perf_counter()
    store.materialize(end=end)
    return {"seconds": time.perf_counter() - started}


def prefill(arguments: dict[str, Any]) -> dict[str, Any]:
    """Fill Redis for the lookups."""
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


def _store(arguments: dict[str, Any]) -> FeatureStore:
    from featurestore import FeatureStore

    return FeatureStore(arguments["repository"])


def _references(arguments: dict[str, Any]) -> list[str]:
    return [f"{lookup.VIEW}:{name}" for name in arguments["features"]]


JOBS = {job.__name__: job for job in (prepare, training, materialize, prefill, request, check)}

if __name__ == "__main__":
    serve_jobs(JOBS)
