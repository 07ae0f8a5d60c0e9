"""Who may do what with a project: permissions, keys, and what a key is made of.

A key is `fs_<id>_<secret>`. The secret is 32 random bytes, and only its SHA-256 is kept. A plain
hash is right for it, unlike for a password: there is no list of likely secrets to try, and 2^256
are out of reach however fast the hash is. So checking one costs a call a microsecond.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

MAX_TOKEN_LENGTH: Final = 100
MAX_CERTIFICATE_NAME: Final = 255
HASH_BYTES: Final = 32
_PREFIX: Final = "fs"
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"fs_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,62}")


class Permission(StrEnum):
    """What a caller may do; `ADMIN` may do all of it."""

    READ_ONLINE = "read_online"
    READ_OFFLINE = "read_offline"
    WRITE = "write"
    ADMIN = "admin"


OF_SERVICES: Final = frozenset({Permission.READ_ONLINE, Permission.READ_OFFLINE})
"""Permissions that can be limited to feature services."""


class Grant(NamedTuple):
    """A permission, for one feature service or, with None, for the whole project."""

    permission: Permission
    service: str | None = None

    def __str__(self) -> str:
        return f"{self.permission}:{self.service}" if self.service else str(self.permission)


def permits(
    grants: Collection[tuple[Permission, str | None]], permission: Permission, *, service: str = ""
) -> bool:
    """Whether grants allow something; `service` is "" for what concerns the whole project."""
    if (permission, None) in grants or (Permission.ADMIN, None) in grants:
        return True
    return bool(service) and (permission, service) in grants


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What is known of a key, or of a certificate that stands for one; times are microseconds.

    Attributes:
        id: Part of the key that names it: 12 hexadecimal digits.
        name: What people call it; no two keys that are in force share it.
        hash: SHA-256 of the secret, hexadecimal; None if a certificate stands for it.
        certificate: A name in the certificates of those it is for; None for a key.
        grants: What its holder may do.
        created_us: When it was made.
        created_by: Who made it.
        expires_us: From when on it is not accepted; None for never.
        revoked_us: When it was revoked; None if it was not.
        revoked_by: Who did that.
    """

    id: str
    name: str
    hash: str | None
    certificate: str | None = None
    grants: frozenset[Grant] = field(default_factory=frozenset)
    created_us: int
    created_by: str
    expires_us: int | None = None
    revoked_us: int | None = None
    revoked_by: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return this as JSON-ready data."""
        document = {name: getattr(self, name) for name in self.__slots__}
        return document | {"grants": grants_document(self.grants)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "KeyRecord":
        """Return the record that `to_document` wrote."""
        return cls(**{**document, "grants": read_grants(document["grants"])})


def keys_to_json(keys: Iterable[KeyRecord]) -> str:
    """Return keys as text: a server's parent hands it to its workers, and it has no secrets."""
    return json.dumps([key.to_document() for key in keys])


def keys_from_json(text: str) -> list[KeyRecord]:
    """Return the keys that `keys_to_json` wrote."""
    return [KeyRecord.from_document(document) for document in json.loads(text)]


def grants_document(grants: Collection[Grant]) -> list[list[str | None]]:
    """Return grants as JSON-ready data, in order."""
    return [[str(g.permission), g.service] for g in sorted(grants, key=str)]


def read_grants(document: Collection[Collection[Any]]) -> frozenset[Grant]:
    """Return the grants that `grants_document` wrote."""
    return frozenset(Grant(Permission(permission), service) for permission, service in document)


def check_key_name(name: str) -> str:
    """Return `name` if a key may have it.

    Raises:
        ValueError: It breaks the rule.
    """
    if not _KEY_NAME.fullmatch(name):
        raise ValueError(
            "the name of a key takes 1 to 63 ASCII letters, digits and _ . @ -, and begins with a"
            " letter or digit"
        )
    return name


class Token(NamedTuple):
    """A key, taken apart."""

    id: str
    secret: str

    @classmethod
    def new(cls) -> "Token":
        """Return a key that nobody can guess."""
        return cls(secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Token | None":
        """Return the parts of a key; None if the text cannot be one."""
        found = _TOKEN.fullmatch(text) if len(text) <= MAX_TOKEN_LENGTH else None
        return cls(*found.groups()) if found else None

    def __str__(self) -> str:
        """The key as its holder sends it."""
        return f"{_PREFIX}_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        """Without the secret: whatever is logged may hold this."""
        return f"Token(id={self.id!r})"

    @property
    def hash(self) -> bytes:
        """SHA-256 of the secret."""
        return hashlib.sha256(self.secret.encode()).digest()

    def has_hash(self, expected: bytes) -> bool:
        """Whether the secret is the one with this hash; equally slow for all that are not."""
        return hmac.compare_digest(self.hash, expected)
