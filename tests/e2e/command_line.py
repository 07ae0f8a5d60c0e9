"""A small repository on disk, and commands that run in it, in this process or another."""

import contextlib
import io
import json
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.cli.app import run
from featurestore.cli.session import Session

COMMAND = Path(sysconfig.get_path("scripts")) / "featurestore"
BIG = 2**53 + 1
"""An integer that a JSON number would round."""

SETTINGS = """\
project: shop
clock: 2026-03-01T00:00:00Z
registry: data/registry.db
offline_store: {type: duckdb, threads: 1}
online_store: lmdb
server: 127.0.0.1:0
"""

DEFINITIONS = """\
from datetime import timedelta
from featurestore import Entity, FeatureService, FeatureView, Field, FileSource
from featurestore.types import Binary, Date, Float64, Int64, String

user = Entity(name="user", join_keys={"user_id": Int64}, description="A customer")
route = Entity(name="route", join_keys={"origin": String, "dest": String})
users = FileSource(name="users", path="data/users.parquet", timestamp_field="event_timestamp",
                   created_timestamp_column="created")
routes = FileSource(name="routes", path="data/routes.parquet", timestamp_field="event_timestamp")
profile = FeatureView(
    name="profile", entities=[user], source=users, ttl=timedelta(days=30), owner="risk@example.com",
    tags={"pii": "yes"},
    schema=[Field(name="country", dtype=String, description="ISO code"),
            Field(name="credit", dtype=Float64), Field(name="orders", dtype=Int64),
            Field(name="blob", dtype=Binary), Field(name="since", dtype=Date)])
traffic = FeatureView(name="traffic", entities=[route], source=routes,
                      schema=[Field(name="flights", dtype=Int64)])
archive = FeatureView(name="archive", entities=[user], source=users, online=False,
                      schema=[Field(name="credit", dtype=Float64)])
scoring = FeatureService(name="scoring", features=[profile[["country", "credit", "orders"]]],
                         description="Will they pay?")
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """All of standard output as the one JSON document that it has to be."""
        document: dict[str, Any] = json.loads(self.out, parse_constant=_refuse)
        assert document["schema_version"] == 1
        return document

    def lines_with(self, text: str) -> list[list[str]]:
        """The words of the printed lines that hold a text."""
        return [line.split() for line in self.out.splitlines() if text in line]


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A folder with feature_store.yaml, definitions and data."""

    folder: Path
    program: Path = COMMAND
    """What `spawn` and `execute` start: fresh processes, or forks (tests/forked.py)."""

    def run(self, *arguments: str) -> Outcome:
        """Run a command in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["--repo", str(self.folder), *arguments], Session())
        return Outcome(code=code, out=out.getvalue(), err=err.getvalue())

    def succeed(self, *arguments: str) -> Outcome:
        """Run a command that has to succeed."""
        outcome = self.run(*arguments)
        assert outcome.code == 0, outcome.err
        return outcome

    def spawn(
        self, *arguments: str, stdout: int = subprocess.PIPE, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a command as users do, in the repository."""
        return subprocess.Popen(
            [self.program, *arguments],
            cwd=self.folder,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=None if env is None else dict(env),
        )

    def execute(self, *arguments: str, env: Mapping[str, str] | None = None) -> Outcome:
        """Run a command as users do, and wait for its end."""
        with self.spawn(*arguments, env=env) as process:
            out, err = process.communicate(timeout=240)
        return Outcome(code=process.returncode, out=out, err=err)

    def copied(self, folder: Path) -> "Repository":
        """Return one like this, with all that commands have left there, in a folder of its own."""
        return replace(self, folder=shutil.copytree(self.folder, folder))

    def define(self, text: str) -> None:
        """Replace the definitions."""
        (self.folder / "features.py").write_text(text)

    def write_spine(self, rows: Mapping[str, list[Any] | pa.Array]) -> Path:
        """Write a spine of users and return its path."""
        file = self.folder / "spine.parquet"
        pq.write_table(pa.table(dict(rows)), file)
        return file


def at(month: int, day: int) -> datetime:
    """Return midnight UTC of a day of 2026."""
    return datetime(2026, month, day, tzinfo=UTC)


def make_repository(folder: Path, program: Path = COMMAND) -> Repository:
    """Write a repository: three users (the third has expired by the clock), two routes."""
    (folder / "data").mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(SETTINGS)
    (folder / "features.py").write_text(DEFINITIONS)
    pq.write_table(_users(), folder / "data" / "users.parquet")
    pq.write_table(_routes(), folder / "data" / "routes.parquet")
    return Repository(folder=folder, program=program)


def _users() -> pa.Table:
    times = [at(1, 1), at(2, 20), at(2, 25), at(1, 15)]
    return pa.table(
        {
            "user_id": pa.array([1, 1, 2, 3], pa.int64()),
            "event_timestamp": pa.array(times, pa.timestamp("us", "UTC")),
            "created": pa.array(times, pa.timestamp("us", "UTC")),
            "country": ["NO", "SE", "DE", "FR"],
            "credit": [10.0, float("nan"), None, 7.0],
            "orders": pa.array([1, BIG, 3, 4], pa.int64()),
            "blob": [b"a", b"\x00\xff", b"", None],
            "since": pa.array([date(2020, 1, 2)] * 4, pa.date32()),
        }
    )


def _routes() -> pa.Table:
    return pa.table(
        {
            "origin": ["JFK", "LGA"],
            "dest": ["LAX", "BO,S"],
            "event_timestamp": pa.array([at(2, 1), at(2, 2)], pa.timestamp("us", "UTC")),
            "flights": pa.array([5, 6], pa.int64()),
        }
    )
