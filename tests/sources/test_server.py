"""`ServerTLS`: the server's own facts, and that they are never mixed with what a client can write."""

import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.layers.attached import CERTIFICATE_KEY
from mtls_middleware.policy import Subject, Thumbprint
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.sources.encoding import MAX_FIELD
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.gateways import Outcome
from tests.ids import shown
from tests.sources.requests import TRUST, through_asgi, through_wsgi, view

BY_SERVER, PRESENTED = Verification.BY_SERVER, Verification.PRESENTED


def extension(given: Any) -> ClientCertificate | None:
    return ServerTLS().find(view(extension=given))


def environ(**given: Any) -> ClientCertificate | None:
    return ServerTLS().find(view(environ=given))


# ---- the ASGI TLS extension


@pytest.mark.standard("J1", "J2")
@pytest.mark.parametrize(
    "scope",
    [
        {},
        {"extensions": None},
        {"extensions": {}},
        {"extensions": {"tls": None}},
        {"extensions": {"tls": {}}},
        {"extensions": {"tls": {"server_cert": None, "tls_version": None, "cipher_suite": None}}},
        {"extensions": {"tls": {"client_cert_chain": None}}},
        {"extensions": {"tls": {"client_cert_chain": []}}},
        {"extensions": {"tls": {"client_cert": None}}},
        {"extensions": {"http.response.pathsend": {}}},
    ],
    ids=shown,
)
def test_a_connection_without_client_certificate_has_none(scope: dict[str, Any]) -> None:
    assert through_asgi(ServerTLS(), scope=scope).certificate is None
    refused = through_asgi(ServerTLS(), scope=scope, required=True)
    assert (refused.status, refused.error) == (403, "client_certificate_required")


@pytest.mark.standard("J3")
@pytest.mark.parametrize("shape", [list, tuple, iter, lambda pems: (pem for pem in pems)], ids=range(4))
def test_the_chain_is_any_iterable_read_once(shape: Callable[..., Any], mtls_chained: IssuedCertificate) -> None:
    pems = mtls_chained.as_tls_extension()["client_cert_chain"]
    found = extension({"client_cert_chain": shape(pems)})
    assert found is not None
    assert (found.der, found.chain) == (mtls_chained.der, mtls_chained.client_certificate().chain)
    assert found.verification is BY_SERVER


def test_a_leaf_as_der_is_read_and_must_agree(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    """As uvicorn's maintainer proposes it for 0.3."""
    assert extension({"client_cert": mtls_client.der}) == mtls_client.client_certificate()
    both = {"client_cert": mtls_client.der, "client_cert_chain": [mtls_client.pem]}
    assert extension(both) == mtls_client.client_certificate()
    with pytest.raises(MalformedCertificate, match="different leaves"):
        extension(both | {"client_cert": mtls_other_client.der})


@pytest.mark.standard("J4")
def test_a_name_without_a_certificate_attaches_no_certificate(mtls_client: IssuedCertificate) -> None:
    name = mtls_client.as_tls_extension()["client_cert_name"]
    assert extension({"client_cert_name": name, "client_cert_chain": []}) is None
    refused = through_asgi(ServerTLS(), scope={"extensions": {"tls": {"client_cert_name": name}}}, required=True)
    assert refused.status == 403


@pytest.mark.case("060")
@pytest.mark.standard("J5")
@pytest.mark.parametrize("error", ["self signed", "certificate has expired", "", False, 0])
def test_a_certificate_beside_an_error_is_only_presented(error: Any, mtls_client: IssuedCertificate) -> None:
    scope = {"extensions": {"tls": mtls_client.as_tls_extension(error=error)}}
    outcome = through_asgi(ServerTLS(), scope=scope)
    assert outcome.certificate is not None
    assert outcome.certificate.verification is PRESENTED
    for demand in ({"required": True}, {"allow": Subject("CN=client,O=Tests")}):
        refused = through_asgi(ServerTLS(), scope=scope, **demand)
        assert (refused.status, refused.error, refused.reached) == (403, "client_certificate_refused", False)
    assert through_asgi(ServerTLS(), scope=scope, allow=Thumbprint(mtls_client.thumbprint)).status == 200


@pytest.mark.standard("J6")
def test_version_and_cipher_suite_are_not_read(mtls_client: IssuedCertificate) -> None:
    """Servers give numbers, names, or None."""
    for version, suite in ((0x0304, 0x1301), (None, None), ("TLSv1.3", "TLS_AES_128_GCM_SHA256"), (0, object())):
        given = mtls_client.as_tls_extension() | {"tls_version": version, "cipher_suite": suite}
        assert extension(given) == mtls_client.client_certificate()


@pytest.mark.standard("J7")
def test_a_websocket_has_the_same_facts(mtls_client: IssuedCertificate) -> None:
    scope = {"type": "websocket", "extensions": {"tls": mtls_client.as_tls_extension()}}
    assert through_asgi(ServerTLS(), scope=scope, required=True).certificate == mtls_client.client_certificate()


@pytest.mark.case("039")
@pytest.mark.parametrize(
    "given",
    [
        {"client_cert_chain": 5},
        {"client_cert_chain": object()},
        {"client_cert_chain": "-----BEGIN CERTIFICATE-----"},
        {"client_cert_chain": b"pem"},
        {"client_cert_chain": [b"pem"]},
        {"client_cert_chain": [None]},
        {"client_cert_chain": [""]},
        {"client_cert_chain": ["garbage"]},
        {"client_cert_chain": ["A" * (MAX_FIELD + 1)]},
        {"client_cert_chain": {"leaf": 1}},
        {"client_cert": "text"},
        {"client_cert": bytearray(b"0")},
        {"client_cert": b"garbage"},
        ["client_cert_chain"],
        "tls",
        5,
    ],
    ids=lambda given: shown(given)[:50],
)
def test_a_malformed_extension_is_refused(given: Any) -> None:
    refused = through_asgi(ServerTLS(), scope={"extensions": {"tls": given}})
    assert (refused.status, refused.error, refused.reached) == (400, "invalid_client_certificate", False)


@pytest.mark.case("062")
def test_a_chain_without_end_is_cut(mtls_client: IssuedCertificate) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield mtls_client.pem

    assert extension({"client_cert_chain": endless()}) == mtls_client.client_certificate()


def test_two_certificates_in_one_text_are_refused(mtls_chained: IssuedCertificate) -> None:
    with pytest.raises(MalformedCertificate, match="expected exactly one"):
        extension({"client_cert_chain": [mtls_chained.chain_pem]})


# ---- mod_ssl's variables


@pytest.mark.standard("K1")
def test_an_environ_without_variables_has_no_certificate() -> None:
    assert environ() is None
    assert environ(HTTPS="on", SSL_PROTOCOL="TLSv1.3") is None
    assert environ(SSL_CLIENT_CERT="", SSL_CLIENT_VERIFY="NONE") is None  # mod_wsgi without a certificate


@pytest.mark.standard("K3")
@pytest.mark.parametrize(
    ("word", "verification"),
    [
        ("SUCCESS", BY_SERVER),
        ("GENEROUS", PRESENTED),
        ("FAILED:self-signed certificate", PRESENTED),
        ("FAILED", PRESENTED),
        ("success", PRESENTED),
        ("SUCCESS ", PRESENTED),
        ("", PRESENTED),
        (None, PRESENTED),  # whoever set the certificate says nothing about its chain
    ],
)
def test_only_the_word_success_is_verified(
    word: str | None, verification: Verification, mtls_client: IssuedCertificate
) -> None:
    given: dict[str, Any] = {"SSL_CLIENT_CERT": mtls_client.pem}
    found = environ(**given, **({} if word is None else {"SSL_CLIENT_VERIFY": word}))
    assert found is not None
    assert (found.der, found.verification) == (mtls_client.der, verification)


@pytest.mark.case("026")
def test_a_word_that_contradicts_the_certificate_is_refused(mtls_client: IssuedCertificate) -> None:
    with pytest.raises(MalformedCertificate, match="NONE, but SSL_CLIENT_CERT"):
        environ(SSL_CLIENT_CERT=mtls_client.pem, SSL_CLIENT_VERIFY="NONE")
    for nothing in ({}, {"SSL_CLIENT_CERT": ""}):
        with pytest.raises(MalformedCertificate, match="ExportCertData"):
            environ(SSL_CLIENT_VERIFY="SUCCESS", **nothing)


@pytest.mark.standard("K2")
def test_the_chain_is_in_the_order_of_its_numbers(
    mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    """`_10` comes after `_9`, whatever order the environ has."""
    issued = [mtls_ca.issue(f"CN=above {number}") for number in range(12)]
    chain = {f"SSL_CLIENT_CERT_CHAIN_{number}": each.pem for number, each in enumerate(issued)}
    found = environ(**dict(reversed(chain.items())), **mtls_client.as_environ())
    assert found is not None
    assert found.chain == tuple(each.der for each in issued)


@pytest.mark.case("032")
@pytest.mark.standard("K9")
def test_two_certificates_in_the_variable_are_refused(mtls_chained: IssuedCertificate) -> None:
    for variable in ("SSL_CLIENT_CERT", "HTTPS_CC"):
        with pytest.raises(MalformedCertificate, match="expected exactly one"):
            environ(**{variable: mtls_chained.chain_pem})


@pytest.mark.standard("K4", "K5", "K6")
def test_names_are_those_of_the_certificate_not_of_the_variables(mtls_client: IssuedCertificate) -> None:
    """Whichever of mod_ssl's forms they have, and whatever they leave out (URIs)."""
    written = {
        "SSL_CLIENT_S_DN": "/C=XX/CN=admin",
        "SSL_CLIENT_S_DN_CN": "admin",
        "SSL_CLIENT_SAN_DNS_0": "admin.example.test",
        "SSL_CLIENT_I_DN": "CN=another CA",
        "HTTPS_DN": "/CN=admin",
    }
    assert environ(**written) is None
    found = environ(**written, **mtls_client.as_environ())
    assert found is not None
    assert (found.subject, found.dns_names) == ("CN=client,O=Tests", ("client.example.test",))
    assert found.uris == ("spiffe://example.test/client",)


@pytest.mark.case("058")
@pytest.mark.standard("K8")
def test_a_clients_header_is_not_the_servers_variable(mtls_client: IssuedCertificate) -> None:
    headers = [
        ("SSL-Client-Cert", mtls_client.pem.replace("\n", " ")),
        ("SSL-Client-Verify", "SUCCESS"),
        ("S-Client-Certificate", mtls_client.der.decode("latin-1")),
    ]
    outcome = through_wsgi(ServerTLS(), headers)
    assert (outcome.status, outcome.certificate) == (200, None)
    assert outcome.names == {"s-client-certificate"}
    assert through_wsgi(ServerTLS(), headers, required=True).status == 403


@pytest.mark.case("023")
def test_a_scheme_proves_no_tls_connection(mtls_client: IssuedCertificate) -> None:
    """gunicorn believes `X-Forwarded-Proto` from loopback."""
    headers = [("X-Forwarded-Proto", "https"), *mtls_client.as_nginx().items()]
    https = {"wsgi.url_scheme": "https", "HTTPS": "on"}
    assert through_wsgi(ServerTLS(), headers, environ=https).certificate is None
    assert through_asgi(ServerTLS(), headers, scope={"scheme": "https"}).certificate is None
    assert through_wsgi(Nginx(**TRUST), headers, environ=https, peer="203.0.113.9").certificate is None


@pytest.mark.standard("J8")
def test_the_configured_source_is_the_only_one(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    """A certificate in the header and another, or none, on the connection: never "whichever has one"."""
    headers = list(mtls_client.as_nginx().items())
    for own in (mtls_other_client.as_tls_extension(), {"client_cert_chain": []}):
        scope = {"extensions": {"tls": own}}
        assert through_asgi(Nginx(**TRUST), headers, scope=scope).thumbprint == mtls_client.thumbprint
        expected = mtls_other_client.thumbprint if own["client_cert_chain"] else None
        assert through_asgi(ServerTLS(), headers, scope=scope).thumbprint == expected
        nothing = [("X-SSL-Client-Verify", "NONE")]
        assert through_asgi(Nginx(**TRUST), nothing, scope=scope).certificate is None


@pytest.mark.standard("K10")
def test_what_stood_under_our_key_before_is_gone(mtls_client: IssuedCertificate) -> None:
    forged = {CERTIFICATE_KEY: mtls_client.client_certificate()}
    assert through_wsgi(ServerTLS(), environ=forged).certificate is None
    assert through_asgi(ServerTLS(), scope=forged).certificate is None
    assert through_wsgi(ServerTLS(), environ=forged, required=True).status == 403


# ---- uWSGI


def test_uwsgis_variables_must_agree(mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate) -> None:
    raw = mtls_client.der.decode("latin-1")
    for given in (
        {"HTTPS_CC": mtls_client.pem},
        {"HTTPS_CLIENT_CERTIFICATE": raw},
        {"HTTPS_CC": mtls_client.pem, "HTTPS_CLIENT_CERTIFICATE": raw},
    ):
        found = environ(**given)
        assert found is not None
        assert (found.der, found.verification) == (mtls_client.der, BY_SERVER)
    with pytest.raises(MalformedCertificate, match="different certificates"):
        environ(HTTPS_CC=mtls_other_client.pem, HTTPS_CLIENT_CERTIFICATE=raw)


@pytest.mark.parametrize("raw", ["\u20ac", "garbage", b"bytes", 5], ids=shown)
def test_uwsgis_der_is_latin_1_text(raw: Any) -> None:
    with pytest.raises(MalformedCertificate):
        environ(HTTPS_CLIENT_CERTIFICATE=raw)


def test_two_kinds_of_facts_must_agree(mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate) -> None:
    assert environ(HTTPS_CC=mtls_client.pem, **mtls_client.as_environ()) == mtls_client.client_certificate()
    with pytest.raises(MalformedCertificate, match="two different client certificates"):
        environ(HTTPS_CC=mtls_other_client.pem, **mtls_client.as_environ())


# ---- the socket


class Socket:
    """A TLS socket, as far as its peer's certificate; `chain` on the private object as before Python 3.13."""

    def __init__(self, leaf: Any, chain: Any = None) -> None:
        self._leaf = leaf
        self._sslobj = None if chain is None else self
        self._chain = chain

    def getpeercert(self, binary_form: bool) -> Any:
        if isinstance(self._leaf, Exception):
            raise self._leaf
        return self._leaf

    class Private:
        def __init__(self, der: bytes) -> None:
            self._der = der

        def public_bytes(self, encoding: int) -> bytes:
            assert encoding == 2
            return self._der


class PrivateChain(Socket):
    def __init__(self, leaf: bytes, chain: list[bytes]) -> None:
        super().__init__(leaf)
        owner = type("SSLObject", (), {"get_unverified_chain": lambda _: [Socket.Private(der) for der in chain]})
        self._sslobj = owner()


class PublicChain(Socket):
    def get_unverified_chain(self) -> Any:
        if isinstance(self._chain, Exception):
            raise self._chain
        return self._chain


@pytest.mark.parametrize("key", ["gunicorn.socket", "werkzeug.socket"])
@pytest.mark.parametrize("kind", [PrivateChain, PublicChain])
def test_a_socket_gives_leaf_and_chain(key: str, kind: type[Any], mtls_chained: IssuedCertificate) -> None:
    above = mtls_chained.client_certificate().chain
    found = environ(**{key: kind(mtls_chained.der, [mtls_chained.der, *above])})
    assert found is not None
    assert (found.der, found.chain, found.verification) == (mtls_chained.der, above, BY_SERVER)


@pytest.mark.parametrize(
    "socket", [None, object(), Socket(None), Socket(b""), Socket(ValueError("handshake not done")), Socket(OSError())]
)
def test_a_socket_without_certificate_is_none(socket: Any) -> None:
    """A plain socket has no `getpeercert` at all."""
    assert environ(**{"gunicorn.socket": socket}) is None


@pytest.mark.parametrize("chain", [OSError(), ValueError(), None, 5, []], ids=shown)
def test_the_leaf_stands_without_its_chain(chain: Any, mtls_client: IssuedCertificate) -> None:
    found = environ(**{"gunicorn.socket": PublicChain(mtls_client.der, chain)})
    assert found is not None
    assert (found.der, found.chain) == (mtls_client.der, ())


def test_a_real_tls_connection_gives_its_certificate(
    mtls_ca: CertificateAuthority, mtls_chained: IssuedCertificate
) -> None:
    """Python's own `ssl` over memory, as gunicorn hands its sockets over."""
    client, server = handshake(mtls_ca, mtls_chained)
    found = environ(**{"gunicorn.socket": server})
    assert found is not None
    assert (found.der, found.verification) == (mtls_chained.der, BY_SERVER)
    assert set(found.chain) <= set(mtls_chained.client_certificate().chain)
    _, anonymous = handshake(mtls_ca, None)
    assert environ(**{"gunicorn.socket": anonymous}) is None
    assert client.getpeercert(True)


def handshake(ca: CertificateAuthority, client: IssuedCertificate | None) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = ca.client_context(client).wrap_bio(down, up, server_hostname="localhost")
    context = ca.server_context(ca.server(), client_certificates="optional")
    far = context.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near, far


def test_the_source_says_what_it_is(through: Callable[..., Outcome]) -> None:
    source = ServerTLS()
    assert (repr(source), source.can_verify, source.drop_headers, source.vary) == (
        "ServerTLS()",
        True,
        frozenset(),
        None,
    )
    assert through(source).certificate is None
