"""What the documents say of Redis is what the code needs."""

from featurestore.online.redis_address import DEFAULTS
from featurestore.online.redis_errors import PERMISSIONS, SENTINEL_PERMISSIONS
from featurestore.settings import OnlineStoreConfig
from tests.repo.tree import ROOT

PAGE = (ROOT / "docs/redis.md").read_text("utf-8")


def test_the_documented_permissions_are_those_of_the_hint() -> None:
    assert f"on >password {PERMISSIONS}\n" in PAGE
    assert f"on >password {SENTINEL_PERMISSIONS}\n" in PAGE


def test_the_documented_settings_have_the_documented_defaults() -> None:
    chosen = OnlineStoreConfig()
    for name, default in DEFAULTS.items():
        assert getattr(chosen, name) == default
        shown = str(default).lower()
        assert f"| `{name}` | {shown} |" in PAGE
