"""From an error to what is printed and to an exit code: one line, a hint, never a traceback."""

import traceback
from collections.abc import Mapping
from typing import Any

import typer

from featurestore.cli import exits
from featurestore.cli.output import one_line
from featurestore.cli.session import Session
from featurestore.errors import FeatureStoreError


def report_error(session: Session, error: FeatureStoreError) -> int:
    """Report an error that was raised on purpose."""
    _report(session, error_document(error), error)
    return exits.code_for(type(error))


def error_document(error: FeatureStoreError) -> dict[str, Any]:
    """Return an error as `--json` prints it."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "facts": _facts(error),
    }


def report_usage(session: Session, error: typer.TyperException) -> int:
    """Report a command line that cannot be understood."""
    message, hint = _usage(error)
    _report(session, _plain("UsageError", message, hint), error)
    return exits.USAGE


def report_bug(session: Session, error: Exception) -> int:
    """Report an error that nobody expected."""
    text = one_line(str(error))[:500]
    message = f"{type(error).__name__}{f': {text}' if text else ''}"
    hint = "this is a defect of featurestore; run again with --debug to see where it happened"
    _report(session, _plain("InternalError", message, hint), error)
    return exits.BUG


def report_output_lost(session: Session, error: OSError) -> int:
    """Report that standard output cannot be written; a document there would be lost too."""
    session.answered = True
    message = f"Standard output cannot be written: {error.strerror or error}."
    _report(session, _plain("OutputError", message, None), error)
    return exits.ERROR


def report_interruption(session: Session) -> int:
    """Report that somebody stopped the command."""
    what = "terminated" if session.stop_code == exits.TERMINATED else "interrupted"
    _report(session, _plain("Interrupted", what, None), None)
    return session.stop_code


def _plain(kind: str, message: str, hint: str | None) -> dict[str, Any]:
    return {"type": kind, "message": message, "hint": hint, "retryable": False, "facts": {}}


def _report(session: Session, error: Mapping[str, Any], cause: BaseException | None) -> None:
    if session.debug and cause is not None:
        session.err.writelines(traceback.format_exception(cause))
    session.err.write(f"error: {one_line(error['message'])}\n")
    if error["hint"]:
        session.err.write(f"hint: {one_line(error['hint'])}\n")
    session.err.flush()
    if session.as_json and not session.answered:
        session.answer({"error": error})


def _facts(error: FeatureStoreError) -> dict[str, Any]:
    """Return what an error knows beside its message, as JSON."""
    known = {key: value for key, value in vars(error).items() if key not in ("message", "hint")}
    return {key: _plain_value(value) for key, value in known.items() if not key.startswith("_")}


def _plain_value(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain_value(item) for item in value]
    return str(value)


def _usage(error: typer.TyperException) -> tuple[str, str | None]:
    """Return what is wrong with the command line, and what may have been meant."""
    close = getattr(error, "possibilities", None)
    if close:
        return error.message, f"did you mean {' or '.join(close)}?"
    message, _, guess = error.format_message().partition(" Did you mean ")
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else None
    return message.replace("Value error, ", ""), f"did you mean {guess}" if guess else hint
