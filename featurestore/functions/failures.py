"""What went wrong in users' code, in one line: for the person who runs it, not for the network."""

from pathlib import Path

MAX_REASON = 200


def reason_of(error: BaseException, file: Path) -> str:
    """Return the exception's class, its first line, and the line of `file` where it was raised."""
    lines = str(error).splitlines()
    text = f"{type(error).__name__}{f': {lines[0][:MAX_REASON]}' if lines else ''}"
    line = _line(error, file)
    return f"{text.rstrip('.')}{f' ({file.name}, line {line})' if line else ''}"


def _line(error: BaseException, file: Path) -> int | None:
    if isinstance(error, SyntaxError):
        return None  # its text names the line
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
