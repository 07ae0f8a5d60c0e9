"""Computing a dataset anew: is it the same, and if it is not, what changed, and where?"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from featurestore.datasets.changes import Change, changes, listed_paths
from featurestore.datasets.dataset import Dataset
from featurestore.datasets.differences import ColumnDifference, Comparison
from featurestore.datasets.digest import TableDigest
from featurestore.datasets.manifest import Manifest
from featurestore.definitions.service import selection_from
from featurestore.errors import (
    DatasetChangedError,
    DatasetDamagedError,
    FeatureStoreError,
    FunctionLoadError,
    NotFoundError,
    RegistryError,
    SourceChangedError,
    SourceError,
)
from featurestore.registry.state import ObjectRecord, RegistryState, build_state
from featurestore.training.query import Selection
from featurestore.training.retrieve import retrieve

if TYPE_CHECKING:
    from featurestore.datasets.catalog import Datasets
    from featurestore.training.job import RetrievalJob

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """What became of computing a dataset anew.

    Attributes:
        name: The dataset.
        version: Its version.
        rows: Rows.
        digest: The dataset's digest.
        found: That of what was computed now.
        changes: All that changed since it was made; those that `matters` first.
        differences: The columns that differ.
        kept: The version that the result was kept as, or None.
    """

    name: str
    version: int
    rows: int
    digest: str
    found: str
    changes: tuple[Change, ...]
    differences: tuple[ColumnDifference, ...]
    kept: int | None = None

    @property
    def same(self) -> bool:
        """Whether it is the same, bit for bit."""
        return self.digest == self.found


def rebuild(
    home: "Datasets",
    dataset: Dataset,
    *,
    current: bool = False,
    keep: bool = False,
    progress: Progress | None = None,
) -> Rebuild:
    """Compute a dataset anew and compare; see `Dataset.rebuild`."""
    if faults := dataset.verify().faults:
        lines = [str(fault) for fault in faults]
        raise DatasetDamagedError(dataset=dataset.name, version=dataset.version, faults=lines)
    today = home.state()
    changed = changes(
        dataset.facts,
        state=today,
        engine=home.engine(),
        functions=home.functions(),
        root=home.root,
        clock_setting=home.clock_setting,
        current=current,
    )
    try:
        job = _job(home, dataset, today if current else _state(dataset.facts), current, progress)
    except (SourceError, FunctionLoadError, NotFoundError, RegistryError) as error:
        raise _changed(dataset, error, changed) from error
    comparison = Comparison(dataset.schema, job.schema)
    try:
        found, kept = (_kept if keep else _computed)(home, dataset, job, comparison)
    except SourceChangedError:  # by somebody who is at it right now
        raise
    except SourceError as error:
        raise _changed(dataset, error, changed) from error
    return Rebuild(
        name=dataset.name,
        version=dataset.version,
        rows=dataset.num_rows,
        digest=dataset.digest,
        found=found,
        changes=tuple(sorted(changed, key=lambda change: not change.matters)),
        differences=comparison.differences(),
        kept=kept,
    )


def _computed(
    _home: "Datasets", dataset: Dataset, job: "RetrievalJob", comparison: Comparison
) -> tuple[str, None]:
    """Return the digest of what a job computes, which is compared on its way and not kept."""
    digest = TableDigest(job.schema)

    def passing(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for table in tables:
            digest.update(table)
            yield table

    comparison.compare(dataset.to_batches(), passing(job.to_tables()))
    return digest.hexdigest(), None


def _kept(
    home: "Datasets", dataset: Dataset, job: "RetrievalJob", comparison: Comparison
) -> tuple[str, int]:
    """Return the digest of what a job computes, and the version that it is kept as."""
    facts = dataset.facts
    made = home.create(facts.name, job, description=facts.description, tags=facts.tags)
    tables = (pa.Table.from_batches([batch]) for batch in made.to_batches())
    comparison.compare(dataset.to_batches(), tables)
    return made.digest, made.version


def _job(
    home: "Datasets",
    dataset: Dataset,
    state: RegistryState,
    current: bool,  # noqa: FBT001 - passed on
    progress: Progress | None,
) -> "RetrievalJob":
    facts = dataset.facts
    request = facts.request
    service = None if request.service is None else state.services.get(request.service)
    job = retrieve(
        entity_df=dataset.read(list(facts.spine_names)),
        features=service or list(_selections(facts, state)),
        state=state,
        engine=home.engine(),
        functions=home.functions(),
        root=home.root,
        source_roots=home.source_roots,
        full_feature_names=request.full_feature_names,
        timestamp_field=request.timestamp_field,
        timezone=request.timezone,
        mode=request.mode,
        progress=progress,
        only_files=None if current else listed_paths(facts, home.root),
    )
    origin = {
        "kind": "dataset",
        "name": facts.name,
        "version": facts.version,
        "origin": facts.spine.origin,
    }
    return job.with_asked(replace(job.asked, origin=origin))


def _selections(facts: Manifest, state: RegistryState) -> Iterator[Selection]:
    """Yield what was asked for, of these definitions."""
    for document in facts.request.selections:
        name = document["view"]
        if name in state.on_demand_views:
            yield selection_from(document, state.on_demand_view(name))
        else:
            yield selection_from(document, state.view(name).definition)


def _state(facts: Manifest) -> RegistryState:
    """Return the definitions of a manifest as if they were what is registered."""
    records = [
        ObjectRecord(
            kind=definition.kind,
            name=definition.name,
            version=1,
            generation=1,
            deleted=False,
            document=definition.document,
        )
        for definition in facts.definitions
    ]
    return build_state(facts.project, facts.revision, records)


def _changed(
    dataset: Dataset, error: FeatureStoreError, changed: tuple[Change, ...]
) -> DatasetChangedError:
    return DatasetChangedError(
        dataset=dataset.name,
        version=dataset.version,
        reason=error.message.rstrip("."),
        changes=[str(change) for change in changed if change.matters],
    )
