"""Processes for tests that are forks of one which has imported what they need."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

FORKS: Final = multiprocessing.get_context("forkserver")
_PATIENCE_S: Final = 240
_STREAMS: Final = ("out", "err")

# There are hundreds of processes, and each would spend most of its time on these.
FORKS.set_forkserver_preload(
    [
        __name__,
        "duckdb",
        "featurestore.datasets.catalog",
        "featurestore.materialize.views",
        "featurestore.offline.duckdb",
        "featurestore.online.lmdb",
        "featurestore.online.redis",
        "lmdb",
        "numpy.ma",
        "pandas",  # by Arrow, with the first array that is made
        "polars",
        "pyarrow.parquet",
        "redis",
        "sqlalchemy.dialects.sqlite",
        "tests.conformance.test_many_writers",
        "tests.property.dying",
        "tests.repo.doc_page",
    ]
)


def in_a_process(work: Callable[..., object], *arguments: Any) -> int:
    """Return the exit code of a process that does some work."""
    process = FORKS.Process(target=work, args=arguments)
    process.start()
    process.join(_PATIENCE_S)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def running(code: str, *arguments: object, told: Path | None = None) -> BaseProcess:
    """Start a program, as `python -c` does; it ends with this process at the latest.

    Args:
        code: The program.
        arguments: Its arguments.
        told: A folder for what it prints, or None to print where this process does.
    """
    texts = [str(argument) for argument in arguments]
    process = FORKS.Process(target=_run, args=(code, texts, told), daemon=True)
    process.start()
    return process


def run_python(code: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, as `python -c` does, and return what it printed.

    What is imported and how an interpreter starts, only a fresh process shows.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder)
        process = running(code, *arguments, told=told)
        process.join(_PATIENCE_S)
        assert process.exitcode is not None, "it hangs"
        out, err = ((told / name).read_text() for name in _STREAMS)
    return subprocess.CompletedProcess(code, process.exitcode, out, err)


def _run(code: str, arguments: list[str], told: Path | None) -> None:
    if told is not None:
        for number, name in enumerate(_STREAMS, start=1):
            os.dup2(os.open(told / name, os.O_WRONLY | os.O_CREAT), number)
    sys.argv[1:] = arguments
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own
