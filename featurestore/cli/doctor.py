"""`doctor`: is everything there that the project needs, and is it well?"""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from featurestore.cli import exits
from featurestore.cli.output import counted, listed, print_heading, print_table
from featurestore.cli.progress import progress
from featurestore.cli.session import Session
from featurestore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from featurestore.cli.checks import Check
    from featurestore.cli.progress import Report

_SIGNS: Final = {"ok": "ok", "warning": "WARNING", "error": "ERROR"}


def doctor(
    context: typer.Context,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what reads whole sources: counting ties.")
    ] = False,
) -> None:
    """Check all that the project needs.

    The installation, the settings, the server's certificate, the registry, the sources and the
    online store.

    Ends with 1 if something cannot work. Warnings may be meant so.
    """
    from featurestore.cli import checks

    session = Session.of(context)
    settings: list[dict[str, Any]] = []
    with progress(session, "views") as report:
        found = list(_checks(session, settings, count_ties=not quick, report=report))
    status = checks.worst(found)
    if session.as_json:
        session.answer(
            {
                "ok": status != "error",
                "status": status,
                "versions": checks.versions(),
                "settings": settings,
                "checks": [check.to_document() for check in found],
            }
        )
    else:
        _show(session, found, settings, checks.versions())
    if status == "error":
        raise typer.Exit(exits.ERROR)


def _checks(
    session: Session, settings: list[dict[str, Any]], *, count_ties: bool, report: "Report"
) -> "Iterator[Check]":
    """Yield all findings; settings are appended once they are known."""
    from featurestore.cli import certificates, checks
    from featurestore.store import FeatureStore

    try:
        store = FeatureStore(session.folder)
    except ConfigError as error:
        yield checks.failed("settings", error)
        return
    with store:
        settings += checks.settings(store.config)
        yield from checks.check_clock(store.clock)
        yield from checks.check_folders(store.config)
        yield from checks.guarded("certificate", lambda: certificates.check(store.config))
        registry = list(checks.guarded("registry", lambda: checks.check_registry(store)))
        yield from registry
        if checks.worst(registry) != "error":
            with session.foreign_code():
                yield from list(checks.check_functions(store))
            yield from checks.check_views(store, count_ties=count_ties, progress=report)
        yield from checks.guarded("online store", lambda: checks.check_online_store(store))


def _show(
    session: Session,
    found: "list[Check]",
    settings: list[dict[str, Any]],
    versions: dict[str, str | None],
) -> None:
    session.out.write(f"{listed(f'{name} {v}' for name, v in versions.items() if v)}\n")
    missing = listed(name for name, v in versions.items() if not v)
    session.out.write(f"not installed: {missing or 'nothing'}\n")
    rows = [(row["setting"], _value(row["value"]), row["origin"]) for row in settings]
    print_heading(session.out, "settings")
    print_table(session.out, ("setting", "value", "from"), rows)
    print_heading(session.out, "checks")
    headers = ("", "what", "found", "what to do")
    print_table(session.out, headers, (_row(check) for check in found))
    errors = sum(check.status == "error" for check in found)
    warnings = sum(check.status == "warning" for check in found)
    said = (counted(len(found), "check"), counted(errors, "error"), counted(warnings, "warning"))
    session.out.write(f"{listed(said)}\n")


def _row(check: "Check") -> tuple[object, ...]:
    return (_SIGNS[check.status], check.subject, check.detail, check.hint)


def _value(value: object) -> str:
    return listed(value) if isinstance(value, list) else "" if value is None else str(value)
