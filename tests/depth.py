"""What every run plays, and what the proof alone does."""

import pytest


def every_run(*, when: bool) -> tuple[pytest.MarkDecorator, ...]:
    """Return the marks of a case that every run plays if that is so, else `make proof` alone."""
    return () if when else (pytest.mark.proof,)
