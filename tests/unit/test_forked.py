"""Commands that are forks (tests/forked.py): whoever starts them sees processes like any other."""

import ast
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.forked import REAL, forking

SETTINGS = "project: shop\nregistry: registry.db\noffline_store: duckdb\nonline_store: lmdb\n"
TELLS = """
import os, signal, sys, threading
from pathlib import Path
streams = sys.__stdin__, sys.__stdout__, sys.__stderr__
signals = {number: str(signal.getsignal(number)).split(" at ")[0] for number in range(1, 32)}
told = {
    "command": sys.argv,
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "path": sys.path,
    "read": sys.stdin.read(),
    "signals": signals,
    "streams": [(s.encoding, s.errors, s.line_buffering, s.write_through) for s in streams],
    "threads": threading.active_count(),
    "umask": os.umask(0o22),
}
Path("told").write_text(repr(told))
"""
DIES = "import os, signal; os.kill(os.getpid(), signal.{})"
WAITS = "import os, time; from pathlib import Path; Path('pid').write_text(str(os.getpid()))\n"
WAITS += "Path('pid').rename('waits'); time.sleep(600)"


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository; `define` says what its commands run."""
    (tmp_path / "feature_store.yaml").write_text(SETTINGS)
    return tmp_path


def define(repo: Path, code: str) -> None:
    (repo / "features.py").write_text(code)


def told(program: Path, repo: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """What a command says of the process that it runs in."""
    subprocess.run(
        ["sh", "-c", 'umask 27; trap "" HUP; exec "$@"', "sh", program, "plan", "--repo", repo],
        cwd=repo,
        env={**os.environ, "COLOUR": "gr\u00fcn", **variables},
        input="a\u00df",
        text=True,
        check=False,
        capture_output=True,
    )
    file = repo / "told"
    found: dict[str, Any] = ast.literal_eval(file.read_text())
    file.unlink()
    return found


@pytest.mark.parametrize("variables", [{}, {"PYTHONIOENCODING": "latin-1:replace"}])
def test_a_fork_is_started_as_a_fresh_process_is(
    repo: Path, forked: Path, variables: dict[str, str]
) -> None:
    define(repo, TELLS)
    fresh, fork = told(Path(REAL), repo, variables), told(forked, repo, variables)
    assert fork == fresh
    assert (fork["umask"], fork["environment"]["COLOUR"]) == (0o27, "gr\u00fcn")
    assert fork["read"] == ("a\u00df" if not variables else "a\u00c3\u009f")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT", "SIGUSR1"])
def test_the_signal_that_ends_a_fork_ends_the_program(repo: Path, forked: Path, name: str) -> None:
    define(repo, DIES.format(name))
    ran = subprocess.run([forked, "plan"], cwd=repo, check=False, capture_output=True)
    assert (ran.returncode, ran.stderr) == (-signal.Signals[name], b"")


def wait_for_pid(repo: Path, process: "subprocess.Popen[str]") -> int:
    while not (repo / "waits").exists():
        assert process.poll() is None
        time.sleep(0.005)
    return int((repo / "waits").read_text())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_goes_on_to_the_fork(
    repo: Path, forked: Path, number: signal.Signals, code: int
) -> None:
    define(repo, WAITS)
    command = [str(forked), "plan"]
    with subprocess.Popen(command, cwd=repo, stderr=subprocess.PIPE, text=True) as process:
        assert wait_for_pid(repo, process) != process.pid
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err[:7]) == (code, "error: ")


def test_a_fork_is_killed_with_its_program(repo: Path, forked: Path) -> None:
    define(repo, WAITS)
    with subprocess.Popen([forked, "plan"], cwd=repo, text=True) as process:
        fork = psutil.Process(wait_for_pid(repo, process))
        process.kill()
    fork.wait(60)
    assert process.returncode == -signal.SIGKILL


def test_forks_do_not_outlive_their_server(repo: Path) -> None:
    define(repo, WAITS)
    with forking() as program:
        process = subprocess.Popen([str(program), "plan"], cwd=repo, text=True)
        fork = psutil.Process(wait_for_pid(repo, process))
    fork.wait(60)
    assert process.wait(60) == 70


def test_the_exit_code_is_the_forks(repo: Path, forked: Path) -> None:
    define(repo, "1 / 0")
    ran = [
        subprocess.run([p, "plan"], cwd=repo, check=False, capture_output=True)
        for p in (REAL, forked)
    ]
    assert ran[0].returncode == ran[1].returncode == 1
    assert ran[0].stderr == ran[1].stderr
    assert b"ZeroDivisionError" in ran[1].stderr


def test_what_a_server_starts_are_forks_too_and_end_with_it(repo: Path, forked: Path) -> None:
    command = [str(forked), "serve", "--address", "127.0.0.1:0", "--workers", "1"]
    with subprocess.Popen(command, cwd=repo, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        programs = [p.cmdline() for p in here(repo)]
        server.terminate()
        server.communicate(timeout=60)
    assert " at 127.0.0.1:" in said
    assert {p[-1] for p in programs if str(forked.with_name("forked-python")) in p} == {
        "featurestore_server.backend",
        "featurestore_server.worker",
    }
    assert server.returncode == 0
    _, alive = psutil.wait_procs(here(repo), timeout=60)
    assert alive == []


def here(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder."""
    return [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(folder)]
