"""The linter: what leaks by construction, so that no mutation can show it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from featurestore.definitions import Definition, FeatureView, FeatureViewSelection
from featurestore.errors import RequestError, SpineError, shown
from featurestore.functions import FunctionLoader
from featurestore.leakage.definition_rules import definition_findings
from featurestore.leakage.extract import without_views
from featurestore.leakage.findings import Finding, heard, in_order
from featurestore.leakage.label_rules import named_findings, value_findings
from featurestore.leakage.points import chosen_rows
from featurestore.leakage.subject import all_features
from featurestore.leakage.time_rules import source_findings, view_findings
from featurestore.leakage.time_sample import time_sample
from featurestore.leakage.window_proof import window_proof
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.source_roots import check_sources_within
from featurestore.registry.state import RegistryState
from featurestore.training.labels import label_names
from featurestore.training.query import FeatureRequest, Selection, selections_of
from featurestore.training.retrieve import retrieve
from featurestore.training.spine import to_table

LABEL_ROWS = 20_000
"""Rows of a spine whose features are compared with the label."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """What is looked at.

    Attributes:
        state: What is registered.
        engine: Computes.
        functions: Loads Python functions.
        root: Folder that relative paths start at.
        source_roots: Folders below which sources have to lie; None allows every place.
        now_us: What is now, in microseconds.
    """

    state: RegistryState
    engine: OfflineEngine
    functions: FunctionLoader
    root: Path
    source_roots: tuple[Path, ...] | None
    now_us: int

    @property
    def views(self) -> list[FeatureView]:
        """The registered views."""
        return [view.definition for view in self.state.views.values()]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A spine with a label.

    Attributes:
        spine: The spine.
        label: The label's column; None for all that are marked as labels.
        features: What to compare; None for all views whose keys the spine has.
        timestamp_field: The spine's time column.
        timezone: Zone of its naive times.
    """

    spine: object
    label: str | None
    features: FeatureRequest | None
    timestamp_field: str
    timezone: str


def lint(repository: Repository, labels: Labels | None, *, seed: int) -> list[Finding]:
    """Return what leaks by construction; see `FeatureStore.lint`."""
    views = repository.views
    sources = repository.state.sources.values()
    check_sources_within(repository.source_roots, sources, root=repository.root)
    found = [
        *definition_findings(
            views,
            repository.state.on_demand_views.values(),
            functions=repository.functions,
            root=repository.root,
        ),
        *_of_times(repository, views, np.random.default_rng(seed)),
    ]
    if labels is not None:
        found += _of_labels(repository, labels, np.random.default_rng(seed))
    return in_order(heard(found))


def _of_times(
    repository: Repository, views: list[FeatureView], chance: np.random.Generator
) -> Iterator[tuple[Definition, Finding]]:
    seen = set()
    for view in views:
        sample = time_sample(view.source, view.join_keys, repository.root, chance)
        if view.source.name not in seen:
            seen.add(view.source.name)
            yield from source_findings(view.source, sample, repository.now_us)
        prove = partial(
            window_proof,
            view,
            sources=repository.state.sources.values(),
            root=repository.root,
            chance=chance,
        )
        yield from view_findings(view, sample, prove)
    joined = {source.name: source for view in views for source in view.joins if not source.static}
    for name, source in joined.items():
        if name not in seen:
            sample = time_sample(source, {}, repository.root, chance)
            yield from source_findings(source, sample, repository.now_us)


def _of_labels(
    repository: Repository, labels: Labels, chance: np.random.Generator
) -> Iterator[tuple[Definition, Finding]]:
    spine = without_views(to_table(labels.spine, timestamp_field=labels.timestamp_field))
    names = _label_names(labels.label, spine)
    spine = chosen_rows(spine, LABEL_ROWS, chance)
    asked = _asked(repository, labels, set(spine.column_names) - set(names))
    views = {s.view.name: s.view for s in asked if isinstance(s, FeatureViewSelection)}
    for view in views.values():
        for name in names:
            yield from named_findings(view, name)
    # Without the labels: a feature may have their name, which is what is looked for.
    others = spine.drop_columns([name for name in names if not _is_request_field(asked, name)])
    job = retrieve(
        entity_df=others,
        features=asked,
        state=repository.state,
        engine=repository.engine,
        functions=repository.functions,
        root=repository.root,
        source_roots=repository.source_roots,
        full_feature_names=True,
        timestamp_field=labels.timestamp_field,
        timezone=labels.timezone,
        mode="complete",
    )
    features = job.to_arrow().select(list(job.feature_names))
    for name in names:
        yield from _compared(asked, features, spine.column(name).combine_chunks())


def _label_names(label: str | None, spine: pa.Table) -> tuple[str, ...]:
    """Return the labels to look at: the one that was named, or those that are marked."""
    if label is None:
        if found := label_names(spine.schema):
            return found
        raise SpineError(
            "None of the spine's columns is marked as a label.",
            hint="name the column that is one; columns that spine.label() made are marked",
        )
    if label not in spine.column_names:
        raise SpineError(f"The spine has no label {shown(label)}.", column=label)
    return (label,)


def _is_request_field(asked: list[Selection], label: str) -> bool:
    on_demand = (s for s in asked if not isinstance(s, FeatureViewSelection))
    return any(label in selection.view.request_fields for selection in on_demand)


def _compared(
    asked: list[Selection], features: pa.Table, label: pa.Array
) -> Iterator[tuple[Definition, Finding]]:
    first = 0
    for selection in asked:
        names = selection.feature_names
        columns = features.columns[first : first + len(names)]
        yield from value_findings(selection, names, columns, label)
        first += len(names)


def _asked(repository: Repository, labels: Labels, columns: set[str]) -> list[Selection]:
    if labels.features is not None:
        return list(selections_of(labels.features, repository.state))
    found = [s for s in all_features(repository.state) if _keys_of(s) <= columns]
    if not found:
        raise RequestError(
            "The spine has the join keys of no view.",
            hint="name the features to compare with the label: a feature service knows its roles",
        )
    return found


def _keys_of(selection: Selection) -> set[str]:
    """Return the columns that a spine has to have."""
    if isinstance(selection, FeatureViewSelection):
        return set(selection.key_columns.values())
    origins = (o for o in selection.view.origins if isinstance(o, FeatureViewSelection))
    keys = {column for origin in origins for column in origin.key_columns.values()}
    return keys | set(selection.view.request_fields)


def plan_findings(
    views: Iterable[FeatureView], *, functions: FunctionLoader, root: Path
) -> list[Finding]:
    """Return what definitions of views say by themselves, and somebody should hear at once."""
    found = definition_findings(views, (), functions=functions, root=root)
    return in_order(f for f in heard(found) if f.severity != "info")
