"""Computes the features of some spine rows over an extract, as it is or changed."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from featurestore.functions import FunctionLoader
from featurestore.leakage.changes import Change, carried_out
from featurestore.leakage.shadow import Shadow
from featurestore.leakage.sight import Mask
from featurestore.leakage.source_rows import SourceRows
from featurestore.leakage.subject import Subject
from featurestore.leakage.user_modules import own_modules
from featurestore.offline.engine import Mode, OfflineEngine
from featurestore.registry.state import RegistryState
from featurestore.training.query import Selection
from featurestore.training.retrieve import retrieve


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that a computation needs but the rows.

    Attributes:
        subject: The features.
        spine: The spine, with its times in `timestamp_field`.
        engine: Computes.
        mode: What counts as known.
        timestamp_field: The spine's time column.
        timezone: Zone of its naive times.
        rows: The rows of every source.
        shadow: Makes repositories.
        root: The real repository.
        moves: Whether to compute from within the shadow, as the working directory.
        function_roots: Folders of Python functions.
        outside: Files of modules that were imported from the real folders instead of the shadow.
    """

    subject: Subject
    spine: pa.Table
    engine: OfflineEngine
    mode: Mode
    timestamp_field: str
    timezone: str
    rows: Mapping[str, SourceRows]
    shadow: Shadow
    root: Path
    moves: bool
    function_roots: Sequence[Path] = ()
    outside: set[str] = field(default_factory=set)

    def real(self, functions: FunctionLoader) -> pa.Table:
        """Return the features of the whole spine, from the real sources."""
        state = self.subject.state
        return self._features(state, self.root, functions, self.subject.request(state), self.spine)

    def of(self, points: Sequence[int], changes: Sequence[Change] = ()) -> pa.Table:
        """Return the features of some spine rows, in the order given, from changed rows.

        Args:
            points: Numbers of spine rows.
            changes: What is changed.
        """
        changed = {
            name: carried_out(rows, [c for c in changes if c.source == name])
            for name, rows in self.rows.items()
        }
        with self.shadow.made(changed) as repository, self._alone(repository):
            state = self.shadow.state(self.subject.state, repository)
            functions = FunctionLoader(self.shadow.functions(repository))
            request = self.subject.request(state)
            spine = self.spine.take(pa.array(points, pa.int64()))
            return self._features(state, repository, functions, request, spine)

    def _features(
        self,
        state: RegistryState,
        root: Path,
        functions: FunctionLoader,
        request: Sequence[Selection],
        spine: pa.Table,
    ) -> pa.Table:
        job = retrieve(
            entity_df=spine,
            features=request,
            state=state,
            engine=self.engine,
            functions=functions,
            root=root,
            full_feature_names=True,
            timestamp_field=self.timestamp_field,
            timezone=self.timezone,
            mode=self.mode,
        )
        return job.to_arrow().select(list(job.feature_names)).combine_chunks()

    @contextlib.contextmanager
    def _alone(self, repository: Path) -> Iterator[None]:
        """Compute with the shadow's modules, and perhaps in its folder."""
        outside: set[str] = set()
        try:
            with contextlib.ExitStack() as stack:
                if self.subject.functions:
                    own = own_modules(self.root, self.function_roots, repository)
                    outside = stack.enter_context(own)
                stack.enter_context(self._inside(repository))
                yield
        finally:
            self.outside.update(outside)

    @contextlib.contextmanager
    def _inside(self, repository: Path) -> Iterator[None]:
        """Compute in the folder of the shadow that stands for the working directory."""
        here, root = Path.cwd(), self.root.absolute()
        if not self.moves or not here.is_relative_to(root):
            yield
            return
        place = repository / here.relative_to(root)
        with contextlib.chdir(place if place.is_dir() else repository):
            yield


def moved(before: pa.ChunkedArray, after: pa.ChunkedArray) -> Mask:
    """Whether each value differs, bit by bit; null is a value of its own."""
    first, second = _bits(before), _bits(after)
    if isinstance(first, list) or isinstance(second, list):
        pairs = zip(first, second, strict=True)
        return np.array([a != b for a, b in pairs], dtype=bool)
    nulls = np.asarray(before.is_null()), np.asarray(after.is_null())
    differ = first != second
    return np.asarray((nulls[0] != nulls[1]) | (differ & ~nulls[0]))


def _bits(
    column: pa.ChunkedArray,
) -> "np.ndarray[tuple[int], np.dtype[np.uint8]] | list[str | None]":
    """Return numbers as integers of their bits, all else as text that says as much."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if pa.types.is_floating(array.type):
        zero = pa.scalar(0.0).cast(array.type)
        numbers = array.fill_null(zero).to_numpy(zero_copy_only=False)
        return np.asarray(numbers.view(f"i{numbers.dtype.itemsize}"))
    if pa.types.is_list(array.type):
        return [None if not item.is_valid else _list_text(item) for item in array]
    return [None if value is None else repr(value) for value in _plain(array)]


def _list_text(item: pa.ListScalar) -> str:
    inner = _bits(pa.chunked_array([item.values]))
    valid = np.asarray(item.values.is_valid()).tolist()
    return repr([list(inner), valid])


def _plain(array: pa.Array) -> list[object]:
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.int64())
    found: list[object] = array.to_pylist()
    return found
