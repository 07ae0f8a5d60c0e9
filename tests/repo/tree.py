"""What belongs to this repository: its packages, its files, its parsed modules."""

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = {
    "featurestore": ROOT,
    "featurestore-protos": ROOT / "protos",
    "featurestore-server": ROOT / "server",
    "featurestore-sdk": ROOT / "sdk",
}
GENERATED = "protos/featurestore_protos/"


@cache
def files() -> tuple[str, ...]:
    """Every file that is tracked or would be, as a path relative to the root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return tuple(sorted(p for p in set(listing.split("\0")) - {""} if (ROOT / p).is_file()))


def modules(*folders: str, end: str = ".py") -> Iterator[tuple[str, ast.Module]]:
    """The path and syntax tree of every module that was written by hand below these folders.

    Args:
        folders: At the root.
        end: How the path ends; to parse all that there is takes seconds.
    """
    for path in files():
        written = path.endswith(end) and not path.startswith(GENERATED)
        if written and path.split("/")[0] in folders:
            yield path, _parsed(path)


@cache
def _parsed(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)


def texts() -> Iterator[tuple[str, str]]:
    """The path and content of every file that is text."""
    for path in files():
        try:
            yield path, (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def project(distribution: str) -> dict[str, Any]:
    """The `[project]` table of a distribution."""
    manifest = DISTRIBUTIONS[distribution] / "pyproject.toml"
    table: dict[str, Any] = tomllib.loads(manifest.read_text(encoding="utf-8"))["project"]
    return table
