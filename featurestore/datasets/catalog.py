"""The datasets of a project: made, found, listed, tidied up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featurestore.contracts.gate import Gate
from featurestore.datasets.build import Content, build, content_facts, settle
from featurestore.datasets.dataset import Dataset
from featurestore.datasets.manifest import ClockFacts, Manifest, SpineFacts
from featurestore.datasets.places import Places
from featurestore.datasets.provenance import (
    definition_facts,
    engine_facts,
    function_facts,
    origin_facts,
    platform_facts,
    request_facts,
    software_facts,
    source_facts,
    validation_facts,
)
from featurestore.definitions.names import check_tags, check_text
from featurestore.errors import NotFoundError, RequestError
from featurestore.functions import FunctionLoader
from featurestore.naming import check_object_name
from featurestore.offline.engine import OfflineEngine
from featurestore.registry.datasets import DatasetRecord, check_new_name
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.state import RegistryState
from featurestore.time import Clock, format_instant
from featurestore.training.job import RetrievalJob


@dataclass(frozen=True, kw_only=True)
class Datasets:
    """The datasets of a project.

    Attributes:
        places: Where they are.
        registry: The registry.
        root: The repository.
        engine: Returns the engine that rebuilds.
        functions: Returns what loads Python functions.
        clock: The clock.
        clock_setting: What the settings say of it.
        state: Returns what is registered.
        actor: Who makes datasets.
        source_roots: Folders below which sources have to lie; None allows every place.
    """

    places: Places
    registry: SqlRegistry
    root: Path
    engine: Callable[[], OfflineEngine]
    functions: Callable[[], FunctionLoader]
    clock: Clock
    clock_setting: str
    state: Callable[[], RegistryState]
    actor: str
    source_roots: Sequence[Path] | None = None

    def create(
        self,
        name: str,
        job: RetrievalJob,
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        gate: Gate | None = None,
    ) -> Dataset:
        """Keep what a job computes as the next version of a dataset; see `FeatureStore`."""
        _check(name, description or "", tags or {})
        if job.asked.project != self.places.project:
            raise RequestError(
                f"The job is of project {job.asked.project!r}, and the dataset would be of"
                f" {self.places.project!r}."
            )
        check_new_name(name, self.registry.datasets(self.places.project))
        definitions = definition_facts(job.asked, self.root)
        origin = origin_facts(job.asked, self.root)
        validation = None if gate is None else validation_facts(gate, job, self.root)
        now = format_instant(self.clock.now())
        selections = job.asked.selections

        def describe(content: Content) -> Manifest:
            written = content_facts(content, len(job.spine_names))
            return Manifest(
                project=self.places.project,
                name=name,
                version=1,
                description=description or "",
                tags=dict(tags or {}),
                created_at=now,
                created_by=self.actor,
                revision=job.revision,
                request=request_facts(job.asked),
                spine=SpineFacts(
                    columns=len(job.spine_names),
                    digest=written.pop("spine_digest"),
                    origin=origin,
                ),
                definitions=definitions,
                functions=function_facts(selections),
                sources=source_facts(job.scans, self.root),
                clock=ClockFacts(setting=self.clock_setting, now=now),
                engine=engine_facts(job.engine),
                software=dict(software_facts()),
                platform=dict(platform_facts()),
                validation=validation,
                **written,
            )

        record = build(
            self.places,
            self.registry,
            name,
            tables=job.to_tables,
            schema=job.schema,
            describe=describe,
            check=job.check,
        )
        return Dataset(self, record)

    def list(self, name: str | None = None) -> list[DatasetRecord]:
        """Return all datasets, or all versions of one, by name and version.

        Raises:
            NotFoundError: There is no dataset of this name.
        """
        records = [r for r in self.registry.datasets(self.places.project) if r.building is None]
        found = [record for record in records if name in (None, record.name)]
        if name is not None and not found:
            raise self._not_found(name, records)
        return found

    def record(self, name: str, version: int | None = None) -> DatasetRecord:
        """Return what the registry knows of a version of a dataset, the newest by default.

        Raises:
            NotFoundError: There is no such dataset, or no such version.
        """
        found = self.list(name)
        if version is None:
            return found[-1]
        for record in found:
            if record.version == version:
                return record
        known = [str(record.version) for record in found]
        where = f" of dataset {name!r}, which has {', '.join(known[-20:])}"
        raise NotFoundError("version", str(version), where=where)

    def get(self, name: str, version: int | None = None) -> Dataset:
        """Return a version of a dataset, the newest by default.

        Raises:
            NotFoundError: There is no such dataset, or no such version.
            DatasetDamagedError: Its manifest is missing, or is not the one that was written.
        """
        return Dataset(self, self.record(name, version))

    def tidy(self) -> tuple[str, ...]:
        """Finish or remove what builds have left whose processes are dead; return what was done."""
        names = {
            *self.places.names(),
            *(r.name for r in self.registry.datasets(self.places.project)),
        }
        return tuple(
            line for name in sorted(names) for line in settle(self.places, self.registry, name)
        )

    def _not_found(self, name: str, records: Sequence[DatasetRecord]) -> NotFoundError:
        where = f" in project {self.places.project!r}"
        return NotFoundError("dataset", name, known=[r.name for r in records], where=where)


def _check(name: str, description: str, tags: Mapping[str, str]) -> None:
    try:
        check_object_name(name)
        check_text(description)
        check_tags(tags)
    except (ValueError, TypeError) as error:
        raise RequestError(f"A dataset cannot be made: {error}.") from None
