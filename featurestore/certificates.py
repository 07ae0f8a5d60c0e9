"""Files of certificates and keys: read whole, checked, and until when they are good."""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from featurestore.errors import CertificateError

_MAX_FILE_BYTES: Final = 1 << 20
_CERTIFICATE: Final = re.compile(
    r"-----BEGIN CERTIFICATE-----[\s\w+/=]+-----END CERTIFICATE-----", re.ASCII
)


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """What a server encrypts with; PEM files.

    Attributes:
        certificate: The server's certificate, then those between it and its authority.
        key: Its key; may be the same file.
        client_ca: The authorities that sign clients' certificates; None if clients need none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what differs once a file was written or replaced."""
        return tuple(_stamp(file) for file in (self.certificate, self.key, self.client_ca) if file)


@dataclass(frozen=True, kw_only=True)
class TlsContent:
    """The content of files that belong together.

    Attributes:
        certificate: PEM, as the other two.
        key: Of the certificate.
        client_ca: None if clients need no certificate.
        expires: When the first certificate of the server's chain ends.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires: datetime


@dataclass(frozen=True, slots=True)
class Validity:
    """When a certificate is good."""

    begins: datetime
    ends: datetime


def read_tls(files: TlsFiles, *, now: datetime) -> TlsContent:
    """Read files that a server is to use.

    Raises:
        CertificateError: One cannot be read, is none, does not belong to the others, or is not
            valid now; the message names it.
    """
    chain = _read(files.certificate)
    key = _read(files.key)
    client_ca = None if files.client_ca is None else _read(files.client_ca)
    validities = validities_in(chain, files.certificate)
    _check_certificates(files.certificate)
    _check_pair(files)
    _check_valid(validities, files.certificate, now)
    if client_ca is not None and files.client_ca is not None:
        validities_in(client_ca, files.client_ca)
        _check_certificates(files.client_ca)
    return TlsContent(
        certificate=chain, key=key, client_ca=client_ca, expires=min(v.ends for v in validities)
    )


def is_readable_by_others(file: Path) -> bool:
    """Whether users outside the file's group may read or write it."""
    return bool(file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))


def validities_in(pem: bytes, file: Path) -> list[Validity]:
    """Return when each certificate in `pem` is good, at least one.

    Raises:
        CertificateError: There is none, or one is damaged.
    """
    import ssl

    try:
        found = _CERTIFICATE.findall(pem.decode("utf-8", "replace"))
        validities = [_validity(ssl.PEM_cert_to_DER_cert(text)) for text in found]
    except (ValueError, IndexError):
        validities = []
    if not validities:
        raise _no_certificate(file)
    return validities


def _no_certificate(file: Path) -> CertificateError:
    return CertificateError(
        f"{file} holds no certificate that can be read.",
        file=str(file),
        hint="it has to be PEM: -----BEGIN CERTIFICATE-----",
    )


def _check_valid(validities: list[Validity], file: Path, now: datetime) -> None:
    begins, ends = max(v.begins for v in validities), min(v.ends for v in validities)
    if now >= ends:
        raise CertificateError(
            f"{file} has a certificate that expired at {ends.isoformat()}.",
            file=str(file),
            hint="renew it; a server that runs takes the new file over",
        )
    if now < begins:
        raise CertificateError(
            f"{file} has a certificate that is not valid before {begins.isoformat()}.",
            file=str(file),
            hint="check this machine's clock",
        )


def _check_pair(files: TlsFiles) -> None:
    """Let OpenSSL see whether key and certificate are such, and belong together."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except _EncryptedKeyError:
        raise CertificateError(
            f"The key {files.key} is encrypted.",
            file=str(files.key),
            hint="a server starts without anybody to ask: decrypt it with openssl pkey",
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(
                f"The key {files.key} is not that of the certificate {files.certificate}.",
                file=str(files.key),
                hint="take both from the same request; the server's own certificate comes first",
            ) from None
        reason = (error.reason or "no PEM").lower().replace("_", " ")
        raise CertificateError(
            f"{files.key} holds no key that can be used: {reason}.",
            file=str(files.key),
            hint="it has to be PEM: -----BEGIN PRIVATE KEY-----",
        ) from None
    except OSError as error:
        raise _unreadable(files.key, error) from None


def _check_certificates(file: Path) -> None:
    """Let OpenSSL parse each certificate in a file."""
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cafile=file)
    except (ssl.SSLError, OSError):
        raise _no_certificate(file) from None


class _EncryptedKeyError(Exception):
    """OpenSSL asked for a password."""


def _no_password() -> str:
    raise _EncryptedKeyError


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise CertificateError(
                f"{file} is larger than {_MAX_FILE_BYTES:,} bytes.", file=str(file)
            )
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: OSError) -> CertificateError:
    return CertificateError(
        f"{file} cannot be read: {error.strerror or type(error).__name__}.",
        file=str(file),
        hint="check the path in server.tls, and the file's permissions",
    )


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


# --- DER -----------------------------------------------------------------------------------------
# Python shows the dates of a certificate to whoever connects to it, not to whoever has the file.
# They are the fifth field of a structure that RFC 5280, section 4.1, lays down.

_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_LONG: Final = 0x80


def _validity(der: bytes) -> Validity:
    """Return when a certificate is good; ValueError or IndexError if it is none."""
    certificate = next(_fields(der))[1]
    fields = list(_fields(next(_fields(certificate))[1]))
    if fields[0][0] == _VERSION:
        del fields[0]
    begins, ends = _fields(fields[3][1])  # after serial number, signature algorithm, issuer
    return Validity(_instant(*begins), _instant(*ends))


def _fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the (tag, content) that lie one after the other in `content`."""
    at = 0
    while at < len(content):
        tag, length, at = content[at], content[at + 1], at + 2
        if length >= _LONG:
            size = length - _LONG
            length, at = int.from_bytes(content[at : at + size]), at + size
        if at + length > len(content):
            raise ValueError("the structure is longer than what is there")
        yield tag, content[at : at + length]
        at += length


def _instant(tag: int, text: bytes) -> datetime:
    digits = text.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: from 1950 to 2049
        century = "19" if digits >= "5" else "20"
        digits = century + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
