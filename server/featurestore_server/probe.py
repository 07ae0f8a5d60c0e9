"""Asks a server for its health, as the ones who watch over it do."""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

WHOLE_PROCESS: Final = ""
"""The service that stands for the process as a whole."""
UNREACHABLE: Final = "UNREACHABLE"


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a server said of one of its services.

    Attributes:
        address: Where it was asked.
        service: What it was asked about; "" is the process as a whole.
        status: SERVING, NOT_SERVING or SERVICE_UNKNOWN, as grpc.health.v1 has them, or UNREACHABLE.
        detail: Why the server could not be reached.
    """

    address: str
    service: str
    status: str
    detail: str = ""

    @property
    def is_serving(self) -> bool:
        """Whether the service takes calls."""
        return self.status == "SERVING"

    def __str__(self) -> str:
        of = f"{self.service} at {self.address}" if self.service else self.address
        return f"{self.status}: {of}" + (f" ({self.detail})" if self.detail else "")


def check_health(address: str, *, service: str = WHOLE_PROCESS, timeout_s: float = 3.0) -> Health:
    """Ask the health service of a server in plain text.

    Args:
        address: `host:port`, `[ipv6]:port` or `unix:/path`; an address that means all of a machine,
            such as 0.0.0.0, is asked on loopback.
        service: Which service; "" is the process as a whole.
        timeout_s: How long to wait for an answer, the connection included.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    target = _reachable(address)
    request = health_pb2.HealthCheckRequest(service=service)
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(target, options) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return Health(address=target, service=service, status="SERVICE_UNKNOWN")
            detail = error.code().name
            return Health(address=target, service=service, status=UNREACHABLE, detail=detail)
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
    return Health(address=target, service=service, status=status)


def _reachable(address: str) -> str:
    """Return where a server on this machine that listens at an address can be asked."""
    host, colon, port = address.rpartition(":")
    try:
        ip = ip_address(host.strip("[]"))
    except ValueError:
        return address
    if not colon or not ip.is_unspecified:
        return address
    return f"[::1]:{port}" if isinstance(ip, IPv6Address) else f"127.0.0.1:{port}"
