"""A thin client: features by key, over gRPC.

from featurestore_sdk import FeatureStoreClient

with FeatureStoreClient("localhost:6566") as client:
    client.get_online_features("fraud_v1", {"user_id": [42, 43]}).to_dict()
"""

from featurestore_sdk.async_client import AsyncFeatureStoreClient
from featurestore_sdk.async_jobs import AsyncTrainingJob
from featurestore_sdk.client import FeatureStoreClient
from featurestore_sdk.errors import (
    AccessDeniedError,
    ClientClosedError,
    ClientError,
    DeadlineExceededError,
    FieldViolation,
    InvalidOptionsError,
    InvalidRequestError,
    JobCancelledError,
    LimitExceededError,
    MissingExtraError,
    NotFoundError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedByServerError,
)
from featurestore_sdk.jobs import TrainingJob
from featurestore_sdk.options import RetryPolicy, TlsOptions
from featurestore_sdk.registry import (
    FeatureDescription,
    ObjectKind,
    Project,
    RegisteredObject,
)
from featurestore_sdk.responses import OnlineFeatures, PushResult, Status
from featurestore_sdk.training import TrainingSummary

__all__ = [
    "AccessDeniedError",
    "AsyncFeatureStoreClient",
    "AsyncTrainingJob",
    "ClientClosedError",
    "ClientError",
    "DeadlineExceededError",
    "FeatureDescription",
    "FeatureStoreClient",
    "FieldViolation",
    "InvalidOptionsError",
    "InvalidRequestError",
    "JobCancelledError",
    "LimitExceededError",
    "MissingExtraError",
    "NotFoundError",
    "ObjectKind",
    "OnlineFeatures",
    "Project",
    "PushResult",
    "RegisteredObject",
    "RetryPolicy",
    "ServerError",
    "Status",
    "TlsOptions",
    "TrainingJob",
    "TrainingSummary",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedByServerError",
]
