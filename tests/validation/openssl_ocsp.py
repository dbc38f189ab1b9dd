"""`openssl ocsp` as a client: its verdict about the status of a certificate, as a second opinion.

The verdicts are good, revoked, unknown, and unusable for a response that OpenSSL does not accept.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from mtls_middleware.validity import CLOCK_SKEW

# OpenSSL's default tolerance for times is five minutes.
_TIMES = "-validity_period", str(int(CLOCK_SKEW))


def asked(folder: Path, url: str, name: str, *options: str) -> str:
    """Return the verdict after an exchange of OpenSSL itself. `ca.pem` and `NAME.pem` are in `folder`."""
    return _verdict(folder, name, ["-url", url, *options])


def read(folder: Path, request: bytes, response: bytes, name: str, *options: str) -> str:
    """Return the verdict about this response to this request. `ca.pem` and `NAME.pem` are in `folder`."""
    (folder / "request.der").write_bytes(request)
    (folder / "response.der").write_bytes(response)
    # OpenSSL ignores `-reqin` beside `-cert`. Without `-cert`, it compares the nonces, and nothing else is of use.
    compared = _run(folder, ["-no_nonce", "-reqin", "request.der", "-respin", "response.der", "-CAfile", "ca.pem"])
    if "Nonce Verify error" in compared.stderr:
        return "unusable"
    return _verdict(folder, name, ["-no_nonce", "-respin", "response.der", *options])


def _verdict(folder: Path, name: str, options: Sequence[str]) -> str:
    run = _run(folder, ["-issuer", "ca.pem", "-cert", f"{name}.pem", "-CAfile", "ca.pem", *_TIMES, *options])
    if run.returncode or "Response verify OK" not in run.stderr or "Status times invalid" in run.stdout + run.stderr:
        return "unusable"
    lines = [line.removeprefix(f"{name}.pem: ") for line in run.stdout.splitlines() if line.startswith(f"{name}.pem: ")]
    return {"good": "good", "revoked": "revoked", "unknown": "unknown"}.get(lines[0], "unusable")


def _run(folder: Path, options: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    command = ["openssl", "ocsp", "-no-CApath", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
