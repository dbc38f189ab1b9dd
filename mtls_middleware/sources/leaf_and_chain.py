"""Loads the leaf certificate and the chain that a client presented. Drops unreadable certificates and copies.

Clients may send certificates that the server does not need (RFC 8446 4.4.2), so such a certificate never causes a
rejection. Every source loads its certificate here, so the result is the same for all sources.
"""

import logging
from collections.abc import Iterable

from cryptography import x509

from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.parser_errors import UNREADABLE, reason

logger: logging.Logger = logging.getLogger("mtls_middleware.sources")

# Maximum number of bytes (DER) of a chain without its leaf. OpenSSL accepts 100 kB from a client by default
# (SSL_CTX_set_max_cert_list).
MAX_CHAIN_BYTES = 98_304
# Each entry counts as at least this number of bytes, which also limits the number of entries. No X.509 certificate is
# smaller.
_SMALLEST = 128

_lines = LineLimit()


def load(leaf: bytes, chain: Iterable[bytes], verification: Verification, now: float) -> ClientCertificate:
    """Return the certificate `leaf` (DER) with the readable certificates of `chain` (DER), in order.

    Copies of the leaf and of other entries, entries that cannot be parsed, and entries beyond `MAX_CHAIN_BYTES` are
    dropped and logged. `now`: seconds since the epoch. Raises `MalformedCertificate` if the leaf cannot be parsed.
    """
    kept: dict[bytes, None] = {}
    dropped: list[str] = []
    copies = size = 0
    for number, der in enumerate(chain, 1):
        size += max(len(der), _SMALLEST)
        if size > MAX_CHAIN_BYTES:
            dropped.append(f"from number {number} on, the chain exceeds {MAX_CHAIN_BYTES} bytes")
            break
        if der == leaf or der in kept:
            copies += 1
        elif (why := _unreadable(der)) is None:
            kept[der] = None
        elif not dropped:  # the log gets only the first reason
            dropped.append(f"number {number}, and perhaps others, cannot be parsed: {why}")
    if copies:
        dropped.append(f"number of copies: {copies}")
    certificate = ClientCertificate.from_der(leaf, chain=tuple(kept), verification=verification)
    if dropped:
        _log(certificate, dropped, now)
    return certificate


def _unreadable(der: bytes) -> str | None:
    """Return the parser's reason why this is not a certificate, or `None` if it is a certificate."""
    try:
        x509.load_der_x509_certificate(der)
    except UNREADABLE as error:
        return reason(error)
    return None


def _log(certificate: ClientCertificate, dropped: list[str], now: float) -> None:
    message = "certificates in the chain of %s are ignored: %s"
    _lines.log(logger, logging.INFO, now, message, certificate.thumbprint, "; ".join(dropped))
