"""How the layers nest, in which order, and what `protect` puts together."""

import logging
from collections.abc import Generator
from typing import Any

import pytest

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.layers.attached import Attached
from mtls_middleware.policy import DNSName
from mtls_middleware.sources import AWSLoadBalancer, Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import MODULES, Request, both_gateways, exchange, scope_of, send
from tests.layers.world import CLIENT, SOMEBODY, TRUSTED, behind_nginx, nested


@both_gateways
def test_inner_layer_keeps_the_outer_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    for inner in ({}, {"source": ServerTLS()}, {"source": ServerTLS(), "required": True}, {"allow": CLIENT}):
        for path in ("/", "/health"):
            wrap = nested({}, {**inner, "exempt": ["/health"]}, {"source": ServerTLS()})
            seen = send(gateway, wrap, behind_nginx(mtls_client, path=path)).application
            assert seen.certificate == mtls_client.client_certificate()
            assert seen.certificate.verification is Verification.BY_PROXY


@both_gateways
def test_inner_rule_judges_the_outer_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    wrap = nested({}, {"source": ServerTLS(), "allow": SOMEBODY, "exempt": ["/health"]})
    assert send(gateway, wrap, behind_nginx(mtls_client)).status == 403
    assert send(gateway, wrap, behind_nginx(mtls_client, path="/health")).application.certificate is None


@both_gateways
def test_an_inner_presented_certificate_does_not_weaken_the_outer_one(
    gateway: str, mtls_client: IssuedCertificate
) -> None:
    wrap = nested({"source": Nginx(trusted_proxies=TRUSTED)}, {"source": ServerTLS()})
    request = behind_nginx(mtls_client, tls=mtls_client, verified=False)
    seen = send(gateway, wrap, request).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.BY_PROXY


@both_gateways
def test_stricter_layer_inside_or_outside_refuses(gateway: str, mtls_client: IssuedCertificate) -> None:
    one, other = {"allow": CLIENT}, {"allow": DNSName("other.example.test")}
    assert send(gateway, nested(one, other), behind_nginx(mtls_client)).status == 403
    assert send(gateway, nested(other, one), behind_nginx(mtls_client)).status == 403
    assert (
        send(gateway, nested(one, {"allow": DNSName("client.example.test")}), behind_nginx(mtls_client)).status == 200
    )


@both_gateways
def test_token_layers_nest(gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    def wrap(module: Any, app: Any) -> Any:
        tokens = mtls_issuer.access_tokens()
        app = module.CertificateBoundTokenMiddleware(app, tokens, scopes=["write"], exempt=["/health"])
        app = module.CertificateBoundTokenMiddleware(app, tokens, scopes=["read"])
        return module.ClientCertificateMiddleware(app, ServerTLS())

    def request(path: str, *scopes: str) -> Request:
        text = mtls_issuer.token(certificate=mtls_client, scopes=scopes)
        return Request(path=path, tls=mtls_client, headers=[("Authorization", f"Bearer {text}")])

    assert send(gateway, wrap, request("/", "read", "write")).application.token is not None
    refused = send(gateway, wrap, request("/", "read"))
    assert (refused.status, refused.header("WWW-Authenticate")) == (
        403,
        'Bearer realm="protected", error="insufficient_scope", '
        'error_description="The access token has too little scope.", scope="write"',
    )
    assert send(gateway, wrap, request("/health", "read")).application.token is None
    assert send(gateway, wrap, request("/health", "write")).status == 403


@both_gateways
@pytest.mark.parametrize("path", ["/", "/health"])
def test_wrong_order_is_reported_and_never_passes(
    gateway: str, path: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(module: Any, app: Any) -> Any:
        inner = module.ClientCertificateMiddleware(app, ServerTLS())
        return module.CertificateBoundTokenMiddleware(inner, mtls_issuer.access_tokens(), exempt=["/health"])

    def alone(module: Any, app: Any) -> Any:
        return module.CertificateBoundTokenMiddleware(app, mtls_issuer.access_tokens(), exempt=["/health"])

    authorization = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    for wrap in (wrong, alone):
        caplog.clear()
        result = send(gateway, wrap, Request(path=path, tls=mtls_client, headers=[authorization]))
        assert (result.status, result.seen) == (500, None)
        assert "ClientCertificateMiddleware(CertificateBoundTokenMiddleware(app" in caplog.text
        assert {each.levelno for each in caplog.records} == {logging.ERROR}


@both_gateways
def test_a_certificate_under_the_public_key_is_not_an_outer_layer(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def alone(module: Any, app: Any) -> Any:
        return module.CertificateBoundTokenMiddleware(app, mtls_issuer.access_tokens())

    forged = {
        "mtls_middleware.certificate": mtls_client.client_certificate(),
        "mtls_middleware.token": "x",
        "mtls_middleware.attached": {"certificate_layer": True},
    }
    assert send(gateway, alone, Request(extra=forged)).status == 500
    another_kind = {"mtls_middleware.attached": Attached()}  # a layer of ours, and not the one for certificates
    assert send(gateway, alone, Request(extra=another_kind)).status == 500
    seen = send(gateway, nested({}), Request(extra=forged)).application
    assert (seen.certificate, seen.token) == (None, None)
    assert seen.carrier["mtls_middleware.certificate"] is None
    assert seen.carrier["mtls_middleware.token"] is None


# protect


@both_gateways
def test_protect_without_tokens_demands_a_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), exempt=["/health"])

    assert send(gateway, wrap, Request()).status == 403
    assert send(gateway, wrap, Request(tls=mtls_client, verified=False)).status == 403
    assert send(gateway, wrap, Request(path="/health")).status == 200
    assert send(gateway, wrap, Request(tls=mtls_client)).application.certificate == mtls_client.client_certificate()


@both_gateways
def test_protect_puts_rule_and_token_in_order(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), allow=CLIENT, tokens=mtls_issuer.access_tokens())

    def status(client: IssuedCertificate | None, *, token: bool) -> int:
        bearer = [("Authorization", "Bearer " + mtls_issuer.token(certificate=client))] if token else []
        return send(gateway, wrap, Request(tls=client, headers=bearer)).status

    assert status(mtls_client, token=True) == 200
    assert status(mtls_client, token=False) == 401
    assert status(mtls_other_client, token=True) == 403
    assert status(None, token=True) == 403


@both_gateways
def test_the_trust_store_decides_last_on_the_certificate(gateway: str, mtls_client: IssuedCertificate) -> None:
    class Store:
        def validate(self, certificate: ClientCertificate, now: float) -> Generator[Any, Any, ClientCertificate]:
            return ClientCertificate.from_der(certificate.der, verification=Verification.BY_TRUST_STORE)
            yield

    aws = AWSLoadBalancer(mode="passthrough", trusted_proxies=TRUSTED)
    wrap = nested({"source": aws, "trust_store": Store(), "allow": CLIENT})
    escaped = mtls_client.as_nginx()["X-SSL-Client-Cert"]
    seen = send(gateway, wrap, Request(headers=[("X-Amzn-Mtls-Clientcert", escaped)])).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.BY_TRUST_STORE


@pytest.mark.parametrize("kind", ["wsgi", "http", "websocket"])
def test_contradicting_proxy_tls_facts_keep_the_outer_certificate(
    kind: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    """The header of a proxy without an acceptable certificate is ignored, and the outer certificate is kept."""
    wrap = nested(
        {"source": Nginx(certificate_header="X-Own", verify_header="X-Own-Verify", trusted_proxies=TRUSTED)},
        {"source": Nginx(proxy_certificate=SOMEBODY)},
    )
    fields = [("X-Own", mtls_client.as_nginx()["X-SSL-Client-Cert"]), ("X-Own-Verify", "SUCCESS")]
    if kind == "wsgi":
        facts = {"SSL_CLIENT_CERT": mtls_other_client.pem, "SSL_CLIENT_VERIFY": "NONE"}
        assert send("wsgi", wrap, Request(headers=fields, extra=facts)).status == 200
        return
    extension = {**mtls_other_client.as_tls_extension(), "client_cert": mtls_client.der}
    scope = scope_of(Request(headers=fields, extra={"extensions": {"tls": extension}}), kind)
    reached: list[Any] = []

    async def application(*given: Any) -> None:
        reached.append(given)

    exchange(wrap(MODULES["asgi"], application), scope, [{"type": f"{kind}.connect"}])
    assert reached
