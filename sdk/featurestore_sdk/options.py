"""How a client connects: what its arguments say, checked once. Pure, but for reading key files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from featurestore_sdk.errors import InvalidOptionsError

API_KEY_VARIABLE: Final = "FEATURESTORE_API_KEY"
DEFAULT_TIMEOUT_S: Final = 2.0
_NAMED_BY_SCHEME: Final = ("dns:", "unix:", "unix-abstract:", "xds:")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """How a client checks the server, and says who it is itself.

    Each is the path of a PEM file, or its bytes. Files are read once, when a client is made.

    Attributes:
        ca: The authorities that may have signed the server's certificate; None for those that
            gRPC brings, which are the public ones.
        certificate: The client's own certificate, for servers that ask for one.
        key: The key of `certificate`.
        server_name: The name that the server's certificate is for, where it is not the address.
    """

    ca: str | Path | bytes | None = None
    certificate: str | Path | bytes | None = None
    key: str | Path | bytes | None = field(default=None, repr=False)
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a call is tried that finds the server unavailable, and with which pauses.

    Pauses vary at random by a fifth, so that clients do not come back together, and one that the
    server asks for takes the place of ours. All of it happens within the call's timeout.

    Attributes:
        attempts: Tries in all; 1 for no retries.
        first_pause_s: The pause before the second try, in seconds.
        last_pause_s: The longest pause, in seconds.
        growth: How many times as long as the last one the next pause is.
    """

    attempts: int = 5
    first_pause_s: float = 0.02
    last_pause_s: float = 0.5
    growth: float = 4.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise InvalidOptionsError("attempts is at least 1")
        if not 0 <= self.first_pause_s <= self.last_pause_s:
            raise InvalidOptionsError("first_pause_s is between 0 and last_pause_s")
        if self.growth < 1:
            raise InvalidOptionsError("growth is at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The contents of the files that TlsOptions name."""

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)
    server_name: str | None

    @classmethod
    def of(cls, options: TlsOptions) -> Self:
        """Read the files.

        Raises:
            InvalidOptionsError: One cannot be read, is no PEM file, or lacks its other half.
        """
        if (options.certificate is None) != (options.key is None):
            raise InvalidOptionsError("TlsOptions has certificate and key together, or neither")
        return cls(
            ca=_pem("ca", options.ca),
            certificate=_pem("certificate", options.certificate),
            key=_pem("key", options.key),
            server_name=options.server_name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What both clients were told, checked. Its text holds no secrets."""

    targets: tuple[str, ...]
    timeout_s: float
    connections: int
    project: str
    retry: RetryPolicy
    tls: Tls | None
    api_key: str | None = field(repr=False)

    @classmethod
    def checked(
        cls,
        address: str | Sequence[str],
        *,
        timeout_s: float,
        connections: int,
        project: str | None,
        retry: RetryPolicy,
        tls: bool | TlsOptions,
        api_key: str | None,
        insecure: bool,
    ) -> Self:
        """Return the options that a client's arguments ask for.

        Raises:
            InvalidOptionsError: They make no client.
        """
        if connections < 1:
            raise InvalidOptionsError("connections is at least 1")
        if not timeout_s > 0:
            raise InvalidOptionsError("timeout_s is greater than 0")
        targets = targets_of(address)
        key = _checked_key(os.environ.get(API_KEY_VARIABLE) if api_key is None else api_key)
        if key and not tls and not insecure and not all(map(is_local, targets)):
            raise _exposed(api_key)
        files = tls if isinstance(tls, TlsOptions) else TlsOptions() if tls else None
        return cls(
            targets=targets,
            timeout_s=timeout_s,
            connections=connections,
            project=project or "",
            retry=retry,
            tls=None if files is None else Tls.of(files),
            api_key=key or None,
        )

    @property
    def shown_address(self) -> str:
        """The addresses, for messages."""
        return ", ".join(self.targets)

    def not_ready(self, timeout_s: float, last: Exception | None) -> str:
        """Return what is said when no server became ready in time; `last` is how it last failed."""
        who = "The server" if len(self.targets) == 1 else "None of the servers"
        verb = "was not" if len(self.targets) == 1 else "was"
        why = f" The last try: {last}" if last else ""
        return f"{who} at {self.shown_address} {verb} ready within {timeout_s:g} s.{why}"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()


def targets_of(address: str | Sequence[str]) -> tuple[str, ...]:
    """Return the addresses that one text, or a list of them, names.

    Raises:
        InvalidOptionsError: One is no address.
    """
    parts = address.split(",") if isinstance(address, str) else list(address)
    if not parts:
        raise InvalidOptionsError("there is no address to connect to")
    return tuple(_checked_target(part) for part in parts)


def is_local(target: str) -> bool:
    """Whether an address is this machine: nobody else listens on the way there."""
    if target.startswith(("unix:", "unix-abstract:")):
        return True
    host = target.rpartition("/")[2].removeprefix("dns:").rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _checked_target(part: str) -> str:
    target = part.strip()
    if target.startswith(_NAMED_BY_SCHEME):
        return target
    host, _, port = target.rpartition(":")
    # An IPv6 address without brackets would lose its last group as a port.
    bare_v6 = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if host and not bare_v6 and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16:
        return target
    raise InvalidOptionsError(
        f"{target!r} is no address; write host:port, [ipv6]:port, dns:///name:port or unix:/path."
        " Servers listen on port 6566 unless told otherwise."
    )


def _checked_key(key: str | None) -> str | None:
    # gRPC would refuse it, too, but with the key in its message.
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidOptionsError("the API key has characters that no key has, such as spaces")
    return key


def _exposed(api_key: str | None) -> InvalidOptionsError:
    whose = f"the environment's {API_KEY_VARIABLE}" if api_key is None else "api_key"
    return InvalidOptionsError(
        f"{whose} would travel in plain text to another machine."
        "\n  hint: tls=True, or TlsOptions(ca=...) for an authority of your own; insecure=True if"
        " something else encrypts the way"
    )


def _pem(name: str, given: str | Path | bytes | None) -> bytes | None:
    if given is None:
        return None
    try:
        content = given if isinstance(given, bytes) else Path(given).read_bytes()
    except OSError as error:
        raise InvalidOptionsError(f"TlsOptions({name}=...) cannot be read: {error}") from None
    if b"-----BEGIN " not in content:
        raise InvalidOptionsError(f"TlsOptions({name}=...) is not in PEM format")
    return content
