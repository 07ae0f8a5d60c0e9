"""Training sets: a spine and features -> an explicit point-in-time query -> a result."""
