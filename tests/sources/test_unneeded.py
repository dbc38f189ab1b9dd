"""Unneeded certificates in a chain, from every source: the leaf is accepted, and the chain is the same.

Reports: traefik/traefik#13940, hashicorp/consul#15704, mozilla/tls-observatory#354, keycloak/keycloak#49180,
envoyproxy/envoy#32945.
"""

import base64
import dataclasses
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.sources import (
    AWSLoadBalancer,
    ClientCertHeader,
    Envoy,
    GoogleCloudLoadBalancer,
    HAProxy,
    ServerTLS,
    Traefik,
    leaf_and_chain,
)
from mtls_middleware.sources.leaf_and_chain import MAX_CHAIN_BYTES
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.validation import TrustStore
from mtls_middleware.validation import presented_chain as validation_presented
from tests.environs import KNOWN_SERVER
from tests.growth import assert_grows_with_size
from tests.sources.requests import PROXY, TRUST, through_asgi, through_wsgi, view
from tests.sources.vendor_fields import CERT, WORD

ROOT = CertificateAuthority("CN=Root")
MIDDLE = ROOT.intermediate("CN=Middle")
CLIENT = MIDDLE.issue("CN=billing")
OLD_ROOT = CertificateAuthority("CN=Old root")
STORE = TrustStore([ROOT.certificate])


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


ISSUER_OBJECT = MIDDLE.certificate
LEAF, ISSUER = CLIENT.der, der(ISSUER_OBJECT)
JUNK = b"\x30\x03abc"
BROKEN = ISSUER.replace(b"\xa0\x03\x02\x01\x02", b"\xa1\x03\x02\x01\x02", 1)  # the tag of the version
FORGED = ISSUER[:-3] + bytes([ISSUER[-3] ^ 1]) + ISSUER[-2:]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def issuers(leaf: x509.Certificate, chain: Sequence[bytes]) -> tuple[bytes, ...]:
    return tuple(validation_presented.issuers(leaf, chain, lambda _: None))


def pems(ders: Iterable[bytes]) -> list[str]:
    return [ssl.DER_cert_to_PEM_cert(each) for each in ders]


class Sent(NamedTuple):
    """What a server or proxy sends: header fields, environ keys, or keys of the scope."""

    headers: Sequence[tuple[str, str]] = ()
    environ: Mapping[str, Any] = {}
    scope: Mapping[str, Any] = {}


class Socket:
    """The part of an `ssl.SSLSocket` that a server passes."""

    family = None

    def __init__(self, chain: Sequence[bytes]) -> None:
        self._chain = [LEAF, *chain]

    def getpeercert(self, _: bool) -> bytes:
        return self._chain[0]

    def get_unverified_chain(self) -> list[bytes]:
        return self._chain


def sequences(ders: Sequence[bytes]) -> str:
    return ", ".join(f":{base64_of(each)}:" for each in ders)


def xfcc(chain: Sequence[bytes]) -> Sent:
    both = quote("".join(pems([LEAF, *chain])), safe="")
    return Sent([("X-Forwarded-Client-Cert", f'Chain="{both}"')])


def mod_ssl(chain: Sequence[bytes]) -> Sent:
    numbered = {f"SSL_CLIENT_CERT_CHAIN_{number}": pem for number, pem in enumerate(pems(chain))}
    return Sent(environ={"SSL_CLIENT_CERT": CLIENT.pem, "SSL_CLIENT_VERIFY": "SUCCESS", **numbered})


Send = Callable[[Sequence[bytes]], Sent]
SOURCES: dict[str, tuple[Any, Send]] = {
    "RFC 9440": (
        ClientCertHeader(**TRUST),
        lambda chain: Sent([("Client-Cert", sequences([LEAF])), ("Client-Cert-Chain", sequences(chain))]),
    ),
    "RFC 9440, joined DER": (
        ClientCertHeader(**TRUST),
        lambda chain: Sent([("Client-Cert", sequences([LEAF])), ("Client-Cert-Chain", sequences([b"".join(chain)]))]),
    ),
    "Google": (
        GoogleCloudLoadBalancer(verify_header=False, **TRUST),
        lambda chain: Sent([("X-Client-Cert-Leaf", sequences([LEAF])), ("X-Client-Cert-Chain", sequences(chain))]),
    ),
    "HAProxy": (
        HAProxy(chain_header="X-Chain", **TRUST),
        lambda chain: Sent([(CERT, base64_of(LEAF)), (WORD, "0"), ("X-Chain", base64_of(b"".join(chain)))]),
    ),
    "Traefik": (
        Traefik(**TRUST),
        lambda chain: Sent([("X-Forwarded-Tls-Client-Cert", ",".join(map(base64_of, [LEAF, *chain])))]),
    ),
    "Envoy": (Envoy(**TRUST), xfcc),
    "AWS, passthrough": (
        AWSLoadBalancer(mode="passthrough", **TRUST),
        lambda chain: Sent([("X-Amzn-Mtls-Clientcert", quote("".join(pems([LEAF, *chain])), safe="+=/"))]),
    ),
    "ASGI extension": (
        ServerTLS(),
        lambda chain: Sent(scope={"extensions": {"tls": {"client_cert_chain": pems([LEAF, *chain])}}}),
    ),
    "gunicorn's socket": (ServerTLS(), lambda chain: Sent(environ={"gunicorn.socket": Socket(chain)})),
    "mod_ssl": (ServerTLS(), mod_ssl),
}

# The certificates behind the leaf, and those that remain.
CHAINS: dict[str, tuple[list[bytes], list[bytes]]] = {
    "the issuer": ([ISSUER], [ISSUER]),
    "a copy of the leaf": ([LEAF, ISSUER], [ISSUER]),
    "two copies of the leaf": ([ISSUER, LEAF, LEAF], [ISSUER]),
    "30 copies of the issuer": ([ISSUER] * 30, [ISSUER]),
    "junk before the issuer": ([JUNK, ISSUER], [ISSUER]),
    "a broken certificate before the issuer": ([BROKEN, ISSUER], [ISSUER]),
    "20 unreadable certificates": ([b"\x30\x02\x05" + bytes([number]) for number in range(20)] + [ISSUER], [ISSUER]),
    "an issuer with another signature": ([FORGED, ISSUER], [FORGED, ISSUER]),
    "another root": ([der(OLD_ROOT.certificate), ISSUER], [der(OLD_ROOT.certificate), ISSUER]),
    "the root itself": ([ISSUER, der(ROOT.certificate)], [ISSUER, der(ROOT.certificate)]),
    "the issuer after the root": ([der(ROOT.certificate), ISSUER], [der(ROOT.certificate), ISSUER]),
}


def through(sent: Sent, source: Any, **layer: Any) -> list[Any]:
    """The outcomes of all gateways that can carry this."""
    outcomes = []
    if not sent.environ:
        outcomes.append(through_asgi(source, sent.headers, scope=sent.scope, **layer))
    if not sent.scope:
        outcomes.append(through_wsgi(source, sent.headers, environ=sent.environ, **layer))
    return outcomes


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("case", CHAINS)
def test_unneeded_certificates_cause_no_rejection_from_any_source(name: str, case: str) -> None:
    source, send = SOURCES[name]
    chain, kept = CHAINS[case]
    for store in (None, STORE):
        for outcome in through(send(chain), source, trust_store=store, required=store is not None):
            assert (outcome.status, outcome.thumbprint) == (200, CLIENT.thumbprint)
            assert outcome.certificate.chain == tuple(kept)


@pytest.mark.parametrize("name", SOURCES)
def test_a_chain_of_many_foreign_authorities_hides_no_issuer(name: str) -> None:
    source, send = SOURCES[name]
    foreign = [der(OLD_ROOT.intermediate(f"CN=Foreign {number}").certificate) for number in range(20)]
    for outcome in through(send([*foreign, ISSUER]), source, trust_store=STORE, required=True):
        assert (outcome.status, outcome.thumbprint) == (200, CLIENT.thumbprint)


@pytest.mark.parametrize("name", SOURCES)
def test_the_log_says_what_is_dropped(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaf_and_chain, "_lines", LineLimit())
    caplog.set_level(logging.INFO, "mtls_middleware")
    source, send = SOURCES[name]
    through(send([BROKEN, ISSUER, LEAF, LEAF]), source)
    text = caplog.text
    assert f"in the chain of {CLIENT.thumbprint} are ignored" in text
    assert ": number 1, and perhaps others, cannot be parsed: " in text
    assert "number of copies: " in text


def test_lines_about_dropped_certificates_are_limited(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaf_and_chain, "_lines", LineLimit())
    caplog.set_level(logging.INFO, "mtls_middleware.sources")
    source, send = SOURCES["gunicorn's socket"]
    for _ in range(100):
        source.find(view(environ=send([JUNK]).environ))
    assert len(caplog.records) == 10
    source.find(dataclasses.replace(view(environ=send([JUNK]).environ), now=3e9))
    assert caplog.messages[-1].endswith("; 90 similar lines were left out before this one")


@pytest.mark.parametrize("leaf", [JUNK, BROKEN, LEAF + JUNK, LEAF + ISSUER])
def test_the_leaf_is_read_strictly(leaf: bytes) -> None:
    headers = [("Client-Cert", sequences([leaf])), ("Client-Cert-Chain", sequences([ISSUER]))]
    assert through_wsgi(ClientCertHeader(**TRUST), headers).status == 400
    value = ",".join(map(base64_of, [leaf, LEAF]))
    assert through_wsgi(Traefik(**TRUST), [("X-Forwarded-Tls-Client-Cert", value)]).status == 400


def test_a_chain_is_cut_at_its_limit_in_bytes() -> None:
    large = [self_signed(f"CN={number}", uris=["urn:x:" + "a" * 8_000]).der for number in range(20)]
    for name in ("gunicorn's socket", "mod_ssl", "ASGI extension"):
        source, send = SOURCES[name]
        (outcome,) = through(send(large), source)
        assert outcome.status == 200
        assert 5 < len(outcome.certificate.chain) < 20
        assert sum(map(len, outcome.certificate.chain)) <= MAX_CHAIN_BYTES


SECOND_LEAF = MIDDLE.issue("CN=other").der


@pytest.mark.parametrize("chain", [[SECOND_LEAF], [ISSUER, SECOND_LEAF], [LEAF, SECOND_LEAF], [JUNK, SECOND_LEAF]])
def test_a_second_leaf_in_traefiks_list_is_rejected_if_lines_may_be_joined(chain: list[bytes]) -> None:
    """Of two lines that a WSGI server joined, one may come from a client. Only gunicorn shows the lines."""
    source, send = SOURCES["Traefik"]
    headers = send(chain).headers
    for extra in (
        {},
        {"SERVER_SOFTWARE": "uwsgi", "uwsgi.version": "2.0.31"},
        {"werkzeug.proxy_fix.orig": {"REMOTE_ADDR": PROXY}},
    ):
        trusted = Traefik(shared_secret=("MtlsProxySecret", "s" * 16), proxy_deletes_underscores=True)
        outcome = through_wsgi(trusted, [*headers, ("MtlsProxySecret", "s" * 16)], environ=extra)
        assert outcome.status == 400
    assert through_wsgi(source, headers).status == 400


@pytest.mark.parametrize("chain", [[SECOND_LEAF], [ISSUER, SECOND_LEAF], [LEAF, SECOND_LEAF], [JUNK, SECOND_LEAF]])
def test_a_second_leaf_in_traefiks_list_is_unneeded_under_asgi(chain: list[bytes]) -> None:
    """The gateway has each field line, so two lines are rejected, and one line is Traefik's."""
    source, send = SOURCES["Traefik"]
    headers = send(chain).headers
    outcome = through_asgi(source, headers, trust_store=TrustStore([ROOT.certificate], intermediates=[ISSUER_OBJECT]))
    assert (outcome.status, outcome.thumbprint) == (200, CLIENT.thumbprint)
    assert outcome.certificate.chain == tuple(each for each in chain if each not in (LEAF, JUNK))
    assert through_asgi(source, [*headers, *send([]).headers]).status == 400
    assert through_asgi(source, headers, scope={"wsgi_environ": {"REMOTE_ADDR": PROXY, **KNOWN_SERVER}}).status == 400


def test_a_second_leaf_is_rejected_under_wsgi_after_asgi_accepted_it() -> None:
    """The same source in both gateways has one cache of certificates."""
    source, send = SOURCES["Traefik"]
    headers = send([SECOND_LEAF]).headers
    assert through_asgi(source, headers).status == 200
    assert through_wsgi(source, headers).status == 400


def test_a_second_leaf_behind_many_entries_is_rejected_under_wsgi() -> None:
    """Entries beyond the limit of the chain are not attached, but they count here."""
    source, send = SOURCES["Traefik"]
    short = [b"\x30\x02\x05" + bytes([number]) for number in range(256)]
    headers = send([*short * 4, SECOND_LEAF]).headers
    assert through_asgi(source, headers).certificate.chain == ()
    assert through_wsgi(source, headers).status == 400


def test_the_time_to_read_a_chain_grows_with_its_size() -> None:
    def read(size: int) -> Callable[[], object]:
        source, send = SOURCES["Traefik"]
        sent = send([b"\x30\x03" + number.to_bytes(3, "big") for number in range(size)])
        return lambda: through_wsgi(source, sent.headers)

    assert_grows_with_size(read, 2_000)


def test_the_time_to_find_issuers_grows_with_the_chain() -> None:
    """All of them have the name of the leaf's issuer, and of each other."""
    leaf = x509.load_der_x509_certificate(LEAF)

    def find(size: int) -> Callable[[], object]:
        chain = [self_signed("CN=Middle").der for _ in range(size)]
        assert len(issuers(leaf, chain)) == size
        return lambda: issuers(leaf, chain)

    assert_grows_with_size(find, 400)


def test_issuers_are_those_of_the_path_the_nearest_first() -> None:
    leaf = x509.load_der_x509_certificate(LEAF)
    root, foreign = der(ROOT.certificate), der(OLD_ROOT.certificate)
    assert issuers(leaf, [root, foreign, JUNK, LEAF, ISSUER, ISSUER]) == (ISSUER, root)
    assert issuers(x509.load_der_x509_certificate(self_signed().der), [root, ISSUER]) == ()


def test_a_store_reads_chains_of_sources_outside_this_package() -> None:
    class Source:
        can_verify, drop_headers, vary = False, frozenset[str](), None

        def find(self, _: Any) -> ClientCertificate:
            return ClientCertificate.from_der(LEAF, chain=(JUNK, LEAF, der(OLD_ROOT.certificate), b"x", ISSUER))

    assert through_wsgi(Source(), trust_store=STORE, required=True).status == 200
