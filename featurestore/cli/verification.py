"""`verify`: does serving return what training would see?"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli import exits
from featurestore.cli.leakage import OptionalFeatures, verify_leakage
from featurestore.cli.output import listed, print_heading, print_table
from featurestore.cli.progress import progress
from featurestore.cli.session import Session, UsageError
from featurestore.cli.training import KnownBy, Mode, Spine, TimeColumn, Zone
from featurestore.cli.views import Views

if TYPE_CHECKING:
    from featurestore.monitoring.verify import Difference, VerificationReport, ViewVerification


def verify(
    context: typer.Context,
    *,
    view: Views = None,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Compare at most so many entities of a view.")
    ] = 10_000,
    everything: Annotated[bool, typer.Option("--all", help="Compare all entities.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses the sample.")] = 0,
    leakage: Annotated[
        bool, typer.Option("--leakage", help="Instead test that no feature sees the future.")
    ] = False,
    features: OptionalFeatures = None,
    spine: Spine = None,
    points: Annotated[
        int, typer.Option("--points", min=1, max=1_000, help="Of --leakage: spine rows.")
    ] = 60,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, max=10_000, help="Of --leakage: how often to mutate.")
    ] = 9,
    mode: KnownBy = Mode.COMPLETE,
    timestamp_field: TimeColumn = "event_timestamp",
    timezone: Zone = "UTC",
) -> None:
    """Compare online with offline, or find leaks.

    Every value in the online store with the one that training would see; with --leakage the values
    at some spine rows with those that they have after all is changed that they must not see.

    Ends with 1 if anything differs without an excuse, or if there was nothing to compare.
    """
    session = Session.of(context)
    if leakage:
        if view or everything:
            raise UsageError("--leakage goes with --features, not with --view or --all.")
        verify_leakage(
            session,
            features=features,
            spine=spine,
            arguments={
                "points": points,
                "rounds": rounds,
                "seed": seed,
                "mode": mode.value,
                "timestamp_field": timestamp_field,
                "timezone": timezone,
            },
        )
        return
    if features or spine is not None:
        raise UsageError("--features and --spine go with --leakage.")
    with session.store() as store, progress(session, "entities") as report:
        result = store.verify(
            views=view or None,
            sample=None if everything else sample,
            seed=seed,
            progress=report,
        )
    if session.as_json:
        session.answer(_document(result))
    else:
        _show(session, result)
    if not result.ok:
        raise typer.Exit(exits.ERROR)


def _show(session: Session, result: "VerificationReport") -> None:
    categories = sorted({name for view in result.views for name in view.differences})
    headers = ("view", "up to", "entities", "values", "equal", *categories)
    print_table(session.out, headers, (_row(view, categories) for view in result.views))
    examples = [(view.view, each) for view in result.views for each in view.examples]
    if examples:
        print_heading(session.out, "examples")
        headers = ("view", "entity", "feature", "offline", "online", "because of")
        print_table(session.out, headers, (_example_row(*pair) for pair in examples))
    session.out.write(f"{_verdict(result)}\n")


def _row(view: "ViewVerification", categories: list[str]) -> tuple[object, ...]:
    counts = [view.differences.get(category, 0) for category in categories]
    equal = view.cells - sum(view.differences.values())
    end = view.end or "never materialized"
    return (view.view, end, view.entities, view.cells, equal, *counts)


def _example_row(view: str, difference: "Difference") -> tuple[object, ...]:
    from featurestore.cli.values import plain_json, text

    return (
        view,
        listed(f"{key}={text(plain_json(value))}" for key, value in difference.entity.items()),
        difference.feature,
        text(plain_json(difference.offline)),
        text(plain_json(difference.online)),
        difference.category,
    )


def _verdict(result: "VerificationReport") -> str:
    if not result.cells:
        return "Nothing was compared: no view has been materialized yet (featurestore materialize)."
    if result.defects:
        return f"{result.defects:,} of {result.cells:,} values differ without an excuse."
    return f"{result.cells:,} values compared: none differs without an excuse."


def _document(result: "VerificationReport") -> dict[str, Any]:
    return {
        "ok": result.ok,
        "values": result.cells,
        "defects": result.defects,
        "verdict": _verdict(result),
        "views": [_view_document(view) for view in result.views],
    }


def _view_document(view: "ViewVerification") -> dict[str, Any]:
    return {
        "view": view.view,
        "end": view.end,
        "entities": view.entities,
        "values": view.cells,
        "differences": dict(view.differences),
        "examples": [_example(difference) for difference in view.examples],
    }


def _example(difference: "Difference") -> Mapping[str, Any]:
    from featurestore.cli.values import plain_json

    return {
        "entity": {key: plain_json(value) for key, value in difference.entity.items()},
        "feature": difference.feature,
        "offline": plain_json(difference.offline),
        "online": plain_json(difference.online),
        "category": difference.category,
    }
