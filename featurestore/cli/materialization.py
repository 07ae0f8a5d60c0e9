"""`materialize` and `materialize-incremental`: from the sources into the online store."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli.output import print_table
from featurestore.cli.progress import progress
from featurestore.cli.session import Session, UsageError
from featurestore.cli.views import Views

if TYPE_CHECKING:
    from featurestore.materialize.estimate import RunEstimate
    from featurestore.materialize.run import RunReport
    from featurestore.settings import Check

End = Annotated[
    str | None,
    typer.Option(
        "--end", metavar="TIME", help="Events up to this RFC 3339 instant [default: now]."
    ),
]
DropPushed = Annotated[
    bool,
    typer.Option(
        "--drop-pushed",
        help="Switch to a new generation even if rows pushed to the one before are not in it.",
    ),
]
Validate = Annotated[
    str | None,
    typer.Option(
        "--validate",
        metavar="off|declared|warn|fail",
        help="Check contracts before writing [default: as configured].",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Estimate rows, entities and bytes; write nothing.")
]


def materialize(
    context: typer.Context,
    *,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="TIME", help="Only events after this instant."),
    ] = None,
    end: End = None,
    view: Views = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace stored rows even if they are newer.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with runs that were interrupted.")
    ] = False,
    drop_pushed: DropPushed = False,
    validate: Validate = None,
    dry_run: DryRun = False,
) -> None:
    """Write newest rows to the online store.

    For every entity the newest row in (start, end] is offered; a newer stored one stays.

    With --resume nothing new begins: runs that failed or were killed, incremental ones too, go on
    with their own interval and files, without what they had written.
    """
    session = Session.of(context)
    if dry_run:
        if resume or overwrite:
            raise UsageError("--dry-run goes with neither --resume nor --overwrite.")
        with session.store() as store:
            _show_estimates(session, store.estimate_materialization(start, end, views=view or None))
        return
    with session.store() as store, progress(session, "rows") as report:
        runs = store.materialize(
            start,
            end,
            views=view or None,
            overwrite=overwrite,
            resume=resume,
            drop_pushed=drop_pushed,
            validate=wanted_check(validate),
            progress=report,
        )
    if resume and not runs and not session.as_json:
        session.note("No run was interrupted: there is nothing to resume.")
        return
    _show(session, runs)


def materialize_incremental(
    context: typer.Context,
    *,
    end: End = None,
    view: Views = None,
    drop_pushed: DropPushed = False,
    validate: Validate = None,
    dry_run: DryRun = False,
) -> None:
    """Write what is new since the last run.

    Late rows are included. Nothing new is success.
    """
    session = Session.of(context)
    if dry_run:
        with session.store() as store:
            found = store.estimate_materialization(end=end, views=view or None, incremental=True)
        _show_estimates(session, found)
        return
    with session.store() as store, progress(session, "rows") as report:
        runs = store.materialize_incremental(
            end,
            views=view or None,
            drop_pushed=drop_pushed,
            validate=wanted_check(validate),
            progress=report,
        )
    _show(session, runs)


def wanted_check(text: str | None) -> "Check | None":
    """Return how `--validate` wants contracts to be checked; None for as it is configured."""
    from featurestore.settings import CHECKS

    for check in CHECKS:
        if text == check:
            return check
    if text is not None:
        raise UsageError(f"--validate takes {', '.join(CHECKS)}, not {text[:40]!r}.")
    return None


def _show_estimates(session: Session, estimates: "list[RunEstimate]") -> None:
    if session.as_json:
        session.answer({"dry_run": True, "estimates": [asdict(each) for each in estimates]})
        return
    if not estimates:
        session.note("No view is served online: there is nothing to materialize.")
        return
    headers = ["view", "kind", "up to", "files", "bytes to read", "about rows", "about entities"]
    rows = [
        (e.view, e.kind, e.end, e.files, e.file_bytes, e.rows, e.entities, e.online_bytes)
        for e in estimates
    ]
    print_table(session.out, [*headers, "about bytes online"], rows)
    session.note("Estimates, from footers and a sample of keys. Nothing was written.")


def _show(session: Session, runs: "list[RunReport]") -> None:
    if session.as_json:
        session.answer({"runs": [run_document(run) for run in runs]})
        return
    if any(run.clipped for run in runs):
        session.note(f"The end lies in the future; {runs[0].end} (now) was taken instead.")
    if not runs:
        session.note("No view is served online: there is nothing to materialize.")
        return
    headers = ["view", "gen.", "kind", "up to", "rows read", "entities", "written", "kept newer"]
    headers += ["expired", "null keys", "null times", "seconds", "rows/s"]
    print_table(session.out, headers, map(_row, runs))
    for run in runs:
        for note in _notes(run):
            session.note(f"{run.view}: {note}")


def _notes(run: "RunReport") -> Iterator[str]:
    """Yield what is to be said of a run besides its numbers."""
    if run.resumed:
        yield f"{run.resumed:,} of its entities were dealt with before."
    if run.switched:
        yield f"lookups read generation {run.generation} from now on."
    if run.left_pushed:
        yield (
            f"generation {run.generation} lacks {run.left_pushed:,} rows that were pushed to the"
            " one before, and is not read yet: push them again, or give --drop-pushed"
        )
    for rule in run.broken:
        yield f"a contract is broken: {rule}"
    if run.error is not None:
        yield f"generation {run.generation}, which is older, could not be written: {run.error}"


def run_document(run: "RunReport") -> dict[str, Any]:
    """Return what a run did as JSON-ready data."""
    return {**asdict(run), "rows_per_second": round(run.rows_per_second, 1)}


def _row(run: "RunReport") -> tuple[object, ...]:
    return (
        run.view,
        run.generation,
        run.kind,
        run.end,
        run.rows_read,
        run.entities,
        run.written,
        run.kept,
        run.expired,
        run.null_keys,
        run.null_times,
        f"{run.seconds:.2f}",
        round(run.rows_per_second),
    )
