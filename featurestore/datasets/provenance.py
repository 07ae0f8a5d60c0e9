"""What a dataset is made from: definitions, source files, and who and what computed it."""

import functools
import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from featurestore.contracts.gate import Gate
from featurestore.datasets.manifest import (
    DefinitionFacts,
    EngineFacts,
    FunctionFacts,
    RequestFacts,
    SourceFacts,
    SourceFileFacts,
)
from featurestore.definitions import Definition, FeatureView, OnDemandFeatureView
from featurestore.definitions.base import fingerprint
from featurestore.definitions.service import document_of
from featurestore.errors import RequestError
from featurestore.offline.column_types import with_file_types
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.files import SourceFile, absolute, check_unchanged
from featurestore.offline.scan import SourceScan
from featurestore.registry.state import KINDS, parts_of, ref_of
from featurestore.training.asked import Asked
from featurestore.training.job import RetrievalJob
from featurestore.training.query import Selection

PACKAGES: Final = ("featurestore", "duckdb", "polars", "pyarrow", "numpy")
HASHERS: Final = 2
"""Threads that hash files: what reads faster than two can hash is rare."""


def request_facts(asked: Asked) -> RequestFacts:
    """Return what was asked for."""
    return RequestFacts(
        service=None if asked.service is None else asked.service.name,
        selections=tuple(document_of(selection) for selection in asked.selections),
        full_feature_names=asked.full_feature_names,
        timestamp_field=asked.timestamp_field,
        timezone=asked.timezone,
        mode=asked.mode,
    )


def origin_facts(asked: Asked, root: Path) -> dict[str, Any]:
    """Return where the spine came from; of a file what it was."""
    origin: dict[str, Any] = json.loads(json.dumps(asked.origin, default=str))
    if origin.get("kind") == "file":
        path = Path(origin["path"])
        origin |= {"path": relative(str(absolute(path)), root), **_size_and_hash(path)}
    return origin


def _size_and_hash(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return {"size": size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError:
        return {}  # it was read, and went away since: the dataset has its rows


def definition_facts(asked: Asked, root: Path) -> tuple[DefinitionFacts, ...]:
    """Return all definitions that were asked for, and what they depend on, in that order.

    Raises:
        RequestError: Two different ones have one name, and a manifest cannot tell them apart.
    """
    return tuple(map(facts_of, _definitions(asked, root)))


def _definitions(asked: Asked, root: Path) -> list[Definition]:
    found: dict[object, Definition] = {}
    pending: list[Definition] = [selection.view for selection in asked.selections]
    if asked.service is not None:
        pending.append(asked.service)
    while pending:
        definition = pending.pop()
        known = found.setdefault(ref_of(definition), definition)
        if not _is_same(known, definition, root):
            raise RequestError(
                f"The request has two different definitions of {definition.kind}"
                f" {definition.name!r}.",
                hint="give one of them another name",
            )
        pending += parts_of(definition)
    order = {kind.kind: number for number, kind in enumerate(KINDS)}
    return sorted(found.values(), key=lambda d: (order[d.kind], d.name))


def validation_facts(gate: Gate, job: RetrievalJob, root: Path) -> list[dict[str, Any]]:
    """Check the contracts of all that a job reads, and return what became of each rule.

    Examples are left out: a manifest goes where not all rows may.

    Raises:
        ContractError: A rule whose policy is "fail" is broken.
    """
    views = [each for each in _definitions(job.asked, root) if isinstance(each, FeatureView)]
    paths = {file.path for files in source_files(job.scans).values() for file in files}
    report = gate.let_through(views, files=paths)
    told = ("rule", "text", "policy", "status", "rows", "failed")
    return [
        {
            "kind": each.kind,
            "name": each.name,
            "status": each.status,
            "rules": [{key: rule.to_document()[key] for key in told} for rule in each.rules],
        }
        for each in report.validations
    ]


def _is_same(one: Definition, other: Definition, root: Path) -> bool:
    """Whether two definitions are one; what is registered has types from files besides."""
    if one is other or one.to_document() == other.to_document():
        return True
    if not isinstance(one, FeatureView) or not isinstance(other, FeatureView):
        return False
    resolved = (with_file_types(view, root).to_document() for view in (one, other))
    return next(resolved) == next(resolved)


def facts_of(definition: Definition) -> DefinitionFacts:
    """Return a definition as the registry writes it, and the hash of that."""
    document = definition.to_document()
    return DefinitionFacts(
        kind=definition.kind,
        name=definition.name,
        hash=fingerprint(document),
        document=document,
    )


def function_facts(selections: Sequence[Selection]) -> tuple[FunctionFacts, ...]:
    """Return the Python functions that selections call."""
    views = (s.view for s in selections if isinstance(s.view, OnDemandFeatureView))
    found = {view.reference.path: view.reference.sha256 for view in views if view.reference}
    return tuple(FunctionFacts(function=path, sha256=found[path]) for path in sorted(found))


def source_files(scans: Iterable[SourceScan]) -> dict[str, tuple[SourceFile, ...]]:
    """Return the files that are read of each source, those that are joined, too."""
    found: dict[str, tuple[SourceFile, ...]] = {}
    for scan in scans:
        found[scan.source.name] = scan.files
        found |= {join.scan.source.name: join.scan.files for join in scan.joins}
    return found


def source_facts(scans: Iterable[SourceScan], root: Path) -> tuple[SourceFacts, ...]:
    """Hash the files that are read of each source.

    Raises:
        SourceChangedError: A file is not what it was when the scan was opened.
    """
    files = source_files(scans)
    for name, members in files.items():
        check_unchanged(name, members)
    paths = {file.path for members in files.values() for file in members}
    with ThreadPoolExecutor(HASHERS) as pool:
        hashes = dict(zip(paths, pool.map(file_sha256, paths), strict=True))
    for name, members in files.items():
        check_unchanged(name, members)
    return tuple(
        SourceFacts(
            name=name,
            files=tuple(
                SourceFileFacts(
                    path=relative(file.path, root), size=file.size, sha256=hashes[file.path] or "0"
                )
                for file in members
            ),
        )
        for name, members in sorted(files.items())
    )


def file_sha256(path: str) -> str | None:
    """Return the SHA-256 of a file, 64 hexadecimal digits; None if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def relative(path: str, root: Path) -> str:
    """Return a listed path as a manifest has it: relative to the repository if it is below it."""
    for start in roots(root):
        if Path(path).is_relative_to(start):
            return str(Path(path).relative_to(start))
    return path


def roots(root: Path) -> tuple[Path, ...]:
    """Return the folders that paths of files in the repository may begin with when listed.

    The first is for those that sources give relative to it. Sources with absolute paths, or with
    "..", may come by another way than the links that lead to the repository here.
    """
    return tuple(dict.fromkeys((absolute(root), Path(os.path.realpath(root)))))


def engine_facts(engine: OfflineEngine) -> EngineFacts:
    """Return what computes."""
    return EngineFacts(name=engine.name, threads=engine.threads, memory_bytes=engine.memory_bytes)


@functools.cache
def software_facts() -> Mapping[str, str]:
    """Return the versions of all that may make a difference."""
    return {"python": platform.python_version(), **{p: metadata.version(p) for p in PACKAGES}}


@functools.cache
def platform_facts() -> Mapping[str, str]:
    """Return what kind of machine this is; libraries compute floats with what its CPU has."""
    facts = {"system": platform.system(), "machine": platform.machine()}
    cpu = next(_cpu_models(), None)
    return facts if cpu is None else {**facts, "cpu": cpu}


def _cpu_models() -> Iterator[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == "model name":
            yield value.strip()[:200]
