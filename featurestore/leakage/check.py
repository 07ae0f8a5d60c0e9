"""The leak test: what a spine row must not see is changed, and nothing of it may move."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from featurestore.errors import FeatureStoreError, RequestError
from featurestore.functions import FunctionLoader
from featurestore.leakage.changes import Change, described, instant_of
from featurestore.leakage.controls import Controls, blind_notes
from featurestore.leakage.extract import MAX_ROWS, Extract, ExtractTooLargeError, without_views
from featurestore.leakage.imports import with_imported
from featurestore.leakage.points import TIME, chosen_rows, drawn_spine
from featurestore.leakage.proposals import Proposals
from featurestore.leakage.report import Leak, LeakageReport, Mutation
from featurestore.leakage.shadow import Shadow
from featurestore.leakage.source_rows import Codes, SourceRows
from featurestore.leakage.subject import Subject, coded_columns, extracts_of, subject_of
from featurestore.leakage.trial import Trial, moved
from featurestore.leakage.view_points import ViewPoints
from featurestore.offline.engine import Mode, OfflineEngine
from featurestore.offline.source_roots import check_sources_within
from featurestore.offline.temporary import spill_folder
from featurestore.registry.state import RegistryState
from featurestore.training.query import FeatureRequest
from featurestore.training.spine import SqlSpine, times_us, to_table

Progress = Callable[[str, int, int], None]
MAX_LEAKS: Final = 10
"""Features of which the mutation that moved them is looked for."""
ROUND_POINTS: Final = 40
"""Spine rows that a round is about."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a test is done.

    Attributes:
        points: How many rows of the spine to look at, or to draw.
        rounds: How often to mutate what must not matter.
        seed: Draws everything.
        mode: What counts as known.
        timestamp_field: The spine's time column.
        timezone: Zone of its naive times.
        moves: Whether to compute from within the mutated copy, as the working directory.
    """

    points: int
    rounds: int
    seed: int
    mode: Mode
    timestamp_field: str = TIME
    timezone: str = "UTC"
    moves: bool = False


def check_leakage(
    features: FeatureRequest,
    *,
    spine: object | None,
    settings: Settings,
    state: RegistryState,
    engine: OfflineEngine,
    functions: FunctionLoader,
    root: Path,
    source_roots: Sequence[Path] | None = None,
    progress: Progress | None = None,
) -> LeakageReport:
    """Mutate what must not matter to some spine rows; see `FeatureStore.verify_leakage`.

    Args:
        features: What to check.
        spine: The spine, or None to draw one.
        settings: How.
        state: What is registered.
        engine: Computes.
        functions: Loads Python functions.
        root: The repository.
        source_roots: Folders below which sources have to lie; None allows every place.
        progress: Called with (what is being done, steps done, steps in all).
    """
    subject = subject_of(features, state, root)
    check_sources_within(source_roots, subject.sources.values(), root=root)
    chance = np.random.default_rng(settings.seed)
    rows = _spine(subject, spine, settings, root, chance)
    rows, extracts = _extracted(subject, rows, settings, root)
    modules = _modules(subject, functions, root)
    with spill_folder(Path(tempfile.gettempdir())) as folder:
        codes, coded = Codes(), coded_columns(subject, root)
        sources = {n: SourceRows(e, coded[n], codes) for n, e in extracts.items()}
        trial = Trial(
            subject=subject,
            spine=rows,
            engine=engine,
            mode=settings.mode,
            timestamp_field=settings.timestamp_field,
            timezone=settings.timezone,
            rows=sources,
            shadow=Shadow(folder, root, extracts, function_roots=functions.roots, modules=modules),
            root=root,
            moves=settings.moves,
            function_roots=functions.roots,
        )
        times = times_us(rows, settings.timestamp_field, settings.timezone)
        points = ViewPoints(
            subject, rows, times=times, rows=sources, codes=codes, mode=settings.mode
        )
        test = _Test(trial, points, settings, chance, progress or _silent)
        return test.run(functions)


def _silent(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


def _modules(subject: Subject, functions: FunctionLoader, root: Path) -> list[Path]:
    """Return the files of the functions' modules and of the user's own that these import."""
    own = [functions.pin(v.reference.path).file for v in subject.functions if v.reference]
    roots = [*functions.roots, root]
    return [*dict.fromkeys([*own, *(f for file in own for f in with_imported(file, roots))])]


def _spine(
    subject: Subject,
    spine: object | None,
    settings: Settings,
    root: Path,
    chance: np.random.Generator,
) -> pa.Table:
    if isinstance(spine, SqlSpine):
        raise RequestError("A leak test takes no query for a spine.", hint="pass its rows")
    if spine is None:
        roles = list(subject.roles.values())
        found = drawn_spine(roles, subject.fields, root=root, count=settings.points, chance=chance)
        return found.rename_columns(
            [settings.timestamp_field if name == TIME else name for name in found.column_names]
        )
    table = without_views(to_table(spine, timestamp_field=settings.timestamp_field))
    if not table.num_rows:
        raise RequestError("The spine has no rows.")
    return chosen_rows(table, settings.points, chance)


def _extracted(
    subject: Subject, spine: pa.Table, settings: Settings, root: Path
) -> tuple[pa.Table, dict[str, Extract]]:
    """Return as many of the spine's rows as there is room for their sources' rows, and these."""
    while True:
        times = times_us(spine, settings.timestamp_field, settings.timezone)
        try:
            return spine, extracts_of(subject, spine, times, root)
        except ExtractTooLargeError as error:
            if spine.num_rows == 1:
                raise RequestError(
                    f"Source {error.source!r} has more than {MAX_ROWS:,} rows for one spine row,"
                    " which is more than a leak test works on.",
                    hint="check the other features, or a copy of the repository with fewer rows",
                ) from None
            spine = spine.slice(0, spine.num_rows // 2)


@dataclass(kw_only=True)
class _Tally:
    """What was found so far."""

    mutations: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    leaking: int = 0
    leaks: dict[int, Leak] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class _Test:
    """One test, step by step."""

    def __init__(
        self,
        trial: Trial,
        points: ViewPoints,
        settings: Settings,
        chance: np.random.Generator,
        progress: Progress,
    ) -> None:
        self._trial = trial
        self._subject = trial.subject
        self._points = points
        self._settings = settings
        self._chance = chance
        self._progress = progress
        self._tally = _Tally()
        self._proposals = Proposals(
            points,
            {n: rows for n, rows in trial.rows.items() if not rows.source.static},
            mode=settings.mode,
            chance=chance,
        )

    def run(self, functions: FunctionLoader) -> LeakageReport:
        """Do all of it."""
        settings = self._settings
        everyone = list(range(self._trial.spine.num_rows))
        real = self._trial.real(functions)
        self._base = self._trial.of(everyone)
        self._compare_extract(real)
        for number in range(settings.rounds):
            self._progress("mutating what must not matter", number, settings.rounds)
            self._round(number)
        controls = Controls(
            self._trial,
            self._points,
            self._proposals,
            base=self._base,
            compute=self._computed,
            progress=self._progress,
        )
        found = tuple(controls.run())
        return LeakageReport(
            mode=settings.mode,
            engine=self._trial.engine.name,
            seed=settings.seed,
            points=len(everyone),
            features=self._subject.features,
            rounds=settings.rounds,
            mutations=dict(self._tally.mutations),
            compared=self._tally.compared,
            leaks=tuple(self._tally.leaks.values()),
            leaking=self._tally.leaking,
            controls=found,
            notes=(*self._not_checked(), *blind_notes(found), *self._tally.notes),
        )

    def _not_checked(self) -> Iterator[str]:
        for name in self._subject.static:
            yield f"source {name}: not checked, declared static: its rows hold for all times"
        for file in sorted(self._trial.outside):
            yield f"module {file} is not reloaded from the copy: what it reads is not checked"

    def _compare_extract(self, real: pa.Table) -> None:
        """The extract leaves rows of other entities out, which must not matter either."""
        left_out = Mutation(
            kind="other rows",
            why="rows of other entities were left out of the sources",
            before={},
            after={},
        )
        for number in range(len(self._subject.features)):
            differ = np.flatnonzero(moved(real.column(number), self._base.column(number)))
            self._tally.compared += real.num_rows
            if len(differ):
                self._tally.leaking += len(differ)
                point = int(differ[0])
                after = self._base.column(number)[point].as_py()
                found = self._leak(number, point, real, after, (left_out,))
                self._tally.leaks.setdefault(number, found)

    def _round(self, number: int) -> None:
        points, features = self._chosen(number)
        reads = sorted(
            {read for feature in features for read in self._subject.reads[feature]}, key=repr
        )
        changes = self._proposals.unseen(points, reads)
        found = self._computed(points, changes)
        if found is None:
            return
        self._tally.mutations.update(change.why for change in changes)
        for feature in features:
            before = self._base.column(feature).take(pa.array(points, pa.int64()))
            differ = np.flatnonzero(moved(before, found.column(feature)))
            self._tally.compared += len(points)
            self._tally.leaking += len(differ)
            if len(differ) and feature not in self._tally.leaks:
                self._found(feature, points, int(differ[0]), changes, found)

    def _chosen(self, number: int) -> tuple[list[int], list[int]]:
        """Return the spine rows and the features that a round is about.

        The fewer they are, the more may be mutated: one round is about everything, others about
        rows up to a moment, about entities of which each comes once, or about those features that
        look back equally far.
        """
        count = self._trial.spine.num_rows
        order = [int(n) for n in self._chance.permutation(count)]
        if number % 3 == 1:
            times = [t for n in order if (t := self._points.times[n]) is not None]
            until = int(self._chance.choice(times)) if times else 0
            order = [n for n in order if (t := self._points.times[n]) is None or t <= until]
        elif number % 3 == 2:  # noqa: PLR2004 - every third round
            order = self._one_each(order)
        features = list(range(len(self._subject.features)))
        if number % 2:
            groups = list(dict.fromkeys(self._subject.reads))
            alike = groups[number // 2 % len(groups)]
            features = [n for n in features if self._subject.reads[n] == alike]
        return order[:ROUND_POINTS], features

    def _one_each(self, order: Sequence[int]) -> list[int]:
        """Return the spine rows of which none shares an entity with one before."""
        seen: set[tuple[str, tuple[int, ...]]] = set()
        role = (
            str(self._chance.choice(sorted(self._points.sources))) if self._points.sources else ""
        )
        chosen = []
        for point in order:
            key = (role, self._points.key(point, role) if role else ())
            if key not in seen:
                seen.add(key)
                chosen.append(point)
        return chosen

    def _computed(self, points: Sequence[int], changes: Sequence[Change]) -> pa.Table | None:
        try:
            return self._trial.of(points, changes)
        except FeatureStoreError as error:
            text = f"a round was left out, as mutated rows cannot be computed with: {error.message}"
            if text not in self._tally.notes:
                self._tally.notes.append(text)
            return None

    def _found(
        self,
        feature: int,
        points: Sequence[int],
        place: int,
        changes: Sequence[Change],
        found: pa.Table,
    ) -> None:
        """Note a leak, with as few mutations as it takes."""
        if len(self._tally.leaks) >= MAX_LEAKS:
            return
        point = points[place]
        after = found.column(feature)[place].as_py()
        fewest, value = self._shrunk(feature, point, changes)
        if fewest is None:  # it takes the other spine rows
            fewest, value = changes, after
        mutations = tuple(self._described(change) for change in fewest[:MAX_LEAKS])
        if not fewest:
            why = "other rows of the spine were left out, or stood elsewhere"
            mutations = (Mutation(kind="other rows", why=why, before={}, after={}),)
        self._tally.leaks[feature] = self._leak(feature, point, self._base, value, mutations)

    def _shrunk(
        self, feature: int, point: int, changes: Sequence[Change]
    ) -> tuple[Sequence[Change] | None, Any]:
        """Return changes that move a feature of one spine row by themselves, half by half."""
        if (value := self._moves(feature, point, [])) is not _SAME:
            return [], value
        if (value := self._moves(feature, point, changes)) is _SAME:
            return None, None
        while len(changes) > 1:
            half = len(changes) // 2
            for part in (changes[:half], changes[half:]):
                if (found := self._moves(feature, point, part)) is not _SAME:
                    changes, value = part, found
                    break
            else:
                break
        return changes, value

    def _moves(self, feature: int, point: int, changes: Sequence[Change]) -> Any:
        """Return the value that a feature moved to, or `_SAME`."""
        found = self._computed([point], changes)
        if found is None:
            return _SAME
        before = self._base.column(feature).slice(point, 1)
        is_moved = moved(before, found.column(feature))[0]
        return found.column(feature)[0].as_py() if is_moved else _SAME

    def _described(self, change: Change) -> Mutation:
        rows = self._trial.rows[change.source]
        return described(rows, change, keys=list(rows.rows.codes))

    def _leak(
        self,
        feature: int,
        point: int,
        before: pa.Table,
        after: Any,
        mutations: tuple[Mutation, ...],
    ) -> Leak:
        spine, roles = self._trial.spine, self._subject.roles
        names = {read.role for read in self._subject.reads[feature]} or set(roles)
        columns = dict.fromkeys(c for n in sorted(names) for c in roles[n].key_columns.values())
        return Leak(
            feature=self._subject.features[feature],
            entity={name: spine.column(name)[point].as_py() for name in columns},
            at=instant_of(self._points.times[point]),
            before=before.column(feature)[point].as_py(),
            after=after,
            mutations=mutations,
        )


_SAME: Final = object()
