"""How deep the property tests dig: `make test` runs the profile ci, `make proof` proof."""

import os

from hypothesis import HealthCheck, settings

from tests.servers import redis_url, valkey_url

__all__ = ["redis_url", "valkey_url"]  # fixtures: here a session starts each server once

# A slow machine is no defect, so there are no deadlines. The profile ci derives its examples from
# each test's own code: the same commit always gives the same answer.
settings.register_profile(
    "ci",
    max_examples=100,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile(
    "proof", parent=settings.get_profile("ci"), max_examples=5_000, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
