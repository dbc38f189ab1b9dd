"""`openssl ocsp` as a client: its verdict about the status of a certificate, as a second opinion.

The verdicts are good, revoked, unknown, and unusable for a response that OpenSSL does not accept.
"""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mtls_middleware.validity import CLOCK_SKEW

STATUSES = ("good", "revoked", "unknown")
_CA = "-issuer", "ca.pem", "-CAfile", "ca.pem"
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


def read_all(folder: Path, response: bytes, names: Sequence[str], *options: str) -> list[str]:
    """Return the verdicts about several certificates of one CA. `ca.pem` and each `NAME.pem` are in `folder`."""
    (folder / "response.der").write_bytes(response)
    certificates = [option for name in names for option in ("-cert", f"{name}.pem")]
    return _verdicts(
        _run(folder, ["-no_nonce", "-respin", "response.der", *_CA, *certificates, *_TIMES, *options]), names
    )


def _verdict(folder: Path, name: str, options: Sequence[str]) -> str:
    return _verdicts(_run(folder, [*_CA, "-cert", f"{name}.pem", *_TIMES, *options]), [name])[0]


def _verdicts(run: "subprocess.CompletedProcess[str]", names: Sequence[str]) -> list[str]:
    if "Response verify OK" not in run.stderr:
        return ["unusable"] * len(names)
    _, *parts = re.split(r"^(\S+)\.pem: ", run.stdout, flags=re.MULTILINE)  # a name, its lines, a name, its lines, ...
    lines = dict(zip(parts[::2], parts[1::2], strict=True))
    assert lines.keys() == set(names), run.stdout
    return [next((each for each in STATUSES if lines[name].startswith(f"{each}\n")), "unusable") for name in names]


def _run(folder: Path, options: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    command = ["openssl", "ocsp", "-no-CApath", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
