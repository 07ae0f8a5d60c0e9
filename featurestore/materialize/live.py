"""Which tables of the online store are in use. Pure: what is not returned here, `gc` drops."""

from featurestore.online.store import TableId
from featurestore.registry.state import RegisteredView, RegistryState


def live_tables(project: str, view: RegisteredView) -> tuple[TableId, ...]:
    """Return the tables of a view that somebody may read: what is pushed or deleted goes to each.

    The last one is of the view as it is defined now.
    """
    return (TableId(project=project, view=view.definition.name, generation=view.generation),)


def reachable_tables(state: RegistryState) -> frozenset[TableId]:
    """Return all tables of a project that are in use."""
    views = [view for view in state.views.values() if view.definition.online]
    return frozenset(table for view in views for table in live_tables(state.project, view))
