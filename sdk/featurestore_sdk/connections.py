"""How channels are opened: options that both clients share."""

import json
from ipaddress import ip_address
from typing import Final

MAX_REPLY_BYTES: Final = 256 << 20
"""Replies larger than this fail with LimitExceededError."""

# UNAVAILABLE only: the server says so when it did no work, so a second try cannot do it twice. The
# throttle stops retries when most calls fail, so that they cannot multiply an outage.
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{"service": "featurestore.v1.ServingService"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.02s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 4,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
}


def channel_options(address: str) -> list[tuple[str, str | int]]:
    """Return the gRPC options of a channel to `address`."""
    options: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        # Without a pool of its own a channel shares one connection with its siblings, and one
        # connection ends at one worker process of the server.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    if is_local(address):
        options.append(("grpc.enable_http_proxy", 0))
    return options


def is_local(address: str) -> bool:
    """Whether `address` is this machine: a proxy from the environment is no way to get there."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
