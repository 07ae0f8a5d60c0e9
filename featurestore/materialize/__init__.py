"""Materialization: the newest rows of a source into the online store (SEMANTICS, section 6)."""
