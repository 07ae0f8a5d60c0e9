"""Settings as `doctor` shows them: nothing that lets their reader in."""

import pytest

from featurestore.cli.checks import without_password


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis://me:hunter2@example.com:1/0", "redis://***@example.com:1/0"),
        ("rediss://:hunter2@a", "rediss://***@a"),
        ("redis://example.com/0?password=hunter2", "redis://example.com/0"),
        ("unix://me:hunter2@/run/redis.sock?password=hunter2", "unix://***@/run/redis.sock"),
        ("redis+sentinel://me:hunter2@a,[::1]:2/x/0", "redis+sentinel://***@a,[::1]:2/x/0"),
        ("redis://me:hunter2@[no-address", "redis://***@[no-address"),
        ("redis://me:hunt@er2@a", "redis://***@a"),
        ("redis://example.com:1/0", "redis://example.com:1/0"),
        ("data/online", "data/online"),
        (4, 4),
        (None, None),
    ],
)
def test_an_address_is_shown_without_its_secrets(value: object, shown: object) -> None:
    assert without_password(value) == shown
