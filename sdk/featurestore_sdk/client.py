"""The client that waits."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from featurestore_sdk.channels import Channels
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

POLL_S: Final = 0.05


class FeatureStoreClient:
    """Fetches features from a feature store's servers. Safe to use from several threads.

    Connections are opened when they are first needed and stay open; use the client as a context
    manager, or `close()` it. Do not use one across a fork.

    Args:
        address: `host:port`, `[ipv6]:port`, `unix:/path`, or `dns:///name:port` for all servers
            that the name stands for; several in a list, or with commas. Calls take turns; an
            address that is down is passed over.
        timeout_s: How long a call may take by default, retries included, in seconds.
        connections: How many connections to open to each address. The server's worker processes
            share connections, not calls, so that one connection keeps one worker busy.
        project: The project the server is expected to serve; None takes any.
        retry: How often a call is tried that finds the server unavailable.
        tls: Whether connections are encrypted, and how: True trusts the public authorities.
        api_key: Who asks; None takes the environment's FEATURESTORE_API_KEY, "" is nobody. It is
            never part of a text or an error.
        insecure: Send the API key without encryption to other machines, too.

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
        self._channels = Channels(self._options)

    def get_online_features(
        self,
        features: str | Sequence[str],
        entities: Entities,
        *,
        full_feature_names: bool = False,
        timeout_s: float | None = None,
    ) -> OnlineFeatures:
        """Return the newest values of features for a batch of entities.

        An entity that the store does not know is no error: its values are None and their status is
        NOT_FOUND.

        Args:
            features: The name of a feature service, or a list of `"view:feature"`.
            entities: A dict of columns, a list of dicts, or a table of pandas, Polars, Arrow or
                anything with the Arrow PyCapsule interface; it has the join keys, the
                request fields of on-demand features, and nothing else.
            full_feature_names: Name features `view__feature` instead of `feature`.
            timeout_s: How long this call may take, in seconds; None takes the client's.

        Raises:
            InvalidRequestError: A join key or request field is missing, unknown or of the wrong
                type; an on-demand feature has no value for an entity.
            NotFoundError: The server does not know a service, view, feature or the project.
            LimitExceededError: Request or reply are too large.
            UnauthenticatedError: The server wants to know who asks.
            AccessDeniedError: The server does not allow it.
            UnavailableError: The server or its store cannot be reached.
            DeadlineExceededError: There was no answer in time.
            ServerError: The server failed.
            ClientClosedError: The client is closed.
        """
        call = online_call(
            self._options.project, features, entities, full_feature_names=full_feature_names
        )
        return OnlineFeatures.parse(self._channels.unary(call, timeout_s))

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
    ) -> TrainingJob:
        """Return a training set that the server computes: the spine's rows, features beside them.

        Nothing is sent before the result is asked for (`to_arrow()`, `write_parquet(path)`, ...).
        The spine goes up, and the result comes down, in pieces. A server that is unavailable is
        asked again until the first piece of the result has come. Needs `pyarrow`.

        Args:
            spine: Which entities, as of when: a table of pandas, Polars, Arrow or anything with the
                Arrow PyCapsule interface, a dict of columns, a list of rows, or the `Path` of a
                Parquet file. It has the join keys, the request fields of on-demand features, a time
                column, and any others, which stay as they are.
            features: The name of a feature service, or a list of `"view:feature"`.
            full_feature_names: Name features `view__feature` instead of `feature`.
            timestamp_field: The name of the spine's time column.
            timezone: The zone in which times without one are read.
            mode: "complete" uses all that is known today about the past; "as_served" what had been
                written by each row's time.
            timeout_s: How long computing and fetching may take, in seconds; None for ever.
            progress: Called now and then with what is done, rows done and rows in all, in the
                thread that waits; with the async client that is not the event loop's.

        Raises:
            InvalidRequestError: The spine makes no table, or the arguments name no features.
            MissingExtraError: pyarrow is not installed.
        """
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
        return TrainingJob(self._channels, request, timeout_s)

    def push(
        self,
        view: str,
        rows: Entities,
        *,
        append: bool = False,
        timeout_s: float | None = None,
    ) -> PushResult:
        """Write rows of a view's source into the online store; the newest row of an entity wins.

        All rows are checked before the first is written. Pushing rows again does no harm, so that
        this is retried as lookups are; not so with `append`: then only a call that surely never
        left this machine is made again, and after any other failure it is unknown whether the
        source has the rows.

        Args:
            view: The name of the view.
            rows: The rows, in any form that entities may have: a column for every column of the
                view's source, by the name that it has in the source's files. Created times may be
                left out.
            append: Add the rows to the source, too, as a new file.
            timeout_s: How long this call may take, in seconds; None takes the client's.

        Raises:
            InvalidRequestError: A column or row is at fault; nothing was written.
            ClientError: As for `get_online_features`.
        """
        call = push_call(self._options.project, view, rows, append=append)
        return PushResult.parse(self._channels.unary(call, timeout_s))

    def describe_features(
        self,
        features: str | Sequence[str],
        *,
        full_feature_names: bool = False,
        timeout_s: float | None = None,
    ) -> FeatureDescription:
        """Return what a lookup of features takes and gives, without looking anything up.

        Raises:
            ClientError: As for `get_online_features`.
        """
        call = describe_call(self._options.project, features, full_feature_names=full_feature_names)
        return FeatureDescription.parse(self._channels.unary(call, timeout_s))

    def get_project(self, *, timeout_s: float | None = None) -> Project:
        """Return the name of the project that the server serves, and its revision.

        Raises:
            ClientError: As for `get_online_features`.
        """
        call = project_call(self._options.project)
        return Project.parse(self._channels.unary(call, timeout_s))

    def list_objects(
        self, kind: str | None = None, *, timeout_s: float | None = None
    ) -> list[RegisteredObject]:
        """Return the registered objects of a kind (see ObjectKind), or all, by kind and name.

        Raises:
            InvalidRequestError: There is no such kind.
            ClientError: As for `get_online_features`.
        """
        listing = Listing(self._options.project, kind)
        while listing.add(self._channels.unary(listing.next_call(), timeout_s)):
            pass
        return listing.objects

    def get_object(
        self, kind: str, name: str, *, timeout_s: float | None = None
    ) -> RegisteredObject:
        """Return one registered object.

        Raises:
            InvalidRequestError: There is no such kind.
            NotFoundError: There is no object of that kind and name; `suggestions` may help.
            ClientError: As for `get_online_features`.
        """
        call = object_call(self._options.project, kind, name)
        return RegisteredObject.parse(self._channels.unary(call, timeout_s))

    def wait_ready(self, timeout_s: float = 10.0) -> None:
        """Wait until a server, at any of the addresses, says that it serves.

        Raises:
            UnavailableError: None did within `timeout_s` seconds.
            ClientClosedError: The client is closed.
        """
        deadline = time.monotonic() + timeout_s
        last: ClientError | None = None
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                if self._channels.once(HEALTH, left_s) == SERVING:
                    return
            except ClientError as failure:
                if not failure.retryable:
                    raise
                last = failure
            time.sleep(min(POLL_S, left_s))
        raise UnavailableError(self._options.not_ready(timeout_s, last)) from last

    def close(self) -> None:
        """Close the connections; calls under way are cancelled. Twice is fine."""
        self._channels.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FeatureStoreClient: {self._options.shown_address}>"
