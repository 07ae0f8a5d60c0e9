"""From the configuration to an engine, or to a message that says what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.config import make_config
from featurestore.errors import ConfigError
from featurestore.offline.factory import open_engine
from featurestore.settings import OfflineStoreConfig


@pytest.mark.parametrize("kind", ["duckdb", "polars"])
def test_every_engine_is_opened_by_its_name_and_keeps_its_limits(kind: str, tmp_path: Path) -> None:
    values = {"project": "p", "offline_store": {"type": kind, "threads": 3, "memory_limit": "2GB"}}
    engine = open_engine(make_config(values, root=tmp_path).settings.offline_store, root=tmp_path)
    assert (engine.name, engine.threads, engine.memory_bytes) == (kind, 3, 2 * 10**9)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_may_be_named_in_one_line(tmp_path: Path) -> None:
    values = {"project": "p", "offline_store": "polars"}
    config = make_config(values, root=tmp_path, environment={})
    assert config.settings.offline_store == OfflineStoreConfig(type="polars")


def test_an_unknown_engine_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'duckdb' or 'polars'"):
        make_config({"project": "p", "offline_store": "spark"}, root=tmp_path)


@pytest.mark.parametrize("kind", ["duckdb", "polars"])
def test_more_memory_than_there_is_is_refused(kind: str, tmp_path: Path) -> None:
    values = {"project": "p", "offline_store": {"type": kind, "memory_limit": "101%"}}
    config = make_config(values, root=tmp_path, environment={}).settings.offline_store
    with pytest.raises(ConfigError, match=r"offline_store\.memory_limit: '101%'"):
        _ = open_engine(config, root=tmp_path).memory_bytes


@pytest.mark.parametrize(("kind", "other"), [("duckdb", "polars"), ("polars", "duckdb")])
def test_opening_an_engine_imports_no_other(kind: str, other: str) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from featurestore.settings import OfflineStoreConfig\n"
        "from featurestore.offline.factory import open_engine\n"
        f"open_engine(OfflineStoreConfig(type={kind!r}), root=Path('.'))\n"
        f"print({other!r} in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]
