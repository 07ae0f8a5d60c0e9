"""Names that the shell completes: those of registered objects."""

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from featurestore.registry.state import RegistryState

Completer = Callable[[typer.Context, str], list[str]]


def complete_views(context: typer.Context, incomplete: str) -> list[str]:
    """Return the views that begin so."""
    return _matching(context, incomplete, lambda state: state.views)


def complete_features(context: typer.Context, incomplete: str) -> list[str]:
    """Return the services, and the features as `view:feature`, that begin so."""
    return _matching(context, incomplete, _features)


def complete_objects(context: typer.Context, incomplete: str) -> list[str]:
    """Return all objects that begin so."""
    return _matching(context, incomplete, lambda state: [d.name for d in state.definitions])


def _features(state: "RegistryState") -> Iterable[str]:
    yield from state.services
    for view in state.views.values():
        yield from (f"{view.definition.name}:{name}" for name in view.definition.feature_names)


def _matching(
    context: typer.Context,
    incomplete: str,
    names: "Callable[[RegistryState], Iterable[str]]",
) -> list[str]:
    """Return names from the registry; a shell is told nothing of what goes wrong here."""
    from featurestore.cli.session import Session

    session = context.obj if isinstance(context.obj, Session) else Session()
    with contextlib.suppress(Exception), session.store() as store:
        return sorted({name for name in names(store.state()) if name.startswith(incomplete)})
    return []
