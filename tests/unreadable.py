"""Certificates that OpenSSL reads and `cryptography` does not, wholly or in part, all issued by `CA`."""

import ssl
import warnings
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mtls_middleware.der import header, read_value, read_values
from mtls_middleware.policy import DNSName, Subject
from mtls_middleware.testing import CertificateAuthority

NAMES = x509.SubjectAlternativeName([x509.DNSName("billing.internal"), x509.RFC822Name("ops@acme.example")])
CA = CertificateAuthority("CN=Clients,O=Acme")
SUBJECT = x509.Name(
    [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "AcmeX", _type=x509.name._ASN1Type.PrintableString),
        x509.NameAttribute(NameOID.COMMON_NAME, "billing"),
    ]
)
CLIENT = CA.issue(SUBJECT, extensions=[(NAMES, False)])
DER = CLIENT.der


def value(tag: int, content: bytes) -> bytes:
    return header(tag, len(content)) + content


def spoilt(before: bytes, after: bytes, der: bytes = DER) -> bytes:
    """The certificate with other octets, and with the lengths of all values around them. The signature is not valid."""
    assert der.count(before) >= 1

    def changed(content: bytes) -> bytes:
        parts = []
        for tag, inner in read_values(content):
            whole = value(tag, inner)
            if whole == before:
                parts.append(after)
            elif before in inner and (tag & 0x20 or tag == 4):
                parts.append(value(tag, changed(inner)))
            else:
                parts.append(whole)
        return b"".join(parts)

    return value(0x30, changed(read_value(der)[1]))


def printable(text: str) -> bytes:
    return spoilt(value(19, b"AcmeX"), value(19, text.encode()))


def until(text: bytes, tag: int) -> bytes:
    ends = CLIENT.x509.not_valid_after_utc.strftime("%y%m%d%H%M%SZ").encode()
    return spoilt(value(23, ends), value(tag, text))


ECDSA = value(0x30, bytes.fromhex("06082a8648ce3d040302"))
CRITICAL_FALSE = spoilt(
    value(0x30, bytes.fromhex("0603551d11") + value(4, NAMES.public_bytes())),
    value(0x30, bytes.fromhex("0603551d11") + b"\x01\x01\x00" + value(4, NAMES.public_bytes())),
)


def is_readable(der: bytes) -> bool:
    """Return whether this release of `cryptography` reads the certificate, perhaps with a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            x509.load_der_x509_certificate(der)
        except (ValueError, x509.InvalidVersion):
            return False
    return True


# The certificate, and what the parser says.
UNREADABLE: dict[str, tuple[bytes, str]] = {
    "critical FALSE": (CRITICAL_FALSE, "EncodedDefault"),
    **{f"PrintableString with {char}": (printable(f"Ac{char}e"), "PrintableString") for char in "*@_&!#;"},
    "ECDSA parameters NULL": (spoilt(ECDSA, value(0x30, ECDSA[2:] + b"\x05\x00")), "ParseError"),
    "GeneralizedTime with a fraction": (until(b"20991231225959.357Z", 24), "GeneralizedTime"),
    "UTCTime without seconds": (until(b"4912312359Z", 23), "UtcTime"),
    "version 4": (spoilt(value(0xA0, b"\x02\x01\x02"), value(0xA0, b"\x02\x01\x03")), "version"),
}
if ssl.OPENSSL_VERSION_INFO >= (3, 6):  # it rejects this certificate itself
    del UNREADABLE["UTCTime without seconds"]


if is_readable(UNREADABLE["ECDSA parameters NULL"][0]):  # before cryptography 50, with a warning
    del UNREADABLE["ECDSA parameters NULL"]


class Part(NamedTuple):
    """A certificate of which a part is unreadable, a rule that still works, one that does not, and the reason."""

    der: bytes
    works: Any
    fails: Any
    reason: str


def names(*entries: bytes) -> bytes:
    return spoilt(NAMES.public_bytes(), value(0x30, b"".join(entries)))


GOOD_NAME = value(0x82, b"billing.internal")
SUBJECT_RULE, NAME_RULE = Subject("CN=billing,O=AcmeX"), DNSName("billing.internal")
BASIC = x509.BasicConstraints(ca=False, path_length=None)
BASIC_CLIENT = CA.issue(SUBJECT, extensions=[(NAMES, False), (BASIC, False)])
PARTS: dict[str, Part] = {
    "T61String with Latin-1": Part(
        spoilt(value(19, b"AcmeX"), value(20, b"M\xfcller")), NAME_RULE, Subject("CN=billing,O=Müller"), "subject"
    ),
    "UTF8String with other octets": Part(
        spoilt(value(12, b"billing"), value(12, b"bil\xffing")), NAME_RULE, Subject("CN=billing,O=AcmeX"), "subject"
    ),
    "IA5String with Latin-1": Part(
        spoilt(value(12, b"billing"), value(22, b"bill\xefng")), NAME_RULE, Subject("CN=billing,O=AcmeX"), "subject"
    ),
    "cA FALSE": Part(
        spoilt(value(4, BASIC.public_bytes()), value(4, value(0x30, b"\x01\x01\x00")), BASIC_CLIENT.der),
        SUBJECT_RULE,
        NAME_RULE,
        "EncodedDefault",
    ),
    "dNSName in UTF-8": Part(
        names(GOOD_NAME, value(0x82, "ünexample.ee".encode())), SUBJECT_RULE, NAME_RULE, "entry 2"
    ),
    "rfc822Name in Latin-1": Part(
        names(GOOD_NAME, GOOD_NAME, value(0x81, b"m\xfcller@acme.example")),
        SUBJECT_RULE,
        NAME_RULE,
        "entry 3 (rfc822Name)",
    ),
    "URI in UTF-8": Part(names(value(0x86, "https://acme/ü".encode()), GOOD_NAME), SUBJECT_RULE, NAME_RULE, "entry 1"),
    "ediPartyName": Part(
        names(GOOD_NAME, value(0xA5, value(0xA1, value(12, b"x")))), SUBJECT_RULE, NAME_RULE, "entry 2 (ediPartyName)"
    ),
    "x400Address": Part(names(value(0xA3, b""), GOOD_NAME), SUBJECT_RULE, NAME_RULE, "entry 1 (x400Address)"),
    "iPAddress of 5 octets": Part(
        names(GOOD_NAME, value(0x87, b"\x0a\0\0\1\0")), SUBJECT_RULE, NAME_RULE, "entry 2 (iPAddress)"
    ),
    "iPAddress of a network": Part(
        names(GOOD_NAME, value(0x87, b"\x0a\0\0\0\xff\0\0\0")),
        SUBJECT_RULE,
        NAME_RULE,
        "entry 2: an iPAddress entry is",
    ),
    "control character": Part(names(GOOD_NAME, value(0x82, b"a\0b")), SUBJECT_RULE, NAME_RULE, "entry 2"),
}


def signed_again(der: bytes) -> bytes:
    """The certificate with a valid signature of `CA`."""
    (tag, tbs), (_, algorithm), _ = read_values(read_value(der)[1])
    signature = CA.key.sign(value(tag, tbs), ec.ECDSA(hashes.SHA256()))
    return value(0x30, value(tag, tbs) + value(0x30, algorithm) + value(3, b"\0" + signature))
