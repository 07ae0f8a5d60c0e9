"""From the configuration to a store, or to a message that says what is missing."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from featurestore.errors import ConfigError
from featurestore.online.factory import open_store


def test_every_kind_opens_and_nothing_is_touched_before_the_first_use(tmp_path: Path) -> None:
    kinds = {
        "memory": open_store("memory"),
        "lmdb": open_store("lmdb", path=tmp_path / "online"),
        "redis": open_store("redis", url="redis://localhost:1"),
    }
    for kind, store in kinds.items():
        with closing(store):
            assert type(store).__name__.lower() == f"{kind}onlinestore"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "key"), [("lmdb", "path"), ("redis", "url")])
def test_what_a_kind_needs_is_asked_for_by_its_key(kind: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"online_store.{key} is not set"):
        open_store(kind)  # type: ignore[arg-type]


def test_a_missing_client_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from featurestore.errors import MissingExtraError\n"
        "from featurestore.online.factory import open_store\n"
        "open_store('memory')\n"
        "try:\n"
        "    open_store('redis', url='redis://localhost')\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'featurestore[redis]'" in ran.stdout


@pytest.mark.parametrize("kind", ["memory", "lmdb", "redis"])
def test_opening_a_store_imports_no_other_backend(kind: str) -> None:
    others = {"lmdb", "redis", "pyarrow", "polars", "duckdb", "pydantic"} - {kind}
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from featurestore.online.factory import open_store\n"
        f"open_store({kind!r}, path=Path('none'), url='redis://localhost').close()\n"
        f"print(*sorted({others!r} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
