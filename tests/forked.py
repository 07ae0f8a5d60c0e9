"""A `featurestore` program for tests, whose commands are forks: their imports are done.

A fresh process needs a second of processor time for its imports alone. The server here writes a
program, and imports what commands import when that is started first. Whoever starts it gets a
command in a process of its own all the same: a fork with the caller's arguments, folder, umask,
environment, standard streams and ignored signals, which runs the real entry point. Signals go on to
the fork; the program ends with the fork's exit code or by the fork's signal; and the fork is killed
with the program.

The processes that `featurestore serve` starts are forks too: to it, the interpreter is another such
program.

Variables that the interpreter and libraries read when they start must be the server's: else the
program starts a fresh process. What a fork cannot prove is tested in fresh processes: what is
imported, and how the interpreter starts and ends. Polars and gRPC have threads, so commands that
need them import them after the fork.
"""

import atexit
import contextlib
import gc
import importlib
import io
import marshal
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

REAL: Final = str(Path(sysconfig.get_path("scripts")) / "featurestore")
PROGRAMS: Final = {"forked-python": sys.executable, "featurestore": REAL}
"""What stands for which program; who finds the last one finds them all.

The folder may be in the PATH of tests, for which python is the real one.
"""
MODULES: Final = {
    "featurestore_server.backend": "featurestore_server.backend.__main__",
    "featurestore_server.worker": "featurestore_server.worker",
}
"""What is started as modules, and where its `main` is."""
LOADED: Final = (
    "duckdb",
    "featurestore.api_keys",
    "featurestore.cli.app",
    "featurestore.cli.plan_file",
    "featurestore.cli.values",
    "featurestore.contracts.validator",
    "featurestore.datasets",
    "featurestore.explanation",
    "featurestore.leakage.check",
    "featurestore.leakage.lint",
    "featurestore.materialize.garbage",
    "featurestore.materialize.run",
    "featurestore.materialize.views",
    "featurestore.monitoring.status",
    "featurestore.monitoring.verify",
    "featurestore.offline.duckdb",
    "featurestore.online.encode",
    "featurestore.online.lmdb",
    "featurestore.registry.sql",
    "featurestore.serving.local",
    "featurestore.statistics.profiler",
    "featurestore.store",
    "featurestore.training.retrieve",
    "featurestore_protos.v1.registry_pb2",
    "featurestore_protos.v1.serving_pb2",
    "featurestore_server",
    "pandas",
    "pyarrow.dataset",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.sqlite",
    "sqlglot.dialects.duckdb",
    "yaml",
    "zoneinfo",
)
WITH_THREADS: Final = frozenset({"grpc", "polars"})
READ_EARLY: Final = (
    *(b"ARROW_", b"DUCKDB_", b"LANG", b"LC_", b"LD_", b"MALLOC_"),
    *(b"OMP_", b"OPENBLAS_", b"PYDANTIC_", b"PYTHON", b"TZ"),
)
"""How variables begin that are read once."""
PASSED_ON: Final = tuple(map(int, (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)))
START_TIMEOUT_S: Final = 120

# A shell starts it, as it does installed programs: folders may have spaces and long names.
PROGRAM: Final = """\
#!/bin/sh
'''exec' "{python}" -IS "$0" "$@"
' '''
import array, marshal, os, signal, sys
import _socket as socket  # socket.py takes longer than all the rest

early = {{k: v for k, v in os.environb.items() if k.startswith({read_early!r})}}
if early != {early!r}:
    os.execv({real!r}, [{real!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
server.connect({address!r})
ignored = [number for number in {passed_on!r} if signal.getsignal(number) == signal.SIG_IGN]
for number in set({passed_on!r}) - set(ignored):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
umask = os.umask(0o77)
arguments = [os.fsencode(argument) for argument in sys.argv[1:]]
body = marshal.dumps((arguments, os.getcwdb(), dict(os.environb), umask, ignored))
streams = array.array("i", [0, 1, 2])
header = len(body).to_bytes(4, "big")
server.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
server.sendall(body)
code = int(server.recv(8) or b"70")
if code < 0:
    if -code != signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextlib.contextmanager
def forking() -> Iterator[Path]:
    """Run a server; give the path of its program."""
    if sys.platform != "linux":  # libraries of other systems do not stand a fork
        yield Path(REAL)
        return
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "featurestore"
        # In a session of its own: Ctrl-C in the terminal of the tests is not meant for commands.
        with subprocess.Popen(
            [sys.executable, __file__, folder], stdin=subprocess.PIPE, start_new_session=True
        ) as server:
            give_up = time.monotonic() + START_TIMEOUT_S
            while not program.exists():
                assert server.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.02)
            yield program
            assert server.stdin is not None
            server.stdin.close()
        assert server.returncode == 0


class Server:
    """Forks for each caller, and tells it how the fork ended."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._forks = set[int]()  # by their descriptors, which cannot come to mean another process
        self._events = selectors.DefaultSelector()
        self._events.register(listener, selectors.EVENT_READ, self._fork)
        self._events.register(0, selectors.EVENT_READ, lambda: False)

    def serve(self) -> bool:
        """Return true in a fork, ready to run its command; false when standard input ends."""
        answer: bool | None = None
        while answer is None:
            # One at a time: what an event does may make another one void.
            answer = self._events.select()[0][0].data()
        if not answer:
            for process in self._forks:
                signal.pidfd_send_signal(process, signal.SIGKILL)
        return answer

    def _fork(self) -> bool | None:
        caller, _ = self._listener.accept()
        header, streams, _, _ = socket.recv_fds(caller, 4, 3)
        body = caller.recv(int.from_bytes(header, "big"), socket.MSG_WAITALL)
        if (pid := os.fork()) == 0:
            self._events.close()
            self._listener.close()
            caller.close()
            _become(streams, body)
            return True
        for stream in streams:
            os.close(stream)
        process = os.pidfd_open(pid)
        self._forks.add(process)
        self._events.register(
            process, selectors.EVENT_READ, partial(self._end, process, pid, caller)
        )
        self._events.register(caller, selectors.EVENT_READ, partial(self._hear, process, caller))
        return None

    def _hear(self, process: int, caller: socket.socket) -> None:
        """Pass signals on; the end of the program is the end of its fork."""
        numbers = caller.recv(64)
        for number in numbers or [signal.SIGKILL]:
            signal.pidfd_send_signal(process, number)
        if not numbers:
            self._events.unregister(caller)

    def _end(self, process: int, pid: int, caller: socket.socket) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(KeyError):
            self._events.unregister(caller)
        with caller, contextlib.suppress(BrokenPipeError):
            caller.sendall(b"%d" % code)
        self._events.unregister(process)
        self._forks.remove(process)
        os.close(process)


def _become(streams: list[int], request: bytes) -> None:
    """Make this process what the caller would have started."""
    arguments, folder, environment, umask, ignored = marshal.loads(request)  # noqa: S302 - our own
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        opened = _open_stream(number, like=getattr(sys, name))
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)
    for passed in PASSED_ON:
        usual = signal.default_int_handler if passed == signal.SIGINT else signal.SIG_DFL
        signal.signal(passed, signal.SIG_IGN if passed in ignored else usual)
    os.environ.clear()
    os.environb.update(environment)
    os.umask(umask)
    os.chdir(folder)
    sys.argv[1:] = map(os.fsdecode, arguments)


def _open_stream(number: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """Open a standard stream as the interpreter does."""
    unbuffered = like.write_through
    return io.TextIOWrapper(
        open(number, f"{like.mode}b", 0 if unbuffered and number else -1, closefd=False),
        like.encoding,
        like.errors,
        newline="\n",
        line_buffering=not unbuffered and (number == 2 or os.isatty(number)),
        write_through=unbuffered,
    )


def _write_programs(folder: str, address: str) -> None:
    early = {k: v for k, v in os.environb.items() if k.startswith(READ_EARLY)}
    for name, real in PROGRAMS.items():
        text = PROGRAM.format(
            python=sys.executable,
            read_early=READ_EARLY,
            early=early,
            real=real,
            address=address,
            passed_on=PASSED_ON,
        )
        part = Path(folder) / "part"
        part.write_text(text)
        part.chmod(0o755)
        part.rename(part.with_name(name))


def _entry_point(folder: Path) -> Callable[[], int]:
    """Return what the arguments ask for: `python -P -m MODULE`, or a command."""
    if sys.argv[1:3] == ["-P", "-m"]:
        module = MODULES[sys.argv[3]]
        del sys.argv[1:4], sys.path[0]
        found: Callable[[], int] = importlib.import_module(module).main
        return found
    sys.executable = str(folder / "forked-python")
    from featurestore.cli import main as entry_point

    return entry_point


def main() -> None:
    folder = sys.argv.pop()
    sys.argv[0], sys.path[0] = REAL, str(Path(REAL).parent)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address := str(Path(folder) / "socket"))
        listener.listen()
        _write_programs(folder, address)
        if listener.fileno() not in select.select([listener.fileno(), 0], [], [])[0]:
            return
        for module in LOADED:
            importlib.import_module(module)
        assert not WITH_THREADS & sys.modules.keys()
        gc.collect()
        gc.freeze()  # a fork does not copy what it never frees
        if not Server(listener).serve():
            return
    code = _entry_point(Path(folder))()
    # As multiprocessing ends forks: to take the interpreter apart would copy all that was imported.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
