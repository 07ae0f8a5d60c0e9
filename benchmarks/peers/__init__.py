"""The peers: each in an environment of its own, never a dependency."""
