"""Reads a Dockerfile and runs its steps in a folder, where there is no engine to build an image.

What an engine does and this does not: layers, users, capabilities, and a base image other than the
interpreter that runs the tests.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_CONTINUED = re.compile(r"\\\n(?:\s*#.*\n)*")


@dataclass(frozen=True)
class Step:
    """An instruction of a Dockerfile, `RUN`, and what follows it."""

    instruction: str
    rest: str

    def words(self) -> list[str]:
        """What follows, without flags such as --from."""
        return [word for word in shlex.split(self.rest) if not word.startswith("--")]

    def flag(self, name: str) -> str | None:
        """The value of a flag."""
        found = re.search(rf"--{name}=(\S+)", self.rest)
        return found[1] if found else None

    def command(self) -> list[str]:
        """The command in exec form, the only one that gets signals."""
        command: list[str] = json.loads(self.rest[self.rest.index("[") :])
        return command


def read(text: str) -> list[list[Step]]:
    """Return the steps of each stage; a stage begins with its FROM."""
    stages: list[list[Step]] = []
    for line in _CONTINUED.sub(" ", text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        instruction, _, rest = line.strip().partition(" ")
        if instruction == "FROM":
            stages.append([])
        stages[-1].append(Step(instruction, rest.strip()))
    return stages


@dataclass
class Stage:
    """A stage whose file system is a folder.

    Args:
        root: Where absolute paths of the Dockerfile lie.
        context: The folder that is built from.
        python: The folder of the base image's commands.
        without: Variables of the Dockerfile that are not set.
        earlier: Stages that files may be copied from.
    """

    root: Path
    context: Path
    python: Path
    without: frozenset[str] = frozenset()
    earlier: Mapping[str, "Stage"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = dict(os.environ)
        self.environment["PATH"] = f"{self.python}{os.pathsep}{os.environ['PATH']}"
        self.folder = self.root
        self._places: set[str] = set()

    def run(self, steps: list[Step]) -> None:
        """Run the steps that make files; leave the others."""
        self._places |= {place for step in steps for place in _absolute_paths(step)}
        actions = {
            "COPY": self._copy,
            "ENV": self._set,
            "RUN": self._run,
            "WORKDIR": self._work_in,
        }
        for step in steps:
            if action := actions.get(step.instruction):
                action(step)

    def here(self, text: str) -> str:
        """Put the absolute paths of the Dockerfile below the root."""
        for place in sorted(self._places, key=len, reverse=True):
            text = re.sub(rf"(?<![\w./]){re.escape(place)}(?![\w])", f"{self.root}{place}", text)
        return text

    def _copy(self, step: Step) -> None:
        *sources, target = step.words()
        origin = self.earlier[stage].root if (stage := step.flag("from")) else self.context
        to = self._path(target)
        for source in sources:
            found = origin / source.lstrip("/")
            if found.is_dir():
                # Linked: nobody writes into what is there, which is a hundred megabytes.
                shutil.copytree(found, to, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
            else:
                to.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, to)

    def _path(self, text: str) -> Path:
        path = PurePosixPath(text)
        return self.root / path.relative_to("/") if path.is_absolute() else self.folder / path

    def _set(self, step: Step) -> None:
        for word in step.words():
            name, _, value = word.partition("=")
            if name not in self.without:
                expanded = value.replace("$PATH", self.environment["PATH"])
                self.environment[name] = self.here(expanded)

    def _run(self, step: Step) -> None:
        command = ["/bin/sh", "-euc", self.here(step.rest)]
        ran = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"RUN {step.rest}\n{ran.stdout}{ran.stderr}"

    def _work_in(self, step: Step) -> None:
        self.folder = self._path(step.rest)
        self.folder.mkdir(parents=True, exist_ok=True)


def _absolute_paths(step: Step) -> Iterator[str]:
    """Yield the top folders, such as /wheels and /opt, that a step names."""
    if step.instruction in {"COPY", "ENV", "RUN", "WORKDIR"}:
        yield from re.findall(r"(?<![\w./])(/[a-z]+)", step.rest)
