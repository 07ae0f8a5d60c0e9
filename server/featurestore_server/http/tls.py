"""Encryption of HTTP, with the files and the rules that gRPC has."""

import ssl
from typing import Any

from featurestore.certificates import TlsContent, TlsFiles
from featurestore_server.tls import FollowedFiles


def followed_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context of which each handshake has the files as they are then.

    Raises:
        CertificateError: The files cannot be used now.
    """
    context = _Followed(ssl.PROTOCOL_TLS_SERVER)
    context.followed = FollowedFiles(files, _context)
    return context


class _Followed(ssl.SSLContext):
    """Stands for the context of the files as they are, which is another one when they change.

    So each has session tickets of its own: a session that began with other authorities is not
    resumed, as its client's certificate would not be looked at again.
    """

    followed: FollowedFiles[ssl.SSLContext]

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        """Begin a connection, as asyncio does for each."""
        self.followed.changed()
        return self.followed.made.wrap_bio(*arguments, **named)


def names_in(certificate: dict[str, Any] | None) -> list[str]:
    """Return the names in a client's certificate as gRPC has them.

    Args:
        certificate: As `ssl.SSLObject.getpeercert` describes it; None without one.

    Returns:
        The alternative names, or the common name if there are none.
    """
    found = certificate or {}
    names = [str(name) for _, name in found.get("subjectAltName", ())]
    if names:
        return names
    parts = [part for parts in found.get("subject", ()) for part in parts]
    return [str(value) for kind, value in parts if kind == "commonName"][:1]


def _context(files: TlsFiles, _content: TlsContent) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(cafile=files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0  # a certificate that has expired since would not be noticed
    return context
