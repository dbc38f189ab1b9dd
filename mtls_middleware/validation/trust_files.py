"""Reads the certificates of a PEM file. For any other file, the error says what it is and which command converts it.

This module performs no I/O and reads no clock.
"""

import binascii
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from cryptography import x509

from mtls_middleware import parser_errors
from mtls_middleware.der import SEQUENCE, read_value, read_values

_BEGIN = re.compile(rb"-----BEGIN ([^\r\n-]{1,64})-----")
# The labels of RFC 7468 5.1, with the older label that OpenSSL and `cryptography` also read.
_CERTIFICATE = {"CERTIFICATE", "X509 CERTIFICATE"}
_ONLY_CERTIFICATES = "openssl crl2pkcs7 -nocrl -certfile {file} | openssl pkcs7 -print_certs -out converted.pem"
# A mapping of label to what the block is, and what to do.
_OTHER_LABELS = {
    "TRUSTED CERTIFICATE": (
        "a certificate with OpenSSL's trust settings, which have no effect here",
        "run `openssl x509 -in {file} -out converted.pem`",
    ),
    "PKCS7": ("PKCS#7", "run `openssl pkcs7 -print_certs -in {file} -out converted.pem`"),
    "PKCS #7 SIGNED DATA": ("PKCS#7", "run `openssl pkcs7 -print_certs -in {file} -out converted.pem`"),
    "CMS": ("PKCS#7", "run `openssl pkcs7 -print_certs -in {file} -out converted.pem`"),
    "X509 CRL": ("a revocation list", "give it to RevocationLists(['clients-ca.crl']), not to roots="),
    "CERTIFICATE REQUEST": ("a certificate request", "give the CA certificate that signs such requests"),
    "NEW CERTIFICATE REQUEST": ("a certificate request", "give the CA certificate that signs such requests"),
    "ATTRIBUTE CERTIFICATE": ("an attribute certificate", f"run `{_ONLY_CERTIFICATES}`"),
    "PUBLIC KEY": ("a public key", "give the CA certificate that contains this key"),
    "RSA PUBLIC KEY": ("a public key", "give the CA certificate that contains this key"),
}
_PRIVATE_KEY = (
    "a private key, which does not belong in a trust file",
    f"keep only the certificates: `{_ONLY_CERTIFICATES}`",
)
_PARAMETERS = ("parameters of a key", f"keep only the certificates: `{_ONLY_CERTIFICATES}`")
# The OID of signedData (RFC 5652 5.1), as DER.
_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_INTEGER, _BIT_STRING, _OCTET_STRING, _CONTEXT_0 = 2, 3, 4, 0xA0
_PKCS12 = "run `openssl pkcs12 -in {file} -nokeys -cacerts -out converted.pem`"
_KEYTOOL = "run `keytool -exportcert -rfc -keystore {file} -alias ALIAS -file converted.pem`"
# The first bytes of files that are neither text nor DER, what they are, and what to do.
_MAGIC = (
    (b"\xfe\xed\xfe\xed", "a Java key store (JKS)", _KEYTOOL),
    (b"\xce\xce\xce\xce", "a Java key store (JCEKS)", _KEYTOOL),
    (b"\xff\xfe", "UTF-16 text, as PowerShell writes it", "run `iconv -f UTF-16 -t UTF-8 {file} > converted.pem`"),
    (b"\xfe\xff", "UTF-16 text, as PowerShell writes it", "run `iconv -f UTF-16 -t UTF-8 {file} > converted.pem`"),
    (b"PK\x03\x04", "a ZIP archive", "extract it, and give the PEM file"),
    (b"\x1f\x8b", "a gzip archive", "run `gunzip -c {file} > converted.pem`"),
)
_BASE64 = re.compile(rb"MI[A-Za-z0-9+/=\s]+")
_EXPECTED = "expected only PEM certificates"


class _Block(NamedTuple):
    """One PEM block: its label, and its octets with both boundaries."""

    label: str
    octets: bytes


def read_certificates(octets: bytes, file: str = "ca.crt") -> list[x509.Certificate]:
    """Return all certificates of a PEM file. Text around the blocks is ignored (RFC 7468 2).

    `file`: the name of the file, for the command in the message. Raises `ValueError` if the file contains anything
    other than certificates. The message gives the number of the block or certificate, and the command that converts
    the file.

    Example: `read_certificates(Path("clients-ca.pem").read_bytes(), "clients-ca.pem")`
    """
    name = shlex.quote(file)
    blocks = list(_blocks(octets))
    if not blocks:
        raise ValueError(_without_blocks(octets).replace("{file}", name))
    for number, block in enumerate(blocks, 1):
        if block.label not in _CERTIFICATE:
            what, advice = _other_block(block.label)
            place = f"block {number} of {len(blocks)} ({ascii(block.label)[1:-1]})"
            raise ValueError(f"{place} is {what}; {_EXPECTED}: {advice}".replace("{file}", name))
    try:
        return [_certificate(block.octets, number, len(blocks)) for number, block in enumerate(blocks, 1)]
    except ValueError as error:
        raise ValueError(str(error).replace("{file}", name)) from error


def certificate_ders(octets: bytes) -> list[bytes]:
    """Return the contents of the certificate blocks of a PEM file, also of blocks that `cryptography` cannot read.

    Raises `ValueError` if the file has no certificate block. Example:
    `certificate_ders(Path("client.pem").read_bytes())`
    """
    found = [each.octets for each in _blocks(octets) if each.label in _CERTIFICATE]
    if not found:
        raise ValueError(f"it has no certificate block; {_EXPECTED}")
    return [_content(each) for each in found]


def _certificate(block: bytes, number: int, count: int) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(block)
    except parser_errors.UNREADABLE as error:
        raise ValueError(
            f"certificate {number} of {count} cannot be read: {parser_errors.reason(error)}; {_advice(block)}"
        ) from error


def _advice(block: bytes) -> str:
    """Return the advice for a certificate block that cannot be read."""
    if b"\\n" in block:
        return "it has the characters '\\n' instead of line breaks: run `sed 's/\\\\n/\\n/g' {file} > converted.pem`"
    try:
        what, advice = _der(_content(block))
    except ValueError:
        what = advice = ""
    if what not in ("", "a certificate", "no certificate"):
        return f"its content is {what}; {_EXPECTED}: {advice}"
    return "remove it, or ask its CA for another one: it could never validate a client"


def _content(block: bytes) -> bytes:
    """Return the octets of a PEM block. Raises `ValueError` (`binascii.Error`) if they are not base64."""
    return binascii.a2b_base64(block.partition(b"-----BEGIN ")[2].split(b"-----")[1])


def _blocks(octets: bytes) -> Iterator[_Block]:
    """Yield the PEM blocks. Raises `ValueError` for a block without an end. The time is linear in the size."""
    position, number = 0, 0
    while begin := _BEGIN.search(octets, position):
        number += 1
        label = begin[1]
        boundary = b"-----END " + label + b"-----"
        end = octets.find(boundary, begin.end())
        following = octets.find(b"-----BEGIN ", begin.end(), None if end < 0 else end)
        if end < 0 or following >= 0:
            raise ValueError(
                f"block {number} is not complete: it has no line {boundary.decode('latin-1')!a}; {_EXPECTED}: copy the "
                "file again"
            )
        position = end + len(boundary)
        yield _Block(label.decode("latin-1"), octets[begin.start() : position])
    if octets.find(b"-----END ", position) >= 0:
        where = f"after block {number}" if number else "in the file"
        raise ValueError(f"{where}, an END line has no line -----BEGIN CERTIFICATE----- before it; {_EXPECTED}")


def _other_block(label: str) -> tuple[str, str]:
    if label.endswith("PRIVATE KEY"):
        return _PRIVATE_KEY
    if label.endswith("PARAMETERS"):
        return _PARAMETERS
    return _OTHER_LABELS.get(label, ("not a certificate", f"run `{_ONLY_CERTIFICATES}`"))


def _without_blocks(octets: bytes) -> str:
    """Return the kind of a file without PEM blocks, and what to do."""
    if not octets.strip(b"\xef\xbb\xbf \t\r\n\0"):
        return f"the file is empty; {_EXPECTED}: write the CA certificate into it, or remove the file from roots="
    for magic, what, advice in _MAGIC:
        if octets.startswith(magic):
            return f"the file is {what}; {_EXPECTED}: {advice}"
    what, advice = _der(octets)
    if what:
        return f"the file is {what} (DER); {_EXPECTED}: {advice}"
    if _BASE64.fullmatch(octets.strip()):
        return (
            f"the file is base64 without the line -----BEGIN CERTIFICATE-----; {_EXPECTED}: run `openssl base64 -d -A "
            "-in {file} | openssl x509 -inform DER -out converted.pem`"
        )
    return f"the file has no line -----BEGIN CERTIFICATE-----; {_EXPECTED}: run `openssl x509 -in {{file}} -text`"


def _der(octets: bytes) -> tuple[str, str]:
    """Return the kind of a DER file, and what to do; empty strings if the file is not DER.

    Reads only tags and lengths.
    """
    try:
        tag, content, _ = read_value(octets)
        members = list(read_values(content))
    except ValueError:
        return "", ""
    tags = [each for each, _ in members]
    if tag != SEQUENCE or not tags:
        return "", ""
    if content.startswith(_SIGNED_DATA):
        return "PKCS#7", "run `openssl pkcs7 -inform DER -print_certs -in {file} -out converted.pem`"
    if tags[:2] == [_INTEGER, SEQUENCE] and members[0][1] == b"\x03":
        return "PKCS#12", _PKCS12
    if tags == [SEQUENCE, SEQUENCE, _BIT_STRING]:
        return _signed(members[0][1])
    return _key(tags)


def _key(tags: list[int]) -> tuple[str, str]:
    if tags[0] == _INTEGER or tags == [SEQUENCE, _OCTET_STRING]:
        return _PRIVATE_KEY[0], "give the CA certificate that belongs to this key"
    if tags == [SEQUENCE, _BIT_STRING]:
        return "a public key", "give the CA certificate that contains this key"
    return "no certificate", "give the CA certificate as PEM"


def _signed(content: bytes) -> tuple[str, str]:
    """Return whether a signed value is a certificate, a revocation list or a request, by the tags of its members."""
    try:
        tags = [tag for tag, _ in read_values(content)]
    except ValueError:
        tags = []
    if tags[:3] == [_INTEGER, SEQUENCE, SEQUENCE] and tags[3:] == [_CONTEXT_0]:
        return _OTHER_LABELS["CERTIFICATE REQUEST"]
    dates = {0x17, 0x18}  # UTCTime and GeneralizedTime, the types of thisUpdate in a list (RFC 5280 5.1)
    if dates & set(tags):
        return _OTHER_LABELS["X509 CRL"]
    return "a certificate", "run `openssl x509 -inform DER -in {file} -out converted.pem`"
