"""What `feature_store.yaml` may say, as one checked model; `config` reads it."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)

from featurestore.errors import shown
from featurestore.naming import check_object_name
from featurestore.time import format_duration, parse_clock, parse_duration

MAX_RETENTION = timedelta(days=36_500)


_ORIGIN = re.compile(r"https?://[^\s/?#@,*]{1,255}")
_MEMORY = re.compile(r"\d{1,15}(\.\d{1,3})? ?([kmgt]i?b|b|%)", re.IGNORECASE)


def _milliseconds(value: object) -> object:
    if isinstance(value, str) and not value.isdigit():
        return parse_duration(value) // timedelta(milliseconds=1)
    return value


def _path_alone(value: object) -> object:
    return {"path": value} if isinstance(value, str) else value


def _memory(text: str | None) -> str | None:
    if text is not None and not _MEMORY.fullmatch(text):
        raise ValueError(f"{shown(text)} is not an amount of memory such as '4GB' or '60%'")
    return text


def _registry_path(value: object) -> object:
    if isinstance(value, str) and "://" in value:
        if not value.startswith("sqlite:///"):
            raise ValueError("the registry is a SQLite file: a path, or sqlite:///path")
        return value.removeprefix("sqlite:///")
    return value


def _parts(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


def _origin(text: str) -> str:
    if text != "*" and not _ORIGIN.fullmatch(text):
        raise ValueError("an origin is a scheme and a host, such as https://app.example.com")
    return text


Milliseconds = Annotated[int, BeforeValidator(_milliseconds), Field(ge=1, le=86_400_000)]
Grace = Annotated[int, BeforeValidator(_milliseconds), Field(ge=0, le=366 * 86_400_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _retention(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Retention = Annotated[
    timedelta,
    BeforeValidator(_retention),
    Field(ge=timedelta(seconds=1), le=MAX_RETENTION),
    PlainSerializer(format_duration, when_used="json"),
]


class RegistryConfig(_Model):
    """Where definitions and runs are kept.

    Attributes:
        type: "sqlite".
        path: The database file; relative paths start at the repository.
    """

    type: Literal["sqlite"] = "sqlite"
    path: Annotated[Path, BeforeValidator(_registry_path)] = Path("data/registry.db")


class OfflineStoreConfig(_Model):
    """The engine that computes training sets.

    Attributes:
        type: "duckdb" (spills to disk) or "polars" (does not); their answers are the same.
        threads: None for all cores.
        memory_limit: What it may use, such as "4GB" or "60%"; beyond, DuckDB spills to disk.
        temp_directory: Where it spills to; None for a folder below the system's.
    """

    type: Literal["duckdb", "polars"] = "duckdb"
    threads: Count | None = None
    memory_limit: Annotated[str | None, AfterValidator(_memory)] = None
    temp_directory: Path | None = None


class OnlineStoreConfig(_Model):
    """The store of newest values.

    Attributes:
        type: "lmdb" (embedded, shared by processes of one machine), "redis", or "memory" (one
            process, for tests).
        path: Folder of an embedded store; relative paths start at the repository.
        url: Address of Redis or Valkey: "redis://host:6379/0", "redis+sentinel://host:26379/name"
            or "redis+cluster://host:6379"; `rediss` for TLS.
        timeout_ms: Longest wait for an answer.
        connect_timeout_ms: Longest wait for a connection.
        failover_timeout_ms: Longest wait of a write for another primary: Sentinel and cluster.
        username: The user; wins over the URL's.
        password: Its password; wins over the URL's.
        sentinel_username: The user for the Sentinels themselves.
        sentinel_password: Its password.
        tls_ca: File of the certificates to trust; None for the system's.
        tls_certificate: File of our certificate.
        tls_key: File of its key; None if the certificate's file has it.
        tls_verify: Whether the server's certificate and name are checked.
        wait_replicas: Replicas that have to have a write before it counts as done.
        wait_timeout_ms: Longest wait for them.
    """

    type: Literal["lmdb", "redis", "memory"] = "lmdb"
    path: Path = Path("data/online")
    url: str | None = None
    timeout_ms: Milliseconds = 2_000
    connect_timeout_ms: Milliseconds = 1_000
    failover_timeout_ms: Milliseconds = 30_000
    username: str | None = None
    password: Annotated[str | None, Field(repr=False)] = None
    sentinel_username: str | None = None
    sentinel_password: Annotated[str | None, Field(repr=False)] = None
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_verify: bool = True
    wait_replicas: Annotated[int, Field(ge=0, le=100)] = 0
    wait_timeout_ms: Milliseconds = 1_000


class MaterializationConfig(_Model):
    """What writes to the online store.

    Attributes:
        generation_grace_ms: How long a view's former generation is written further after lookups
            switched to a newer one, or back: so long a rollback finds it fresh. "24h" by default.
        views_at_once: How many views are materialized side by side, each with its share of the
            offline store's threads and memory limit.
    """

    generation_grace_ms: Grace = 86_400_000
    views_at_once: Count = 1


def _check(value: object) -> object:
    """Read what YAML takes for a bool: `off`, `on`."""
    if isinstance(value, bool):
        return "declared" if value else "off"
    return value


Check = Literal["off", "declared", "warn", "fail"]
"""Whether contracts are checked: each rule by its own policy, or all of them by one."""
CHECKS: Final[tuple[Check, ...]] = get_args(Check)


class ValidationConfig(_Model):
    """Where contracts are checked besides `featurestore validate`.

    Attributes:
        materialize: Before a run writes anything. "off" does not; with "declared", for which "on"
            is short, a broken rule does what its policy says; with "warn" it is told and the run
            goes on; with "fail" nothing is written.
        datasets: The same before a dataset is built.
        quarantine: Folder that bad rows are written to.
    """

    materialize: Annotated[Check, BeforeValidator(_check)] = "off"
    datasets: Annotated[Check, BeforeValidator(_check)] = "off"
    quarantine: Path = Path("quarantine")


class FunctionsConfig(_Model):
    """Python functions of on-demand views.

    Attributes:
        roots: Folders below which modules of functions may be loaded, where their import paths
            start. None by default: a registry, which others may write, then runs nothing here.
    """

    roots: Annotated[tuple[Path, ...], BeforeValidator(_parts)] = ()


class DatasetsConfig(_Model):
    """Training sets that are kept.

    Attributes:
        path: The folder that they are kept in; relative paths start at the repository.
    """

    path: Path = Path("data/datasets")


class TlsConfig(_Model):
    """What the server encrypts with; files that are renewed are used without a restart.

    Attributes:
        certificate: PEM file of the server's certificate and those between it and its authority.
        key: File of its key; None if the certificate's file has it.
        client_ca: File of the authorities that sign clients' certificates; with it, nobody connects
            without one.
    """

    certificate: Path
    key: Path | None = None
    client_ca: Path | None = None


class ServedLogConfig(_Model):
    """The log of served features: Parquet files, for comparison with training data.

    Attributes:
        path: Its folder; None, which is the default, logs nothing.
        sample: The share of requests that are logged, from 0 to 1.
        max_file_rows: Rows after which a file is finished.
        max_file_ms: Time after which one is, with as many rows as there are. "5m" by default.
    """

    path: Path | None = None
    sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    max_file_rows: Count = 100_000
    max_file_ms: Annotated[int, BeforeValidator(_milliseconds), Field(ge=1, le=86_400_000)] = (
        300_000
    )


class BackendConfig(_Model):
    """Training sets, pushes and the registry over gRPC.

    Attributes:
        enabled: Whether the server offers them, from a process of their own beside its workers.
        training_jobs: Training sets computed at once, each with its share of the offline store's
            threads and memory limit.
        waiting_jobs: Training sets whose spine comes in, or that wait for their turn, besides.
        max_spine_rows: Most rows of a spine.
        max_spine_bytes: Most bytes of a spine.
        idle_ms: How long a caller may neither send nor take anything.
        source_roots: Folders below which sources are read and appended to; by default the
            repository alone.
    """

    enabled: bool = True
    training_jobs: Count = 1
    waiting_jobs: Count = 8
    max_spine_rows: Annotated[int, Field(ge=1)] = 10_000_000
    max_spine_bytes: Annotated[int, Field(ge=1)] = 1 << 30
    idle_ms: Milliseconds = 60_000
    source_roots: Annotated[tuple[Path, ...], BeforeValidator(_parts)] = (Path(),)


class ServerConfig(_Model):
    """The gRPC server.

    Attributes:
        address: host:port or unix:path; port 0 picks a free one.
        workers: Processes; None for one.
        threads: Threads of a worker.
        insecure: Allow plain text on an address other than loopback.
        max_entities: Most entities in one request.
        reflection: Offer the reflection service.
        fast_lookups: Answer lookups past grpcio's thread pool, with versions that were tested.
        reload_every_ms: How often to look for newer definitions and generations; 0 never does.
        tls: See `TlsConfig`; None for plain text.
        auth: "none": everybody may do everything; "api_keys": only who has a key of the project, or
            a certificate that stands for one, and that is allowed to.
        access_log: Write a line of JSON to standard error for every call.
        backend: See `BackendConfig`; `false` is short for one that is not enabled.
        http_address: host:port where lookups are served over HTTP, too; None for nowhere.
        http_cors_origins: Origins whose pages may call over HTTP, such as
            "https://app.example.com"; "*" for all. None by default.
        metrics_address: host:port at which Prometheus may scrape; None, which is the default,
            counts nothing.
        log_format: What standard error gets: lines of text, or of JSON.
        served_log: See `ServedLogConfig`; a string is its path.
    """

    address: str = "127.0.0.1:6566"
    workers: Annotated[Count, BeforeValidator(lambda v: 1 if v is None else v)] = 1
    threads: Count = 4
    insecure: bool = False
    max_entities: Count = 10_000
    reflection: bool = True
    fast_lookups: bool = True
    reload_every_ms: Annotated[int, BeforeValidator(_milliseconds), Field(ge=0, le=86_400_000)] = (
        2_000
    )
    tls: TlsConfig | None = None
    auth: Literal["none", "api_keys"] = "none"
    access_log: bool = False
    http_address: str | None = None
    http_cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_parts)
    ] = ()
    metrics_address: str | None = None
    log_format: Literal["text", "json"] = "text"
    served_log: Annotated[ServedLogConfig, BeforeValidator(_path_alone)] = ServedLogConfig()
    backend: Annotated[
        BackendConfig, BeforeValidator(lambda v: {"enabled": v} if _is_flag(v) else v)
    ] = BackendConfig()


def _is_flag(value: object) -> bool:
    return isinstance(value, bool | str)


def _clock(text: str) -> str:
    parse_clock(text)
    return text


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class Settings(_Model):
    """All of `feature_store.yaml`.

    Attributes:
        project: Name that keeps this repository's objects and rows apart from others'.
        clock: "system", or an RFC 3339 instant at which time stands still.
        definitions: Python files with definitions: globs relative to the repository.
        registry: See `RegistryConfig`; a string is its path.
        offline_store: See `OfflineStoreConfig`; a string is its type.
        online_store: See `OnlineStoreConfig`; a string is a type or a redis:// address.
        tombstone_retention: How long a deleted entity of a view without ttl cannot be revived by
            older rows.
        materialization: See `MaterializationConfig`.
        validation: See `ValidationConfig`.
        functions: See `FunctionsConfig`; a string is its roots, separated by commas.
        datasets: See `DatasetsConfig`; a string is its path.
        server: See `ServerConfig`; a string is its address.
    """

    project: Annotated[str, AfterValidator(check_object_name)]
    clock: Annotated[str, AfterValidator(_clock)] = "system"
    definitions: Annotated[tuple[str, ...], BeforeValidator(_several)] = (
        "features.py",
        "features/**/*.py",
    )
    registry: RegistryConfig = RegistryConfig()
    offline_store: OfflineStoreConfig = OfflineStoreConfig()
    online_store: OnlineStoreConfig = OnlineStoreConfig()
    tombstone_retention: Retention = timedelta(days=90)
    materialization: MaterializationConfig = MaterializationConfig()
    validation: ValidationConfig = ValidationConfig()
    functions: FunctionsConfig = FunctionsConfig()
    datasets: DatasetsConfig = DatasetsConfig()
    server: ServerConfig = ServerConfig()
