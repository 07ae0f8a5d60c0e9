"""A repository beside the real one, whose sources are mutated extracts.

Every mutation gets a folder of its own: definitions, settings and functions are the user's, the
files of sources are the extract's, at the places where the repository has them. So a function that
reads a source's file by itself, from beside its own module or from the working directory, reads the
mutated one.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.definitions import FileSource
from featurestore.leakage.extract import Extract
from featurestore.leakage.imports import is_below
from featurestore.registry.collect import Definitions, merged
from featurestore.registry.state import RegisteredView, RegistryState

REPOSITORY: Final = "repository"
ELSEWHERE: Final = "elsewhere"
MAX_LINKS: Final = 5_000
"""How many neighbours of functions and sources are linked to."""


class Shadow:
    """Makes repositories beside the real one.

    Args:
        folder: Where to.
        root: The real repository.
        extracts: What is kept of each source, by its name.
        function_roots: Folders of Python functions.
        modules: Paths of the modules of functions, below any of these folders.
    """

    def __init__(
        self,
        folder: Path,
        root: Path,
        extracts: Mapping[str, Extract],
        *,
        function_roots: Sequence[Path] = (),
        modules: Sequence[Path] = (),
    ) -> None:
        self._folder = folder
        self._root = root.absolute()
        self._extracts = extracts
        self._function_roots = function_roots
        self._modules = modules
        self._made = 0
        self._hidden = {path for extract in extracts.values() for path in extract.hidden}
        self._above_hidden = {str(folder) for path in self._hidden for folder in Path(path).parents}
        self._base: dict[tuple[str, int], Path] = {}

    @contextlib.contextmanager
    def made(self, changed: Mapping[str, Mapping[int, pa.Table]]) -> Iterator[Path]:
        """Yield the root of a repository in which some files have other rows.

        Args:
            changed: Source -> number of a file of its extract -> the file's rows.
        """
        self._made += 1
        place = self._folder / str(self._made)
        try:
            (place / REPOSITORY).mkdir(parents=True)
            for name, extract in self._extracts.items():
                self._write(place, name, extract, changed.get(name, {}))
            self._add_functions(place / REPOSITORY)
            yield place / REPOSITORY
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def functions(self, repository: Path) -> list[Path]:
        """Return the folders of functions, those inside the repository in its place."""
        return [
            repository / root.relative_to(self._root) if is_below(root, [self._root]) else root
            for root in self._function_roots
        ]

    def state(self, state: RegistryState, repository: Path) -> RegistryState:
        """Return what is registered, with sources whose files are those of a shadow."""
        moved = {
            name: source
            for name, extract in self._extracts.items()
            if (source := self._moved(extract.source, repository)) is not extract.source
        }
        return _with_sources(state, moved) if moved else state

    def _moved(self, source: FileSource, repository: Path) -> FileSource:
        path = Path(source.path)
        if self._is_inside(source):
            if not path.is_absolute():
                return source
            return _at(source, str(path.relative_to(self._root)))
        return _at(source, str(repository.parent / ELSEWHERE / source.name))

    def _is_inside(self, source: FileSource) -> bool:
        """Whether one relative path inside the repository finds all that is kept of a source."""
        kept = self._extracts[source.name].files
        below = all(Path(file.origin.path).is_relative_to(self._root) for file in kept)
        return below and ".." not in Path(source.path).parts

    def _write(
        self, place: Path, name: str, extract: Extract, changed: Mapping[int, pa.Table]
    ) -> None:
        inside = self._is_inside(extract.source)
        for number, file in enumerate(extract.files):
            if inside:
                target = place / REPOSITORY / Path(file.origin.path).relative_to(self._root)
            else:
                folders = [f"{column}={text}" for column, text in _folders(file.origin.path)]
                target = place.joinpath(ELSEWHERE, name, f"{number:07}", *folders, "rows.parquet")
            target.parent.mkdir(parents=True, exist_ok=True)
            if number in changed:
                pq.write_table(changed[number], target)
            else:
                os.link(self._unchanged(name, number, file.table), target)

    def _unchanged(self, name: str, number: int, table: pa.Table) -> Path:
        """Return a file with the rows of an extract's file, which is written once."""
        if (name, number) not in self._base:
            path = self._folder / "base" / name / f"{number}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path)
            self._base[name, number] = path
        return self._base[name, number]

    def _add_functions(self, repository: Path) -> None:
        """Copy modules of functions, and link to what else is there, which they may read."""
        if not self._modules:
            return
        for module in self._modules:
            if module.is_relative_to(self._root):
                target = repository / module.relative_to(self._root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(module, target)
        self._link(self._root, repository, [MAX_LINKS])

    def _link(self, real: Path, shadow: Path, left: list[int]) -> None:
        for entry in os.scandir(real):
            copy = shadow / entry.name
            if left[0] <= 0:
                return
            if entry.path in self._above_hidden:
                copy.mkdir(exist_ok=True)
            if copy.is_dir() and not copy.is_symlink():
                self._link(Path(entry.path), copy, left)
            elif not copy.exists() and entry.path not in self._hidden:
                left[0] -= 1
                copy.symlink_to(entry.path)


def _folders(path: str) -> list[tuple[str, str]]:
    """Return the parts of a path that may carry partition values, as they are written."""
    parts = (part.partition("=") for part in Path(path).parts[:-1])
    return [(name, text) for name, equals, text in parts if equals]


def _at(source: FileSource, path: str) -> FileSource:
    current = {name: getattr(source, name) for name in type(source).model_fields}
    return FileSource(**(current | {"path": path}))


def _with_sources(state: RegistryState, sources: Mapping[str, FileSource]) -> RegistryState:
    given = Definitions(
        entities={},
        sources=sources,
        request_sources={},
        views={},
        on_demand_views={},
        services={},
    )
    return laid_over(state, given)


def laid_over(state: RegistryState, given: Definitions) -> RegistryState:
    """Return a state as if `given` were registered as well."""
    found = merged(state, given)
    known = state.views
    return RegistryState(
        project=state.project,
        revision=state.revision,
        entities=found.entities,
        sources=found.sources,
        request_sources=found.request_sources,
        views={
            name: RegisteredView(
                definition=view,
                generation=known[name].generation if name in known else 1,
                version=known[name].version if name in known else 1,
            )
            for name, view in found.views.items()
        },
        on_demand_views=found.on_demand_views,
        services=found.services,
        retired=state.retired,
    )
