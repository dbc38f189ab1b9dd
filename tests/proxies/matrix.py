"""What is tried against each proxy, and what must come of it: the tables behind the tests and docs/proxy-results.md."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Literal

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mtls_middleware.cli.proxies import MODES, PROXIES, Form, Mode
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.testing.issued_certificate import IssuedCertificate

# gunicorn serves WSGI, uvicorn ASGI with our two HTTP/1.1 classes.
SERVERS = ("gunicorn", "HTTPTools", "H11")


@dataclass(frozen=True)
class Setup:
    """One configuration, in front of one application server."""

    proxy: str
    form: Form
    mode: Mode
    server: str
    extra: Literal["", "unix", "no-secret", "joined"] = ""

    @property
    def key(self) -> str:
        return "-".join(filter(None, (self.proxy, self.form, self.mode, self.extra)))

    def __str__(self) -> str:
        return f"{self.key}-{self.server}"


FORMS = [(proxy, form) for proxy, row in PROXIES.items() for form in row.source]
# Each mode in front of the server that it is most used with; what a client forges is tried in front of all three.
SETUPS = [
    Setup(proxy, form, mode, server) for proxy, form in FORMS for mode, server in zip(MODES, SERVERS, strict=True)
]
FORGED_AT = [Setup(proxy, form, mode, server) for proxy, form in FORMS for mode, server in (
    ("optional", "gunicorn"), ("optional", "HTTPTools"), ("untrusted", "H11"),
)]  # fmt: skip

# The proxy is trusted for its address and a secret; here for a unix socket and a secret, and for its address alone.
UNIX = [
    Setup(proxy, "idiomatic", "optional", server, "unix")
    for proxy, row in PROXIES.items() if row.unix for server in ("gunicorn", "HTTPTools")
]  # fmt: skip
NO_SECRET = [Setup(proxy, "idiomatic", "optional", "gunicorn", "no-secret") for proxy in PROXIES]
SECRETS = [Setup(proxy, "idiomatic", "optional", "gunicorn") for proxy in PROXIES]
# Each proxy in its own form; Traefik, with its plugin, stands for the standard's.
SAMPLES = [
    Setup(proxy, "rfc9440" if (proxy, server) == ("traefik", "gunicorn") else "idiomatic", "optional", server)
    for proxy in PROXIES for server in ("gunicorn", "HTTPTools")
]  # fmt: skip
# What an application on a unix socket is told.
UNIX_CASES = {
    "its certificate": "BY_PROXY",
    "no certificate": "none",
    "no certificate, another's forged": "none",
    "its certificate, to a source that trusts an address alone": "none",
}
# The certificate that the application sees if a client at a trusted address sends the proxy's fields past the proxy.
SECRET_CASES = {"the secret": "BY_PROXY", "no secret": "none", "a guess": "none", "the secret but for its end": "none"}
# What the samples answer to a token that is bound to somebody's certificate.
SAMPLE_CASES = {
    "its certificate": 200,
    "another client's certificate": 401,
    "no certificate": 401,
    "no certificate, its own forged": 401,
    "another client's, its own forged": 401,
}
SECRET = "/+~._-aZ09" * 3 + "=="  # every character that it may have

# What a client gets whose names or sessions are not those of the generated host, beside other hosts in every order.
NOT_SERVED = frozenset({"400", "404", "421", "no handshake", "the other host answers"})
_PROXIES = ("nginx", "haproxy", "apache", "envoy", "traefik", "caddy")
VIRTUAL_HOSTS = {
    kind: {proxy: frozenset(cell.split("; ")) for proxy, cell in zip(_PROXIES, cells, strict=True)}
    for kind, cells in {
        "the name of another host in the handshake": (
            "400; 421", "421; no handshake", "421; no handshake", "no handshake; the other host answers",
            "421; no handshake", "421; no handshake",
        ),
        "an unknown name in the handshake": (
            "400; 421", "421; no handshake", "421; no handshake", "no handshake", "421", "no handshake"
        ),
        "no name in the handshake": (
            "400; 421", "421; no handshake", "421; no handshake", "no handshake", "421", "421"
        ),
        "another name in `Host`": (  # HAProxy 3.2 rejects some of these names with 400
            "421; the other host answers", "400; 421", "400; 421", "421", "404; 421", "421"
        ),
        "an empty `Host`": ("400", "421", "400", "421", "404", "400"),
        "both names, a certificate of another CA": ("400", *5 * ("no handshake",)),
    }.items()
}  # fmt: skip

GOOD = ("RSA", "EC, intermediate", "SPIFFE", "odd names", "12 KiB")
BAD = ("self-signed", "unknown CA", "expired", "wrong purpose")
KINDS = (*GOOD, *BAD, "none")

# Go's TLS, below these, verifies nothing where it lets everything in: to require and to verify is one setting there.
GO = {"traefik", "caddy"}
# What each form tells of a chain of one intermediate.
CHAINS = {
    ("haproxy", "idiomatic"), ("haproxy", "rfc9440"), ("apache", "rfc9440"), ("envoy", "idiomatic"),
    ("envoy", "rfc9440"), ("traefik", "idiomatic"), ("traefik", "rfc9440"),
}  # fmt: skip


def expected(setup: Setup, kind: str) -> str:
    """`"refused"`, `"none"`, or the verification, and behind it what of the chain arrives."""
    if kind == "none":
        return "refused" if setup.mode == "required" else "none"
    if kind in GOOD:
        verification = "PRESENTED" if setup.mode == "untrusted" and setup.proxy in GO else "BY_PROXY"
        return f"{verification} +1" if kind.startswith("EC") and (setup.proxy, setup.form) in CHAINS else verification
    # Apache has no way to let these in.
    if setup.mode != "untrusted" or (setup.proxy == "apache" and kind in ("expired", "wrong purpose")):
        return "refused"
    return "PRESENTED"


# The alert of TLS 1.2 for a client that the proxy rejects in the handshake, as OpenSSL spells it. TLS 1.3 has another
# alert for no certificate, and a client that writes at once may not see any. nginx completes the handshake.
ALERTS = {
    "unknown CA": ("unknown_ca", "TLSV1_ALERT_UNKNOWN_CA"),
    "self-signed": ("unknown_ca", "TLSV1_ALERT_UNKNOWN_CA"),
    "expired": ("certificate_expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
    "none": ("handshake_failure", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
}
ANSWERS_400 = {"nginx"}


@cache
def servers() -> CertificateAuthority:
    """Signs the proxies' own certificates. Another one than the clients', lest OpenSSL completes a client's chain."""
    return CertificateAuthority("CN=Test Server CA")


@cache
def clients() -> CertificateAuthority:
    return CertificateAuthority("CN=Test Client CA")


@cache
def certificate(kind: str) -> IssuedCertificate | None:  # noqa: PLR0911 (a table of what is made)
    now = datetime.now(UTC)
    match kind:
        case "RSA":
            return clients().issue("CN=rsa,O=Acme", dns=["rsa.acme.example"], key="rsa")
        case "EC, intermediate":
            return clients().intermediate("CN=Test Intermediate CA").issue("CN=ec,O=Acme")
        case "SPIFFE":
            return clients().issue("", uris=["spiffe://acme.internal/billing"])
        case "odd names":
            return clients().issue(odd_name(), uris=['spiffe://x/a,Hash=00;Subject="CN=admin";URI=spiffe://x/admin'])
        case "12 KiB":
            padding = x509.UnrecognizedExtension(
                ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x04\x82\x30\x00" + 12288 * b"x"
            )
            return clients().issue("CN=large", extensions=[(padding, False)])
        case "self-signed":
            return self_signed("CN=self")
        case "unknown CA":
            return CertificateAuthority("CN=Elsewhere").issue("CN=stranger")
        case "expired":
            return clients().issue("CN=old", not_before=now - timedelta(days=9), not_after=now - timedelta(days=2))
        case "wrong purpose":
            return clients().issue("CN=server", extended_key_usage=("server",))
        case "victim":  # the one whom others pretend to be
            return clients().issue("CN=victim")
        case "none":
            return None
    raise AssertionError(kind)


def odd_name() -> x509.Name:
    """A comma, quotes, blanks at both ends, other scripts, a name of two parts: what delimiters are made of."""
    return x509.Name([
        x509.RelativeDistinguishedName([
            x509.NameAttribute(NameOID.COMMON_NAME, ' x";Issuer="CN=Evil CA";SAN="admin, '),
            x509.NameAttribute(NameOID.USER_ID, "42"),
        ]),
        x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Müller + 株式会社 <a=b>")]),
    ])  # fmt: skip


# In HTTP/2 a name of capitals, a blank in a name and a line end in a value are malformed (RFC 9113 8.2.1), everywhere.
_HTTP2 = {"other case", "blank after name", "folded line"}
_CONNECTION = {"Connection list", "Connection list, exact name"}
_UNDERSCORE = {"underscore", "underscore, percent-encoded", "one underscore"}
_TRAILERS = {"trailers", "trailers, percent-encoded", "trailers, announced"}
# Which forms of forgery a proxy refuses, as (HTTP/1.1, HTTP/2). It removes all others, without telling the client.
REFUSED = {
    "nginx": ({"blank after name", "folded line"}, {*_HTTP2, *_TRAILERS}),
    "haproxy": ({"blank after name"}, {*_HTTP2, *_CONNECTION}),
    "apache": ({"blank after name", *_CONNECTION}, {*_HTTP2, *_CONNECTION}),
    "envoy": ({"blank after name", *_UNDERSCORE}, {*_HTTP2, *_CONNECTION, *_UNDERSCORE}),
    "traefik": ({"blank after name"}, {*_HTTP2, *_CONNECTION}),
    "caddy": ({"blank after name"}, {*_HTTP2, *_CONNECTION}),
}


def expected_of_forgery(proxy: str, form: str, protocol: str) -> str:
    """`"removed"` or `"refused"`."""
    return "refused" if form in REFUSED[proxy][protocol == "http2"] else "removed"
