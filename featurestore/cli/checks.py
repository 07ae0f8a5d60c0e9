"""What `doctor` looks at: each check yields findings and never fails itself."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from featurestore.cli.output import counted
from featurestore.errors import FeatureStoreError
from featurestore.time import format_instant, from_micros

if TYPE_CHECKING:
    from featurestore.config import RepoConfig
    from featurestore.definitions import OnDemandFeatureView
    from featurestore.registry.runs import Watermark
    from featurestore.registry.state import RegisteredView
    from featurestore.store import FeatureStore
    from featurestore.time import Clock

Status = Literal["ok", "warning", "error"]
Progress = Callable[[str, int, int], None]

_URL: Final = re.compile(
    r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)(?P<user>[^/?#]*@)?(?P<place>[^?#]*)"
)
LIBRARIES: Final = (
    "featurestore",
    "featurestore-server",
    "featurestore-sdk",
    "duckdb",
    "polars",
    "pyarrow",
    "numpy",
    "pydantic",
    "sqlalchemy",
    "lmdb",
    "redis",
    "grpcio",
    "pandas",
)
MIN_FREE_BYTES: Final = 1 << 30
NO_SPACE_BYTES: Final = 100 << 20


@dataclass(frozen=True, kw_only=True)
class Check:
    """What was found about one thing.

    Attributes:
        subject: What was looked at.
        status: "ok"; "warning" for what may be meant so; "error" for what cannot work.
        detail: What was found.
        hint: What to do about it, or None.
    """

    subject: str
    status: Status
    detail: str
    hint: str | None = None

    def to_document(self) -> dict[str, str | None]:
        """Return this as JSON-ready data."""
        return asdict(self)


def failed(subject: str, error: FeatureStoreError) -> Check:
    """Return an error as a finding."""
    return Check(subject=subject, status="error", detail=error.message, hint=error.hint)


def guarded(subject: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield what a check finds; an error that it raises is a finding too."""
    try:
        yield from check()
    except FeatureStoreError as error:
        yield failed(subject, error)


def versions() -> dict[str, str | None]:
    """Return the installed version of each library, None for those that are not installed."""
    return {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def settings(config: "RepoConfig") -> list[dict[str, Any]]:
    """Return every setting with its value and where that came from; passwords are left out."""
    values = config.settings.model_dump(mode="json")
    return [
        {"setting": key, "value": _shown(key, value), "origin": _origin(key, config)}
        for key, value in _leaves(values)
    ]


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _origin(key: str, config: "RepoConfig") -> str:
    return config.origins.get(key, "default")


def _shown(key: str, value: object) -> object:
    return "***" if value and key.endswith("password") else without_password(value)


def without_password(value: object) -> object:
    """Return an address without what lets its reader in; any other value as it is.

    User and query go, whether the rest makes an address or not: a Redis URL may have its password
    in either.
    """
    if not isinstance(value, str) or not (found := _URL.match(value)):
        return value
    return f"{found['scheme']}{'***@' if found['user'] else ''}{found['place']}"


def check_clock(clock: "Clock") -> Iterator[Check]:
    """Say when the project does not live in the present."""
    if clock.is_system:
        now = format_instant(clock.now().replace(microsecond=0))
        yield Check(subject="clock", status="ok", detail=f"the system's; it is {now}")
        return
    days = (datetime.now(UTC) - clock.now()).days
    yield Check(
        subject="clock",
        status="warning",
        detail=f"stands still at {clock}, {counted(days, 'day')} before the system's",
        hint="remove 'clock' from the settings to live in the present",
    )


def check_folders(config: "RepoConfig") -> Iterator[Check]:
    """Look for permission to write and for room in the folders that the project fills."""
    chosen = config.settings
    folders = {"registry": config.path(chosen.registry.path).parent}
    if chosen.online_store.type == "lmdb":
        folders["online store"] = config.path(chosen.online_store.path)
    for what, folder in folders.items():
        yield _check_folder(what, folder)
    registry = config.path(chosen.registry.path)
    if registry.exists() and not os.access(registry, os.W_OK):
        yield Check(
            subject="registry",
            status="warning",
            detail=f"{registry} cannot be written by this user: serving works, applying does not",
        )


def _check_folder(what: str, folder: Path) -> Check:
    subject, existing = f"{what} folder", folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check(
            subject=subject,
            status="error",
            detail=f"{existing} is not a folder that this user may write",
            hint="correct its permissions, or choose another path in feature_store.yaml",
        )
    free = shutil.disk_usage(existing).free
    status: Status = "ok"
    if free < MIN_FREE_BYTES:
        status = "warning" if free >= NO_SPACE_BYTES else "error"
    detail = f"{folder} can be written; {free / 2**30:,.1f} GiB are free"
    return Check(subject=subject, status=status, detail=detail)


def check_registry(store: "FeatureStore") -> Iterator[Check]:
    """Read the registry."""
    state = store.state()
    where = f"{store.registry}, project {state.project}"
    if not state.revision:
        hint = "featurestore apply"
        yield Check(
            subject="registry", status="warning", detail=f"{where}: nothing applied yet", hint=hint
        )
        return
    count = len(state.definitions)
    detail = f"{where}: revision {state.revision}, {counted(count, 'object')}"
    yield Check(subject="registry", status="ok", detail=detail)


def check_online_store(store: "FeatureStore") -> Iterator[Check]:
    """Ask the online store about itself."""
    findings = store.online_store.check()
    for found in findings:
        status: Status = found.status if found.status in ("ok", "warning") else "error"  # type: ignore[assignment]
        yield Check(subject=f"online store: {found.subject}", status=status, detail=found.detail)


def check_functions(store: "FeatureStore") -> Iterator[Check]:
    """Load the Python functions of all on-demand views."""
    for view in store.state().on_demand_views.values():
        if view.reference is not None:
            yield from guarded(f"function of {view.name}", partial(_check_function, store, view))


def _check_function(store: "FeatureStore", view: "OnDemandFeatureView") -> Iterator[Check]:
    assert view.reference is not None  # noqa: S101 - chosen for it
    loaded = store.functions.load(view.reference.path, view.reference.sha256)
    detail = f"{loaded.reference} in {loaded.file}, as it was applied; takes a {loaded.takes}"
    yield Check(subject=f"function of {view.name}", status="ok", detail=detail)


def check_views(store: "FeatureStore", *, count_ties: bool, progress: Progress) -> Iterator[Check]:
    """Open the sources of all views, and see whether they are what the last run found."""
    views = list(store.state().views.values())
    for number, view in enumerate(views):
        name = view.definition.name
        progress(f"view {name}", number, len(views))
        yield from guarded(f"view {name}", lambda v=view: _check_view(store, v))  # type: ignore[misc]
        if count_ties:
            yield from guarded(f"view {name}", lambda v=view: _check_ties(store, v))  # type: ignore[misc]
    progress("views", len(views), len(views))


def _check_view(store: "FeatureStore", view: "RegisteredView") -> Iterator[Check]:
    from featurestore.offline.scan import open_scan

    definition = view.definition
    scan = open_scan(definition, definition.feature_names, store.config.root)
    mark = store.registry.watermark(store.project, definition.name, view.generation)
    subject = f"view {definition.name}"
    detail = f"{counted(len(scan.files), 'file')}, {counted(scan.row_count, 'row')}"
    if not definition.online:
        yield Check(subject=subject, status="ok", detail=f"{detail}; not served online")
    elif mark is None:
        hint = f"featurestore materialize --view {definition.name}"
        yield Check(
            subject=subject, status="warning", detail=f"{detail}; never materialized", hint=hint
        )
    else:
        detail += f"; online up to {format_instant(from_micros(mark.end_us))}"
        yield Check(subject=subject, status="ok", detail=detail)
        yield from _check_unchanged(subject, mark)


def _check_unchanged(subject: str, mark: "Watermark") -> Iterator[Check]:
    from featurestore.offline.files import changed_files

    changed = [file.path for file in mark.source_files if changed_files([file])]
    if changed:
        more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        yield Check(
            subject=subject,
            status="warning",
            detail=f"{changed[0]}{more} changed or went away since the last run",
            hint="values that were served may no longer be what the source says: materialize again,"
            " and add new data as new files",
        )


def _check_ties(store: "FeatureStore", view: "RegisteredView") -> Iterator[Check]:
    from featurestore.offline.scan import open_scan

    definition = view.definition
    scan = open_scan(definition, definition.feature_names, store.config.root)
    ties = sum(batch.num_rows for batch in store.engine.ties(scan))
    if ties:
        yield Check(
            subject=f"view {definition.name}",
            status="warning",
            detail=f"{ties:,} times two rows of one key differ and have the same event and created"
            " time; the order of files and rows decides between them",
            hint="give the source a created_timestamp_column that tells them apart",
        )


def worst(checks: Sequence[Check]) -> Status:
    """Return the worst status among checks."""
    found = {check.status for check in checks}
    return "error" if "error" in found else "warning" if "warning" in found else "ok"
