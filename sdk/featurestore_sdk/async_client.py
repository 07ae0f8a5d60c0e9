"""The client for event loops: the twin of client, where the docstrings are."""

import asyncio
import time
from collections.abc import Sequence
from functools import cached_property
from types import TracebackType
from typing import Self

from featurestore_sdk.async_channels import AsyncChannels
from featurestore_sdk.async_jobs import AsyncTrainingJob
from featurestore_sdk.channels import Channels
from featurestore_sdk.client import POLL_S
from featurestore_sdk.entities import Entities
from featurestore_sdk.errors import ClientError, UnavailableError
from featurestore_sdk.jobs import TrainingJob
from featurestore_sdk.options import DEFAULT_TIMEOUT_S, ClientOptions, RetryPolicy, TlsOptions
from featurestore_sdk.registry import (
    FeatureDescription,
    Listing,
    Project,
    RegisteredObject,
    describe_call,
    object_call,
    project_call,
)
from featurestore_sdk.requests import HEALTH, SERVING, online_call, push_call
from featurestore_sdk.responses import OnlineFeatures, PushResult
from featurestore_sdk.spines import SpineLike
from featurestore_sdk.training import Mode, Progress, TrainingRequest


class AsyncFeatureStoreClient:
    """What FeatureStoreClient is, for an event loop: the same names, arguments, results and errors.

    It belongs to the loop on which it is first used. A call that is cancelled
    (`asyncio.timeout`, `task.cancel()`) is cancelled at the server, too.

    Args: Those of FeatureStoreClient.

    Raises:
        InvalidOptionsError: There is no client with such arguments.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        connections: int = 4,
        project: str | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        tls: bool | TlsOptions = False,
        api_key: str | None = None,
        insecure: bool = False,
    ) -> None:
        self._options = ClientOptions.checked(
            address,
            timeout_s=timeout_s,
            connections=connections,
            project=project,
            retry=retry,
            tls=tls,
            api_key=api_key,
            insecure=insecure,
        )
        self._channels = AsyncChannels(self._options)
        self._closed = False

    async def get_online_features(
        self,
        features: str | Sequence[str],
        entities: Entities,
        *,
        full_feature_names: bool = False,
        timeout_s: float | None = None,
    ) -> OnlineFeatures:
        """See FeatureStoreClient.get_online_features."""
        call = online_call(
            self._options.project, features, entities, full_feature_names=full_feature_names
        )
        return OnlineFeatures.parse(await self._channels.unary(call, timeout_s))

    def get_historical_features(
        self,
        spine: SpineLike,
        features: str | Sequence[str],
        *,
        full_feature_names: bool = False,
        timestamp_field: str = "event_timestamp",
        timezone: str = "UTC",
        mode: Mode = "complete",
        timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> AsyncTrainingJob:
        """See FeatureStoreClient.get_historical_features; what it returns has async methods."""
        request = TrainingRequest.checked(
            self._options.project,
            spine,
            features,
            full_feature_names=full_feature_names,
            timestamp_field=timestamp_field,
            timezone=timezone,
            mode=mode,
            progress=progress,
        )
        return AsyncTrainingJob(TrainingJob(self._job_channels, request, timeout_s))

    async def push(
        self,
        view: str,
        rows: Entities,
        *,
        append: bool = False,
        timeout_s: float | None = None,
    ) -> PushResult:
        """See FeatureStoreClient.push."""
        call = push_call(self._options.project, view, rows, append=append)
        return PushResult.parse(await self._channels.unary(call, timeout_s))

    async def describe_features(
        self,
        features: str | Sequence[str],
        *,
        full_feature_names: bool = False,
        timeout_s: float | None = None,
    ) -> FeatureDescription:
        """See FeatureStoreClient.describe_features."""
        call = describe_call(self._options.project, features, full_feature_names=full_feature_names)
        return FeatureDescription.parse(await self._channels.unary(call, timeout_s))

    async def get_project(self, *, timeout_s: float | None = None) -> Project:
        """See FeatureStoreClient.get_project."""
        call = project_call(self._options.project)
        return Project.parse(await self._channels.unary(call, timeout_s))

    async def list_objects(
        self, kind: str | None = None, *, timeout_s: float | None = None
    ) -> list[RegisteredObject]:
        """See FeatureStoreClient.list_objects."""
        listing = Listing(self._options.project, kind)
        while listing.add(await self._channels.unary(listing.next_call(), timeout_s)):
            pass
        return listing.objects

    async def get_object(
        self, kind: str, name: str, *, timeout_s: float | None = None
    ) -> RegisteredObject:
        """See FeatureStoreClient.get_object."""
        call = object_call(self._options.project, kind, name)
        return RegisteredObject.parse(await self._channels.unary(call, timeout_s))

    async def wait_ready(self, timeout_s: float = 10.0) -> None:
        """See FeatureStoreClient.wait_ready."""
        deadline = time.monotonic() + timeout_s
        last: ClientError | None = None
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                if await self._channels.once(HEALTH, left_s) == SERVING:
                    return
            except ClientError as failure:
                if not failure.retryable:
                    raise
                last = failure
            await asyncio.sleep(min(POLL_S, left_s))
        raise UnavailableError(self._options.not_ready(timeout_s, last)) from last

    async def close(self) -> None:
        """See FeatureStoreClient.close."""
        self._closed = True
        await self._channels.close()
        if "_job_channels" in vars(self):
            self._job_channels.close()

    @cached_property
    def _job_channels(self) -> Channels:
        channels = Channels(self._options)
        if self._closed:
            channels.close()
        return channels

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncFeatureStoreClient: {self._options.shown_address}>"
