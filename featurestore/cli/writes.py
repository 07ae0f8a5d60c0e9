"""`push`, `delete-entity`: what applications write, from the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli import exits
from featurestore.cli.completion import complete_views
from featurestore.cli.failures import error_document
from featurestore.cli.output import listed, print_facts, print_table
from featurestore.cli.session import Session
from featurestore.errors import FeatureStoreError

if TYPE_CHECKING:
    from featurestore.materialize.delete import DeletionReport
    from featurestore.materialize.push import PushReport
    from featurestore.registry.generations import LiveView


def push(
    context: typer.Context,
    view: Annotated[
        str,
        typer.Argument(
            metavar="VIEW", help="A view that is served online.", autocompletion=complete_views
        ),
    ],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Rows of the view's source: .parquet, .csv with a header, or .jsonl; - reads JSON"
            " lines from standard input.",
        ),
    ],
    *,
    append: Annotated[
        bool,
        typer.Option("--append", help="Add the rows to the source, too, as a new file."),
    ] = False,
) -> None:
    """Write rows into the online store.

    Rows have the columns of the source's files, and are treated as those. The newest row of an
    entity wins. All are checked before the first is written.
    """
    from featurestore.cli.row_files import read_rows
    from featurestore.materialize.pushed_rows import column_types

    session = Session.of(context)
    with session.store() as store:
        served = store.live_state().view(view).served
        types = column_types(served.definition, store.config.root)
        report = store.push(view, read_rows(file, types), append=append)
    if session.as_json:
        session.answer(_pushed(report))
    else:
        always = {"view": report.view, "rows": report.rows, "written": report.written}
        counts = {name: getattr(report, name) for name in ("kept", "filtered", "expired")}
        more = {name: count for name, count in counts.items() if count}
        print_facts(session.out, {**always, **more, "file": report.file})
    for generation, reason in report.missed.items():
        session.note(
            f"note: generation {generation}, which lookups do not read, took none: {reason}"
        )


def _pushed(report: "PushReport") -> dict[str, Any]:
    file = None if report.file is None else str(report.file)
    names = ("view", "rows", "written", "kept", "filtered", "expired")
    missed = {str(generation): reason for generation, reason in report.missed.items()}
    return {name: getattr(report, name) for name in names} | {"file": file, "missed": missed}


def delete_entity(
    context: typer.Context,
    *,
    entity: Annotated[
        list[str],
        typer.Option(
            "--entity",
            "-e",
            metavar="KEY=VALUE,...",
            help="Who: user_id=42, or a JSON object; may be repeated.",
        ),
    ],
    view: Annotated[
        list[str] | None,
        typer.Option(
            "--view",
            metavar="NAME",
            help="Only this view; may be repeated [default: all online that have these keys].",
            autocompletion=complete_views,
        ),
    ] = None,
) -> None:
    """Delete entities from the online store.

    Lookups do not find them any more, and older rows cannot bring them back; sources are not
    touched. One after the other; what was deleted before one that fails is said. Ends with 1 if a
    row of a later time than now stays.
    """
    from featurestore.cli.values import entity_row

    session = Session.of(context)
    reports: list[DeletionReport] = []
    with session.store() as store:
        types = _key_types(store.live_state().online_views(view or None))
        entities = [entity_row(text, types, row=row) for row, text in enumerate(entity)]
        try:
            for each in entities:
                reports.append(store.delete_entity(each, views=view or None))  # noqa: PERF401 - see except
        except FeatureStoreError as error:
            if reports:
                _show_unfinished(session, entity, reports, error)
            raise
    if session.as_json:
        session.answer(_document(entity, reports))
    else:
        _show_deletions(session, entity, reports)
    if any(report.kept for report in reports):
        raise typer.Exit(exits.ERROR)


def _key_types(views: Sequence["LiveView"]) -> dict[str, str]:
    """Return the types of the keys by which lookups find rows now."""
    from featurestore.types import type_name

    served = [view.served.definition for view in views]
    keys = {name: dtype for view in served for name, dtype in view.join_keys.items()}
    return {name: type_name(dtype) for name, dtype in keys.items()}


def _show_unfinished(
    session: Session,
    entities: Sequence[str],
    reports: Sequence["DeletionReport"],
    error: FeatureStoreError,
) -> None:
    """Say what was deleted before an entity that failed; whoever runs commands says why."""
    done, failed = entities[: len(reports)], entities[len(reports)]
    if session.as_json:
        session.answer({**_document(done, reports), "error": error_document(error)})
        return
    _show_deletions(session, done, reports)
    session.note(f"note: it ended at {failed}: this entity and those after it may still be there")


def _document(entities: Sequence[str], reports: Sequence["DeletionReport"]) -> dict[str, Any]:
    return {"entities": list(map(_deleted, entities, reports))}


def _deleted(entity: str, report: "DeletionReport") -> dict[str, Any]:
    return {
        "entity": entity,
        "deleted": list(report.deleted),
        "kept": list(report.kept),
        "skipped": {view: list(keys) for view, keys in report.skipped.items()},
    }


def _show_deletions(
    session: Session, entities: Sequence[str], reports: Sequence["DeletionReport"]
) -> None:
    rows: list[tuple[str, str, str]] = []
    for entity, report in zip(entities, reports, strict=True):
        rows += [(entity, view, "deleted") for view in report.deleted]
        rows += [(entity, view, "a row of a later time than now stays") for view in report.kept]
        rows += [
            (entity, view, f"not looked at: has the join key {listed(keys)}, too")
            for view, keys in report.skipped.items()
        ]
    print_table(session.out, ("entity", "view", "result"), rows)
