"""`plan`, `apply` and `history`: what is defined, what would change, what changed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featurestore.cli import exits
from featurestore.cli.leakage import note_findings
from featurestore.cli.output import print_plan
from featurestore.cli.session import Session

if TYPE_CHECKING:
    from featurestore.registry.plan import Plan
    from featurestore.store import FeatureStore


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
    """Show what apply would change."""
    from featurestore.cli import plan_file

    session = Session.of(context)
    with session.store() as store:
        made = _make_plan(session, store)
        note_findings(session, store, made)
    if out is not None:
        plan_file.save(made, out)
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
    """Register the repository's definitions.

    What would change is shown first, as plan shows it; then all of it is applied, or nothing.
    """
    from featurestore.cli import plan_file

    session = Session.of(context)
    with session.store() as store:
        made = _make_plan(session, store)
        if file is not None:
            plan_file.refuse_if_outdated(made, file)
        _show(session, made)
        note_findings(session, store, made)
        store.apply(made, allow_destroy=allow_destroy)
        waiting = [v.name for v in store.live_state().views.values() if v.is_pending]
    revision = made.base_revision + (not made.is_empty)
    if session.as_json:
        session.answer({**made.to_document(), "applied": not made.is_empty, "revision": revision})
    elif not made.is_empty:
        session.out.write(f"Applied: project {made.project} is at revision {revision}\n")
        for view in waiting:
            session.note(
                f"{view}: lookups read the generation from before until the new one is materialized"
            )


def _make_plan(session: Session, store: "FeatureStore") -> "Plan":
    with session.foreign_code():
        return store.plan()


def _show(session: Session, made: "Plan") -> None:
    from featurestore.registry.render import render_plan

    if not session.as_json:
        print_plan(session.out, render_plan(made))
