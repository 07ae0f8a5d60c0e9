"""Certificates for tests, made on the spot by openssl."""

import shutil
import subprocess
from pathlib import Path

import pytest


class Authority:
    """Who signs certificates, in a folder of its own.

    Attributes:
        certificate: File of the authority's own certificate.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("there is no openssl on the PATH to make certificates with")
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._key = folder / "ca.key"
        self.certificate = folder / "ca.pem"
        request = ["-x509", "-subj", "/CN=an authority of this test", "-days", "1"]
        _openssl("req", *request, *_new_key(self._key), "-out", self.certificate)

    @property
    def own(self) -> tuple[Path, Path]:
        """The files of the authority's own certificate and key: signed by itself."""
        return self.certificate, self._key

    def sign(self, name: str, *addresses: str, days: int = 1) -> tuple[Path, Path]:
        """Return the files of a new certificate and of its key; addresses as in `IP:127.0.0.1`.

        With `days` below 0 it has expired. Signing for the same name again replaces both files.
        """
        key, certificate, request = (
            self._folder / f"{name}.{end}" for end in ("key", "pem", "csr")
        )
        _openssl("req", "-subj", f"/CN={name}", *_new_key(key), "-out", request)
        extensions = self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(addresses or [f'DNS:{name}'])}\n")
        signing: list[str | Path] = [
            "-CA",
            self.certificate,
            "-CAkey",
            self._key,
            "-CAcreateserial",
            "-days",
            str(days),
        ]
        signing += ["-extfile", extensions]
        _openssl("x509", "-req", "-in", request, *signing, "-out", certificate)
        return certificate, key


def _new_key(file: Path) -> list[str]:
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    return [*kind, "-keyout", str(file)]


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
