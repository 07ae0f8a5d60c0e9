"""`explain`: why a feature has its value."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli import exits
from featurestore.cli.features import FeaturesArgument, feature_request
from featurestore.cli.session import Session
from featurestore.cli.training import Mode

if TYPE_CHECKING:
    from featurestore.explanation.model import Explanation
    from featurestore.registry.state import RegistryState


def explain(
    context: typer.Context,
    features: FeaturesArgument,
    *,
    entity: Annotated[
        str,
        typer.Option(
            "--entity",
            "-e",
            metavar="KEY=VALUE,...",
            help="Whose features: user_id=42, or origin=JFK,dest=LAX, or a JSON object.",
        ),
    ] = "",
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="INSTANT", help="The moment, RFC 3339 [default: now]."),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option("--mode", help="as_served: only rows that had been written by then."),
    ] = Mode.COMPLETE,
    request: Annotated[
        str,
        typer.Option(
            "--request",
            metavar="FIELD=VALUE,...",
            help="Request fields of on-demand features: amount=9.5, or a JSON object.",
        ),
    ] = "",
    online: Annotated[
        bool, typer.Option("--online", help="Set the online store's values beside it.")
    ] = False,
    rows: Annotated[
        int, typer.Option("--rows", "-n", min=0, help="List so many rows of each window.")
    ] = 10,
) -> None:
    """Explain why features have their values.

    It names the row that answers, or the rows of a window, the rule that chose, and what was passed
    over and why. Rows of files are counted from 0.

    Ends with 1 if the explanation does not add up: if the value of a training set is not that of
    its rows, or the online value differs without an excuse.
    """
    session = Session.of(context)
    asked = feature_request(features)
    with session.store() as store, session.foreign_code():
        keys, fields = _given(asked, store.state(), entity, request)
        found = store.explain(
            asked,
            keys,
            at=at,
            mode=mode.value,
            request=fields,
            online=online,
            max_rows=rows,
        )
    _show(session, found)
    if not found.ok:
        raise typer.Exit(exits.ERROR)


def _given(
    asked: str | list[str], state: "RegistryState", entity: str, request: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the entity and the request fields, read as what they are declared to be."""
    from featurestore.cli.values import entity_row
    from featurestore.explanation.question import key_types, request_types
    from featurestore.training.query import selections_of

    chosen = list(selections_of(asked, state))
    keys = {name: types[0] for name, types in key_types(chosen).items()}
    fields = {name: types[0] for name, types in request_types(chosen).items()}
    return (
        entity_row(entity, keys, row=0),
        entity_row(request, fields, row=0, option="--request"),
    )


def _show(session: Session, found: "Explanation") -> None:
    if session.as_json:
        session.answer(found.to_document())
    else:
        session.out.write(f"{found}\n")
