"""Which tables of the online store are in use: what is not returned here, `gc` drops."""

from collections.abc import Callable, Iterable, Iterator

from featurestore.online.store import TableId
from featurestore.registry.generations import LiveState
from featurestore.registry.state import RegisteredView


def table_of(project: str, view: RegisteredView) -> TableId:
    """Return the table of one generation of a view."""
    return TableId(project=project, view=view.definition.name, generation=view.generation)


def reachable_tables(live: LiveState) -> frozenset[TableId]:
    """Return all tables of a project that somebody reads, or may go back to."""
    return frozenset(table_of(live.state.project, view) for view in live.written)


def generations(
    first: Iterable[RegisteredView], alive: Callable[[], Iterable[RegisteredView]]
) -> Iterator[RegisteredView]:
    """Yield the generations that a write goes to, each once, and those that come meanwhile.

    A generation that was applied while others were written may be filled, and read, before the
    write ends: then nobody would take over what it missed. What is applied after the last look is
    filled after it, too, and takes over what was written.

    Args:
        first: What was alive before the write began.
        alive: What is alive now.
    """
    seen: set[tuple[str, int]] = set()
    found = list(first)
    while found:
        for view in found:
            seen.add((view.definition.name, view.generation))
            yield view
        found = [v for v in alive() if (v.definition.name, v.generation) not in seen]
