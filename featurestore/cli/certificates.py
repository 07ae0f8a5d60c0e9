"""What `doctor` looks at in the files that the server encrypts with."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from featurestore.certificates import is_readable_by_others, read_tls, validities_in
from featurestore.cli.checks import Check, Status
from featurestore.cli.output import counted

if TYPE_CHECKING:
    from featurestore.config import RepoConfig

RENEW_WITHIN: Final = timedelta(days=30)
"""When to warn of a certificate's end; authorities renew theirs about then."""


def check(config: "RepoConfig") -> Iterator[Check]:
    """Look at the certificates and the key; nothing to see where nothing is encrypted.

    Raises:
        CertificateError: A file cannot be used.
    """
    files, now = config.tls_files(), datetime.now(UTC)
    if files is None:
        return
    content = read_tls(files, now=now)
    yield _expiry("certificate", files.certificate, content.expires, now)
    if files.client_ca is not None and content.client_ca is not None:
        # The last of several: an authority is replaced by adding its successor to the file.
        last = max(v.ends for v in validities_in(content.client_ca, files.client_ca))
        yield _expiry("authority of clients", files.client_ca, last, now)
    if is_readable_by_others(files.key):
        yield Check(
            subject="certificate",
            status="warning",
            detail=f"every user of this machine may read the key {files.key}",
            hint=f"chmod o= {files.key}",
        )


def _expiry(subject: str, file: Path, expires: datetime, now: datetime) -> Check:
    left = expires - now
    status: Status = "ok" if left >= RENEW_WITHIN else "warning" if left > timedelta() else "error"
    when = f"expires at {expires.isoformat()}, in {counted(left.days, 'day')}"
    said = when if left > timedelta() else f"expired at {expires.isoformat()}"
    hint = None if status == "ok" else "renew it; a server that runs takes the new file over"
    return Check(subject=subject, status=status, detail=f"{file} {said}", hint=hint)
