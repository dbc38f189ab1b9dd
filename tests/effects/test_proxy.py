"""The egress proxy: used for everything that is fetched if it is given, and never taken from the environment."""

import base64
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import Refused
from mtls_middleware.resource_server import IntrospectedAccessTokens, JWTAccessTokens
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer, self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator, ClientRequest, RegisteredClient
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.egress_proxy import EgressProxy
from tests.introspection_server import IntrospectionServer
from tests.key_server import KeyServer
from tests.token_endpoint.roles import jwks
from tests.validation.authority import crl


@pytest.fixture
def proxy() -> Iterator[EgressProxy]:
    with EgressProxy() as running:
        yield running


@pytest.fixture
def tls(mtls_ca: CertificateAuthority) -> dict[str, Any]:
    """Contexts of a server and of its client."""
    context = mtls_ca.server_context(mtls_ca.server(), client_certificates="optional")
    return {"server": context, "client": mtls_ca.client_context()}


@pytest.fixture
def parties(tls: dict[str, Any], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate) -> tuple[Any, ...]:
    return tls, mtls_ca, mtls_client


def run(flow: Any) -> Any:
    return BlockingDriver().run(flow)


# Fetches something from a TLS server with these options, and returns the port of that server.
Fetching = Callable[..., int]


def keys(tls: dict[str, Any], ca: CertificateAuthority, client: IssuedCertificate, **options: Any) -> int:
    issuer = TokenIssuer()
    with KeyServer(issuer.jwks, tls=tls["server"]) as server:
        tokens = issuer.access_tokens(jwks_uri=server.url, ssl_context=tls["client"], **options)
        run(tokens.validate(issuer.token(certificate=client), time.time()))
        return server.port


def discovery(tls: dict[str, Any], ca: CertificateAuthority, client: IssuedCertificate, **options: Any) -> int:
    with KeyServer({}, tls=tls["server"]) as server:
        issuer = TokenIssuer(server.host)
        server.jwks = issuer.jwks
        server.documents["/.well-known/oauth-authorization-server"] = {
            "issuer": server.host,
            "jwks_uri": server.url,
        }
        tokens = issuer.access_tokens(discovery="rfc8414", ssl_context=tls["client"], **options)
        run(tokens.validate(issuer.token(certificate=client), time.time()))
        return server.port


def introspection(tls: dict[str, Any], ca: CertificateAuthority, client: IssuedCertificate, **options: Any) -> int:
    with IntrospectionServer(tls=tls["server"]) as server:
        tokens = IntrospectedAccessTokens(
            endpoint=server.url, client_id="api", client_secret="s", ssl_context=tls["client"], **options
        )
        server.behaviour = None
        with contextlib.suppress(Refused):
            run(tokens.validate("opaque", time.time()))
        assert server.questions
        return server.port


def revocation_list(tls: dict[str, Any], ca: CertificateAuthority, client: IssuedCertificate, **options: Any) -> int:
    with KeyServer(crl(ca, [1], now=time.time()), tls=tls["server"]) as server:
        lists = RevocationLists(urls=[server.url], tls=tls["client"], **options)
        store = TrustStore([ca.certificate], revocation=lists)
        run(store.validate(client.client_certificate(), time.time()))
        return server.port


def registered_keys(tls: dict[str, Any], ca: CertificateAuthority, client: IssuedCertificate, **options: Any) -> int:
    own = self_signed("CN=robot")
    with KeyServer(jwks(own), tls=tls["server"]) as server:
        registered = RegisteredClient(
            client_id="robot", token_endpoint_auth_method="self_signed_tls_client_auth", jwks_uri=server.url
        )
        authenticator = ClientAuthenticator(
            {"robot": registered}, ssl_context=tls["client"], allow_private=True, **options
        )
        request = ClientRequest([("client_id", "robot")], own.client_certificate())
        assert authenticator.authenticate(request, time.time()) is registered
        return server.port


EVERYTHING = [keys, discovery, introspection, revocation_list, registered_keys]
EVERYTHING_IDS = [each.__name__ for each in EVERYTHING]


@pytest.mark.parametrize("fetch", EVERYTHING, ids=EVERYTHING_IDS)
def test_everything_is_fetched_through_the_given_proxy(
    fetch: Fetching,
    proxy: EgressProxy,
    tls: dict[str, Any],
    mtls_ca: CertificateAuthority,
    mtls_client: IssuedCertificate,
) -> None:
    port = fetch(tls, mtls_ca, mtls_client, proxy=proxy.host)
    assert {each[:3] for each in proxy.requests} == {("CONNECT", f"127.0.0.1:{port}", None)}


@pytest.mark.parametrize("fetch", EVERYTHING, ids=EVERYTHING_IDS)
def test_the_proxy_of_the_environment_is_ignored(
    fetch: Fetching, proxy: EgressProxy, parties: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.host)
    monkeypatch.delenv("NO_PROXY", raising=False)
    fetch(*parties)
    assert proxy.requests == []


def test_the_proxy_gets_the_credentials_in_its_url(
    proxy: EgressProxy, tls: dict[str, Any], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    keys(tls, mtls_ca, mtls_client, proxy=proxy.host.replace("//", "//egress:secret@"))
    assert proxy.requests[0].authorization == "Basic " + base64.b64encode(b"egress:secret").decode()


def test_a_proxy_that_is_down_is_a_failure_and_no_reason_to_connect_directly(
    tls: dict[str, Any], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(Refused) as failure:
        keys(tls, mtls_ca, mtls_client, proxy=f"http://127.0.0.1:{port}")
    assert failure.value.code == "temporarily_unavailable"


@pytest.mark.parametrize(
    "proxy",
    [
        "",
        "egress:3128",
        "socks5://egress:1080",
        "http://",
        "http://egress:port",
        "http://e/path",
        "http://e?",
        "http://e x:80",
        "http://%zz",
        "http://\\e",
        "http://e:",
        7,
        b"http://e",
    ],
)
def test_a_proxy_that_is_no_url_is_an_error_without_its_value(proxy: Any, tmp_path: Path) -> None:
    for make in (
        lambda: JWTAccessTokens(issuer="https://a.test", audience="a", jwks_uri="https://a.test/jwks", proxy=proxy),
        lambda: IntrospectedAccessTokens(endpoint="https://a.test/i", client_id="a", client_secret="s", proxy=proxy),
        lambda: RevocationLists(urls=["https://a.test/crl"], proxy=proxy),
        lambda: ClientAuthenticator({}, proxy=proxy),
    ):
        with pytest.raises(ConfigurationError, match="proxy: expected the URL of an HTTP proxy"):
            make()
