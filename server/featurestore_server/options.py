"""What a server is told: where to listen, what to serve, and how much of it at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from featurestore.certificates import TlsFiles

DEFAULT_ADDRESS: Final = "localhost:6566"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and one worker process, may take.

    Attributes:
        max_entities: Entities in one request.
        max_features: Features named in one request; a feature service may have more.
        max_request_bytes: Size of a serialized request.
        max_calls: Lookups under way or waiting in one worker; more are refused.
        cached_plans: Prepared lookups that one worker keeps.
    """

    max_entities: int = 10_000
    max_features: int = 1_000
    max_request_bytes: int = 4 << 20
    max_calls: int = 1_000
    cached_plans: int = 512


@dataclass(frozen=True, kw_only=True)
class ServedLogOptions:
    """Which served features are written down, and how (see `served_log`).

    Attributes:
        path: The folder; an absolute path.
        sample: The share of requests, from 0 to 1.
        max_file_rows: Rows after which a file is finished.
        max_file_s: Seconds after which one is, with as many rows as there are.
    """

    path: str
    sample: float = 0.01
    max_file_rows: int = 100_000
    max_file_s: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Observing:
    """What operators get to see of a server.

    Attributes:
        metrics_address: Where the parent answers scrapes, `host:port`; None counts nothing.
        log_format: "text" or "json".
        served_log: Which served features are written down; None for none.
    """

    metrics_address: str | None = None
    log_format: str = "text"
    served_log: ServedLogOptions | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Observing":
        """Return what `dataclasses.asdict` made a mapping of."""
        log = facts["served_log"]
        return cls(**{**facts, "served_log": None if log is None else ServedLogOptions(**log)})


@dataclass(frozen=True, kw_only=True)
class BackendLimits:
    """What callers of the backend may take, all together.

    Attributes:
        training_jobs: Training sets computed at the same time, each with its share of the offline
            store's threads and memory.
        waiting_jobs: Training sets whose spine comes in, or that wait for their turn, besides; more
            get UNAVAILABLE.
        max_spine_rows: Rows of a spine.
        max_spine_bytes: Bytes of a spine's Arrow stream, and of its columns once they are decoded.
        idle_s: How long a caller may neither send nor take anything while it is its turn.
    """

    training_jobs: int = 1
    waiting_jobs: int = 8
    max_spine_rows: int = 10_000_000
    max_spine_bytes: int = 1 << 30
    idle_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """What the process behind training sets, pushes and the registry works with.

    Attributes:
        settings: `feature_store.yaml` with what the environment added to it, JSON-ready.
        root: The repository; an absolute path.
        clock: "system", or the instant at which time stands still.
        source_roots: Folders below which sources are read and appended to; absolute paths.
        limits: What callers may take.
    """

    settings: Mapping[str, Any]
    root: str
    clock: str = "system"
    source_roots: tuple[str, ...] = ()
    limits: BackendLimits = field(default_factory=BackendLimits)


@dataclass(frozen=True, kw_only=True)
class HttpOptions:
    """The HTTP twin of the lookup.

    Attributes:
        address: `host:port` or `[ipv6]:port`; port 0 picks a free one.
        cors_origins: Origins whose pages may call, as in "https://app.example.com"; "*" for all.
    """

    address: str
    cors_origins: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """How to serve one project.

    Attributes:
        catalog_json: What `ServingCatalog.to_json()` wrote: all that is served.
        online_store: The online store: its `type`, and the arguments of
            `featurestore.online.factory.open_store` by name; paths are absolute.
        function_roots: Folders below which the modules of Python functions lie; absolute paths.
        address: `host:port`, `[ipv6]:port` or `unix:/path`; port 0 picks a free one.
        workers: How many processes share the address; exactly 1 for a unix socket.
        threads: Calls that one worker handles at the same time.
        insecure: Allow an address that other machines can reach although nothing is encrypted.
        reflection: Whether clients may ask what services there are.
        fast_lookups: Whether lookups go past grpcio's thread pool, with versions that were tested.
        grace_s: How long calls under way may go on after the signal to stop, in seconds.
        reload_every_s: How often to look for newer definitions, in seconds; 0 never does.
        limits: What one request may take.
        tls: What connections are encrypted with; None for plain text.
        keys_json: What `featurestore.access.keys_to_json` wrote: who may call. None: everybody.
        access_log: Whether each call is a line of JSON on standard error.
        backend: What training sets, pushes and the registry are answered with; None for lookups
            alone.
        http: Where lookups are served over HTTP, too; None for nowhere.
        observing: What operators get to see.
    """

    catalog_json: str
    online_store: Mapping[str, Any]
    function_roots: tuple[str, ...] = ()
    address: str = DEFAULT_ADDRESS
    workers: int = 1
    threads: int = 4
    insecure: bool = False
    reflection: bool = True
    fast_lookups: bool = True
    grace_s: float = 30.0
    reload_every_s: float = 2.0
    limits: Limits = field(default_factory=Limits)
    tls: TlsFiles | None = None
    keys_json: str | None = None
    access_log: bool = False
    backend: BackendOptions | None = None
    http: HttpOptions | None = None
    observing: Observing = field(default_factory=Observing)
