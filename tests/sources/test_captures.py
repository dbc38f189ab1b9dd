"""What real proxies and servers delivered, record by record, gives the certificate that the client really presented."""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware import Verification
from mtls_middleware.sources import Apache, Caddy, ClientCertHeader, Envoy, HAProxy, HeaderSource, Nginx, Traefik
from mtls_middleware.sources.server import ServerTLS
from tests import shared
from tests.gateways import Outcome
from tests.sources.requests import GATEWAYS, STRANGER, TRUST, through_asgi, through_wsgi

pytestmark = pytest.mark.shared

Record = Mapping[str, Any]

PROXIES: list[Record] = list(shared.read_json("captures/proxies.json"))
SERVERS: list[Record] = list(shared.read_json("captures/servers.json"))
CERTIFICATES: Mapping[str, Any] = shared.read_json("captures/certificates.json").get("certificates", {})

# Certificates that the proxies' and servers' CA does not vouch for.
DO_NOT_VERIFY = ("e_selfsigned", "f_expired")
NO_CERTIFICATE, MALFORMED = None, 400
WORD = "X-SSL-Client-Verify"


@dataclass(frozen=True)
class Reading:
    """One way to read what a profile sends.

    `verified`: the profile lets certificates through as verified; those that do not verify never are.
    `chain`: the field or fields carry the chain too.
    `lost`: cases in which a certificate was presented, or none, and the proxy's fields say something else.
    """

    source: Callable[[], HeaderSource]
    verified: bool = True
    chain: bool = False
    lost: Mapping[str, int | None] | None = None


# Where no word is sent the profile lets only verified certificates through: `verified_by_proxy`, or all: nothing.
NGINX = Reading(partial(Nginx, **TRUST))
APACHE = Reading(partial(Apache, **TRUST))
STATED, UNSTATED = {"verified_by_proxy": True, **TRUST}, TRUST
RFC9440 = Reading(partial(ClientCertHeader, verify_header=WORD, **TRUST))
RFC9440_CHAIN = Reading(partial(ClientCertHeader, verify_header=WORD, **TRUST), chain=True)

# HAProxy's default buffer: the 12 KiB certificate becomes an empty field beside verify 0 (surprise 4).
HAPROXY_NAIVE = Reading(partial(HAProxy, **TRUST), lost={"h_big_12k": NO_CERTIFICATE})
HAPROXY = Reading(partial(HAProxy, chain_header="X-SSL-Client-Chain-Raw", **TRUST), chain=True)

# Envoy takes an Ed25519 certificate for none in its optional modes (surprise 9).
ED25519 = {"g_ed25519": NO_CERTIFICATE}
XFCC = Reading(partial(Envoy, **STATED), chain=True, lost=ED25519)
XFCC_WORD = Reading(partial(Envoy, verify_header=WORD, **TRUST), chain=True, lost=ED25519)
XFCC_NO_CHAIN = Reading(partial(Envoy, **STATED), lost=ED25519)
ENVOY_FIELD = Reading(partial(Envoy, certificate_header="X-SSL-Client-Cert", **STATED), lost=ED25519)
ENVOY_RFC9440 = Reading(partial(ClientCertHeader, verify_header=WORD, **TRUST), chain=True, lost=ED25519)

TRAEFIK = Reading(partial(Traefik, **STATED), chain=True)
TRAEFIK_UNTRUSTED = Reading(partial(Traefik, **UNSTATED), verified=False, chain=True)
# Traefik's plugin adds a word; the pem field is read beside it.
TRAEFIK_WORD = Reading(partial(Traefik, verify_header=WORD, **TRUST), chain=True)

CADDY = Reading(partial(Caddy, **STATED))
CADDY_COLONS = Reading(partial(Caddy, certificate_header="Client-Cert", **STATED))
CADDY_RFC9440 = Reading(partial(ClientCertHeader, **STATED))
CADDY_UNTRUSTED = Reading(partial(Caddy, **UNSTATED), verified=False)
CADDY_RFC9440_UNTRUSTED = Reading(partial(ClientCertHeader, **UNSTATED), verified=False)


def but(reading: Reading, *, verified: bool | None = None, **lost: int | None) -> Reading:
    """The reading with more losses, or where the profile verifies nothing."""
    return Reading(
        reading.source,
        reading.verified if verified is None else verified,
        reading.chain,
        {**(reading.lost or {}), **lost},
    )


# Each profile of captures/proxies.json: how many of its nine records reached the upstream, and how they are read.
PROFILES: dict[tuple[str, str], tuple[int, tuple[Reading, ...]]] = {
    ("apache", "naive"): (7, (APACHE,)),
    ("apache", "naive2-env-conditional"): (7, (APACHE,)),
    ("apache", "hardened"): (7, (APACHE, RFC9440_CHAIN)),
    ("apache", "hardened-untrusted"): (8, (APACHE, RFC9440_CHAIN)),
    # The unguarded `::` is no certificate to Caddy's own source, and a broken Byte Sequence to RFC 9440.
    ("caddy", "naive-header_up-unconditional"): (7, (CADDY, CADDY_COLONS, but(CADDY_RFC9440, i_none=MALFORMED))),
    ("caddy", "naive2-request_header-conditional"): (7, (CADDY, CADDY_COLONS, CADDY_RFC9440)),
    ("caddy", "naive3-pem-placeholder"): (0, ()),  # newlines in the value: 502 for every request
    ("caddy", "hardened"): (7, (CADDY, CADDY_COLONS, CADDY_RFC9440)),
    ("caddy", "hardened-untrusted"): (9, (CADDY_UNTRUSTED, CADDY_RFC9440_UNTRUSTED)),
    ("caddy", "hardened-untrusted-require"): (8, (CADDY_UNTRUSTED, CADDY_RFC9440_UNTRUSTED)),
    ("envoy", "naive-sanitize+append-formatters"): (7, (ENVOY_FIELD,)),
    ("envoy", "naive2-append_forward"): (7, (XFCC,)),
    ("envoy", "hardened"): (7, (XFCC, XFCC_WORD, ENVOY_RFC9440)),
    ("envoy", "hardened-untrusted"): (9, (XFCC_WORD, ENVOY_RFC9440)),
    # Without a trusted_ca the word is FAILED for all of them, good ones too.
    ("envoy", "hardened-untrusted-no-ca"): (9, (but(XFCC_WORD, verified=False), but(ENVOY_RFC9440, verified=False))),
    ("envoy", "formatters-overwrite"): (7, (ENVOY_FIELD, XFCC)),
    ("envoy", "formatters-overwrite-keep_empty_value"): (7, (ENVOY_FIELD, XFCC_NO_CHAIN)),
    ("haproxy", "naive"): (7, (HAPROXY_NAIVE,)),
    ("haproxy", "naive2-unconditional"): (7, (HAPROXY_NAIVE,)),
    ("haproxy", "hardened"): (7, (HAPROXY, RFC9440_CHAIN)),
    ("haproxy", "hardened-untrusted"): (9, (HAPROXY, RFC9440_CHAIN)),
    ("nginx", "naive"): (7, (NGINX,)),
    ("nginx", "deprecated-ssl_client_cert"): (7, (NGINX,)),
    ("nginx", "hardened"): (7, (NGINX, RFC9440)),
    ("nginx", "hardened-untrusted"): (8, (NGINX, RFC9440)),
    # The error page's location writes no Client-Cert: the word speaks of a certificate that is not there.
    ("nginx", "hardened-untrusted-error_page495"): (9, (NGINX, but(RFC9440, f_expired=MALFORMED))),
    ("traefik", "naive-forwardedHeaders.insecure"): (7, (TRAEFIK,)),
    ("traefik", "hardened"): (7, (TRAEFIK,)),
    ("traefik", "hardened-rfc9440-plugin"): (7, (TRAEFIK_WORD, RFC9440_CHAIN)),
    ("traefik", "hardened-untrusted"): (9, (TRAEFIK_UNTRUSTED,)),
    ("traefik", "hardened-untrusted-rfc9440-plugin"): (
        9,
        (but(TRAEFIK_WORD, verified=False), but(RFC9440_CHAIN, verified=False)),
    ),
    ("traefik", "hardened-untrusted-require"): (8, (TRAEFIK_UNTRUSTED,)),
}


def delivered(record: Record) -> bool:
    """Whether the proxy passed the request on: it refuses some certificates itself, by 400, 502 or a TLS alert."""
    return record["headers"] is not None


READ = [
    pytest.param(record, reading, id=f"{record['program']}-{record['profile']}-{record['case'][0]}{number}")
    for record in PROXIES
    if delivered(record)
    for number, reading in enumerate(PROFILES[record["program"], record["profile"]][1])
]


def chain_sent(case: str) -> tuple[bytes, ...]:
    """What the client sent after its leaf."""
    return tuple(
        x509.load_pem_x509_certificate(pem.encode("ascii")).public_bytes(Encoding.DER)
        for pem in CERTIFICATES[case]["sent_after_leaf"]
    )


def test_all_profiles_and_records_are_read() -> None:
    delivered_records = [(record["program"], record["profile"]) for record in PROXIES if delivered(record)]
    assert len(PROXIES) == 288
    assert {(record["program"], record["profile"]) for record in PROXIES} == PROFILES.keys()
    assert Counter(delivered_records) == {key: count for key, (count, _) in PROFILES.items() if count}
    assert all(readings for count, readings in PROFILES.values() if count)
    assert len(delivered_records) == 235
    assert len(READ) == sum(count * len(readings) for count, readings in PROFILES.values()) == 411


def test_certificates_are_those_of_the_thumbprints() -> None:
    leaves = {case: x509.load_pem_x509_certificate(each["leaf"].encode("ascii")) for case, each in CERTIFICATES.items()}
    for record in (*PROXIES, *SERVERS):
        if record["x5t#S256"] is None:
            assert record["case"] == "i_none"
            continue
        digest = hashlib.sha256(leaves[record["case"]].public_bytes(Encoding.DER)).digest()
        assert record["x5t#S256"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


@pytest.mark.case("031", "035", "038", "049", "057")
@pytest.mark.standard("I1", "K7")
@pytest.mark.parametrize(("record", "reading"), READ)
def test_proxy_fields_give_the_certificate_that_was_presented(
    record: Record, reading: Reading, through: Callable[..., Outcome]
) -> None:
    outcome = through(reading.source(), [tuple(pair) for pair in record["headers"]])
    case = record["case"]
    expected = (reading.lost or {}).get(case, record["x5t#S256"])
    if expected == MALFORMED:
        assert (outcome.status, outcome.error, outcome.reached) == (400, "invalid_client_certificate", False)
        return
    assert (outcome.status, outcome.thumbprint) == (200, expected)
    if outcome.certificate is not None:
        verified = reading.verified and case not in DO_NOT_VERIFY
        assert outcome.certificate.verification is (Verification.BY_PROXY if verified else Verification.PRESENTED)
        assert outcome.certificate.chain == (chain_sent(case) if reading.chain else ())


@pytest.mark.case("003")
@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
def test_every_field_that_a_proxy_adds_is_removed(gateway: Callable[..., Outcome]) -> None:
    """Whatever the source: here one that reads none of them, once from the proxy and once from a stranger."""
    headers = [tuple(pair) for record in PROXIES if delivered(record) for pair in record["headers"]]
    underscored = [(name.replace("-", "_"), value) for name, value in headers]
    assert len({name.lower() for name, _ in headers}) == 26
    source = Nginx(certificate_header="X-Unused", verify_header=False, **TRUST)
    for each in ([*headers, ("X-Kept", "1")], [*underscored, ("X-Kept", "1")]):
        assert gateway(source, each).names == gateway(source, each, peer=STRANGER).names == {"x-kept"}


# The servers of captures/servers.json: what their nine handshakes delivered, and how `ServerTLS` takes it.
@dataclass(frozen=True)
class Server:
    """`delivered`: records with an environ or scope. `verification`: of a good certificate; `None`: it is not shown.

    `chain`: the server hands over what was sent after the leaf.
    """

    delivered: int
    verification: Verification | None
    chain: bool = False


NOTHING = Server(7, None)
BY_SERVER, PRESENTED = Verification.BY_SERVER, Verification.PRESENTED
HOOKED = Server(7, BY_SERVER, chain=True)

SERVED: dict[str, Server] = {
    "cheroot-builtin": Server(7, BY_SERVER),
    "cheroot-hook": Server(7, BY_SERVER),
    "cheroot-pyopenssl": NOTHING,
    "daphne": NOTHING,
    "daphne-hook": HOOKED,
    "granian-asgi": NOTHING,
    "granian-asgi-verify": Server(6, None),
    "granian-wsgi": NOTHING,
    "gunicorn-asgi": NOTHING,
    "gunicorn-asgi-hook": HOOKED,
    # The environ's socket: JSON holds its repr, so the test puts one there that answers as that socket did.
    "gunicorn-gevent": HOOKED,
    "gunicorn-gthread": HOOKED,
    "gunicorn-gthread-py313": HOOKED,
    "gunicorn-sync": HOOKED,
    "hypercorn": NOTHING,
    "hypercorn-hook": HOOKED,
    "hypercorn-sendwalk": HOOKED,
    "mod_wsgi-daemon": Server(8, BY_SERVER, chain=True),
    "mod_wsgi-embedded": Server(8, BY_SERVER, chain=True),
    "pyvoy-asgi": NOTHING,  # a name alone is no certificate
    "pyvoy-asgi-hook-xfcc": NOTHING,  # its certificate comes as XFCC, which this capture does not hold
    "pyvoy-wsgi": NOTHING,
    "uvicorn-h11": NOTHING,
    "uvicorn-h11-hook": HOOKED,
    "uvicorn-h11-hook-py313": HOOKED,
    "uvicorn-h11-uvloop-hook": HOOKED,
    "uvicorn-httptools-hook": HOOKED,
    "uvicorn-zttp-http2": NOTHING,
    "uvicorn-zttp-http2-hook": HOOKED,
    "uwsgi": Server(6, BY_SERVER),
    "uwsgi-buf64k": Server(7, BY_SERVER),
    # A bare SSL_CLIENT_CERT without a word: who checked it, if anybody, cannot be told.
    "werkzeug": Server(7, PRESENTED),
    "werkzeug-hook": Server(7, PRESENTED),
    "werkzeug-hook-py313": Server(7, PRESENTED),
}
NOT_OURS = {"granian-rsgi": "RSGI is neither WSGI nor ASGI, and has no layer here"}

ANSWERED = [
    pytest.param(record, id=f"{record['server']}-{record['case'][0]}")
    for record in SERVERS
    if ("environ" in record or "scope" in record) and record["server"] not in NOT_OURS
]


class CapturedSocket:
    """`gunicorn.socket` as it answered in that capture: leaf and chain as sent, nothing for a client without."""

    def __init__(self, case: str) -> None:
        leaf = CERTIFICATES.get(case, {}).get("leaf")
        self._leaf = (
            None if leaf is None else x509.load_pem_x509_certificate(leaf.encode("ascii")).public_bytes(Encoding.DER)
        )
        self._case = case

    def getpeercert(self, binary_form: bool) -> bytes | None:
        assert binary_form
        return self._leaf

    def get_unverified_chain(self) -> list[bytes]:
        return [] if self._leaf is None else [self._leaf, *chain_sent(self._case)]


def test_all_servers_and_records_are_read() -> None:
    assert len(SERVERS) == 315
    assert {record["server"] for record in SERVERS} == SERVED.keys() | NOT_OURS.keys()
    counts = Counter(param.values[0]["server"] for param in ANSWERED)
    assert counts == {name: server.delivered for name, server in SERVED.items()}
    assert len(ANSWERED) == 238


@pytest.mark.case("058", "060")
@pytest.mark.standard("J1", "J2", "J3", "J4", "K1", "K2", "K3")
@pytest.mark.parametrize("record", ANSWERED)
def test_server_facts_give_the_certificate_that_was_presented(record: Record) -> None:
    server, case = SERVED[record["server"]], record["case"]
    if "scope" in record:
        outcome = through_asgi(ServerTLS(), scope=record["scope"])
    else:
        environ = dict(record["environ"])
        if "gunicorn.socket" in environ:
            environ["gunicorn.socket"] = CapturedSocket(case)
        outcome = through_wsgi(ServerTLS(), environ=environ)
    shown = server.verification is not None
    assert (outcome.status, outcome.thumbprint) == (200, record["x5t#S256"] if shown else None)
    if outcome.certificate is not None:
        assert outcome.certificate.verification is (PRESENTED if case in DO_NOT_VERIFY else server.verification)
        assert outcome.certificate.chain == (chain_sent(case) if server.chain else ())
