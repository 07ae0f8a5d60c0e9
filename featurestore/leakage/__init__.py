"""Whether a pipeline leaks: a test that changes what must not matter, and a linter."""
