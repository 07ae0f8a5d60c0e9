"""Servers as operators run them, in processes of their own, to be restarted and killed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from featurestore.online.factory import open_store
from tests.server import shop

SERVE = """
import json, sys
from featurestore_server import ServeOptions, serve
serve(ServeOptions(**json.loads(sys.argv[1])))
"""
PATIENCE_S = 60


def filled_store(folder: Path) -> dict[str, Any]:
    """The settings of a store with the shop's rows."""
    store = open_store("lmdb", path=folder)
    shop.fill(store)
    store.close()
    return {"type": "lmdb", "path": str(folder)}


class ServerProcess:
    """A server that is ready; the same address after a restart."""

    def __init__(self, online_store: dict[str, Any], *, workers: int = 1) -> None:
        self._options = {
            "catalog_json": shop.catalog().to_json(),
            "online_store": online_store,
            "address": "127.0.0.1:0",
            "workers": workers,
            "grace_s": 10,
        }
        self.start()
        self._options["address"] = self.address

    def start(self) -> None:
        """Start it, again after a stop; it serves as this returns."""
        command = [sys.executable, "-c", SERVE, json.dumps(self._options)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        line = self._process.stderr.readline()
        self.address = line.split(" at ")[1].split(" with ", maxsplit=1)[0]

    @property
    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children()

    def stop(self) -> None:
        """End it as an operator does."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.communicate(timeout=PATIENCE_S)


@contextmanager
def server_process(online_store: dict[str, Any], *, workers: int = 1) -> Iterator[ServerProcess]:
    server = ServerProcess(online_store, workers=workers)
    try:
        yield server
    finally:
        server.stop()
