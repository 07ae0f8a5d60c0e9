"""What this server wants of gRPC's core: tested versions, and how it reads connections.

gRPC's newer way to read (its event engine) has threads of its own, which wake up for every call
that comes, one by one, and take turns with those that answer. Its older one (a poller that whoever
waits for calls runs) reads what has come together. A worker that was asked for five times what it
can do had 1.7 to 3 times the good answers with the older one, and no fewer at its capacity
(`docs/serving.md`). It can be chosen before gRPC is loaded only.
"""

from collections.abc import Mapping
from typing import Final

TESTED: Final = ((1, 76), (1, 85))
"""First and last minor version of grpcio that passed the server's tests."""
EXPERIMENTS: Final = "GRPC_EXPERIMENTS"
EVENT_ENGINE: Final = "event_engine_listener"


def is_tested(version: str) -> bool:
    """Whether a version of grpcio is one of those that the server was tested with."""
    major, minor = version.split(".")[:2]
    return TESTED[0] <= (int(major), int(minor)) <= TESTED[1]


def worker_environment(environment: Mapping[str, str], version: str) -> dict[str, str]:
    """Return the environment of a process that answers lookups.

    Args:
        environment: This process's; what it says of the event engine stays.
        version: Of grpcio. One that was not tested may not know the choice, and is left alone.
    """
    chosen = environment.get(EXPERIMENTS, "")
    if EVENT_ENGINE in chosen or not is_tested(version):
        return dict(environment)
    return {**environment, EXPERIMENTS: ",".join(filter(None, (chosen, f"-{EVENT_ENGINE}")))}
