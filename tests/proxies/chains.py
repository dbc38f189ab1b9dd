"""Chains that clients send, and what must come of them: the tables behind the tests and docs/proxy-results.md."""

import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mtls_middleware.der import header, read_value, read_values
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.testing.issued_certificate import IssuedCertificate
from tests.proxies import matrix
from tests.proxies.matrix import GO, Setup
from tests.unreadable import CRITICAL_FALSE, UNREADABLE, is_readable
from tests.validation.unusual_certificates import cross_signed

# Each form in front of a WSGI server or an ASGI server; the own form of each proxy in front of both.
SETUPS = [
    Setup(proxy, form, mode, server)
    for form, mode, server in (
        ("idiomatic", "required", "gunicorn"),
        ("idiomatic", "optional", "HTTPTools"),
        ("rfc9440", "untrusted", "H11"),
    )
    for proxy in matrix.PROXIES
]
# HAProxy without the Lua script: the chain is one Byte Sequence.
JOINED = [Setup("haproxy", "rfc9440", mode, server, "joined") for mode, server in zip(
    ("required", "optional", "untrusted"), matrix.SERVERS, strict=True
)]  # fmt: skip

# Two forms of Apache, because only one of them has the chain.
COLUMNS = [(proxy, "idiomatic") for proxy in matrix.PROXIES] + [("apache", "rfc9440")]
COLUMNS.sort(key=lambda column: list(matrix.PROXIES).index(column[0]))

# What the client sends behind its own certificate, in this order.
KINDS = (
    "issuer",
    "leaf, issuer",
    "issuer, leaf",
    "issuer, root",
    "root, issuer",
    "issuer, former root",
    "former root, issuer",
    "issuer, foreign CA",
    "foreign CA, issuer",
    "version 1 CA, issuer",
    "issuer, former certificate",
    "former certificate, issuer",
    "foreign client, issuer",
    "server, issuer",
    "self-signed, issuer",
    "issuer, expired issuer",
    "expired issuer, issuer",
    "issuer, cross-signed issuer",
    "cross-signed issuer, issuer",
    "issuer, cross-signed root",
    "Brainpool CA, issuer",
    "critical FALSE, issuer",
    "PrintableString, issuer",
    "20 issuers",
    "40 issuers",
    "issuer, 40 foreign CAs",
    "40 foreign CAs, issuer",
    "nothing",
)
# Whose verification does not find the path: OpenSSL and BoringSSL take the first certificate with the issuer's name and
# key. OpenSSL prefers one that has not expired. Go tries all.
UNVERIFIED = {
    "expired issuer, issuer": {"envoy"},
    "cross-signed issuer, issuer": {"nginx", "haproxy", "apache", "envoy"},
    "nothing": set(matrix.PROXIES),
}
# Go reads every certificate of the handshake.
UNREADABLE_IN_GO = {"Brainpool CA, issuer", "PrintableString, issuer"}
APACHE_CHAIN = 8  # the lines of Apache's configuration with `--form rfc9440`

NOW = datetime.now(UTC)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@cache
def issuer() -> CertificateAuthority:
    """The CA between the root, which proxies and trust stores have, and the client."""
    return matrix.clients().intermediate("CN=Test Issuer")


@cache
def client() -> IssuedCertificate:
    return issuer().issue("CN=chained,O=Acme")


@cache
def foreign(number: int) -> bytes:
    return der(CertificateAuthority(f"CN=Foreign CA {number}").certificate)


def signed_by_another_root(authority: CertificateAuthority) -> bytes:
    other = CertificateAuthority("CN=Another Root")
    return der(cross_signed(authority, other, NOW - timedelta(days=1), NOW + timedelta(days=30)))


def value(tag: int, content: bytes) -> bytes:
    return header(tag, len(content)) + content


def version_1() -> bytes:
    """A root without version and extensions."""
    authority = CertificateAuthority("CN=Old CA")
    (_, tbs), (_, algorithm), _ = read_values(read_value(der(authority.certificate))[1])
    kept = b"".join(value(tag, content) for tag, content in read_values(tbs) if tag not in (0xA0, 0xA3))
    signature = authority.key.sign(value(0x30, kept), ec.ECDSA(hashes.SHA256()))
    return value(0x30, value(0x30, kept) + value(0x30, algorithm) + value(3, b"\0" + signature))


def brainpool() -> bytes:
    """German smart cards and their CAs use these curves (BSI TR-03111)."""
    key = ec.generate_private_key(ec.BrainpoolP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Brainpool CA")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - timedelta(days=1), NOW + timedelta(days=9))
    basic = x509.BasicConstraints(ca=True, path_length=None)
    return der(builder.add_extension(basic, critical=True).sign(key, hashes.SHA256()))


@cache
def item(name: str) -> list[bytes]:
    make: dict[str, Callable[[], bytes]] = {
        "issuer": lambda: der(issuer().certificate),
        "leaf": lambda: client().der,
        "root": lambda: der(matrix.clients().certificate),
        "former root": lambda: der(CertificateAuthority("CN=Test Client CA").certificate),
        "foreign CA": lambda: foreign(0),
        "version 1 CA": version_1,
        "former certificate": lambda: issuer().issue("CN=chained,O=Acme").der,
        "foreign client": lambda: CertificateAuthority("CN=Elsewhere").issue("CN=stranger").der,
        "server": lambda: matrix.servers().server().der,
        "self-signed": lambda: self_signed("CN=chained,O=Acme").der,
        "expired issuer": lambda: der(
            cross_signed(issuer(), matrix.clients(), NOW - timedelta(days=90), NOW - timedelta(days=30))
        ),
        "cross-signed issuer": lambda: signed_by_another_root(issuer()),
        "cross-signed root": lambda: signed_by_another_root(matrix.clients()),
        "Brainpool CA": brainpool,
        "critical FALSE": lambda: CRITICAL_FALSE,
        "PrintableString": lambda: UNREADABLE["PrintableString with @"][0],
    }
    match name.split(" ", 1):
        case ["nothing"]:
            return []
        case ["20" | "40" as count, "issuers"]:
            return int(count) * item("issuer")
        case ["40", "foreign CAs"]:
            return [foreign(number) for number in range(40)]
    return [make[name]()]


@cache
def chain(kind: str) -> list[bytes]:
    return [each for name in kind.split(", ") for each in item(name)]


def attached(setup: Setup, kind: str) -> list[bytes]:
    """The certificates of the chain that the proxy forwards and the library keeps."""
    sent = chain(kind) if (setup.proxy, setup.form) in matrix.CHAINS else []
    sent = sent[:APACHE_CHAIN] if setup.proxy == "apache" else sent
    return [each for each in dict.fromkeys(sent) if each != client().der and is_readable(each)]


def expected(setup: Setup, kind: str) -> str:
    """`"refused"`, or the verification, and behind it how many certificates the attached chain has."""
    unverified = setup.proxy in UNVERIFIED.get(kind, ())
    if (kind in UNREADABLE_IN_GO and setup.proxy in GO) or (unverified and setup.mode != "untrusted"):
        return "refused"
    verification = "PRESENTED" if unverified or (setup.mode == "untrusted" and setup.proxy in GO) else "BY_PROXY"
    return f"{verification} +{len(attached(setup, kind))}"


def store_finds_a_path(setup: Setup, kind: str) -> bool:
    """Whether a trust store that has only the root finds the path."""
    return der(issuer().certificate) in attached(setup, kind)


def row(kind: str) -> list[str]:
    """The cells of the page, for each of `COLUMNS`."""
    cells = [expected(Setup(proxy, form, "optional", "HTTPTools"), kind) for proxy, form in COLUMNS]
    return [cell.removeprefix("BY_PROXY ") for cell in cells]


@cache
def context(kind: str) -> ssl.SSLContext:
    return presenting(client().der, client().key_pem, chain(kind))


def presenting(leaf: bytes, key_pem: str, certificates: list[bytes]) -> ssl.SSLContext:
    """A client's TLS context that sends exactly these certificates in this order."""
    made = matrix.servers().client_context()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "client.pem")
        file.write_text("".join(map(ssl.DER_cert_to_PEM_cert, [leaf, *certificates])) + key_pem)
        made.load_cert_chain(file)
    return made


# The longest accepted path, in certificates between leaf and root; the proxy rejects one more.
LONGEST_PATH = {"nginx": 4, "haproxy": 100, "apache": 4, "envoy": 100, "traefik": 99, "caddy": 99}
# The size up to which a proxy accepts the certificates of a handshake, in bytes.
LARGEST = {**dict.fromkeys(matrix.PROXIES, 102_400), **dict.fromkeys(GO, 262_144)}
# The chain, in bytes of DER, that fits into a field of 65,536 characters in each form.
FITS = 44_000


def path(length: int) -> IssuedCertificate:
    """A client with this number of certificates between it and the root."""
    authority = matrix.clients()
    for number in range(length):
        authority = authority.intermediate(f"CN=Level {number}")
    return authority.issue("CN=deep,O=Acme")


def large_chain(size: int) -> list[bytes]:
    """The issuer and a foreign CA that have together about this size in bytes: 10 to 15 bytes less."""
    middle = der(issuer().certificate)
    room = size - len(middle) - len(padded(1000)) + 1000 - 15
    return [middle, padded(room)]


def padded(size: int) -> bytes:
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), size * b"x")
    return der(CertificateAuthority("CN=Large CA", extensions=[(padding, False)]).certificate)
