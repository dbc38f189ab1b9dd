"""Certificates that OpenSSL reads and `cryptography` does not, and what must come of them at each proxy."""

import ssl
from functools import cache

from tests.proxies import chains, matrix
from tests.proxies.matrix import GO, Setup
from tests.unreadable import BASIC_CLIENT, CLIENT, PARTS, UNREADABLE, signed_again

# Both gateways and both forms; with verification and without.
SETUPS = [each for each in chains.SETUPS if each.mode != "optional"]

# The whole certificate is unreadable. The client of these tests, OpenSSL, cannot send a UTF8String with other octets.
WHOLE = (
    "critical FALSE",
    "PrintableString with *",
    "PrintableString with @",
    "PrintableString with _",
    "PrintableString with &",
    "PrintableString with !",
    "PrintableString with #",
    "PrintableString with ;",
    "ECDSA parameters NULL",
    "GeneralizedTime with a fraction",
    "UTCTime without seconds",
    "version 4",
)
PART = (
    "T61String with Latin-1",
    "IA5String with Latin-1",
    "cA FALSE",
    "dNSName in UTF-8",
    "rfc822Name in Latin-1",
    "URI in UTF-8",
    "ediPartyName",
    "x400Address",
    "iPAddress of 5 octets",
    "iPAddress of a network",
    "control character",
)
KINDS = (*WHOLE, *PART)
# The kinds that this release of OpenSSL reads and this release of `cryptography` does not.
TRIED = [kind for kind in KINDS if kind in UNREADABLE or kind in PARTS]
ACCEPTED_BY_STORES = {"URI in UTF-8", "iPAddress of a network"}

_TIMES = {"GeneralizedTime with a fraction", "UTCTime without seconds"}
_IN_GO = {
    *(f"PrintableString with {character}" for character in "@_!#;"),
    "GeneralizedTime with a fraction",
    "version 4",
    "IA5String with Latin-1",
    "dNSName in UTF-8",
    "rfc822Name in Latin-1",
    "URI in UTF-8",
    "iPAddress of 5 octets",
    "iPAddress of a network",
}
# What the TLS library of each proxy rejects. With `--mode untrusted`, nginx and HAProxy accept both times.
REJECTED = {
    **dict.fromkeys(("nginx", "haproxy", "apache"), _TIMES),
    "envoy": {*_TIMES, "version 4"},
    **dict.fromkeys(GO, _IN_GO),
}


def expected(setup: Setup, kind: str) -> str:
    """`"refused"` or the verification."""
    if kind in REJECTED[setup.proxy] and not (setup.mode == "untrusted" and setup.proxy in ("nginx", "haproxy")):
        return "refused"
    if kind in WHOLE or (setup.mode == "untrusted" and setup.proxy in GO):
        return "PRESENTED"
    return "BY_PROXY"


def reason(kind: str) -> str:
    """What the library says about this certificate."""
    return UNREADABLE[kind][1] if kind in UNREADABLE else PARTS[kind].reason


@cache
def certificate(kind: str) -> bytes:
    return signed_again(UNREADABLE[kind][0] if kind in UNREADABLE else PARTS[kind].der)


@cache
def context(kind: str) -> ssl.SSLContext:
    key = BASIC_CLIENT.key_pem if kind == "cA FALSE" else CLIENT.key_pem
    return chains.presenting(certificate(kind), key, [])


def row(kind: str) -> list[str]:
    """The cells of the page: each proxy, and a trust store."""
    cells = [expected(Setup(proxy, "idiomatic", "required", "gunicorn"), kind) for proxy in matrix.PROXIES]
    return [*cells, "accepted" if kind in ACCEPTED_BY_STORES else "rejected"]
