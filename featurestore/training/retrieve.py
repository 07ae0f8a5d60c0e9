"""From a request to a job: what can go wrong with a request goes wrong here, before any work."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from featurestore.errors import RequestError, SourceError
from featurestore.functions import FunctionLoader
from featurestore.offline.column_types import with_file_types
from featurestore.offline.engine import Mode, OfflineEngine, SqlTable
from featurestore.offline.scan import open_scan
from featurestore.offline.source_roots import check_sources_within
from featurestore.offline.view_files import Listings
from featurestore.registry.state import RegistryState
from featurestore.training.asked import Asked, origin_of, service_of
from featurestore.training.job import RetrievalJob
from featurestore.training.labels import check_labels
from featurestore.training.query import (
    FeatureRequest,
    ViewJoin,
    check_names,
    resolve,
    selections_of,
)
from featurestore.training.request import request_table
from featurestore.training.spine import SqlSpine, key_column, times_us, to_table
from featurestore.training.task import JoinTask
from featurestore.training.watch import Progress

MODES: tuple[Mode, ...] = ("complete", "as_served")


def retrieve(
    *,
    entity_df: object,
    features: FeatureRequest,
    state: RegistryState,
    engine: OfflineEngine,
    functions: FunctionLoader | None = None,
    root: Path,
    source_roots: Sequence[Path] | None = None,
    full_feature_names: bool,
    timestamp_field: str,
    timezone: str,
    mode: Mode,
    progress: Progress | None = None,
    only_files: Collection[str] | None = None,
) -> RetrievalJob:
    """Check a request for historical features and return its job; see `FeatureStore`.

    With `only_files` the sources consist of these files alone, whatever else lies beside them.
    """
    if mode not in MODES:
        raise RequestError(f"mode={mode!r} is neither 'complete' nor 'as_served'.")
    query = resolve(features, state, full_feature_names=full_feature_names, functions=functions)
    for join in query.joins:
        _check_mode(join, mode)
        check_sources_within(source_roots, (join.view.source, *join.view.joins), root=root)
    listings = Listings(root, only=only_files)
    if isinstance(entity_df, SqlSpine):
        spine = engine.query(entity_df.text, _tables(state, listings, root, source_roots))
    else:
        spine = to_table(entity_df, timestamp_field=timestamp_field)
    check_names(query.names, spine.column_names)
    check_labels(query, spine.schema, timestamp_field)
    times = times_us(spine, timestamp_field, timezone)
    request = None
    if query.on_demand is not None:
        request = request_table(query.on_demand.fields, spine, timezone)
    return RetrievalJob(
        engine=engine,
        spine=spine,
        query=query,
        revision=state.revision,
        tasks=tuple(
            join_task(join, spine, times, root=root, mode=mode, listings=listings)
            for join in query.joins
        ),
        mode=mode,
        asked=Asked(
            selections=tuple(selections_of(features, state)),
            service=service_of(features, state),
            full_feature_names=full_feature_names,
            timestamp_field=timestamp_field,
            timezone=timezone,
            mode=mode,
            origin=origin_of(entity_df, spine),
            project=state.project,
        ),
        request=request,
        progress=progress,
    )


def _check_mode(join: ViewJoin, mode: Mode) -> None:
    for source in (join.view.source, *join.view.joins):
        is_dated = source.static or source.created_timestamp_column is not None
        if mode == "as_served" and not is_dated:
            raise RequestError(
                f"mode='as_served' needs to know when rows were written, but source"
                f" {source.name!r} of view {join.view.name!r} has no created_timestamp_column."
            )


def join_task(
    join: ViewJoin,
    spine: pa.Table,
    times: pa.Array,
    *,
    root: Path,
    mode: Mode,
    listings: Listings | None = None,
) -> JoinTask:
    """Return what is to be joined to a spine whose times are `times` (int64 microseconds)."""
    listings = Listings(root) if listings is None else listings
    selection = join.selection
    columns = {"q": times}
    for number, (key, column) in enumerate(selection.key_columns.items()):
        role = f"join key {key!r} of {selection.name!r}"
        columns[f"k{number}"] = key_column(spine, column, join.view.join_keys[key], role=role)
    view = with_file_types(join.view, root, listings=listings)
    by_name = {feature.name: feature for feature in view.window_features}
    return JoinTask(
        label=selection.name,
        scan=open_scan(view, join.features, root, as_served=mode == "as_served", listings=listings),
        keys=pa.table(columns),
        ttl_us=view.ttl_us,
        windows=tuple(by_name[name] for name in join.features) if by_name else (),
    )


def _tables(
    state: RegistryState, listings: Listings, root: Path, source_roots: Sequence[Path] | None
) -> Mapping[str, SqlTable]:
    """Return the registered sources whose files can be read; a query may need only some."""
    tables = {}
    for name, source in state.sources.items():
        with contextlib.suppress(SourceError):
            check_sources_within(source_roots, [source], root=root)
            files = tuple(file.path for file in listings.of(source))
            tables[name] = SqlTable(paths=files, renamed=source.field_mapping)
    return tables
