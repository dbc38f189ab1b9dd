"""Encodes a certificate and its chain as proxies do, the leaf first."""

import base64
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

CertificatePath = tuple[Certificate, ...]  # a leaf and its chain


def der(certificate: Certificate) -> bytes:
    """Return the certificate in DER format."""
    return certificate.public_bytes(Encoding.DER)


def pem(path: CertificatePath) -> str:
    """Return the certificates in PEM format, one after the other."""
    return "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in path)


def base64_der(path: CertificatePath) -> str:
    """Return the base64 of the concatenated DER certificates."""
    return base64.b64encode(b"".join(map(der, path))).decode("ascii")


def byte_sequences(path: CertificatePath) -> str:
    """Return a List of Byte Sequences (RFC 9651 3.1, 3.3.5). For one certificate, this is also an Item."""
    return ", ".join(f":{base64_der((each,))}:" for each in path)


def escaped_pem(path: CertificatePath, *, unescaped: str = "") -> str:
    """Return PEM with percent escapes. Like `quote`, nginx and Envoy escape all but the characters of RFC 3986 2.3.

    `unescaped`: further characters that are not escaped.
    """
    return quote(pem(path), safe=unescaped)
