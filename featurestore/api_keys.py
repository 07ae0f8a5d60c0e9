"""Keys of those who call a server: made, listed, revoked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from featurestore.access import (
    MAX_CERTIFICATE_NAME,
    OF_SERVICES,
    Grant,
    KeyRecord,
    Permission,
    Token,
    check_key_name,
)
from featurestore.errors import RequestError, close_names, did_you_mean, shown
from featurestore.time import to_micros

if TYPE_CHECKING:
    from featurestore.registry.sql import SqlRegistry

MAX_LIFE: Final = timedelta(days=36_500)


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A key that was just made.

    Attributes:
        record: What is kept of it.
        token: The key itself, which nobody can find out again; None if a certificate stands for it.
    """

    record: KeyRecord
    token: str | None = field(repr=False)


class ApiKeys:
    """The keys of one project.

    Args:
        registry: Where they are kept.
        project: The project.
        actor: Who makes and revokes them.
    """

    def __init__(self, registry: "SqlRegistry", project: str, *, actor: str) -> None:
        self._registry = registry
        self._project = project
        self._actor = actor

    def create(
        self,
        name: str,
        *,
        roles: Sequence[str],
        services: Sequence[str] = (),
        expires_in: timedelta | None = None,
        certificate: str | None = None,
    ) -> NewKey:
        """Make a key; only a hash of its secret is kept.

        Args:
            name: What logs and people call it.
            roles: At least one of "read_online", "read_offline", "write" and "admin".
            services: The only feature services that it may read; none for the whole project.
            expires_in: How long it is good for, in the present rather than by the project's clock;
                None for always.
            certificate: A name in a client's certificate that stands for the key: one of its
                subject alternative names, or the common name if it has none.

        Raises:
            RequestError: The name is taken or breaks the rule; a role is unknown; services do not
                go with the roles; the life is not above 0, or too long.
            NotFoundError: A service is not registered, or nothing was ever applied.
        """
        grants = _grants(roles, services)
        _check_certificate(certificate)
        now = self._registry.wall_now()
        if expires_in is not None and not timedelta() < expires_in <= MAX_LIFE:
            raise RequestError(f"A key lives for 1 microsecond to {MAX_LIFE.days:,} days.")
        token = Token.new()
        record = KeyRecord(
            id=token.id,
            name=_name(name),
            hash=token.hash.hex() if certificate is None else None,
            certificate=certificate,
            grants=grants,
            created_us=to_micros(now),
            created_by=self._actor,
            expires_us=None if expires_in is None else to_micros(now + expires_in),
        )
        self._registry.add_key(self._project, record)
        return NewKey(record=record, token=str(token) if certificate is None else None)

    def list(self) -> list[KeyRecord]:
        """Return all keys, oldest first; those that expired or were revoked, too."""
        return self._registry.keys(self._project)

    def revoke(self, name_or_id: str) -> KeyRecord:
        """Put a key out of force, for good; servers stop accepting it when they next look.

        Raises:
            NotFoundError: No key in force has this name or id.
        """
        return self._registry.revoke_key(self._project, name_or_id, actor=self._actor)


def _name(name: str) -> str:
    try:
        return check_key_name(name)
    except ValueError as error:
        raise RequestError(f"{shown(name)}: {error}.") from None


def _grants(roles: Sequence[str], services: Sequence[str]) -> frozenset[Grant]:
    permissions = [_permission(role) for role in roles]
    if not permissions:
        raise RequestError("A key needs a role.", hint=f"the roles are {_ROLES}")
    if services and not OF_SERVICES.intersection(permissions):
        raise RequestError(
            f"Services limit the roles {' and '.join(sorted(OF_SERVICES))} only.",
            hint="add one of these, or leave the services out",
        )
    if services and Permission.ADMIN in permissions:
        raise RequestError(
            "The role admin may read all services.", hint="leave the role out, or the services"
        )
    return frozenset(
        Grant(permission, service)
        for permission in permissions
        for service in (services if permission in OF_SERVICES and services else (None,))
    )


_ROLES: Final = ", ".join(Permission)


def _permission(role: str) -> Permission:
    try:
        return Permission(role)
    except ValueError:
        close = did_you_mean(close_names(role, map(str, Permission)))
        raise RequestError(
            f"There is no role {shown(role)}.", hint=close or f"the roles are {_ROLES}"
        ) from None


def _check_certificate(name: str | None) -> None:
    if name is not None and not (0 < len(name) <= MAX_CERTIFICATE_NAME and name.isprintable()):
        raise RequestError(
            f"{shown(name)} cannot be a name in a certificate: it takes 1 to"
            f" {MAX_CERTIFICATE_NAME} printable characters."
        )
