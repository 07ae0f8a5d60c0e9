"""`plan`, `apply` and `history`: what is defined, what would change, what changed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from featurestore.cli import exits
from featurestore.cli.output import print_plan, print_table
from featurestore.cli.session import Session
from featurestore.errors import OutputError, RequestError

if TYPE_CHECKING:
    from featurestore.registry.log import LogEntry
    from featurestore.registry.plan import Plan
    from featurestore.store import FeatureStore

MAX_PLAN_BYTES: Final = 256 << 20


def plan(
    context: typer.Context,
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Save the plan for `apply FILE`."),
    ] = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option("--detailed-exitcode", help=f"End with {exits.CHANGES} if there are changes."),
    ] = False,
) -> None:
    """Show what `apply` would change; nothing is changed."""
    session = Session.of(context)
    with session.store() as store:
        made = _make_plan(session, store)
    if out is not None:
        _save(made, out)
    _show(session, made)
    if session.as_json:
        session.answer(made.to_document())
    if detailed_exitcode and not made.is_empty:
        raise typer.Exit(exits.CHANGES)


def apply(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="What `plan --out FILE` saved: apply just that, or nothing if it is out of date.",
            show_default=False,
        ),
    ] = None,
    *,
    allow_destroy: Annotated[
        bool, typer.Option("--allow-destroy", help="Delete what is no longer defined.")
    ] = False,
) -> None:
    """Make the registry agree with the repository's definitions."""
    session = Session.of(context)
    with session.store() as store:
        made = _make_plan(session, store)
        if file is not None:
            _refuse_if_outdated(made, file)
        _show(session, made)
        store.apply(made, allow_destroy=allow_destroy)
    revision = made.base_revision + (not made.is_empty)
    if session.as_json:
        session.answer({**made.to_document(), "applied": not made.is_empty, "revision": revision})
    elif not made.is_empty:
        session.out.write(f"Applied: project {made.project} is at revision {revision}\n")


def _make_plan(session: Session, store: "FeatureStore") -> "Plan":
    with session.foreign_code():
        return store.plan()


def _show(session: Session, made: "Plan") -> None:
    from featurestore.registry.render import render_plan

    if not session.as_json:
        print_plan(session.out, render_plan(made))


def _save(made: "Plan", file: Path) -> None:
    try:
        file.write_text(f"{made.to_json()}\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror or error}.") from None


def _refuse_if_outdated(made: "Plan", file: Path) -> None:
    """Refuse to apply anything but what the file says.

    Raises:
        RequestError: The file is no plan, or the plan made now is another one.
    """
    saved, now = _saved_plan(file), json.loads(made.to_json())
    if saved == now:
        return
    differing = [_subject(change) for change in _only_in_one(saved["changes"], now["changes"])]
    what = f"it differs in {', '.join(differing[:5])}" if differing else _revisions(saved, now)
    raise RequestError(
        f"The plan in {file} is out of date: {what}; nothing was applied.",
        hint=f"look at what would change now: featurestore plan --out {file}",
    )


def _saved_plan(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_PLAN_BYTES:
            raise RequestError(f"{file} is larger than {MAX_PLAN_BYTES:,} bytes: it is no plan.")
        saved = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        saved = None
    changes = saved.get("changes") if isinstance(saved, dict) else None
    if not isinstance(changes, list) or not all(isinstance(c, dict) for c in changes):
        raise RequestError(f"{file} is no plan.", hint="make one with featurestore plan --out FILE")
    return dict(saved)


def _only_in_one(saved: list[Any], now: list[Any]) -> list[Mapping[str, Any]]:
    return [c for c in saved if c not in now] + [c for c in now if c not in saved]


def _subject(change: Mapping[str, Any]) -> str:
    return f"{change.get('kind')} {change.get('name')}"


def _revisions(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    revision = saved.get("base_revision")
    return f"it was made for revision {revision}, and the registry is at {now['base_revision']}"


def history(
    context: typer.Context,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many changes.")] = 100,
) -> None:
    """Show who applied what and when, newest first."""
    session = Session.of(context)
    with session.store() as store:
        project, entries = store.project, store.history(limit=limit)
    if session.as_json:
        session.answer({"project": project, "changes": [e.to_document() for e in entries]})
    elif entries:
        headers = ("revision", "at", "by", "change", "object", "impact")
        print_table(session.out, headers, map(_history_row, entries))
    else:
        session.note(f"Nothing was ever applied to project {project}.")


def _history_row(entry: "LogEntry") -> tuple[object, ...]:
    document = entry.to_document()
    generations = (entry.generation_before, entry.generation_after)
    is_new = entry.action == "update" and generations[0] != generations[1]
    impact = f"{entry.impact}; generation {generations[0]} -> {generations[1]}"
    return (
        entry.revision,
        document["at"],
        entry.actor,
        entry.action,
        f"{entry.kind} {entry.name}",
        impact if is_new else entry.impact,
    )
