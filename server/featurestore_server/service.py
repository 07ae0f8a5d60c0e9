"""The online lookup: bytes in, bytes out."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

import grpc
from featurestore_protos.v1.serving_pb2 import DESCRIPTOR, GetOnlineFeaturesRequest

from featurestore.errors import NotFoundError, StoreUnavailableError
from featurestore.online.store import OnlineStore
from featurestore.serving.lookup import Lookup
from featurestore.serving.on_demand import OnDemandLookup, open_lookup
from featurestore.serving.plan import ServingCatalog
from featurestore.time import Clock, parse_clock
from featurestore_server.errors import DeadlinePassedError
from featurestore_server.guard import parse
from featurestore_server.options import Limits
from featurestore_server.replies import serialize_reply
from featurestore_server.requests import Selection, read_entities, read_selection

SERVING_SERVICE: Final = DESCRIPTOR.services_by_name["ServingService"].full_name


class OnlineFeatures:
    """Answers lookups from one catalog and one store. Safe to use from several threads.

    Args:
        catalog: What is served.
        store: Where the rows are.
        limits: What one request may take.
        store_answers: Whether the store is known to answer; when it says no, requests fail at once
            instead of each waiting for the store's timeout.
    """

    def __init__(
        self,
        catalog: ServingCatalog,
        store: OnlineStore,
        *,
        limits: Limits,
        store_answers: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._limits = limits
        self._store_answers = store_answers
        self._clock: Clock = parse_clock(catalog.clock)
        self._lookup = lru_cache(maxsize=limits.cached_plans)(self._prepare)

    def get(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer a serialized `GetOnlineFeaturesRequest` with a serialized response.

        Raises:
            FeatureStoreError: As the table in `errors` has them.
        """
        if context.time_remaining() == 0:  # never below; None without a deadline
            raise DeadlinePassedError("The deadline passed while the request waited.")
        return self.answer(request)

    def answer(self, request: bytes) -> bytes:
        """Answer as `get` does, without a call around it."""
        message: GetOnlineFeaturesRequest = parse(GetOnlineFeaturesRequest.FromString, request)
        self._check_project(message.project)
        lookup = self._lookup(read_selection(message, self._limits), message.full_feature_names)
        columns = read_entities(message.entities, self._limits)
        if not self._store_answers():
            raise StoreUnavailableError("The online store does not answer the server's probes.")
        return serialize_reply(
            lookup.run(columns, count=message.entity_count or None),
            project=self._catalog.project,
            revision=self._catalog.revision,
        )

    def _check_project(self, project: str) -> None:
        if project and project != self._catalog.project:
            raise NotFoundError("project", project, known=[self._catalog.project])

    def _prepare(self, selection: Selection, full_feature_names: bool) -> Lookup | OnDemandLookup:  # noqa: FBT001 - a cache's key
        plan = self._catalog.prepare(selection, full_feature_names=full_feature_names)
        return open_lookup(self._store, plan, self._clock, max_entities=self._limits.max_entities)
