"""Fixtures of the SDK's tests."""

from tests.server.fixtures import address, dial, serve, store, stub

__all__ = ["address", "dial", "serve", "store", "stub"]
