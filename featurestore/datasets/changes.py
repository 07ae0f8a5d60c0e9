"""What is another thing today than when a dataset was made."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from featurestore.datasets.manifest import (
    DefinitionFacts,
    Manifest,
    SourceFacts,
    SourceFileFacts,
)
from featurestore.datasets.provenance import (
    engine_facts,
    facts_of,
    file_sha256,
    platform_facts,
    relative,
    roots,
    software_facts,
)
from featurestore.definitions import FileSource
from featurestore.errors import FeatureStoreError, SourceError
from featurestore.functions import FunctionLoader
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.files import list_files
from featurestore.registry.fields import field_changes
from featurestore.registry.state import RegistryState

MAX_VALUE: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that changed.

    Attributes:
        kind: "definition", "function", "source file", "engine", "software", "platform" or "clock".
        name: What it is called: "feature view spend", a path, a package.
        what: "changed", "missing" or "new".
        before: What the manifest says.
        after: What there is now.
        details: Of a definition the fields that differ, each in a line.
        matters: Whether a rebuild uses what there is now, so that values may differ by it.
    """

    kind: str
    name: str
    what: str
    before: Any = None
    after: Any = None
    details: tuple[str, ...] = ()
    matters: bool = True

    def __str__(self) -> str:
        text = f"{self.kind} {self.name}: {self.what}"
        if self.details:
            return f"{text} ({'; '.join(self.details)})"
        if self.what == "changed":
            return f"{text} from {_short(self.before)} to {_short(self.after)}"
        return text


def changes(
    manifest: Manifest,
    *,
    state: RegistryState,
    engine: OfflineEngine,
    functions: FunctionLoader,
    root: Path,
    clock_setting: str,
    current: bool,
) -> tuple[Change, ...]:
    """Return all that changed since a dataset was made.

    Args:
        manifest: The dataset's.
        state: What is registered today.
        engine: The engine of today.
        functions: What loads Python functions.
        root: The repository.
        clock_setting: What the settings say of the clock.
        current: Whether today's definitions and files are used, whichever the manifest lists.
    """
    return (
        *_definitions(manifest, state, current=current),
        *_functions(manifest, functions),
        *_sources(manifest, root, current=current),
        *_engine(manifest, engine),
        *_differing("software", manifest.software, software_facts()),
        *_differing("platform", manifest.platform, platform_facts()),
        *_differing(
            "clock", {"setting": manifest.clock.setting}, {"setting": clock_setting}, matters=False
        ),
    )


def listed_paths(manifest: Manifest, root: Path) -> frozenset[str]:
    """Return the absolute paths of the source files of a dataset, as sources may list them."""
    paths = {file.path for source in manifest.sources for file in source.files}
    return frozenset(str(start / path) for start in roots(root) for path in paths)


def _definitions(manifest: Manifest, state: RegistryState, *, current: bool) -> Iterator[Change]:
    today = {(d.kind, d.name): d for d in state.definitions}
    for before in manifest.definitions:
        definition = today.get((before.kind, before.name))
        after = None if definition is None else facts_of(definition)
        if after is None or after.hash != before.hash:
            yield Change(
                kind="definition",
                name=f"{before.kind} {before.name}",
                what="missing" if after is None else "changed",
                before=before.hash,
                after=None if after is None else after.hash,
                details=() if after is None else tuple(_fields(before, after)),
                matters=current,
            )


def _fields(before: DefinitionFacts, after: DefinitionFacts) -> Iterator[str]:
    for change in field_changes(before.document, after.document):
        yield f"{change.path}: {_short(change.before)} -> {_short(change.after)}"


def _functions(manifest: Manifest, functions: FunctionLoader) -> Iterator[Change]:
    for known in manifest.functions:
        try:
            found = functions.pin(known.function).sha256
        except FeatureStoreError:
            yield Change(kind="function", name=known.function, what="missing", before=known.sha256)
            continue
        if found != known.sha256:
            yield Change(
                kind="function",
                name=known.function,
                what="changed",
                before=known.sha256,
                after=found,
            )


def _sources(manifest: Manifest, root: Path, *, current: bool) -> Iterator[Change]:
    documents = {d.name: d.document for d in manifest.definitions if d.kind == FileSource.kind}
    for source in manifest.sources:
        for file in source.files:
            yield from _source_file(file, root)
        yield from _new_files(source, documents.get(source.name), root, matters=current)


def _source_file(file: SourceFileFacts, root: Path) -> Iterator[Change]:
    before = {"size": file.size, "sha256": file.sha256}
    path = root / file.path
    sha256 = file_sha256(str(path))
    if sha256 is None:
        yield Change(kind="source file", name=file.path, what="missing", before=before)
    elif sha256 != file.sha256:
        after = {"size": path.stat().st_size, "sha256": sha256}
        yield Change(kind="source file", name=file.path, what="changed", before=before, after=after)


def _new_files(
    source: SourceFacts, document: Mapping[str, Any] | None, root: Path, *, matters: bool
) -> Iterator[Change]:
    """Yield the files that the source as it was defined has today, beside those it had."""
    known = {file.path for file in source.files}
    try:
        files = () if document is None else list_files(FileSource(**document), root)
    except (SourceError, FeatureStoreError):
        return  # that its files are missing has been said
    for file in files:
        if (path := relative(file.path, root)) not in known:
            size = {"size": file.size}
            yield Change(kind="source file", name=path, what="new", after=size, matters=matters)


def _engine(manifest: Manifest, engine: OfflineEngine) -> Iterator[Change]:
    """Yield another engine, and other limits: no value depends on these."""
    before, after = manifest.engine.model_dump(), engine_facts(engine).model_dump()
    yield from _differing("engine", {"name": before.pop("name")}, {"name": after.pop("name")})
    yield from _differing("engine", before, after, matters=False)


def _differing(
    kind: str, before: Mapping[str, Any], after: Mapping[str, Any], *, matters: bool = True
) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield Change(
                kind=kind, name=name, what="changed", before=old, after=new, matters=matters
            )


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "sha256" in value:
        return f"{value['size']:,} bytes, SHA-256 {value['sha256'][:12]}..."
    text = str(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."
