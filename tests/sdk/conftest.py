"""Fixtures of the SDK's tests."""

from tests.sdk.clients import connect
from tests.sdk.scripted import script
from tests.server.fixtures import address, dial, fast_lookups, serve, store, stub

__all__ = ["address", "connect", "dial", "fast_lookups", "script", "serve", "store", "stub"]
