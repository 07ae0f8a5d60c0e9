"""The online lookup: bytes in, bytes out."""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from featurestore_protos.v1.serving_pb2 import DESCRIPTOR

from featurestore.errors import NotFoundError, StoreUnavailableError
from featurestore.functions import FunctionLoader
from featurestore.online.store import OnlineStore, ReadRequest
from featurestore.serving.lookup import Lookup, LookupResult, Question
from featurestore.serving.on_demand import OnDemandLookup, OnDemandQuestion, open_lookup
from featurestore.serving.plan import ServingCatalog
from featurestore.time import Clock, parse_clock
from featurestore_server.calls import NO_DEADLINE, Call, Gate, OpenGate, Permission
from featurestore_server.dialects import PROTOBUF, Dialect, LookupRequest
from featurestore_server.errors import DeadlinePassedError
from featurestore_server.options import Limits
from featurestore_server.requests import Selection

Result = TypeVar("Result")
_Stored: TypeAlias = Sequence[Sequence[bytes | None]]
"""What the store answered to each read of a question."""

SERVING_SERVICE: Final = DESCRIPTOR.services_by_name["ServingService"].full_name
LOOKUP_METHOD: Final = f"/{SERVING_SERVICE}/GetOnlineFeatures"


FEW_ENTITIES: Final = 8
"""Entities of a call that is answered together with others like it."""


class Witness(Protocol):
    """Sees what lookups are answered with; must be quick, and must not raise."""

    def answered(self, asked: "Asked", result: LookupResult) -> None:
        """Take note of what a call is answered with."""
        ...


class OnlineFeatures:
    """Answers lookups from one catalog and one store. Safe to use from several threads.

    Args:
        catalog: What is served.
        store: Where the rows are.
        limits: What one request may take.
        store_answers: Whether the store is known to answer; when it says no, requests fail at once
            instead of each waiting for the store's timeout.
        functions: Loads the Python functions of on-demand features.
        gate: Decides who may look up what.
        witnesses: See what lookups are answered with.

    Raises:
        FunctionLoadError: A function of the catalog cannot be loaded.
    """

    def __init__(
        self,
        catalog: ServingCatalog,
        store: OnlineStore,
        *,
        limits: Limits,
        store_answers: Callable[[], bool],
        functions: FunctionLoader,
        gate: Gate | None = None,
        witnesses: Sequence[Witness] = (),
    ) -> None:
        self._witnesses = tuple(witnesses)
        self._gate = gate or OpenGate()
        self._functions = functions
        self._store = store
        self._limits = limits
        self._store_answers = store_answers
        self.replace(catalog)

    def replace(self, catalog: ServingCatalog) -> None:
        """Answer from another catalog from now on; requests that came before end as they began.

        Raises:
            FunctionLoadError: A function of the catalog cannot be loaded; nothing has changed.
        """
        _load_functions(catalog, self._functions)
        self._served = _Served(catalog, self._store, limits=self._limits, functions=self._functions)

    def answer(self, call: Call) -> bytes:
        """Answer a serialized `GetOnlineFeaturesRequest` with a serialized response.

        Raises:
            FeatureStoreError: As the table in `errors` has them.
        """
        [answer] = self.answer_all([call])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer_all(
        self, calls: Sequence[Call], dialect: Dialect = PROTOBUF
    ) -> list[bytes | Exception]:
        """Answer several requests with one trip to the store.

        Args:
            calls: The requests, all of one dialect.
            dialect: How requests and replies are written.

        Returns:
            Each one's reply, or what `answer` would have raised.
        """
        asked = [_attempt(self._ask, call, dialect) for call in calls]
        reads = [r for a in asked if isinstance(a, Asked) for r in a.question.reads]
        found = _attempt(self._read, reads, calls) if reads else []
        if isinstance(found, Exception):
            return [_failed(a, call, found) for a, call in zip(asked, calls, strict=True)]
        values = iter(found)
        rows = [
            [] if isinstance(a, Exception) else [next(values) for _ in a.question.reads]
            for a in asked
        ]
        results = _results(asked, rows)
        return [
            result if isinstance(result, Exception) else _attempt(self._reply, a, result)
            for a, result in zip(asked, results, strict=True)
        ]

    def _read(
        self, reads: Sequence[ReadRequest], calls: Sequence[Call]
    ) -> Sequence[Sequence[bytes | None]]:
        """Read for all calls together, for as long as the most patient of their callers waits."""
        deadline = max(call.deadline for call in calls)
        until = None if deadline == NO_DEADLINE else time.monotonic() + deadline - time.time()
        return self._store.read(reads, until=until)

    def _ask(self, call: Call, dialect: Dialect) -> "Asked":
        call.began = time.perf_counter()
        if call.deadline <= time.time():
            raise DeadlinePassedError("The deadline passed while the request waited.")
        caller = call.caller = self._gate.admit(call)
        served = self._served
        request = dialect.read(call.request, self._limits)
        _check_project(request.project, served.catalog)
        selection = request.selection
        call.service = selection if isinstance(selection, str) else ""
        self._gate.authorize(caller, Permission.READ_ONLINE, service=call.service)
        lookup = served.lookup(selection, request.full_feature_names)
        columns = request.columns(lookup.request_columns)
        if not self._store_answers():
            raise StoreUnavailableError("The online store does not answer the server's probes.")
        question = lookup.ask(columns, count=request.entity_count)
        return Asked(call, lookup, question, served.catalog, request)

    def _reply(self, asked: "Asked", result: LookupResult) -> bytes:
        asked.call.entities = len(result)
        for witness in self._witnesses:
            witness.answered(asked, result)
        catalog = asked.catalog
        return asked.request.reply(result, project=catalog.project, revision=catalog.revision)


class _Served:
    """A catalog with the lookups that were prepared from it."""

    def __init__(
        self,
        catalog: ServingCatalog,
        store: OnlineStore,
        *,
        limits: Limits,
        functions: FunctionLoader,
    ) -> None:
        self.catalog = catalog
        self._store = store
        self._limits = limits
        self._functions = functions
        self._clock: Clock = parse_clock(catalog.clock)
        self.lookup = lru_cache(maxsize=limits.cached_plans)(self._prepare)

    def _prepare(self, selection: Selection, full_feature_names: bool) -> Lookup | OnDemandLookup:  # noqa: FBT001 - a cache's key
        plan = self.catalog.prepare(selection, full_feature_names=full_feature_names)
        return open_lookup(
            self._store,
            plan,
            self._clock,
            functions=self._functions,
            max_entities=self._limits.max_entities,
        )


def _results(
    asked: Sequence["Asked | Exception"], rows: Sequence[_Stored]
) -> list[LookupResult | Exception]:
    """Return the result of each call, from the rows that were read for it, or what it failed with.

    Small calls that ask for the same are answered together, which costs hardly more than one.
    """
    together: dict[int, LookupResult] = {}
    for lookup, numbers, questions in _alike(asked):
        found = _attempt(lookup.answer_together, questions, [rows[n] for n in numbers])
        if not isinstance(found, Exception):  # else each finds out for itself
            together |= zip(numbers, found, strict=True)
    return [
        together[number] if number in together else _result(a, rows[number])
        for number, a in enumerate(asked)
    ]


def _result(asked: "Asked | Exception", rows: _Stored) -> LookupResult | Exception:
    if isinstance(asked, Exception):
        return asked
    return _attempt(asked.lookup.answer, asked.question, rows)


def _alike(
    asked: Sequence["Asked | Exception"],
) -> Iterable[tuple[Lookup, list[int], list[Question]]]:
    """Return each lookup that several small calls ask for, with their numbers and questions."""
    small: dict[int, tuple[Lookup, list[int], list[Question]]] = {}
    for number, a in enumerate(asked):
        if isinstance(a, Exception) or not isinstance(a.question, Question):
            continue
        if a.question.size <= FEW_ENTITIES:
            _, numbers, questions = small.setdefault(id(a.lookup), (a.lookup, [], []))
            numbers.append(number)
            questions.append(a.question)
    return (alike for alike in small.values() if len(alike[1]) > 1)


def _failed(asked: "Asked | Exception", call: Call, error: Exception) -> Exception:
    """Return what a call is told whose rows could not be read."""
    if isinstance(asked, Exception):
        return asked
    if call.deadline <= time.time():
        return DeadlinePassedError("The deadline passed while the online store was asked.")
    return error


def _check_project(project: str, catalog: ServingCatalog) -> None:
    if project and project != catalog.project:
        raise NotFoundError("project", project, known=[catalog.project])


def _load_functions(catalog: ServingCatalog, functions: FunctionLoader) -> None:
    if any(view.function for view in catalog.on_demand.values()):
        from featurestore.serving.functions import load_all  # loads pyarrow

        load_all(catalog, functions)


class Asked(NamedTuple):
    """A call whose request was read, and what it asks for.

    Attributes:
        call: The call.
        lookup: A Lookup with a Question, or an OnDemandLookup with an OnDemandQuestion.
        question: See there.
        catalog: What it is answered from.
        request: What was read, and how the reply is to be written.
    """

    call: Call
    lookup: Any
    question: Question | OnDemandQuestion
    catalog: ServingCatalog
    request: LookupRequest


def _attempt(work: Callable[..., Result], *arguments: Any) -> Result | Exception:
    try:
        return work(*arguments)
    except Exception as error:  # noqa: BLE001 - whoever asked is told
        return error
