"""The command line as a whole: its commands, the options all of them take, and how it ends."""

import contextlib
import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from featurestore.cli import (
    datasets,
    definitions,
    description,
    doctor,
    exits,
    explanation,
    failures,
    garbage,
    health,
    keys,
    leakage,
    listing,
    materialization,
    online,
    spines,
    start,
    status,
    training,
    validation,
    verification,
    writes,
)
from featurestore.cli.session import Session, UsageError
from featurestore.errors import FeatureStoreError

PROGRAM: Final = "featurestore"
EPILOG: Final = f"""
Global options may stand before or after the command. Exit codes:

\b
{exits.table()}
"""
_DISK_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_SHARED: Final = ("repo", "as_json", "debug", "quiet", "verbose")
"""Options of the whole program that every command takes too."""


def options(
    context: typer.Context,
    *,
    repo: Annotated[
        Path | None,
        typer.Option(
            "--repo",
            metavar="PATH",
            help="Folder of feature_store.yaml [default: $FEATURESTORE_REPO, else this folder].",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document to standard output.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress, no notes: results and errors.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, show_default=False, help="Show the log (-vv: more)."
        ),
    ] = 0,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Define features once; train on them and serve them with the same values."""
    del repo, as_json, debug, quiet, verbose  # every command takes these: see _remember
    session = Session.of(context)
    if version:
        _print_version(session)
        raise typer.Exit
    if context.invoked_subcommand is None:
        if session.as_json:
            raise UsageError("There is no command.")
        sys.stderr.write(f"{context.get_help()}\n")
        raise typer.Exit(exits.USAGE)


def _print_version(session: Session) -> None:
    from featurestore import __version__

    if session.as_json:
        session.answer({"version": __version__})
    else:
        session.out.write(f"{PROGRAM} {__version__}\n")


COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "init": start.init,
    "plan": definitions.plan,
    "apply": definitions.apply,
    "history": status.history,
    "list": listing.list_objects,
    "describe": description.describe,
    "get-historical": training.get_historical,
    "explain": explanation.explain,
    "materialize": materialization.materialize,
    "materialize-incremental": materialization.materialize_incremental,
    "status": status.status,
    "push": writes.push,
    "delete-entity": writes.delete_entity,
    "rollback": status.rollback,
    "gc": garbage.gc,
    "teardown": garbage.teardown,
    "get-online": online.get_online,
    "serve": online.serve,
    "health": health.health,
    "verify": verification.verify,
    "validate": validation.validate,
    "lint": leakage.lint,
    "doctor": doctor.doctor,
}


GROUPS: Final[dict[str, tuple[str, dict[str, Callable[..., None]]]]] = {
    "dataset": (
        "Keep training sets, verify them, make them again.",
        {
            "create": datasets.create,
            "list": datasets.list_datasets,
            "describe": datasets.describe,
            "verify": datasets.verify,
            "rebuild": datasets.rebuild,
            "tidy": datasets.tidy,
        },
    ),
    "keys": (
        "Make, list and revoke the keys of callers.",
        {"create": keys.create, "list": keys.list_keys, "revoke": keys.revoke},
    ),
    "spine": (
        "Make spines: whose features, as of when; labels.",
        {"events": spines.events, "grid": spines.grid, "label": spines.label},
    ),
}
"""Commands of two words: the first, what all of them are about, and those that follow it."""


_PLAIN: Final[dict[str, Any]] = {
    "rich_markup_mode": None,  # rich help would cost 300 ms before its first letter
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["--help", "-h"], "max_content_width": 100},
}


@functools.cache
def make_program() -> TyperGroup:
    """Return the program, ready to run again and again."""
    app = typer.Typer(**_PLAIN)
    app.callback(invoke_without_command=True, epilog=EPILOG)(options)
    for name, function in COMMANDS.items():
        app.command(name)(function)
    for name, (about, functions) in GROUPS.items():
        group = typer.Typer(**_PLAIN, help=about)
        for second, function in functions.items():
            group.command(second)(function)
        app.add_typer(group, name=name)
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)  # noqa: S101 - it has commands
    _share_options(program)
    return program


def _share_options(program: TyperGroup) -> None:
    """Let every command take the global options, so that they may also follow its name."""
    shared = [param for param in program.params if param.name in _SHARED]
    for param in shared:
        param.expose_value = False
        param.callback = _remember
    for command in _commands(program):
        command.params.extend(shared)


def _commands(group: TyperGroup) -> Iterator[Any]:
    for command in group.commands.values():
        yield command
        if isinstance(command, TyperGroup):
            yield from _commands(command)


def _remember(context: Any, param: Any, value: Any) -> Any:
    if value and isinstance(context.obj, Session):
        setattr(context.obj, param.name, value)
        _show_log(context.obj.verbose)
    return value


def _show_log(verbose: int) -> None:
    if verbose:
        import logging

        level = logging.INFO if verbose == 1 else logging.DEBUG
        form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        logging.basicConfig(stream=sys.stderr, level=level, format=form, force=True)


def main() -> int:
    """Run the command of this process; SIGTERM ends it as cleanly as Ctrl-C does."""
    session = Session()

    def stop(_number: int, _frame: FrameType | None) -> None:
        session.stop_code = exits.TERMINATED
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal cannot show is no reason to fail.
        getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
    try:
        return run(sys.argv[1:], session)
    except KeyboardInterrupt:  # while the end of the command was being reported
        return session.stop_code


def run(arguments: Sequence[str], session: Session) -> int:
    """Run one command and return its exit code; no error leaves it."""
    code = _run(arguments, session)
    try:
        session.out.flush()
    except OSError as error:
        code = _output_lost(session, error)
    return code


def _run(arguments: Sequence[str], session: Session) -> int:
    try:
        code = make_program().main(
            list(arguments), prog_name=PROGRAM, standalone_mode=False, obj=session
        )
    except SystemExit as error:  # completion scripts end so, and whoever prints into a closed pipe
        return _code_of(error)
    except Exception as error:  # noqa: BLE001 - no traceback for anybody who did not ask for one
        session.as_json = session.as_json or "--json" in arguments
        return _report(session, error)
    if code == exits.INTERRUPTED:
        return failures.report_interruption(session)
    return code if isinstance(code, int) else exits.OK


def _report(session: Session, error: Exception) -> int:
    if isinstance(error, FeatureStoreError):
        return failures.report_error(session, error)
    if isinstance(error, typer.TyperException):
        return failures.report_usage(session, error)
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS and error.filename is None:
        return _output_lost(session, error)
    return failures.report_bug(session, error)


def _code_of(error: SystemExit) -> int:
    cause = error.__context__
    while cause is not None:
        if isinstance(cause, BrokenPipeError):
            return exits.BROKEN_PIPE
        cause = cause.__context__
    return error.code if isinstance(error.code, int) else exits.ERROR if error.code else exits.OK


def _output_lost(session: Session, error: OSError) -> int:
    """Let go of a standard output that takes nothing; the end of the process must not fail too."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, session.out.fileno())
        os.close(nowhere)
    if isinstance(error, BrokenPipeError):
        return exits.BROKEN_PIPE
    return failures.report_output_lost(session, error)
