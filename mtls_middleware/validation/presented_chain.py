"""Selects the certificates of a presented chain that can be part of a certification path."""

import contextlib
import logging
from collections.abc import Callable, Sequence

from cryptography import x509

from mtls_middleware.line_limit import LineLimit
from mtls_middleware.parser_errors import UNREADABLE

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")
_lines = LineLimit()


def issuers(
    leaf: x509.Certificate, chain: Sequence[bytes], known: Callable[[bytes], x509.Certificate | None]
) -> dict[bytes, x509.Certificate]:
    """Return the certificates that may be issuers of the leaf, directly or indirectly, by their names.

    The keys are their DER.

    The issuer nearest to the leaf is first. All other certificates are dropped, including unreadable certificates (RFC
    8446 4.4.2). The time is linear in the size of the chain. `known`: a look-up of certificates that are already
    parsed.
    """
    if not chain:
        return {}
    by_subject: dict[x509.Name, dict[bytes, x509.Certificate]] = {}
    for der in chain:
        try:
            certificate = known(der) or x509.load_der_x509_certificate(der)
            by_subject.setdefault(certificate.subject, {})[der] = certificate
        except UNREADABLE:
            continue
    found: dict[bytes, x509.Certificate] = {}
    names = [leaf.issuer]
    while names:
        level = by_subject.pop(names.pop(0), {})
        found |= level
        try:
            names += dict.fromkeys(each.issuer for each in level.values())
        except UNREADABLE:  # ignore it, because `cryptography` does not find a path through an unreadable certificate
            continue
    return found


def readable(chain: Sequence[bytes]) -> dict[bytes, x509.Certificate]:
    """Return the readable certificates of a presented chain, as a mapping of DER to certificate."""
    found = {}
    for der in chain:
        with contextlib.suppress(*UNREADABLE):
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.subject, certificate.issuer  # names are read late
            found[der] = certificate
    return found


def log_ignored(thumbprint: str, number: int, now: float) -> None:
    """Log how many presented certificates are not issuers of the client's certificate, with limited lines per second.

    `now`: seconds since the epoch.
    """
    if number:
        message = "%d certificates in the chain of %s are ignored: they are not its issuers"
        _lines.log(logger, logging.INFO, now, message, number, thumbprint)
