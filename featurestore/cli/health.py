"""`health`: whether a server takes calls, for those who start and watch it."""

from typing import Annotated

import typer

from featurestore.cli import exits
from featurestore.cli.online import find_server
from featurestore.cli.session import Session


def health(
    context: typer.Context,
    *,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="Where the server listens [default: of feature_store.yaml].",
        ),
    ] = None,
    service: Annotated[
        str,
        typer.Option(
            "--service",
            metavar="NAME",
            help="featurestore.v1.ServingService, which needs the online store; without it, the"
            " server as a whole.",
        ),
    ] = "",
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.001, help="Seconds to wait for an answer.")
    ] = 3.0,
) -> None:
    """Ask a server whether it takes calls.

    Ends with 0 if it does, and with 1 if it does not or cannot be reached.
    """
    session = Session.of(context)
    server = find_server()
    found = server.check_health(
        address or _configured_address(session), service=service, timeout_s=timeout
    )
    if session.as_json:
        facts = ("address", "service", "status", "detail")
        session.answer({name: getattr(found, name) for name in facts})
    else:
        session.out.write(f"{found}\n")
    if not found.is_serving:
        raise typer.Exit(exits.ERROR)


def _configured_address(session: Session) -> str:
    from featurestore.config import load_config

    return load_config(session.folder).settings.server.address
