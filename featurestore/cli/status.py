"""`status` and `history`: where views stand, and what happened to them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli.completion import complete_views
from featurestore.cli.listing import RUN_HEADERS, generation_text, run_document, run_row
from featurestore.cli.output import print_heading, print_table
from featurestore.cli.session import Session
from featurestore.cli.validation import last_validation, last_validation_text
from featurestore.cli.views import Views

if TYPE_CHECKING:
    from featurestore.monitoring.status import ViewStatus
    from featurestore.registry.log import LogEntry
    from featurestore.registry.tasks import TaskRecord


def status(context: typer.Context, *, view: Views = None) -> None:
    """Show how far views are online.

    And what became of the last run: one that is under way with its progress, one that was
    interrupted with what resumes it.
    """
    session = Session.of(context)
    with session.store() as store:
        found = store.status(views=view or None)
        now, project = store.clock.now_micros(), store.project
    if session.as_json:
        document = {"project": project, "now": _instant(now)}
        session.answer({**document, "views": [status_document(each) for each in found]})
        return
    if not found:
        session.note("No view is served online.")
        return
    headers = ["view", "generation", "state", "online up to", "age", "newest event", "last run"]
    headers += ["rows", "run"]
    rows = list(map(_row, found))
    if any(each.last_validation is not None for each in found):
        headers.append("contract")
        told = (last_validation_text(each.last_validation) for each in found)
        rows = [(*row, text) for row, text in zip(rows, told, strict=True)]
    print_table(session.out, headers, rows)
    for each in found:
        if each.served != each.generation and not each.is_held:
            session.note(
                f"{each.view}: generation {each.served} is served until {each.generation} is"
                f" materialized up to there"
            )
        if each.can_be_resumed:
            session.note(f"to go on: featurestore materialize --resume --view {each.view}")


def _row(status: "ViewStatus") -> tuple[object, ...]:
    from featurestore.cli.online import age_text

    last = status.last_run
    return (
        status.view,
        generation_text(served=status.served, newest=status.generation, kept=status.kept),
        status.situation,
        _instant(status.end_us),
        None if status.age_us is None else age_text(status.age_us),
        _instant(status.event_us),
        None if last is None else last.status,
        None if last is None else last.rows_written,
        None if status.task is None else _progress(status.task, status),
    )


def rollback(
    context: typer.Context,
    view: Annotated[
        str,
        typer.Argument(metavar="VIEW", help="The view.", autocompletion=complete_views),
    ],
) -> None:
    """Serve a view's former generation again.

    That is possible while the grace time after a change of the view's meaning lasts, and takes
    effect at once. The newest generation is held back until another rollback, or another change.
    """
    session = Session.of(context)
    with session.store() as store:
        serving, project = store.rollback(view), store.project
    kept = None if serving.kept_until is None else _instant_of(serving.kept_until)
    if session.as_json:
        document = {"project": project, "view": view, "served_generation": serving.generation}
        kept_document = {"kept_generation": serving.kept, "kept_until": kept}
        session.answer({**document, **kept_document, "held": serving.is_held})
        return
    session.out.write(
        f"{view}: generation {serving.generation} is served; {serving.kept} is written besides"
        f" until {kept}\n"
    )


def _progress(task: "TaskRecord", status: "ViewStatus") -> str:
    """Return how far a run is, and who runs it or why it ended."""
    done = task.done_chunks
    entities = sum(chunk.entities for chunk in done)
    chunks = f"{len(done)} of {len(task.chunks)} chunks, {entities:,} entities"
    text = chunks if task.chunks else "reading"
    if status.lease is not None:
        return f"{text}, by {status.lease.holder}"
    return f"{text}; {task.error or 'last seen ' + str(_instant_of(task.seen_at))}"


def status_document(status: "ViewStatus") -> dict[str, Any]:
    """Return where a view stands as JSON-ready data; times are RFC 3339."""
    last, task = status.last_run, status.task
    return {
        "view": status.view,
        "generation": status.generation,
        "served_generation": status.served,
        "kept_generation": status.kept,
        "kept_until": None if status.kept_until is None else _instant_of(status.kept_until),
        "held": status.is_held,
        "state": status.situation,
        "end": _instant(status.end_us),
        "newest_event": _instant(status.event_us),
        "age_s": None if status.age_us is None else status.age_us / 1e6,
        "last_run": None if last is None else run_document(last),
        "run": None if task is None else _task_document(task),
        "holder": None if status.lease is None else status.lease.holder,
        "can_be_resumed": status.can_be_resumed,
        "last_validation": last_validation(status.last_validation),
    }


def _task_document(task: "TaskRecord") -> dict[str, Any]:
    return {
        "kind": task.kind,
        "start": _instant(task.start_us),
        "end": _instant(task.end_us),
        "attempt": task.attempt,
        "began_at": _instant_of(task.began_at),
        "attempted_at": _instant_of(task.attempted_at),
        "seen_at": _instant_of(task.seen_at),
        "chunks": len(task.chunks),
        "chunks_done": len(task.done_chunks),
        "entities_done": sum(chunk.entities for chunk in task.done_chunks),
        "error": task.error,
    }


def history(
    context: typer.Context,
    *,
    view: Annotated[
        str | None,
        typer.Option(
            "--view",
            metavar="NAME",
            help="Only what happened to this view, also if it is gone.",
            autocompletion=complete_views,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="How many changes, and how many runs.")
    ] = 100,
) -> None:
    """Show what was applied, and runs.

    Who changed which definition when, and what was materialized; newest first.
    """
    session = Session.of(context)
    with session.store() as store:
        project = store.project
        changes = store.history(limit=limit, view=view)
        runs = store.registry.runs(project, view, limit=limit)
    if session.as_json:
        documents = {
            "changes": [entry.to_document() for entry in changes],
            "runs": [run_document(run) for run in runs],
        }
        session.answer({"project": project, **documents})
        return
    if not changes:
        what = f"Nothing was ever applied to project {project}."
        session.note(what if view is None else f"Project {project} never had a view {view}.")
    else:
        print_heading(session.out, "changes", apart=False)
        headers = ("revision", "at", "by", "change", "object", "impact")
        print_table(session.out, headers, map(_change_row, changes))
    if runs:
        print_heading(session.out, "runs", apart=bool(changes))
        print_table(session.out, RUN_HEADERS, map(run_row, runs))


def _change_row(entry: "LogEntry") -> tuple[object, ...]:
    document = entry.to_document()
    generations = (entry.generation_before, entry.generation_after)
    is_new = entry.action not in ("create", "delete") and generations[0] != generations[1]
    impact = f"{entry.impact}; generation {generations[0]} -> {generations[1]}"
    return (
        entry.revision,
        document["at"],
        entry.actor,
        entry.action,
        f"{entry.kind} {entry.name}",
        impact if is_new else entry.impact,
    )


def _instant(micros: int | None) -> str | None:
    from featurestore.time import from_micros

    return None if micros is None else _instant_of(from_micros(micros))


def _instant_of(at: Any) -> str:
    from featurestore.time import format_instant

    return format_instant(at)
