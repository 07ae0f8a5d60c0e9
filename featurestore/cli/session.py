"""What all commands share: the global options, the repository, and where output goes."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import typer

from featurestore.cli import exits
from featurestore.errors import ConfigError, DefinitionError

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

REPO_VARIABLE: Final = "FEATURESTORE_REPO"
SCHEMA_VERSION: Final = 1
"""Rises when a document that `--json` prints changes its form."""


@dataclass(kw_only=True)
class Session:
    """One run of the command line.

    Attributes:
        repo: What `--repo` said.
        as_json: Print one JSON document to standard output, and nothing else there.
        debug: Show tracebacks.
        quiet: Print results and errors only.
        verbose: 1 shows the libraries' log from INFO on, 2 and more from DEBUG on.
        out: Where results go.
        err: Where everything else goes.
        answered: Whether the JSON document has been printed.
        stop_code: What to end with when somebody stops the command.
    """

    repo: Path | None = None
    as_json: bool = False
    debug: bool = False
    quiet: bool = False
    verbose: int = 0
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    answered: bool = False
    stop_code: int = exits.INTERRUPTED

    @classmethod
    def of(cls, context: typer.Context) -> "Session":
        """Return the session that a command runs in."""
        session = context.obj
        assert isinstance(session, cls)  # noqa: S101 - put there by whoever starts a command
        return session

    @property
    def folder(self) -> Path:
        """The repository: `--repo`, else the environment's, else the working directory.

        Raises:
            ConfigError: There is no such folder.
        """
        folder = self.repo or Path(os.environ.get(REPO_VARIABLE) or ".")
        if not folder.exists():
            raise ConfigError(f"There is no folder {str(folder)!r}.")
        return folder

    @contextlib.contextmanager
    def store(self) -> Iterator["FeatureStore"]:
        """Open the repository's feature store, and close it in the end."""
        from featurestore.store import FeatureStore

        with FeatureStore(self.folder) as store:
            yield store

    @contextlib.contextmanager
    def foreign_code(self) -> Iterator[None]:
        """Run code of users: what it prints is no result, and it cannot end the process."""
        try:
            with contextlib.redirect_stdout(self.err):
                yield
        except SystemExit as error:
            raise DefinitionError(
                f"The repository's own code called sys.exit({error.code!r:.80})."
            ) from error

    def answer(self, content: Mapping[str, Any]) -> None:
        """Print the one JSON document of this run."""
        import json

        document = {"schema_version": SCHEMA_VERSION, **content}
        text = json.dumps(document, indent=2, allow_nan=False)  # whole before a word is printed
        self.answered = True
        self.out.write(f"{text}\n")

    def note(self, text: str) -> None:
        """Tell people something that is not the result."""
        if not self.quiet:
            self.out.flush()  # what was printed before stands before it, also in one pipe or file
            self.err.write(f"{text}\n")
            self.err.flush()


class UsageError(typer.TyperException):
    """Options that do not go together."""

    exit_code = 2
