"""Data that takes seconds to build: once for all processes that test."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parents[2] / "featurestore" / "cli" / "templates"


def built_template(factory: pytest.TempPathFactory, template: str) -> Path:
    """Return a repository of a template with its data, which is to be read only."""
    folder = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers of this run
    repo = folder / f"template-{template}"
    with (folder / f"template-{template}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not repo.exists():
            unfinished = folder / f"template-{template}-unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(TEMPLATES / template, unfinished)
            build: list[str | Path] = [sys.executable, unfinished / "build_data.py"]
            subprocess.run(build, check=True, capture_output=True)
            unfinished.rename(repo)
    return repo
