"""Names that the shell completes: those of registered objects.

They are read from the registry's file directly. The registry itself loads SQLAlchemy and Arrow, for
which nobody wants to wait a second at the press of a key.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from pathlib import Path

_NEWEST: Final = """
SELECT kind, name, document FROM featurestore_objects AS o
WHERE project = ? AND NOT deleted AND version = (
    SELECT max(version) FROM featurestore_objects
    WHERE project = o.project AND kind = o.kind AND name = o.name)
"""
_DATASETS: Final = """
SELECT DISTINCT name FROM featurestore_datasets WHERE project = ? AND building IS NULL
"""


_FUNCTIONS: Final = (
    *("count", "count_distinct", "exists", "first", "last", "max", "mean", "median", "min"),
    *("stddev", "sum", "var"),
)


def complete_views(context: typer.Context, incomplete: str) -> list[str]:
    """Return the views that begin so."""
    found = _objects(context)
    return _matching(incomplete, (name for kind, name, _ in found if kind == "feature view"))


def complete_event_sources(context: typer.Context, incomplete: str) -> list[str]:
    """Return the views and sources that begin so."""
    found = _objects(context)
    kinds = ("feature view", "source")
    return _matching(incomplete, (name for kind, name, _ in found if kind in kinds))


def complete_functions(incomplete: str) -> list[str]:
    """Return the functions of labels that begin so."""
    return _matching(incomplete, iter(_FUNCTIONS))


def complete_features(context: typer.Context, incomplete: str) -> list[str]:
    """Return the services, and the features as `view:feature`, that begin so."""
    return _matching(incomplete, _feature_names(context))


def complete_contracts(context: typer.Context, incomplete: str) -> list[str]:
    """Return the sources and views with a contract that begin so."""
    import json

    kinds = ("feature view", "source")
    found = (o for o in _objects(context) if o[0] in kinds and "contract" in json.loads(o[2]))
    return _matching(incomplete, (name for _, name, _ in found))


def complete_datasets(context: typer.Context, incomplete: str) -> list[str]:
    """Return the datasets that begin so."""
    return _matching(incomplete, (name for (name,) in _rows(context, _DATASETS)))


def complete_objects(context: typer.Context, incomplete: str) -> list[str]:
    """Return all objects that begin so."""
    return _matching(incomplete, (name for _, name, _ in _objects(context)))


def _matching(incomplete: str, names: Iterator[str]) -> list[str]:
    """Return the names that fit; a shell is told nothing of what goes wrong here."""
    with contextlib.suppress(Exception):
        return sorted({name for name in names if name.startswith(incomplete)})
    return []


def _feature_names(context: typer.Context) -> Iterator[str]:
    import json

    for kind, name, document in _objects(context):
        if kind == "feature service":
            yield name
        elif kind == "feature view":
            yield from (f"{name}:{field['name']}" for field in json.loads(document)["schema"])
        elif kind == "on-demand feature view":
            yield from (f"{name}:{found['name']}" for found in _features(json.loads(document)))


def _objects(context: typer.Context) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the name and the document of every registered object."""
    yield from _rows(context, _NEWEST)


def _rows(context: typer.Context, query: str) -> Iterator[Any]:
    """Yield the rows of a query about the project."""
    import sqlite3

    from featurestore.cli.session import Session
    from featurestore.config import load_config

    session = context.obj if isinstance(context.obj, Session) else Session()
    config = load_config(session.folder)
    file: Path = config.path(config.settings.registry.path)
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as registry:
        yield from registry.execute(query, (config.settings.project,))


def _features(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the features of an on-demand view: expressions, or what its function returns."""
    found: list[dict[str, Any]] = document.get("features") or document.get("schema", [])
    return found
