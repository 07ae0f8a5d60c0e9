"""Writes docs/errors.md from the table of errors.

python -m tests.server.error_page
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from featurestore_server import errors as server
from featurestore_server.errors import ANSWERS, Answer

from featurestore import errors as core
from featurestore.cli import exits

PAGE: Final = Path(__file__).parents[2] / "docs" / "errors.md"
MODULES: Final = {core.__name__, server.__name__}

WITHOUT_A_ROW: Final = {
    core.ConfigError: "correct `feature_store.yaml`, or the variable, that the message names",
    core.DatasetError: "see the message: it names the dataset",
    core.DatasetExistsError: "choose another name: one that differs only by case is taken",
    core.DatasetDamagedError: "see [datasets](datasets.md): restore its files, or create it again",
    core.DatasetChangedError: "see [datasets](datasets.md): put back what it was made from",
    core.MissingExtraError: "install what the hint says",
    core.ContractError: "see [contracts](contracts.md): correct the data, or the rule",
    core.VerificationError: "see [verify](semantics.md): something is served that is not right",
    server.ServeError: "see the message: it names the address, or the worker's log says more",
}
"""What nobody who calls a server meets: the command line, or who uses the library, does."""

HEAD: Final = """\
# Errors

Every error that is raised on purpose is a `FeatureStoreError` (`featurestore.errors`, drawn there
as a tree). One table says what each becomes for whoever does not get the exception itself. This
page is made from that table; a test compares them, and another one sends every row through a
server.

- **gRPC**: a `google.rpc.Status` with an ErrorInfo (domain `featurestore`, the reason,
  suggestions), BadRequest with the fields at fault, and RetryInfo where a retry is worth it.
- **HTTP**: the status, `Retry-After` where a retry is worth it, and [one shape](http.md#errors)
  of body.
- **The command line**: exit code 75 where the same command may succeed later, 1 otherwise; the
  class and its facts with `--json` ([all codes](cli.md#exit-codes)).
- **In the process**: the exception; `error.retryable` is true in the rows with a time to wait.

The message goes to the caller where it is about what the caller sent. In rows marked "log" it may
name hosts, files or keys: it stays in the server's log, under an error id that the caller gets
instead.

An entity without a row is no error: its values have the status `NOT_FOUND`.

"""

TABLE: Final = (
    "| Error | When | gRPC status | Reason | HTTP | Exit code | Retry after | Message"
    " | What to do |"
)

OTHERS: Final = """
An error that is not in the table is answered as its nearest base class that is.

## Not over the network

Whoever calls a server does not meet these; if it ever answers with one, it says `INTERNAL`.

| Error | When | Exit code | What to do |
|---|---|---|---|
"""

CODES: Final = """
## HTTP statuses

An HTTP status follows from the gRPC status, except where a row above says more with another.

| gRPC | HTTP |
|---|---|
"""


def page() -> str:
    """The page."""
    rows = [TABLE, "|---" * 9 + "|", *(_row(kind, answer) for kind, answer in ANSWERS.items())]
    others = [
        f"| `{kind.__name__}` | {_when(kind)} | {exits.code_for(kind)} | {todo} |"
        for kind, todo in WITHOUT_A_ROW.items()
    ]
    codes = [f"| `{code}` | {status} |" for code, status in server.HTTP_STATUSES.items()]
    parts = (HEAD, *rows, OTHERS.rstrip("\n"), *others, CODES.rstrip("\n"), *codes)
    return parts[0] + "\n".join(parts[1:]) + "\n"


def _row(kind: type[BaseException], answer: Answer) -> str:
    names = "<br>".join(f"`{name}`" for name in (kind.__name__, *_answered_alike(kind)))
    is_ours = issubclass(kind, core.FeatureStoreError)
    code = exits.code_for(kind) if issubclass(kind, core.FeatureStoreError) else exits.BUG
    wait = "" if answer.retry_after_s is None else f"{answer.retry_after_s:g} s"
    reason = "`..._NOT_FOUND`" if kind is core.NotFoundError else f"`{answer.reason}`"
    cells = (
        names if is_ours else "any other",
        _when(kind) if is_ours else "a defect, or something that nobody foresaw",
        f"`{answer.code}`",
        reason,
        str(answer.http_status),
        str(code),
        wait,
        "log" if answer.message else "",
        answer.todo,
    )
    return f"| {' | '.join(cells)} |"


def _answered_alike(kind: type[BaseException]) -> Iterator[str]:
    """The classes below one that have no row of their own."""
    if kind is Exception:
        return
    for child in kind.__subclasses__():
        if child not in ANSWERS and child.__module__ in MODULES:
            yield child.__name__
            yield from _answered_alike(child)


def _when(kind: type[BaseException]) -> str:
    first = (kind.__doc__ or "").partition("\n")[0].rstrip(".")
    return first[:1].lower() + first[1:]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
