"""Spines: whose features are wanted, as of when, and what became of them afterwards."""

from featurestore.spines.project import Spines
from featurestore.spines.spine import Spine

__all__ = ["Spine", "Spines"]
