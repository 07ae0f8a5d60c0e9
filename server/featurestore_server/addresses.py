"""Where to listen: parsed, checked, and kept for the workers."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from featurestore_server.errors import AddressError, AddressInUseError, InsecureAddressError

_MAX_SOCKET_PATH_BYTES: Final = 103  # what every system's sockaddr_un has room for
_MAX_PORT: Final = 65_535


@dataclass
class Reservation:
    """An address that nobody else can take while this is held.

    Attributes:
        targets: What each worker listens at.
        shown: The address for people and clients, with the port that was chosen.
    """

    targets: tuple[str, ...]
    shown: str
    _sockets: Sequence[socket.socket] = ()
    _path: Path | None = field(default=None)

    def release(self) -> None:
        """Give the address back."""
        for held in self._sockets:
            held.close()
        if self._path:
            self._path.unlink(missing_ok=True)


def reserve(address: str, *, workers: int, insecure: bool) -> Reservation:
    """Reserve `host:port`, `[ipv6]:port` or `unix:/path`; port 0 picks a free one.

    Raises:
        AddressError: It is no address, or none of this machine's.
        AddressInUseError: Another process listens there.
        InsecureAddressError: Other machines can reach it, and `insecure` does not allow that.
    """
    if address.startswith("unix:"):
        return _reserve_path(address, workers)
    return reserve_port(address, insecure=insecure)


def reserve_port(address: str, *, insecure: bool) -> Reservation:
    """Reserve `host:port` or `[ipv6]:port`, as `reserve` does; a unix socket is no such address."""
    host, port = _host_and_port(address)
    numeric = _resolve(host, address)
    if not insecure and not all(ip_address(found).is_loopback for _, found in numeric):
        raise InsecureAddressError(address)
    return _reserve_ports(address, host, port, numeric)


# --- TCP -----------------------------------------------------------------------------------------


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed) or not port.isdecimal():
        raise AddressError(
            f"{address!r} is no address.",
            hint="write host:port, [ipv6]:port or unix:/path, such as localhost:6566",
        )
    if int(port) > _MAX_PORT:
        raise AddressError(f"{address!r} has a port above {_MAX_PORT}.")
    return host.strip("[]"), int(port)


def _resolve(host: str, address: str) -> list[tuple[socket.AddressFamily, str]]:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise AddressError(
            f"The host of {address!r} is unknown.", hint="localhost and 0.0.0.0 always work"
        ) from None
    families = (socket.AF_INET, socket.AF_INET6)
    found = [(family, str(where[0])) for family, _, _, _, where in infos if family in families]
    return list(dict.fromkeys(found))


def _reserve_ports(
    address: str, host: str, port: int, numeric: Sequence[tuple[socket.AddressFamily, str]]
) -> Reservation:
    held: list[socket.socket] = []
    targets = []
    with _closing_on_error(held):
        for family, ip in numeric:
            taken = _hold(family, ip, port, address)
            if taken is None:
                continue
            held.append(taken)
            port = taken.getsockname()[1]
            targets.append(f"[{ip}]:{port}" if family == socket.AF_INET6 else f"{ip}:{port}")
        if not held:
            raise AddressError(f"{address!r} is no address of this machine.")
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return Reservation(tuple(targets), shown, held)


@contextlib.contextmanager
def _closing_on_error(held: Sequence[socket.socket]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for taken in held:
            taken.close()
        raise


def _hold(family: socket.AddressFamily, ip: str, port: int, address: str) -> socket.socket | None:
    """Return a socket bound to the port, which never listens; None when there is no such address.

    It is bound without SO_REUSEPORT, which fails when anybody else has the port, and only then
    shares it with the workers. SO_REUSEADDR, which lets a server come back while connections of
    its predecessor fade, would let in a second server that also waits for its workers: it is
    withdrawn.
    """
    taken = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((ip, port))
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(address) from None
        if error.errno == errno.EACCES:
            raise AddressError(f"This user may not listen at {address!r}.") from None
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise
    return taken


def listen(target: str) -> socket.socket:
    """Return a socket that is bound to one of a reservation's ports, beside those of other workers.

    Raises:
        AddressInUseError: That did not work.
    """
    host, port = _host_and_port(target)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise AddressInUseError(target) from None
    return bound


# --- Unix sockets --------------------------------------------------------------------------------


def _reserve_path(address: str, workers: int) -> Reservation:
    path = Path(address.removeprefix("unix:").removeprefix("//"))
    if workers != 1:
        raise AddressError(
            f"{workers} workers cannot share {address!r}.",
            hint="a unix socket has one worker; take a port for more",
        )
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES or not path.parent.is_dir():
        raise AddressError(
            f"There can be no socket at {str(path)[:200]!r}.",
            hint=f"its folder must exist, and the path has at most {_MAX_SOCKET_PATH_BYTES} bytes",
        )
    _remove_stale(path, address)
    return Reservation((f"unix:{path}",), f"unix:{path}", _path=path)


def _remove_stale(path: Path, address: str) -> None:
    """Remove what a server that was killed left behind."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise AddressError(f"{str(path)!r} exists and is no socket.", hint="choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:
            pass
    raise AddressInUseError(address)
