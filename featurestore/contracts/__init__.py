"""Contracts at the door: the rules of sources and views, checked against their rows."""
