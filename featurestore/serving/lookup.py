"""The online lookup: columns of keys in, columns of values with statuses out.

One read for all views, one decode per view, no per-value Python for numbers. What an entity gets
is SEMANTICS, section 5.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from itertools import accumulate, chain, groupby, pairwise, repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple, NoReturn, cast

import numpy as np

from featurestore.errors import EntityValueError, RequestError, close_names
from featurestore.online.codec import DecodedRows, encode_key_columns, key_column, row_codec
from featurestore.online.key_values import KeyColumn
from featurestore.online.layout import Array
from featurestore.online.store import OnlineStore, ReadRequest
from featurestore.serving.plan import Columns, Empty, LookupPlan, Output, Read
from featurestore.time import Clock

MAX_ENTITIES: Final = 10_000
"""Entities of one request unless a server says otherwise."""


class Status(IntEnum):
    """What a value of a reply is; 0 is never used."""

    PRESENT = 1
    """A row is there, it is fresh, and this is its value."""
    NULL_VALUE = 2
    """A row is there, and its value is null."""
    NOT_FOUND = 3
    """There is no row of this entity, or a part of its key is null."""
    OUTSIDE_MAX_AGE = 4
    """There is a row, older than the view's ttl; its value is withheld."""


_PRESENT, _NULL = np.uint8(Status.PRESENT), np.uint8(Status.NULL_VALUE)
_NOT_FOUND, _EXPIRED = np.uint8(Status.NOT_FOUND), np.uint8(Status.OUTSIDE_MAX_AGE)
_STATUS_OF_FOUND: Final = bytes.maketrans(b"\0\1", bytes([Status.NOT_FOUND, Status.PRESENT]))


class EntityColumn(NamedTuple):
    """A join key of the reply, as asked and in its declared type.

    Attributes:
        name: The request's column.
        dtype: The declared type.
        values: A numpy array for integers, bool and date32 (days), 0 where null; else a list with
            None where null.
        valid: Where there is a value; None when there is one everywhere.
    """

    name: str
    dtype: str
    values: Array | list[Any]
    valid: Array | None


class FeatureColumn(NamedTuple):
    """A feature of the reply, n entities.

    Attributes:
        name: The feature's name in the reply.
        dtype: Its type.
        values: A numpy array for numbers, bool, date32 (days) and timestamps (microseconds), else a
            list. Where there is no value there is 0 or None, never a withheld value.
        statuses: uint8, see `Status`.
        view_index: Position of its view in `LookupResult.views`.
        fills: Whether an entity without a row has a value, as windows do.
    """

    name: str
    dtype: str
    values: Array | list[Any]
    statuses: Array
    view_index: int
    fills: bool = False

    @property
    def has_value(self) -> Array:
        """Where there is a value and not null: bool, n entities."""
        found: Array = self.statuses == _PRESENT
        return found | (self.statuses == _NOT_FOUND) if self.fills else found


class ViewTimes(NamedTuple):
    """When the rows of one view or role took place, n entities.

    Attributes:
        name: The role's name, or the view's.
        event_us: int64 microseconds, 0 where there is no row.
        found: bool; where there is a row, expired ones included.
    """

    name: str
    event_us: Array
    found: Array


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The reply to one lookup, n entities in the order asked.

    Attributes:
        entity_columns: The join keys, in the plan's order.
        features: The features, in the order asked.
        views: The times of the rows served, one per view or role.
        request_us: The clock's time that decided what is expired, in microseconds.
    """

    entity_columns: list[EntityColumn]
    features: list[FeatureColumn]
    views: list[ViewTimes]
    request_us: int

    def __len__(self) -> int:
        return len(self.views[0].found)


class Question(NamedTuple):
    """A lookup whose keys are known and whose rows are still to be read.

    Attributes:
        keys: The plan's inputs.
        entities: Positions of join keys in `keys` -> entity bytes, None where a part is null.
        size: The number of entities.
        now_us: The clock's time, in microseconds.
        reads: What to read; nothing when there are no entities.
    """

    keys: list[KeyColumn]
    entities: Mapping[tuple[int, ...], list[bytes | None]]
    size: int
    now_us: int
    reads: list[ReadRequest]


class Lookup:
    """A prepared lookup. Safe to use from several threads.

    Args:
        store: Where the rows are.
        plan: What is asked for.
        clock: Decides what is expired.
        max_entities: Most entities of one request.
    """

    def __init__(
        self,
        store: OnlineStore,
        plan: LookupPlan,
        clock: Clock,
        *,
        max_entities: int = MAX_ENTITIES,
    ) -> None:
        self._store = store
        self._plan = plan
        self._clock = clock
        self._max_entities = max_entities
        self._codecs = [row_codec(read.layout) for read in plan.reads]
        self._runs = _runs(plan.outputs)
        self._expected = frozenset(name for name, _ in plan.columns)
        self._shown = [plan.inputs.index(column) for column in plan.columns]

    @property
    def request_columns(self) -> Columns:
        """What a request has to hold: names, with their types."""
        return self._plan.request_columns

    def run(
        self, columns: Mapping[str, Sequence[Any] | Array], *, count: int | None = None
    ) -> LookupResult:
        """Return the features of the entities in `columns`.

        Args:
            columns: A column per join key of the plan, equally long; None in it is a null key. They
                are lists, numpy arrays (for date32 also of int32 days), or anything with the Arrow
                PyCapsule interface.
            count: The number of entities, which a plan without join keys cannot know otherwise; it
                then answers for one.

        Raises:
            EntityValueError: A join key is missing, unknown or of the wrong type.
            RequestError: There are too many entities.
            StoreUnavailableError: The store cannot be reached (retryable).
            StoreDataError: A stored row cannot be decoded.
        """
        question = self.ask(columns, count=count)
        return self.answer(question, self._store.read(question.reads) if question.reads else [])

    def ask(
        self, columns: Mapping[str, Sequence[Any] | Array], *, count: int | None = None
    ) -> Question:
        """Return what has to be read for the entities in `columns`.

        The reads of several questions can go to the store together; `answer` takes each one's part.
        Arguments and errors are those of `run`.
        """
        keys = self._keys(columns)
        size = len(keys[0]) if keys else self._checked_count(1 if count is None else count)
        if not size:
            return Question(keys, {}, 0, self._clock.now_micros(), [])
        entities: dict[tuple[int, ...], list[bytes | None]] = {}
        reads = []
        has_nulls = any(key.valid is not None for key in keys)
        for read, codec in zip(self._plan.reads, self._codecs, strict=True):
            if (found := entities.get(read.keys)) is None:
                found = entities[read.keys] = encode_key_columns([keys[i] for i in read.keys])
            # Without nulls it is the same list, which 500 keys notice.
            present = (
                [k for k in found if k is not None] if has_nulls else cast("list[bytes]", found)
            )
            reads.append(ReadRequest(table=read.table, keys=present, row_bytes=codec.row_bytes))
        return Question(keys, entities, size, self._clock.now_micros(), reads)

    def answer(self, question: Question, answers: Sequence[Sequence[bytes | None]]) -> LookupResult:
        """Return the features of a question's entities.

        Args:
            question: What `ask` returned.
            answers: What the store answered to each of the question's reads.

        Raises:
            StoreDataError: A stored row cannot be decoded.
        """
        stored = self._spread(question, answers)
        features, views = self._decoded(stored, question.now_us)
        return LookupResult(self._shown_keys(question), features, views, question.now_us)

    def answer_together(
        self,
        questions: Sequence[Question],
        answers: Sequence[Sequence[Sequence[bytes | None]]],
    ) -> list[LookupResult]:
        """Return what `answer` would return for each of several questions, of a few rows each.

        Decoding costs much the same for one row as for fifty: this does it once for all. What is
        expired is decided by the latest of the questions' times.

        Args:
            questions: What `ask` returned.
            answers: What the store answered to the reads of each.

        Raises:
            StoreDataError: A stored row of one of them cannot be decoded.
        """
        spread = [self._spread(q, found) for q, found in zip(questions, answers, strict=True)]
        stored = [list(chain.from_iterable(parts)) for parts in zip(*spread, strict=True)]
        now_us = max(question.now_us for question in questions)
        features, views = self._decoded(stored, now_us)
        bounds = pairwise(accumulate((question.size for question in questions), initial=0))
        return [
            LookupResult(self._shown_keys(question), *_part(features, views, slice(*bound)), now_us)
            for question, bound in zip(questions, bounds, strict=True)
        ]

    def _decoded(
        self, stored: Sequence[Sequence[bytes | None]], now_us: int
    ) -> tuple[list[FeatureColumn], list[ViewTimes]]:
        """Return the features of stored rows, those of each read, and when they took place."""
        parts = [
            _rows(read, codec.decode(values, read.wanted, view=read.table.view), now_us)
            for read, codec, values in zip(self._plan.reads, self._codecs, stored, strict=True)
        ]
        features = [f for run in self._runs for f in run.features(parts[run.read])]
        views = [ViewTimes(part.role, part.decoded.event_us, part.decoded.found) for part in parts]
        return features, views

    def _shown_keys(self, question: Question) -> list[EntityColumn]:
        keys = question.keys
        return [
            EntityColumn(name, keys[i].dtype, keys[i].values, keys[i].valid)
            for (name, _), i in zip(self._plan.columns, self._shown, strict=True)
        ]

    def _keys(self, columns: Mapping[str, Sequence[Any] | Array]) -> list[KeyColumn]:
        if columns.keys() != self._expected:
            self._refuse_columns(columns)
        keys = []
        for name, dtype in self._plan.inputs:
            column = columns[name]
            if hasattr(column, "__len__"):
                self._checked_count(len(column))
            keys.append(key_column(dtype, column, field=name))
        self._check_lengths(keys)
        return keys

    def _checked_count(self, count: int) -> int:
        if count > self._max_entities:
            raise RequestError(
                f"The request holds {count:,} entities; {self._max_entities:,} are allowed.",
                hint="ask in several requests",
            )
        return count

    def _check_lengths(self, keys: Sequence[KeyColumn]) -> None:
        for (name, _), key in zip(self._plan.inputs, keys, strict=True):
            if len(key) != len(keys[0]):
                first = self._plan.inputs[0][0]
                raise EntityValueError(
                    f"{name!r} has {len(key)} values and {first!r} has {len(keys[0])}; an entity"
                    " takes one of each.",
                    field=name,
                )

    def _refuse_columns(self, columns: Mapping[str, object]) -> NoReturn:
        expected = [name for name, _ in self._plan.columns]
        for name in expected:
            if name not in columns:
                guesses = close_names(name, columns.keys() - self._expected)
                raise EntityValueError(
                    f"The join key {name!r} is missing from the request.",
                    field=name,
                    hint=f"the request has {guesses[0]!r}; is that meant?" if guesses else None,
                )
        unknown = next(name for name in columns if name not in self._expected)
        listed = ", ".join(repr(name) for name in expected) or "none"
        raise EntityValueError(
            f"{str(unknown)[:100]!r} is not a join key of these features; they take {listed}.",
            field=str(unknown),
            suggestions=close_names(str(unknown), expected),
        )

    def _spread(
        self, question: Question, answers: Sequence[Sequence[bytes | None]]
    ) -> list[Sequence[bytes | None]]:
        """Return the stored values of every read, None where the key is null."""
        if not question.size:
            return [[] for _ in self._plan.reads]
        spread = []
        for read, values in zip(self._plan.reads, answers, strict=True):
            rows = _with_gaps(question.entities[read.keys], values)
            spread.append(rows if read.keys else [*rows] * question.size)
        return spread


def _part(
    features: Sequence[FeatureColumn], views: Sequence[ViewTimes], rows: slice
) -> tuple[list[FeatureColumn], list[ViewTimes]]:
    """Return some rows of a reply; features that share their statuses go on to share them."""
    whole: Array | None = None
    statuses: Array | None = None
    columns = []
    for name, dtype, values, own, view, fills in features:
        if own is not whole:
            whole, statuses = own, own[rows]
        columns.append(
            FeatureColumn(name, dtype, values[rows], cast("Array", statuses), view, fills)
        )
    times = [ViewTimes(name, event_us[rows], found[rows]) for name, event_us, found in views]
    return columns, times


class _Rows(NamedTuple):
    """What one read gave.

    Attributes:
        role: The role's name, or the view's.
        decoded: The rows.
        statuses: What each entity's values are unless they are null.
        expired: Where the row is too old; None when it is nowhere.
    """

    role: str
    decoded: DecodedRows
    statuses: Array
    expired: Array | None


def _rows(read: Read, decoded: DecodedRows, now_us: int) -> _Rows:
    """Decide what is served.

    A row of the future (pushed by a machine whose clock is ahead, or the configured clock was put
    back) is served: it is the newest that is known, and the store no longer has the one before it.
    """
    found, event_us = decoded.found, decoded.event_us
    statuses = _statuses(found.tobytes())
    if read.ttl_us is None:
        return _Rows(read.role, decoded, statuses, None)
    expired = event_us < now_us - read.ttl_us
    if b"\1" not in expired.tobytes() or b"\1" not in (expired := expired & found).tobytes():
        return _Rows(read.role, decoded, statuses, None)
    return _Rows(read.role, decoded, np.where(expired, _EXPIRED, statuses), expired)


def _statuses(found: bytes) -> Array:
    """Return the statuses of rows, none of them expired; not to be written to."""
    return np.frombuffer(found.translate(_STATUS_OF_FOUND), np.uint8)


class _Run:
    """Features one after another in the reply that come from one read.

    Attributes:
        read: The read's position.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self.read = outputs[0].read
        self._outputs = outputs
        self._names = [output.name for output in outputs]
        self._types = [output.dtype for output in outputs]
        self._take = _taker([output.column for output in outputs])
        self._may_be_plain = all(output.empty is None for output in outputs)

    def features(self, rows: _Rows) -> Iterable[FeatureColumn]:
        """Return the features of the rows that were read."""
        decoded = rows.decoded
        if not self._may_be_plain or rows.expired is not None or decoded.valid is not None:
            return [_feature(output, rows) for output in self._outputs]
        # Most lookups are so, and the interpreter is out of the way.
        values = self._take(decoded.values)
        statuses, reads = repeat(rows.statuses), repeat(self.read)
        return map(FeatureColumn, self._names, self._types, values, statuses, reads)


def _taker(positions: list[int]) -> Callable[[list[Any]], Sequence[Any]]:
    """Return what takes these of a list's elements."""
    if len(positions) == 1:  # of which itemgetter makes no tuple
        return lambda elements: [elements[positions[0]]]
    return itemgetter(*positions)


def _runs(outputs: Sequence[Output]) -> list[_Run]:
    return [_Run(list(run)) for _, run in groupby(outputs, lambda output: output.read)]


def _feature(output: Output, rows: _Rows) -> FeatureColumn:
    values, statuses = rows.decoded.values[output.column], rows.statuses
    if rows.decoded.valid is not None:
        statuses = _with_nulls(statuses, rows.decoded.valid[output.column])
    if rows.expired is not None:
        values = _withheld(values, rows.expired)
    if output.empty is None:
        return FeatureColumn(output.name, output.dtype, values, statuses, output.read)
    values = _filled(values, statuses == _NOT_FOUND, empty_value(output.dtype, output.empty))
    return FeatureColumn(output.name, output.dtype, values, statuses, output.read, fills=True)


def _with_nulls(statuses: Array, valid: Array) -> Array:
    """Return the statuses of a feature; those of its view if none of its values is null."""
    null = (statuses == _PRESENT) & ~valid
    return np.where(null, _NULL, statuses) if b"\1" in null.tobytes() else statuses


def empty_value(dtype: str, empty: Empty) -> Any:
    """Return what an empty window has, as values of a type are in a reply."""
    return Decimal(str(empty)) if dtype.startswith("decimal") else empty


def _filled(values: Array | list[Any], missing: Array, empty: Any) -> Array | list[Any]:
    if isinstance(values, list):
        marks = missing.tolist()
        return [empty if gone else value for value, gone in zip(values, marks, strict=True)]
    filled = values.copy()
    filled[missing] = empty
    return filled


def _with_gaps(
    entities: Sequence[bytes | None], values: Sequence[bytes | None]
) -> Sequence[bytes | None]:
    if len(values) == len(entities):
        return values
    answers = iter(values)
    return [None if entity is None else next(answers) for entity in entities]


def _withheld(values: Array | list[Any], expired: Array) -> Array | list[Any]:
    """Return values without those of expired rows, so that nothing stale can leak."""
    if isinstance(values, list):
        gone = expired.tolist()
        return [None if g else v for v, g in zip(values, gone, strict=True)]
    kept = values.copy()
    kept[expired] = 0
    return kept
