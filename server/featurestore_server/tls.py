"""Encryption: files of certificates and keys that are followed while a server runs."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

import grpc

from featurestore.certificates import TlsContent, TlsFiles, read_tls
from featurestore.errors import CertificateError

LOGGER: Final = logging.getLogger("featurestore_server")

T = TypeVar("T")


class FollowedFiles(Generic[T]):
    """What is made of files of a certificate and key; made again once they changed.

    While they cannot be used (half of them is written yet, say), it stays as it is and the log says
    why, once for every change.

    Args:
        files: The files.
        make: Makes what connections are secured with.

    Attributes:
        made: What it made last.

    Raises:
        CertificateError: The files cannot be used now.
    """

    def __init__(self, files: TlsFiles, make: Callable[[TlsFiles, TlsContent], T]) -> None:
        self._files = files
        self._make = make
        self._stamp = files.stamp()
        self.made = make(files, _read(files))

    def changed(self) -> T | None:
        """Return what to use from now on; None while it is the same.

        To be called before every handshake, which takes a thousand times as long as three stats do.
        """
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            content = _read(self._files)
            made = self._make(self._files, content)
        except (CertificateError, OSError) as error:
            LOGGER.warning("the certificate is not renewed: %s", error)
            return None
        if self._files.stamp() != stamp:  # written meanwhile: it need not belong together
            self._stamp = ()
            return None
        LOGGER.info("the certificate was renewed; it expires at %s", content.expires.isoformat())
        self.made = made
        return made


def grpc_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that follow their files.

    Raises:
        CertificateError: The files cannot be used now.
    """
    followed = FollowedFiles(files, _configuration)
    return grpc.dynamic_ssl_server_credentials(
        followed.made,
        followed.changed,  # type: ignore[arg-type]  # None is allowed: its documentation says so
        files.client_ca is not None,
    )


def _read(files: TlsFiles) -> TlsContent:
    return read_tls(files, now=datetime.now(UTC))


def _configuration(_files: TlsFiles, content: TlsContent) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(content.key, content.certificate)], root_certificates=content.client_ca
    )
