"""A real OCSP responder, `openssl ocsp`."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.testing.issued_certificate import IssuedCertificate
from tests.live.servers import free_port


def row(status: str, when: str, issued: IssuedCertificate, name: str = "x") -> str:
    """A line of `index.txt`. `status`: `V` or `R`; `when`: when it was revoked."""
    serial = f"{issued.x509.serial_number:x}"
    serial = serial.upper().rjust(len(serial) + len(serial) % 2, "0")
    return f"{status}\t400101000000Z\t{when}\t{serial}\tunknown\t/CN={name}\n"


@contextmanager
def responding(folder: Path, signer: CertificateAuthority | IssuedCertificate, *options: str) -> Iterator[str]:
    """The URL of a responder that `signer` signs for. `index.txt` and `ca.pem` are in `folder`."""
    (folder / "signer.pem").write_text(signer.pem)
    (folder / "signer.key").write_text(_key_pem(signer))
    port = free_port()
    command = ["openssl", "ocsp", "-index", "index.txt", "-port", str(port), "-CA", "ca.pem"]
    command += ["-rsigner", "signer.pem", "-rkey", "signer.key", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "waiting for OCSP client connections" in process.stderr.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _key_pem(signer: CertificateAuthority | IssuedCertificate) -> str:
    return signer._identity.key_pem if isinstance(signer, CertificateAuthority) else signer.key_pem
