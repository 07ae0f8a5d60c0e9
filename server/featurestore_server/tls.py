"""Encryption: credentials that follow their files."""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import grpc

from featurestore.certificates import TlsContent, TlsFiles, read_tls
from featurestore.errors import CertificateError

LOGGER: Final = logging.getLogger("featurestore_server")


class FollowedFiles:
    """Files of a certificate and key, read again by the first connection after they changed.

    While they cannot be used (half of them is written yet, say), connections are secured as before
    and the log says why, once for every change.

    Raises:
        CertificateError: They cannot be used now.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = files.stamp()
        self._first = _configuration(_read(files))

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials for a server's ports."""
        return grpc.dynamic_ssl_server_credentials(
            self._first, self._changed, self._files.client_ca is not None
        )

    def _changed(self) -> Any:
        """Return the configuration to use from now on; None while it is the same.

        gRPC asks before every handshake, which takes a thousand times as long as three stats do.
        """
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            content = _read(self._files)
        except CertificateError as error:
            LOGGER.warning("the certificate is not renewed: %s", error.message)
            return None
        if (
            self._files.stamp() != stamp
        ):  # written meanwhile: what was read need not belong together
            self._stamp = ()
            return None
        LOGGER.info("the certificate was renewed; it expires at %s", content.expires.isoformat())
        return _configuration(content)


def _read(files: TlsFiles) -> TlsContent:
    return read_tls(files, now=datetime.now(UTC))


def _configuration(content: TlsContent) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(content.key, content.certificate)], root_certificates=content.client_ca
    )
