"""The gate of a server that wants to know who calls: API keys, and clients' certificates."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from featurestore.access import HASH_BYTES, KeyRecord, Token, permits
from featurestore_server.calls import Call, Caller, Gate, Metadata, Permission
from featurestore_server.errors import PermissionDeniedError, UnauthenticatedError

LOGGER: Final = logging.getLogger("featurestore_server")

RECENT: Final = 1_024
"""Headers remembered with the keys that they were found to hold."""
LOG_EVERY_S: Final = 10.0
"""How often refused calls are mentioned in the log, at most."""

_HEADER: Final = "authorization"
_SCHEME: Final = "bearer"
_NO_HASH: Final = bytes(HASH_BYTES)
_INVALID: Final = "The API key is not valid."
_HOW: Final = "send the metadata 'authorization: Bearer fs_...' with a key of this project"


class _Key(NamedTuple):
    """A key as each call needs it; who holds it is known without making an object."""

    hash: bytes
    expires_s: float
    is_revoked: bool
    caller: Caller


class _Keys(NamedTuple):
    """All keys at one time: replaced as a whole, so that no call sees half of a change.

    `recent` has headers that were found to hold a key in these: with other keys it begins anew.
    """

    by_id: dict[str, _Key]
    by_certificate: dict[str, _Key]
    recent: dict[str, _Key]


class KeyGate(Gate):
    """Admits callers with an API key, or with a client's certificate that stands for one.

    A key is hashed, and its hash compared in a time that does not depend on where they differ.
    Headers that passed are remembered: hashing costs 3 us in a loop, and 20 to 40 us in between
    everything else that a call does. Whether a key has expired is asked every time.

    A key in the call goes before a certificate: whoever sends a wrong one is refused.

    Args:
        keys: All that there are; those that are revoked may be among them.
        now: Seconds since the epoch. Keys expire by the present, whatever the project's clock says.
    """

    def __init__(self, keys: Iterable[KeyRecord], *, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._refusals = _Refusals()
        self.replace(keys)

    def replace(self, keys: Iterable[KeyRecord]) -> None:
        """Go by other keys from the next call on."""
        known = list(keys)
        self._keys = _Keys(
            {key.id: _key(key) for key in known if key.hash is not None},
            {
                key.certificate: _key(key)
                for key in known
                if key.certificate is not None and key.revoked_us is None
            },
            {},
        )

    def admit(self, call: Call) -> Caller:
        """Return who calls.

        Raises:
            UnauthenticatedError: There is neither a key in force nor a known certificate.
        """
        try:
            header = _only_header(call.metadata)
            if header is None:
                return self._certified(call)
            keys = self._keys
            return self._in_force(keys.recent.get(header) or _found(keys, header))
        except UnauthenticatedError as error:
            self._refusals.note(call, error)
            raise

    def _certified(self, call: Call) -> Caller:
        names = call.identities()
        known = self._keys.by_certificate
        for name in names:
            if name in known:
                return self._in_force(known[name])
        cause = "unknown certificate" if names else "no key"
        raise _refused("The call carries no API key.", cause)

    def _in_force(self, key: _Key) -> Caller:
        """Return the holder; only who has the secret, or the certificate, learns of its end."""
        if key.is_revoked:
            raise _refused("The API key was revoked.", "revoked key", key.caller.key_id)
        if key.expires_s <= self._now():
            raise _refused("The API key has expired.", "expired key", key.caller.key_id)
        return key.caller

    def authorize(self, caller: Caller, permission: Permission, *, service: str = "") -> None:
        """Return if the caller may do that.

        Raises:
            PermissionDeniedError: None of its grants allows it.
        """
        if not permits(caller.grants, permission, service=service):
            of = f" of the feature service {service!r}" if service else " of the whole project"
            raise PermissionDeniedError(
                f"The key {caller.name!r} has no permission {permission}{of}.",
                hint="ask who runs the server for a key that has it",
            )


def _found(keys: _Keys, header: str) -> _Key:
    """Return the key in a header that was not seen lately."""
    token = Token.parse(_bearer(header))
    if token is None:
        raise _refused(_INVALID, "malformed key")
    key = keys.by_id.get(token.id)
    if key is None:
        token.has_hash(_NO_HASH)  # as long as for a key that exists
        raise _refused(_INVALID, "unknown key")
    if not token.has_hash(key.hash):
        raise _refused(_INVALID, "wrong secret", key.caller.key_id)
    if len(keys.recent) >= RECENT:
        keys.recent.clear()
    keys.recent[header] = key
    return key


def _key(record: KeyRecord) -> _Key:
    return _Key(
        hash=bytes.fromhex(record.hash) if record.hash is not None else _NO_HASH,
        expires_s=float("inf") if record.expires_us is None else record.expires_us / 1e6,
        is_revoked=record.revoked_us is not None,
        caller=Caller(record.name, frozenset(record.grants), record.id),
    )


def _only_header(metadata: Metadata) -> str | None:
    found = None
    for name, value in metadata:
        if name == _HEADER:
            if found is not None or not isinstance(value, str):
                raise _refused(_INVALID, "several keys")
            found = value
    return found


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != _SCHEME:  # the scheme, unlike the key, is the same in upper case
        raise _refused(_INVALID, "other scheme")
    return token.lstrip(" ")


def _refused(message: str, cause: str, key_id: str = "") -> UnauthenticatedError:
    return UnauthenticatedError(message, cause=cause, key_id=key_id, hint=_HOW)


class _Refusals:
    """Mentions refused calls in the log: all of them in numbers, a few in words, none by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unsaid = 0
        self._next = 0.0

    def note(self, call: Call, error: UnauthenticatedError) -> None:
        with self._lock:
            self._unsaid += 1
            now = time.monotonic()
            if now < self._next:
                return
            count, self._unsaid, self._next = self._unsaid, 0, now + LOG_EVERY_S
        about = f" {error.key_id}" if error.key_id else ""
        LOGGER.warning(
            "calls refused: %d; the last, from %s, for: %s%s",
            count,
            call.peer(),
            error.cause,
            about,
        )
