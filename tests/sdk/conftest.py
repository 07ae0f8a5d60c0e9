"""Fixtures of the SDK's tests."""

from tests.server.fixtures import address, dial, fast_lookups, serve, store, stub

__all__ = ["address", "dial", "fast_lookups", "serve", "store", "stub"]
