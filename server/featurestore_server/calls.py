"""One call, whichever way it came: what a gate decides by, and what observers are told.

A transport (grpcio's server, the lookup loop, HTTP) makes a `Call` of what it received, has it
answered, and tells its observer how it ended. Whoever answers writes down what it learns on the
way: the transport knows neither the caller's name nor what was asked for.
"""

import re
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]

NO_DEADLINE: Final = float("inf")
REQUEST_ID_HEADER: Final = "x-request-id"
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")


class Permission(StrEnum):
    """What a caller may do; `ADMIN` may do all of it."""

    READ_ONLINE = "read_online"
    READ_OFFLINE = "read_offline"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        name: What logs call it; "" for anybody, where nobody has to say who they are.
        grants: What it may do: a permission, with the one feature service that it is limited to or
            None for the whole project.
    """

    name: str
    grants: frozenset[tuple[Permission, str | None]] = field(default_factory=frozenset)


ANYBODY: Final = Caller("")


class Call:
    """A call, from when it came until it has been answered.

    Attributes:
        method: As in "/package.Service/Method".
        request: The serialized request; empty if the call ended before it came.
        metadata: What came with it; names are lower case.
        deadline: When the caller stops waiting, in seconds since the epoch, or infinity.
        peer: Returns the caller's address, as in "ipv4:10.0.0.7:51234".
        identities: Returns the names in the caller's certificate; nothing without one.
        came: When it came, by `time.perf_counter()`.
        began: When the work on it began, likewise; 0 while it waits.
        request_id: What logs and the caller call it; "" until somebody needs it.
        caller: Who calls; None until the gate has said so.
        service: The feature service asked for; "" when features are named one by one.
        entities: How many entities were asked for.
        statuses: How many values of the reply have each status: position n is status n.
    """

    __slots__ = (
        "began",
        "caller",
        "came",
        "deadline",
        "entities",
        "identities",
        "metadata",
        "method",
        "peer",
        "request",
        "request_id",
        "service",
        "statuses",
    )

    def __init__(
        self,
        method: str,
        request: bytes,
        metadata: Metadata = (),
        *,
        deadline: float = NO_DEADLINE,
        peer: Callable[[], str] = str,
        identities: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self.method = method
        self.request = request
        self.metadata = metadata
        self.deadline = deadline
        self.peer = peer
        self.identities = identities
        self.came = time.perf_counter()
        self.began = 0.0
        self.request_id = ""
        self.caller: Caller | None = None
        self.service = ""
        self.entities = 0
        self.statuses: Sequence[int] = ()


def request_id_of(call: Call) -> str:
    """Return what logs and the caller call it: its `x-request-id` if that is sane, else a new one.

    An id that could break a log line, or fill it, is none.
    """
    if not call.request_id:
        given = next((value for name, value in call.metadata if name == REQUEST_ID_HEADER), "")
        sane = isinstance(given, str) and _SANE_ID.fullmatch(given)
        call.request_id = str(given) if sane else secrets.token_hex(8)
    return call.request_id


class Gate(Protocol):
    """Decides who may call what."""

    def admit(self, call: Call) -> Caller:
        """Return who calls.

        Raises:
            UnauthenticatedError: The call does not say so, or not believably.
        """
        ...

    def authorize(self, caller: Caller, permission: Permission, *, service: str = "") -> None:
        """Return if the caller may do that.

        Args:
            caller: Who calls.
            permission: What it wants to do.
            service: The feature service that it wants to do it to; "" for all of the project.

        Raises:
            PermissionDeniedError: It may not.
        """
        ...


class OpenGate(Gate):
    """Lets everybody do everything: the server is on loopback, or whoever runs it said so."""

    def admit(self, call: Call) -> Caller:  # noqa: ARG002
        """Return `ANYBODY`."""
        return ANYBODY

    def authorize(self, caller: Caller, permission: Permission, *, service: str = "") -> None:
        """Return."""


class Observer(Protocol):
    """Is told how calls ended; must be quick, and must not raise."""

    def ended(self, call: Call, error: Exception | None) -> None:
        """Take note of a call that was answered, with `error` or without."""
        ...


class Observers(Observer):
    """Several observers; none is fine."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def ended(self, call: Call, error: Exception | None) -> None:
        """Tell each of them."""
        for observer in self._observers:
            observer.ended(call, error)
