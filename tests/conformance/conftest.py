"""Fixtures of the conformance suites."""

from tests.servers import redis_url, valkey_url

__all__ = ["redis_url", "valkey_url"]
