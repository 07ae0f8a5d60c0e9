"""Serves features over gRPC, and over HTTP where that is wanted.

`serve` runs worker processes until a signal says stop, and loads no gRPC itself.
`featurestore_server.server.FeatureServer` is one server inside the calling process.
"""

from featurestore_server.errors import (
    AddressError,
    AddressInUseError,
    InsecureAddressError,
    ServeError,
    WorkerError,
)
from featurestore_server.options import (
    DEFAULT_ADDRESS,
    BackendLimits,
    BackendOptions,
    HttpOptions,
    Limits,
    Observing,
    ServedLogOptions,
    ServeOptions,
)
from featurestore_server.probe import Health, check_health
from featurestore_server.serving import Serving, serve
from featurestore_server.supervisor import Supervisor

__all__ = [
    "DEFAULT_ADDRESS",
    "AddressError",
    "AddressInUseError",
    "BackendLimits",
    "BackendOptions",
    "Health",
    "HttpOptions",
    "InsecureAddressError",
    "Limits",
    "Observing",
    "ServeError",
    "ServeOptions",
    "ServedLogOptions",
    "Serving",
    "Supervisor",
    "WorkerError",
    "check_health",
    "serve",
]
