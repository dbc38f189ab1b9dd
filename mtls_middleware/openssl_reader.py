"""Asks OpenSSL whether bytes are a certificate, for certificates that `cryptography` cannot read.

This module performs no I/O.
"""

import ssl

from mtls_middleware.der import SEQUENCE, read_value


def is_certificate(der: bytes) -> bool:
    """Return whether OpenSSL reads these bytes as exactly one certificate, without further bytes after it.

    This takes longer than `cryptography`, so call it only for bytes that `cryptography` cannot read.

    Example: `is_certificate(ssl.PEM_cert_to_DER_cert(pem))`
    """
    try:
        tag, _, end = read_value(der)
        if tag != SEQUENCE or end != len(der):
            return False
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=der)
    except (ssl.SSLError, ValueError, TypeError):  # TypeError: these are not bytes
        return False
    return context.cert_store_stats()["x509"] == 1
