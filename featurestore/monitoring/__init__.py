"""Checks of what is there: sources against definitions, the online store against the sources."""
