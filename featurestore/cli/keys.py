"""`keys create`, `list`, `revoke`: who may call the server."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli.output import listed, print_table
from featurestore.cli.session import Session, UsageError

if TYPE_CHECKING:
    from datetime import timedelta

    from featurestore.access import KeyRecord


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What logs and people call the key.")],
    *,
    role: Annotated[
        list[str],
        typer.Option(
            "--role",
            metavar="ROLE",
            help="read_online, read_offline, write or admin; may be repeated.",
        ),
    ],
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service",
            metavar="NAME",
            help="The only feature service that it may read; may be repeated [default: all].",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="DURATION", help="How long it is good for, as in 90d."),
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(
            "--certificate",
            metavar="NAME",
            help="No key: who has a client certificate with this name is meant.",
        ),
    ] = None,
) -> None:
    """Make a key and print it, this once: only a hash of it is kept.

    Clients send it as `authorization: Bearer KEY`. Servers with `auth: api_keys` accept it when
    they next look (`server.reload_every_ms`).
    """
    session = Session.of(context)
    with session.store() as store:
        made = store.api_keys.create(
            name,
            roles=role,
            services=service or (),
            expires_in=_duration(expires),
            certificate=certificate,
        )
    if session.as_json:
        session.answer({"key": made.token, **_document(made.record)})
    elif made.token is not None:
        session.out.write(f"{made.token}\n")
        session.note("Keep it: it cannot be shown again.")
    else:
        session.note(f"Certificates of {certificate!r} are accepted.")


def _duration(text: str | None) -> "timedelta | None":
    from featurestore.time import parse_duration

    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--expires: {error}.") from None


def list_keys(context: typer.Context) -> None:
    """Show all keys, without what could be used in their place."""
    session = Session.of(context)
    with session.store() as store:
        keys = store.api_keys.list()
    if session.as_json:
        session.answer({"keys": [_document(key) for key in keys]})
        return
    if not keys:
        session.out.write("There are no keys.\n")
        return
    headers = ("name", "id", "grants", "certificate", "state", "expires", "created", "by")
    print_table(session.out, headers, map(_row, keys))


def revoke(
    context: typer.Context,
    name_or_id: Annotated[str, typer.Argument(metavar="NAME|ID", help="Which key.")],
) -> None:
    """Put a key out of force, for good.

    Servers that run stop accepting it when they next look (`server.reload_every_ms`).
    """
    session = Session.of(context)
    with session.store() as store:
        key = store.api_keys.revoke(name_or_id)
    if session.as_json:
        session.answer(_document(key))
    else:
        session.out.write(f"Revoked {key.name}, id {key.id}.\n")


def _state(key: "KeyRecord") -> str:
    from datetime import UTC, datetime

    from featurestore.time import to_micros

    if key.revoked_us is not None:
        return "revoked"
    now_us = to_micros(datetime.now(UTC))
    return "expired" if key.expires_us is not None and key.expires_us <= now_us else "in force"


def _row(key: "KeyRecord") -> tuple[object, ...]:
    grants = listed(sorted(map(str, key.grants)))
    when = (_instant(key.expires_us), _instant(key.created_us))
    return (key.name, key.id, grants, key.certificate, _state(key), *when, key.created_by)


def _document(key: "KeyRecord") -> dict[str, Any]:
    """Return a key as `--json` prints it: not even the hash."""
    return {
        "id": key.id,
        "name": key.name,
        "state": _state(key),
        "certificate": key.certificate,
        "grants": [
            {"role": str(grant.permission), "service": grant.service}
            for grant in sorted(key.grants, key=str)
        ],
        "created": _instant(key.created_us),
        "created_by": key.created_by,
        "expires": _instant(key.expires_us),
        "revoked": _instant(key.revoked_us),
        "revoked_by": key.revoked_by,
    }


def _instant(micros: int | None) -> str | None:
    from featurestore.time import format_instant, from_micros

    return None if micros is None else format_instant(from_micros(micros))
