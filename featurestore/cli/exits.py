"""Exit codes: one table, printed by `featurestore --help`."""

from typing import Final

OK: Final = 0
ERROR: Final = 1
USAGE: Final = 2
CHANGES: Final = 3
BUG: Final = 70
RETRY: Final = 75
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
TERMINATED: Final = 143

MEANINGS: Final = {
    OK: "success",
    ERROR: "an error; verify found a defect; doctor an error; health no server that takes calls",
    USAGE: "the command line itself is wrong",
    CHANGES: "plan --detailed-exitcode: there is something to apply",
    BUG: "a defect of featurestore itself; run again with --debug",
    RETRY: "a passing error: the same command may succeed later",
    INTERRUPTED: "interrupted (Ctrl-C)",
    BROKEN_PIPE: "whoever read the output stopped reading",
    TERMINATED: "terminated (SIGTERM)",
}


def table() -> str:
    """Return the codes and what they mean, a line for each."""
    return "\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANINGS.items())
