"""From the errors of the client and of the server to ours."""

import re
from typing import Final

from redis import exceptions

from featurestore.errors import StoreError, StoreUnavailableError

_MAX_SHOWN_REPLY: Final = 200

PERMISSIONS: Final = (
    "~* +evalsha +script|load +getrange +set +get +mget +scan +unlink +hset +hdel +hvals +info"
    " +time +wait +asking +cluster|slots +cluster|nodes"
)
"""What a user of the server has to be allowed; from `+wait` on for clusters and `wait_replicas`."""

SENTINEL_PERMISSIONS: Final = "+sentinel|get-master-addr-by-name"
"""What a user of the Sentinels has to be allowed."""

_ERROR_CODE: Final = re.compile(r"(?:^|-|: )([A-Z]{3,})(?: |$)")

# A server that does not know a command repeats what came with it: with HELLO, the password.
_REPEATED: Final = ", with args"
_NO_HELLO: Final = re.compile(r"unknown command .?HELLO", re.IGNORECASE)
_USE_CLUSTER: Final = "write redis+cluster:// in online_store.url, in place of redis://"
_TRY_AGAIN: Final = {
    "LOADING": "is loading its data",
    "BUSY": "is busy running a script",
    "TRYAGAIN": "is moving this key to another node",
    "CLUSTERDOWN": "says that its cluster is down",
    "MASTERDOWN": "has lost its primary",
    "NOREPLICAS": "has too few replicas to take writes",
    "READONLY": "is a replica and takes no writes",
}
_REFUSED: Final = {
    "OOM": ("is full", "raise maxmemory, or materialize fewer features; reads still work"),
    "MISCONF": ("takes no writes, because it cannot save its data", "look at the server's disk"),
    "NOAUTH": ("wants a password", "set online_store.username and password"),
    "WRONGPASS": ("refuses the user or password", "check online_store.username and password"),
    "NOPERM": ("does not permit this user what is needed", f"grant it: ACL {PERMISSIONS}"),
    "MOVED": ("is a node of a cluster", _USE_CLUSTER),
    "CROSSSLOT": ("is a node of a cluster", _USE_CLUSTER),
    "WRONGTYPE": ("holds another kind of value under one of our keys", "use a database of its own"),
}
# Reasons of OpenSSL, as they stand in its messages.
_TLS: Final = {
    "CERTIFICATE_VERIFY_FAILED": (
        "shows a certificate that is not trusted",
        "set online_store.tls_ca to its authority; its name has to be the host of the URL",
    ),
    "CERTIFICATE_REQUIRED": ("wants a certificate from us", "set online_store.tls_certificate"),
    "UNKNOWN_CA": ("does not trust our certificate", "check online_store.tls_certificate"),
}


class TooFewReplicasError(exceptions.RedisError):
    """WAIT ended before enough replicas had what was written."""

    def __init__(self, found: int, wanted: int) -> None:
        super().__init__(f"{found} of {wanted} replicas")
        self.found = found
        self.wanted = wanted


def store_error(error: Exception, *, server: str, timeout_ms: int) -> StoreError:
    """Return what an error of the client or of a server means to a caller.

    Args:
        error: A `RedisError` or an `OSError`.
        server: What the server is called, as in "Redis at host:6379".
        timeout_ms: How long it was waited for.
    """
    if isinstance(error, TooFewReplicasError):
        return StoreUnavailableError(
            f"{server} took the rows, but only {error.found} of {error.wanted} replicas have them.",
            hint="writing again does no harm; look at the replicas, or lower wait_replicas",
        )
    if isinstance(error, exceptions.TimeoutError):
        return StoreUnavailableError(
            f"{server} did not answer within {timeout_ms} ms.",
            hint="try again; or raise online_store.timeout_ms",
        )
    code = error_code(error)
    if code in _TRY_AGAIN:
        return StoreUnavailableError(f"{server} {_TRY_AGAIN[code]}.", hint="try again")
    if code in _REFUSED:
        what, hint = _REFUSED[code]
        return StoreError(f"{server} {what}.", hint=hint)
    return _other(error, server=server)


def tellable(error: Exception) -> Exception | None:
    """Return an error as the cause of ours; None if it may hold a password."""
    return None if _REPEATED in str(error) else error


def _other(error: Exception, *, server: str) -> StoreError:
    text = str(error).partition(_REPEATED)[0][:_MAX_SHOWN_REPLY]
    if isinstance(error, exceptions.ConnectionError | OSError):
        return _unreachable(text, server=server)
    if _NO_HELLO.match(text):
        return StoreError(f"{server} is too old.", hint="Redis 6.2 or newer is needed, or Valkey")
    return StoreError(f"{server} answered: {text}", hint="run 'featurestore doctor'")


def _unreachable(text: str, *, server: str) -> StoreError:
    for reason, (what, hint) in _TLS.items():
        if reason in text:
            return StoreError(f"{server} {what}.", hint=hint)
    hint = "check that the server runs, and online_store.url"
    return StoreUnavailableError(f"{server} cannot be reached: {text}", hint=hint)


def is_passing(error: Exception) -> bool:
    """Whether an error may be over soon, without anybody's doing."""
    if isinstance(error, exceptions.TimeoutError | TooFewReplicasError | OSError):
        return True
    if type(error) is exceptions.ConnectionError:
        return not any(reason in str(error) for reason in _TLS)
    return error_code(error) in _TRY_AGAIN


def error_code(error: Exception) -> str:
    """Return the code of a server's error, also of one that passed through a script; else ""."""
    if (code := getattr(error, "status_code", None)) in _TRY_AGAIN | _REFUSED.keys():
        return str(code)
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return "WRONGPASS"
    if not isinstance(error, exceptions.ResponseError):
        return ""
    if "user executing the script can't" in str(error):
        return "NOPERM"
    found: list[str] = _ERROR_CODE.findall(str(error))
    return found[-1] if found else ""
