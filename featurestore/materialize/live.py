"""Which tables of the online store are in use. Pure: what is not returned here, `gc` drops."""

from featurestore.online.store import TableId
from featurestore.registry.generations import LiveState
from featurestore.registry.state import RegisteredView


def table_of(project: str, view: RegisteredView) -> TableId:
    """Return the table of one generation of a view."""
    return TableId(project=project, view=view.definition.name, generation=view.generation)


def reachable_tables(live: LiveState) -> frozenset[TableId]:
    """Return all tables of a project that somebody reads, or may go back to."""
    return frozenset(table_of(live.state.project, view) for view in live.written)
