"""Exit codes: one table, printed by `featurestore --help`."""

from typing import Final

from featurestore.errors import FeatureStoreError

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
    ERROR: "an error; verify, lint or explain found a defect; dataset verify damage; dataset"
    " rebuild a difference; validate a broken rule; doctor an error; health no server that takes"
    " calls",
    USAGE: "the command line itself is wrong",
    CHANGES: "plan --detailed-exitcode: there is something to apply",
    BUG: "a defect of featurestore itself; run again with --debug",
    RETRY: "a passing error: the same command may succeed later",
    INTERRUPTED: "interrupted (Ctrl-C)",
    BROKEN_PIPE: "whoever read the output stopped reading",
    TERMINATED: "terminated (SIGTERM)",
}


def code_for(kind: type[FeatureStoreError]) -> int:
    """Return what a command ends with that fails with an error of this class.

    Scripts tell what may pass by itself from what somebody has to look at; the class is in the
    document that `--json` prints.
    """
    return RETRY if kind.retryable else ERROR


def table() -> str:
    """Return the codes and what they mean, a line for each."""
    return "\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANINGS.items())
