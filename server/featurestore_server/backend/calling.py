"""What the methods of the backend have in common."""

from typing import Any

import grpc

from featurestore.errors import NotFoundError
from featurestore.store import FeatureStore
from featurestore_server.calls import REQUEST_ID_HEADER
from featurestore_server.errors import MalformedMessageError
from featurestore_server.passing import CALLER

MAX_FEATURES = 10_000


def check_project(project: str, store: FeatureStore) -> None:
    """Return if a caller expects this project, or none.

    Raises:
        NotFoundError: It expects another one.
    """
    if project and project != store.project:
        raise NotFoundError("project", project, known=[store.project])


def selection_of(message: Any, *, field: str) -> str | list[str]:
    """Return the feature service's name, or the features' names, of a message with a `selection`.

    Raises:
        MalformedMessageError: It names neither, or too many.
    """
    chosen = message.WhichOneof("selection")
    if chosen == "feature_service":
        name: str = message.feature_service
        return name
    if chosen is None:
        raise MalformedMessageError(
            "The request names no features.",
            field=f"{field}.selection".lstrip("."),
            hint="set feature_service or features",
        )
    names = list(message.features.names)
    if len(names) > MAX_FEATURES:
        raise MalformedMessageError(
            f"The request names {len(names):,} features; {MAX_FEATURES:,} are the limit.",
            field=f"{field}.features".lstrip("."),
        )
    return names


def who_calls(context: grpc.ServicerContext) -> str:
    """Return what logs call a caller and its request."""
    told = {name: str(value) for name, value in context.invocation_metadata()}
    caller, request = told.get(CALLER, "anybody"), told.get(REQUEST_ID_HEADER)
    return f"{caller}, request {request}" if request else caller
