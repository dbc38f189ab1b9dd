"""The command `mtls-middleware verify CERT`: prints the path from a certificate to a root, and what fails first.

The decision is made by the code of `TrustStore`.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware import parser_errors
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.cli import moment
from mtls_middleware.cli.inspect_certificate import describe, load
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.names.invisible import escape_invisible
from mtls_middleware.validation import chain, diagnosis, profile, root_check, trust_files
from mtls_middleware.validation.diagnosis import Fault
from mtls_middleware.validation.revocation import Statuses, status_requests
from mtls_middleware.validation.revocation_lists import RevocationLists

_PURPOSES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
# The members of `inspect` that describe one certificate of the path.
_SHOWN = ("subject", "issuer", "serial_number", "not_valid_before", "not_valid_after", "key", "thumbprint")


class Verdict(NamedTuple):
    """The longest path that was found, as DER, and all reasons why it is not valid, in the order of the checks.

    `faults` is empty if the certificate is valid. The position of a fault is that of a certificate in `path`, or -1 for
    the path as a whole.
    """

    path: Sequence[bytes]
    faults: Sequence[Fault]
    is_complete: bool


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command `verify` to `parser`."""
    parser.add_argument(
        "certificate", metavar="CERT", help="a PEM file (the leaf, then the chain that the client sends) or a DER file"
    )
    for name, text in (
        ("--roots", "a PEM file of trusted roots, or a directory of *.pem and *.crt; may be repeated"),
        ("--intermediates", "the same for CAs that the client need not send"),
        ("--crl", "a revocation list in PEM or DER, or a directory; may be repeated"),
    ):
        parser.add_argument(name, metavar="FILE", action="extend", nargs="+", default=[], help=text)
    parser.add_argument("--purpose", choices=tuple(_PURPOSES), default="client", help="by default: client")
    parser.add_argument("--at", metavar="TIME", help="verify as at this time, for example 2027-01-31")
    parser.add_argument("--max-depth", metavar="N", type=int, default=5, help="intermediates at most (5)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print the path and what fails. Return 0 if the certificate is valid, otherwise 1.

    Raises `ConfigurationError` if a file cannot be read, or if a root can never validate a certificate.
    """
    if not options.roots:
        raise ConfigurationError("--roots is missing; expected a PEM file, for example --roots clients-ca.pem")
    if not 0 <= options.max_depth <= 16:
        raise ConfigurationError(f"--max-depth {options.max_depth}: expected a number from 0 to 16")
    now = time.time() if options.at is None else moment.seconds_of(options.at)
    purpose = _PURPOSES[options.purpose]
    roots = chain.Roots(
        _certificates(options.roots, purpose),
        _certificates(options.intermediates, None),
        max_depth=options.max_depth,
        require_client_auth_eku=False,
        purpose=purpose,
    )
    lists = RevocationLists(options.crl) if options.crl else None
    certificate = load(options.certificate)[1]
    description = _description(verdict(certificate, roots, lists, purpose, now))
    if options.json:
        sys.stdout.write(json.dumps(description, indent=2) + "\n")
    else:
        sys.stdout.writelines(_lines(description))
    return 0 if description["valid"] else 1


def verdict(
    certificate: ClientCertificate,
    roots: chain.Roots,
    lists: RevocationLists | None,
    purpose: x509.ObjectIdentifier,
    now: float,
) -> Verdict:
    """Return the path, and all reasons why the certificate is not valid. `now`: seconds since the epoch."""
    try:
        path = roots.path(certificate, now).certificates
    except Refused as refusal:
        return _diagnosed(certificate, roots, refusal, purpose, now)
    if lists is None:
        return Verdict(_encoded(path), (), is_complete=True)
    statuses: Statuses = BlockingDriver().run(lists.statuses(status_requests(path), now)).value
    faults = [Fault(number, each.reason) for number, each in enumerate(statuses) if each.status != "good"]
    return Verdict(_encoded(path), faults, is_complete=True)


def _diagnosed(
    certificate: ClientCertificate, roots: chain.Roots, refusal: Refused, purpose: x509.ObjectIdentifier, now: float
) -> Verdict:
    """Return the longest path of a rejected certificate, and all reasons for the rejection."""
    path: Sequence[bytes] = (certificate.der,)
    faults: list[Fault] = []
    is_complete = False
    try:
        leaf = certificate.x509
        found = roots.diagnose(certificate, now)
        path, is_complete = _encoded(found.path), found.is_complete
        defects = profile.client_defects(profile.CertificateContents(leaf), purpose, require_purpose=False)
        # If the path does not lead to a trusted root, the last fault says why. It comes after the defects of the leaf.
        own = found.faults if found.is_complete else found.faults[:-1]
        faults = [*own, *(Fault(0, each) for each in defects), *found.faults[len(own) :]]
    except chain.UNREADABLE as error:
        faults = [Fault(0, f"a certificate of the path cannot be read: {parser_errors.reason(error)}")]
    faults.sort(key=lambda each: each.position)
    known = {reason for each in faults for reason in (each.reason, diagnosis.place(each.position) + each.reason)}
    rest = [Fault(-1, each, refusal.advice) for each in refusal.evidence[1:] if each not in known]
    return Verdict(path, [*faults, *rest], is_complete)


def _encoded(path: Sequence[x509.Certificate]) -> list[bytes]:
    return [each.public_bytes(Encoding.DER) for each in path]


def _certificates(paths: Sequence[str], purpose: x509.ObjectIdentifier | None) -> list[x509.Certificate]:
    """Return the certificates of files and directories.

    If `purpose` is given, they must be usable as roots for this purpose.
    """
    found: list[x509.Certificate] = []
    for given in paths:
        try:
            path = Path(given)
            files = (
                sorted(each for each in path.iterdir() if each.suffix in (".pem", ".crt")) if path.is_dir() else [path]
            )
            for file in files:
                certificates = trust_files.read_certificates(file.read_bytes(), str(file))
                if purpose is not None:
                    root_check.require_usable(certificates, purpose, str(file))
                found += certificates
        except OSError as error:
            raise ConfigurationError(f"{error.filename}: {error.strerror}") from error
        except ValueError as error:
            raise ConfigurationError(f"{file}: {error}") from error
    return found


def _description(found: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON data."""
    path = []
    for position, der in enumerate(found.path):
        contents = describe(ClientCertificate.from_der(der))
        is_last = position == len(found.path) - 1
        role = "leaf" if position == 0 else "root" if is_last and found.is_complete else "intermediate"
        reasons = [each.reason for each in found.faults if each.position == position]
        path.append(
            {"position": position, "role": role, **{name: contents[name] for name in _SHOWN}, "reasons": reasons}
        )
    first = found.faults[0] if found.faults else None
    return {
        "valid": first is None,
        "path": path,
        "complete": found.is_complete,
        "first_failure": None
        if first is None
        else {
            "position": None if first.position < 0 else first.position,
            "reason": first.reason,
            "advice": first.advice,
        },
        "reasons": [each.reason for each in found.faults],
    }


def _lines(description: dict[str, Any]) -> Iterator[str]:
    for each in description["path"]:
        yield f"{each['position']}. {each['role']}: {escape_invisible(str(each['subject']))}\n"
        for name in _SHOWN[1:]:
            yield f"   {name.replace('_', ' '):18}{escape_invisible(str(each[name]))}\n"
        for reason in each["reasons"]:
            yield f"   fails: {escape_invisible(reason)}\n"
    if not description["complete"]:
        yield "   the path ends here, without a trusted root\n"
    first = description["first_failure"]
    if first is None:
        yield "valid: the path leads to a trusted root\n"
        return
    where = "" if first["position"] is None else f"certificate {first['position']}: "
    yield f"not valid: {where}{escape_invisible(first['reason'])}\n"
    if first["advice"]:
        yield f"what to do: {escape_invisible(first['advice'])}\n"
