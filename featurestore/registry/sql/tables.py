"""The registry's tables. Instants are microseconds since the epoch, JSON is ASCII text."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

SCHEMA_VERSION: Final = 4
"""Rises with every change of the tables; `upgrade` has a step for each."""

METADATA: Final = MetaData()
_COUNTER: Final = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts INTEGER keys only


def _project(*, primary_key: bool = False) -> Column[str]:
    """Return a column that refers to the project."""
    key = ForeignKey("featurestore_projects.project")
    return Column("project", Text, key, primary_key=primary_key, nullable=False)


META: Final = Table(
    "featurestore_meta",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

PROJECTS: Final = Table(
    "featurestore_projects",
    METADATA,
    Column("project", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("switches", BigInteger, nullable=False, server_default="0"),
)

OBJECTS: Final = Table(
    "featurestore_objects",
    METADATA,
    _project(primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("generation", BigInteger),
    Column("deleted", Boolean, nullable=False),
    Column("document", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

LOG: Final = Table(
    "featurestore_log",
    METADATA,
    Column("id", _COUNTER, primary_key=True),
    _project(),
    Column("revision", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("impact", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("generation_before", BigInteger),
    Column("generation_after", BigInteger),
    Index("featurestore_log_by_project", "project", "id"),
)

RUNS: Final = Table(
    "featurestore_runs",
    METADATA,
    Column("id", _COUNTER, primary_key=True),
    _project(),
    Column("view", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("start_us", BigInteger),
    Column("end_us", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger, nullable=False),
    Column("rows_read", BigInteger, nullable=False),
    Column("rows_written", BigInteger, nullable=False),
    Column("rows_kept", BigInteger, nullable=False),
    Column("rows_skipped", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("error", Text),
    Column("file_count", BigInteger, nullable=False),
    Index("featurestore_runs_by_view", "project", "view", "id"),
)

WATERMARKS: Final = Table(
    "featurestore_watermarks",
    METADATA,
    _project(primary_key=True),
    Column("view", Text, primary_key=True),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("end_us", BigInteger, nullable=False),
    Column("event_us", BigInteger),
    Column("created_us", BigInteger),
    Column("source_files", Text, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

SERVING: Final = Table(
    "featurestore_serving",
    METADATA,
    _project(primary_key=True),
    Column("view", Text, primary_key=True),  # a view without a row is served as it is registered
    Column("generation", BigInteger, nullable=False),
    Column("kept_generation", BigInteger),
    Column("kept_until_us", BigInteger),
    Column("is_held", Boolean, nullable=False),
    Column("since_us", BigInteger),
)

LEASES: Final = Table(
    "featurestore_leases",
    METADATA,
    _project(primary_key=True),
    Column("view", Text, primary_key=True),
    Column("holder", Text),  # null: released
    Column("expires_us", BigInteger, nullable=False),
    Column("acquired_us", BigInteger),  # null: by a version that did not write it
)

TASKS: Final = Table(
    "featurestore_tasks",
    METADATA,
    _project(primary_key=True),
    Column("view", Text, primary_key=True),  # one at a time: the next run replaces it
    Column("generation", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("start_us", BigInteger),
    Column("end_us", BigInteger, nullable=False),
    Column("after_us", BigInteger),
    Column("created_after_us", BigInteger),
    Column("or_event_after_us", BigInteger),
    Column("overwrite", Boolean, nullable=False),
    Column("clock_us", BigInteger, nullable=False),
    Column("began_us", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("attempted_us", BigInteger, nullable=False),
    Column("seen_us", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("error", Text),
    Column("source_files", Text, nullable=False),
)

KEYS: Final = Table(
    "featurestore_keys",
    METADATA,
    _project(primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", Text),  # null: a certificate stands for it
    Column("certificate", Text),
    Column("grants", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
    Column("revoked_by", Text),
)

CHUNKS: Final = Table(
    "featurestore_chunks",
    METADATA,
    _project(primary_key=True),
    Column("view", Text, primary_key=True),
    Column("chunk", BigInteger, primary_key=True, autoincrement=False),
    Column("first_ordinal", BigInteger, nullable=False),
    Column("stop_ordinal", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("rows_written", BigInteger, nullable=False),
    Column("rows_kept", BigInteger, nullable=False),
    Column("rows_expired", BigInteger, nullable=False),
    Column("finished_us", BigInteger),
)

DATASETS: Final = Table(
    "featurestore_datasets",
    METADATA,
    _project(primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("building", Text),  # the folder of a build that is not over; null: it is
    Column("manifest_hash", Text, nullable=False),  # SHA-256 of the manifest's bytes
    Column("digest", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
)

VALIDATIONS: Final = Table(
    "featurestore_validations",
    METADATA,
    Column("id", _COUNTER, primary_key=True),
    _project(),
    Column("kind", Text, nullable=False),  # of what was validated: a source or a view
    Column("name", Text, nullable=False),
    Column("cause", Text, nullable=False),  # a command, a dataset's build, a materialization
    Column("at_us", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bad_rows", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Index("featurestore_validations_by_name", "project", "kind", "name", "id"),
)
