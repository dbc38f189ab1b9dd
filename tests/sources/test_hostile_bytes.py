"""Hostile text in every field of every source: a refusal, nothing, or a certificate whose DER was really in it.

The peer is trusted in all of them: what a stranger sends is not even parsed (test_trust.py).
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate, Refused, Verification, sources
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources import HeaderSource, ServerTLS, encoding
from mtls_middleware.testing import CertificateAuthority
from tests.sources.requests import TRUST, through_asgi, through_wsgi, view

HOSTILE = settings(max_examples=100)  # a slow machine is no failure

CA = CertificateAuthority()
# Names with delimiters: Envoy writes URI and DNS bare.
LEAF = CA.intermediate().issue('CN=a\\,b\\=\\"c', dns=["a.example"], uris=["urn:example:a,b;c=d", "spiffe://a/b"])
OTHER = CA.issue("CN=other")

DER, PEM = LEAF.der, LEAF.pem
BASE64 = base64.b64encode(DER).decode("ascii")
ABOVE = LEAF.chain[0].public_bytes(Encoding.DER)
ESCAPED, ESCAPED_CHAIN = quote(PEM, safe=""), quote(LEAF.chain_pem, safe="")
BYTES, BYTES_ABOVE = (f":{base64.b64encode(each).decode('ascii')}:" for each in (DER, ABOVE))
XFCC = (
    f'By=spiffe://a/me;Hash={hashlib.sha256(DER).hexdigest()};Cert="{ESCAPED}";Chain="{ESCAPED_CHAIN}";'
    'Subject="CN=a\\,b=\\"c";URI=urn:example:a,b;c=d;URI=spiffe://a/b;DNS=a.example'
)
WORD = "X-SSL-Client-Verify"

# Every source with its fields as that proxy writes them.
SOURCES: dict[str, tuple[HeaderSource, dict[str, str]]] = {
    "rfc9440": (sources.ClientCertHeader(**TRUST), {"Client-Cert": BYTES, "Client-Cert-Chain": BYTES_ABOVE}),
    "rfc9440-word": (sources.ClientCertHeader(verify_header=WORD, **TRUST), {"Client-Cert": BYTES, WORD: "SUCCESS"}),
    "nginx": (sources.Nginx(**TRUST), {"X-SSL-Client-Cert": ESCAPED, WORD: "SUCCESS"}),
    "nginx-folded": (
        sources.Nginx(**TRUST),
        {"X-SSL-Client-Cert": PEM.replace("\n", "\n\t").strip(), WORD: "FAILED:x"},
    ),
    "apache": (sources.Apache(**TRUST), {"X-SSL-Client-Cert": PEM.replace("\n", " "), WORD: "SUCCESS"}),
    "haproxy": (
        sources.HAProxy(chain_header="X-SSL-Client-Chain", **TRUST),
        {"X-SSL-Client-Cert": BASE64, WORD: "0", "X-SSL-Client-Chain": base64.b64encode(ABOVE).decode("ascii")},
    ),
    "envoy": (sources.Envoy(**TRUST), {"X-Forwarded-Client-Cert": XFCC}),
    "envoy-hops": (
        sources.Envoy(hops=1, **TRUST),
        {"X-Forwarded-Client-Cert": f'Cert="{quote(OTHER.pem)}",By=spiffe://a/sidecar'},
    ),
    "envoy-field": (sources.Envoy(certificate_header="X-Peer-Cert", **TRUST), {"X-Peer-Cert": ESCAPED}),
    "traefik": (
        sources.Traefik(**TRUST),
        {"X-Forwarded-Tls-Client-Cert": f"{BASE64},{base64.b64encode(ABOVE).decode('ascii')}"},
    ),
    "caddy": (sources.Caddy(**TRUST), {"X-SSL-Client-Cert": BYTES}),
    "aws-verify": (
        sources.AWSLoadBalancer(mode="verify", **TRUST),
        {"X-Amzn-Mtls-Clientcert-Leaf": quote(PEM, safe="+=/")},
    ),
    "aws-passthrough": (
        sources.AWSLoadBalancer(mode="passthrough", **TRUST),
        {"X-Amzn-Mtls-Clientcert": quote(LEAF.chain_pem, safe="+=/")},
    ),
    "google": (
        sources.GoogleCloudLoadBalancer(**TRUST),
        {
            "X-Client-Cert-Leaf": BYTES,
            "X-Client-Cert-Chain": BYTES_ABOVE,
            "X-Client-Cert-Chain-Verified": "true",
        },
    ),
    "azure": (sources.AzureAppService(**TRUST), {"X-ARR-ClientCert": BASE64}),
    "cloudflare": (
        sources.Cloudflare(**TRUST),
        {
            "Cf-Client-Cert-Der-Base64": BASE64,
            "Cf-Cert-Verified": "true",
            "Cf-Client-Cert-Sha256": hashlib.sha256(DER).hexdigest(),
            "Cf-Cert-Revoked": "false",
        },
    ),
}
WORDS_OF_SUCCESS = {"SUCCESS", "0", "true"}
every_source = pytest.mark.parametrize("name", SOURCES)

LATIN_1 = st.binary(max_size=40).map(lambda each: each.decode("latin-1"))
WORDS_OF_THE_FORMATS = [
    *'%+/=,;:"\\ \t\n\r\0?()!@',
    *("%25", "%00", "%0A", "%zz", "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"),
    *("Hash=", "Cert=", "Chain=", "URI=", "DNS=", "By=", 'Subject="', ";a=1", "(null)"),
    *("SUCCESS", "NONE", "FAILED:", "0", "18", "true", "false"),
    *(BASE64, ESCAPED, BYTES, XFCC, PEM, OTHER.pem),
]
PIECES = st.lists(
    st.one_of(
        st.sampled_from(WORDS_OF_THE_FORMATS),
        LATIN_1,
    ),
    max_size=8,
).map("".join)


# Where, how much goes, what comes instead; `None` repeats what went.
EDITS = st.lists(
    st.tuples(
        st.integers(0, 99_999), st.sampled_from([0, 1, 4, 5000]), st.one_of(st.none(), st.just(""), LATIN_1, PIECES)
    ),
    min_size=1,
    max_size=3,
)


def edited(text: str, edits: list[tuple[int, int, str | None]]) -> str:
    for place, length, patch in edits:
        start = place % (len(text) + 1)
        gone = text[start : start + length]
        text = text[:start] + (gone * 2 if patch is None else patch) + text[start + length :]
    return text


def mutated(valid: str) -> st.SearchStrategy[str]:
    """`valid` after one to three cuts, insertions, replacements or repetitions."""
    return EDITS.map(lambda edits: edited(valid, edits))


def hostile_headers(valid: Mapping[str, str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    """The source's fields, each absent, valid, mutated, arbitrary, or there twice."""
    fields = [
        st.lists(st.tuples(st.just(name), st.one_of(st.just(value), mutated(value), PIECES, LATIN_1)), max_size=2)
        for name, value in valid.items()
    ]
    return st.tuples(*fields).map(lambda lines: [line for field in lines for line in field])


HEADERS = {name: hostile_headers(valid) for name, (_, valid) in SOURCES.items()}


def written_in(der: bytes, text: str) -> bool:
    """Whether the DER stands in the text as base64, whatever encoding is around it."""
    plain = unquote_to_bytes(text).decode("latin-1") if "%" in text else text
    whole = base64.b64encode(der[: len(der) // 3 * 3]).decode("ascii")  # the rest may be padded in two ways
    return whole in "".join(plain.split())


@every_source
@HOSTILE
@given(data=st.data())
def test_headers_are_refused_or_nothing_or_really_hold_the_certificate(name: str, data: st.DataObject) -> None:
    source, headers = SOURCES[name][0], data.draw(HEADERS[name])
    try:
        certificate = source.find(view(headers))
    except MalformedCertificate:
        return
    if certificate is None:
        return
    assert any(written_in(certificate.der, value) for _, value in headers)
    assert all(any(written_in(each, value) for _, value in headers) for each in certificate.chain)
    if source.can_verify and name != "aws-verify" and certificate.verified:
        assert WORDS_OF_SUCCESS & {value for _, value in headers}


@every_source
def test_the_valid_values_behind_the_mutations_are_accepted(name: str) -> None:
    source, valid = SOURCES[name]
    certificate = source.find(view(list(valid.items())))
    assert certificate is not None
    assert certificate.der == (OTHER.der if name == "envoy-hops" else DER)


@every_source
@settings(HOSTILE, max_examples=20)
@given(data=st.data())
def test_hostile_headers_cause_no_internal_error(name: str, data: st.DataObject) -> None:
    source, headers = SOURCES[name][0], data.draw(HEADERS[name])
    for outcome in (through_wsgi(source, headers), through_asgi(source, headers)):
        assert (outcome.status, outcome.reached) in ((200, True), (400, False))


@every_source
@settings(HOSTILE, max_examples=20)
@given(value=st.text(max_size=40), word=st.text(max_size=10))
def test_a_value_outside_latin_1_is_not_a_certificate(name: str, value: str, word: str) -> None:
    """cheroot hands over real characters instead of latin-1."""
    source, valid = SOURCES[name]
    headers = dict.fromkeys(valid, value) | ({WORD: word} if WORD in valid else {})
    assert through_wsgi(source, list(headers.items())).certificate is None


@HOSTILE
@given(text=st.one_of(LATIN_1, mutated(BASE64)))
def test_base64_has_one_spelling(text: str) -> None:
    try:
        data = encoding.base64_der(text)
    except MalformedCertificate:
        return
    assert base64.b64encode(data).decode("ascii") == text


@HOSTILE
@given(parts=st.lists(st.sampled_from([DER, ABOVE, OTHER.der, b"", b"0", b"0\x00", b"0\x84\xff\xff\xff\xff"])))
def test_joined_der_is_cut_and_nothing_of_it_lost(parts: list[bytes]) -> None:
    joined = b"".join(parts)
    try:
        found = encoding.joined_ders(base64.b64encode(joined).decode("ascii"))
    except MalformedCertificate:
        return
    assert b"".join(found) == joined


PLAIN = st.one_of(
    st.sampled_from(
        [PEM, LEAF.chain_pem, OTHER.pem, DER, OTHER.der, DER.decode("latin-1"), "SUCCESS", "NONE", "\ud800", "\u20ac"]
    ),
    st.sampled_from([None, True, False, 0, 1, 1.5, "", b"", object()]),
    LATIN_1,
    st.binary(max_size=20),
)
PLAIN_LISTS = st.lists(PLAIN, max_size=18)
ANYTHING = st.one_of(
    PLAIN, PLAIN_LISTS, PLAIN_LISTS.map(tuple), PLAIN_LISTS.map(iter), PLAIN_LISTS.map(lambda each: {"a": each})
)
KEYS = ["client_cert_chain", "client_cert", "client_cert_error", "client_cert_name", "server_cert", "tls_version"]


def is_one_of_ours(certificate: ClientCertificate | None) -> bool:
    return certificate is None or certificate.der in (DER, OTHER.der)


@HOSTILE
@given(extension=st.one_of(ANYTHING, st.dictionaries(st.sampled_from(KEYS), ANYTHING)))
def test_any_tls_extension_is_refused_or_nothing_or_a_certificate_in_it(extension: Any) -> None:
    try:
        certificate = ServerTLS().find(view(extension=extension))
    except Refused:
        return
    assert is_one_of_ours(certificate)


class Socket:
    """What stands in the environ under a socket's key: it answers `answer`, or raises it."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def getpeercert(self, binary_form: bool) -> Any:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def get_unverified_chain(self) -> Any:
        return self.getpeercert(True)


SOCKETS = st.sampled_from([None, b"", DER, OTHER.der, b"junk", ValueError("handshake"), OSError("gone")]).map(Socket)
VARIABLES = [
    *("SSL_CLIENT_CERT", "SSL_CLIENT_VERIFY", "SSL_CLIENT_CERT_CHAIN_0", "SSL_CLIENT_CERT_CHAIN_1"),
    *("HTTPS_CC", "HTTPS_CLIENT_CERTIFICATE", "HTTPS_DN", "SSL_CLIENT_CERT_CHAIN_x", "SSL_CLIENT_CERT_CHAIN_\u0661"),
]


@HOSTILE
@given(
    environ=st.dictionaries(st.sampled_from(VARIABLES), ANYTHING),
    sockets=st.dictionaries(st.sampled_from(["gunicorn.socket", "werkzeug.socket"]), st.one_of(SOCKETS, ANYTHING)),
)
def test_any_environ_is_refused_or_nothing_or_a_certificate_in_it(
    environ: dict[str, Any], sockets: dict[str, Any]
) -> None:
    try:
        certificate = ServerTLS().find(view(environ={**environ, **sockets}))
    except Refused:
        return
    assert is_one_of_ours(certificate)
    if certificate is not None and certificate.verification is not Verification.BY_SERVER:
        assert environ.get("SSL_CLIENT_VERIFY") != "SUCCESS"
