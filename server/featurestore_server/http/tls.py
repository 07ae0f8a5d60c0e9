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
    followed = FollowedFiles(files, _context)

    def on_hello(connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        followed.changed()
        connection.context = followed.made

    first = followed.made
    first.sni_callback = on_hello  # called for every handshake, whether it names a server or not
    return first


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
    return [str(value) for kind, value in parts if kind == "commonName"][-1:]


def _context(files: TlsFiles, _content: TlsContent) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(cafile=files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
