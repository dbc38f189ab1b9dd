"""`openssl verify` as a second opinion on certification paths and revocation."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

Problem = tuple[int, str]  # the position in the path, in which the leaf is 0, and the message


def verify(
    directory: Path,
    roots: Sequence[x509.Certificate],
    intermediates: Sequence[x509.Certificate],
    lists: Sequence[bytes],
    leaves: Sequence[x509.Certificate],
    *options: str,
    now: float,
) -> list[list[Problem]]:
    """Return for each leaf the problems that OpenSSL finds. It accepts the leaf if there are none.

    `lists`: CRLs in DER.

    `directory`: where the files are written. `options`: for example `"-crl_check_all"`.
    """
    _write(directory / "roots", roots)
    _write(directory / "between", intermediates)
    crls = [x509.load_der_x509_crl(each).public_bytes(Encoding.PEM) for each in lists]
    (directory / "lists").write_bytes(b"".join(crls))
    for number, each in enumerate(leaves):
        _write(directory / f"leaf{number}", [each])
    command = ["openssl", "verify", "-purpose", "sslclient", "-attime", str(int(now)), *options, "-no-CApath"]
    command += ["-CAfile", "roots", *(["-untrusted", "between"] if intermediates else [])]
    command += [*(["-CRLfile", "lists"] if lists else []), *(f"leaf{number}" for number in range(len(leaves)))]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    assert run.returncode in (0, 2), run.stderr
    return _results(run.stdout, run.stderr, len(leaves))


def _write(path: Path, certificates: Sequence[x509.Certificate]) -> None:
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates))


def _results(out: str, err: str, count: int) -> list[list[Problem]]:
    accepted = {int(number) for number in re.findall(r"^leaf(\d+): OK$", out, re.MULTILINE)}
    rejected: dict[int, list[Problem]] = {}
    found: list[Problem] = []
    for line in err.splitlines():
        if failed := re.fullmatch(r"error leaf(\d+): verification failed", line):
            assert found, err
            rejected[int(failed[1])], found = found, []
        elif problem := re.fullmatch(r"error \d+ at (\d+) depth lookup: (.*)", line):
            found.append((int(problem[1]), problem[2]))
    assert accepted | rejected.keys() == set(range(count)), (out, err)
    assert not accepted & rejected.keys(), (out, err)
    return [rejected.get(number, []) for number in range(count)]
