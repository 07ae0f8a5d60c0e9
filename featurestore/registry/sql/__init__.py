"""The registry in a SQL database. SQLAlchemy is imported nowhere else."""

from featurestore.registry.sql.registry import SqlRegistry

__all__ = ["SqlRegistry"]
