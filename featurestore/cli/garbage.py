"""`gc`, `teardown`: online rows that nobody needs any more."""

from typing import TYPE_CHECKING, Annotated

import typer

from featurestore.cli.output import counted, print_table
from featurestore.cli.progress import progress
from featurestore.cli.session import Session, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurestore.materialize.garbage import DroppedTable

Rate = Annotated[
    int,
    typer.Option(
        "--rows-per-second", min=1, metavar="N", help="How fast rows are deleted at most."
    ),
]


def gc(
    context: typer.Context,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count rows, and delete none.")
    ] = False,
    rows_per_second: Rate = 20_000,
) -> None:
    """Drop online rows that nothing can reach.

    They are of views that were deleted or are not served online any more, and of generations that
    neither lookups nor a rollback read.
    """
    session = Session.of(context)
    with session.store() as store, progress(session, "rows") as report:
        dropped = store.gc(dry_run=dry_run, rows_per_second=rows_per_second, progress=report)
    _answer(session, dropped, dry_run=dry_run)


def teardown(
    context: typer.Context,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    rows_per_second: Rate = 20_000,
) -> None:
    """Drop all online rows of this project.

    Lookups find nothing until it is materialized again. Definitions stay registered, files stay
    where they are, and nothing of another project is touched.
    """
    session = Session.of(context)
    with session.store() as store, progress(session, "rows") as report:
        if not yes:
            tables = counted(len(store.online_store.tables(store.project)), "table")
            raise UsageError(
                f"This would drop {tables} of project {store.project!r} from the online store;"
                " nothing was done. Say --yes to do it."
            )
        dropped = store.teardown(rows_per_second=rows_per_second, progress=report)
    _answer(session, dropped, dry_run=False)


def _answer(session: Session, dropped: "Sequence[DroppedTable]", *, dry_run: bool) -> None:
    rows = sum(table.rows for table in dropped)
    if session.as_json:
        tables = [{"view": t.view, "generation": t.generation, "rows": t.rows} for t in dropped]
        session.answer({"dry_run": dry_run, "rows": rows, "tables": tables})
        return
    if dropped:
        listed = ((table.view, table.generation, table.rows) for table in dropped)
        print_table(session.out, ("view", "generation", "rows"), listed)
    verb = "would be dropped" if dry_run else "dropped"
    said = f"{counted(rows, 'row')} of {counted(len(dropped), 'table')} {verb}"
    session.out.write(f"{said if dropped else 'Nothing to drop'}.\n")
