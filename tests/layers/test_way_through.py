"""The way in and out of the layers: the same under WSGI and ASGI."""

import json
from types import MappingProxyType
from typing import Any

import pytest

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.policy import Presented, Subject, Thumbprint
from mtls_middleware.sources import ClientCertHeader, Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer, self_signed
from tests.gateways import STRANGER, Request, both_gateways, send
from tests.layers.world import TRUSTED, Failing, World, carrying, certificates, nginx


@both_gateways
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "POST"])
@pytest.mark.case("147")
@pytest.mark.standard("G13")
def test_method_changes_nothing(gateway: str, method: str, world: World) -> None:
    refused = send(gateway, world.tokens(), carrying(world, method=method))
    assert (refused.status, refused.seen) == (401, None)
    assert refused.header("WWW-Authenticate") == 'Bearer realm="protected"'
    assert (refused.body == b"") == (method == "HEAD")
    accepted = send(gateway, world.tokens(), carrying(world, world.bearer(certificate=world.client), method=method))
    assert accepted.application.carrier.get("REQUEST_METHOD", accepted.application.carrier.get("method")) == method


@both_gateways
@pytest.mark.case("147")
def test_a_preflight_does_not_bypass_the_layer(gateway: str, world: World) -> None:
    preflight = [("Origin", "https://evil.test"), ("Access-Control-Request-Method", "GET")]
    assert send(gateway, certificates(required=True), Request(method="OPTIONS", headers=preflight)).status == 403


@both_gateways
def test_application_reads_certificate_and_token(gateway: str, world: World) -> None:
    request = carrying(world, world.bearer(certificate=world.client, scopes=["read", "write"]), method="POST")
    result = send(gateway, world.tokens(scopes=["read"]), request)
    seen = result.application
    assert (result.status, result.body, seen.body) == (200, b"reached", b"hello")
    assert seen.certificate == world.client.client_certificate()
    assert seen.certificate.verification is Verification.BY_SERVER
    assert seen.token is not None
    assert (seen.token.bound, seen.token.confirmation) == (True, world.client.thumbprint)
    assert seen.token.scopes == {"read", "write"}
    assert seen.carrier["mtls_middleware.certificate"] is seen.certificate
    assert seen.carrier["mtls_middleware.token"] is seen.token


def test_claims_are_read_only_all_the_way_down(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=ServerTLS(), tokens=mtls_issuer.access_tokens())

    text = mtls_issuer.token(certificate=mtls_client, claims={"deep": [{"list": [1, {"x": 1}]}]})
    request = Request(tls=mtls_client, headers=[("Authorization", f"Bearer {text}")])
    token = send("wsgi", wrap, request).application.token
    assert token is not None
    deep = token.claims["deep"]
    assert isinstance(deep, tuple)
    assert isinstance(deep[0]["list"], tuple)
    assert {type(each) for each in (token.claims, deep[0], deep[0]["list"][1])} == {MappingProxyType}


@both_gateways
@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
@pytest.mark.standard("G10")
@pytest.mark.case("123")
def test_scheme_has_no_case(gateway: str, scheme: str, world: World) -> None:
    _, value = world.bearer(certificate=world.client)
    request = carrying(world, ("Authorization", scheme + value.removeprefix("Bearer")))
    assert send(gateway, world.tokens(), request).application.token is not None


@both_gateways
@pytest.mark.standard("G11")
def test_token_in_a_form_is_not_read(gateway: str, world: World) -> None:
    form = ("Content-Type", "application/x-www-form-urlencoded")
    result = send(gateway, world.tokens(), carrying(world, form, method="POST"))
    assert (result.status, result.header("WWW-Authenticate")) == (401, 'Bearer realm="protected"')


@both_gateways
@pytest.mark.case("107")
def test_unbound_token_passes_as_plain_bearer_where_binding_is_optional(gateway: str, world: World) -> None:
    seen = send(gateway, world.binding(binding="when_present"), carrying(world, world.bearer())).application
    assert seen.token is not None
    assert (seen.token.bound, seen.token.confirmation) == (False, None)


@both_gateways
@pytest.mark.case("103", "104")
def test_bound_token_is_checked_where_binding_is_optional(gateway: str, world: World) -> None:
    wrap = world.binding(binding="when_present")
    renewed = world.issuer.token(certificate=world.other)
    assert send(gateway, wrap, carrying(world, ("Authorization", f"Bearer {renewed}"))).status == 401
    assert send(gateway, wrap, carrying(world, world.bearer(certificate=world.client))).application.token is not None


@both_gateways
def test_binding_asks_for_no_chain(gateway: str, world: World) -> None:
    """RFC 8705 6.2: possession of the key is all that a bound token proves."""
    own = self_signed("CN=nobody vouches for me")
    request = Request(tls=own, verified=False, headers=[world.bearer(certificate=own)])
    seen = send(gateway, world.tokens(), request).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.PRESENTED


@both_gateways
@pytest.mark.case("001", "002")
def test_a_certificate_header_from_an_untrusted_peer_is_ignored(gateway: str, world: World) -> None:
    for headers in (nginx(world.client), [("X-SSL-Client-Cert", "rubbish")], nginx(world.client) * 2):
        seen = send(gateway, certificates(), Request(peer=STRANGER, headers=headers)).application
        assert seen.certificate is None
        assert "x-ssl-client-cert" not in seen.headers


@both_gateways
@pytest.mark.parametrize(
    ("allow", "verify", "status"),
    [
        (Subject("CN=client,O=Tests"), "SUCCESS", 200),
        (Subject("CN=client,O=Tests"), "FAILED:self signed certificate", 403),
        (Presented(lambda certificate: certificate.subject == "CN=client,O=Tests"), "FAILED:x", 200),
        (lambda certificate: certificate.subject == "CN=client,O=Tests", "SUCCESS", 200),
        (lambda certificate: certificate.subject == "CN=client,O=Tests", "FAILED:x", 403),
        (lambda certificate: "yes", "SUCCESS", 403),
        (None, "FAILED:self signed certificate", 200),
    ],
)
@pytest.mark.case("025")
def test_rule_decides_on_the_certificate(gateway: str, allow: Any, verify: str, status: int, world: World) -> None:
    result = send(gateway, certificates(allow=allow), Request(headers=nginx(world.client, verify)))
    assert result.status == status


@both_gateways
def test_thumbprint_accepts_what_is_merely_presented(gateway: str, world: World) -> None:
    source = Nginx(trusted_proxies=TRUSTED, verify_header=False)
    wrap = certificates(source=source, allow=Thumbprint(world.client.thumbprint))
    seen = send(gateway, wrap, Request(headers=nginx(world.client))).application
    assert seen.certificate == ClientCertificate.from_der(world.client.der)
    assert send(gateway, wrap, Request(headers=nginx(world.other))).status == 403
    assert send(gateway, wrap, Request()).status == 403  # allow makes it required


@both_gateways
def test_optional_certificate_is_none_without_one(gateway: str, world: World) -> None:
    for wrap in (certificates(), certificates(allow=Subject("CN=x"), required=False)):
        assert send(gateway, wrap, Request()).application.certificate is None


@both_gateways
@pytest.mark.case("157")
@pytest.mark.standard("G16", "I12")
def test_responses_that_depend_on_the_header_vary_by_it(gateway: str, world: World) -> None:
    source = ClientCertHeader(trusted_proxies=TRUSTED, verified_by_proxy=True)
    headers = list(world.client.as_client_cert().items())

    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=source, tokens=world.issuer.access_tokens())

    refused = send(gateway, wrap, Request(headers=headers))
    assert (refused.status, refused.header("Cache-Control")) == (401, "no-store")
    accepted = send(gateway, wrap, Request(headers=[*headers, world.bearer(certificate=world.client)]))
    assert (accepted.status, accepted.header("Vary")) == (200, "client-cert")
    assert accepted.header("Client-Cert") is None
    assert send(gateway, world.tokens(exempt=["/"]), Request()).header("Vary") is None  # the server's own TLS


@both_gateways
@pytest.mark.case("063")
@pytest.mark.standard("K10")
def test_nothing_is_carried_over_to_the_next_request(gateway: str, world: World) -> None:
    layers: dict[int, Any] = {}
    wrap = certificates()

    def once(module: Any, app: Any) -> Any:
        def relay(*arguments: Any) -> Any:
            return layers["app"](*arguments)

        layers["app"] = app
        return layers.setdefault("layer", wrap(module, relay))

    first = send(gateway, once, Request(headers=nginx(world.client))).application
    second = send(gateway, once, Request()).application
    assert (first.certificate, second.certificate) == (world.client.client_certificate(), None)


@both_gateways
@pytest.mark.case("023")
def test_a_scheme_does_not_prove_tls(gateway: str, world: World) -> None:
    https = {"wsgi.url_scheme": "https", "HTTPS": "on", "scheme": "https"}
    request = Request(headers=[("X-Forwarded-Proto", "https")], extra=https)
    assert send(gateway, certificates(required=True), request).status == 403
    assert send(gateway, certificates(source=ServerTLS(), required=True), request).status == 403


@both_gateways
@pytest.mark.case("151")
def test_host_names_no_exempt_path(gateway: str, world: World) -> None:
    request = Request(path="/admin", headers=[("Host", "server.test/health?y=")])
    assert send(gateway, certificates(required=True, exempt=["/health"]), request).status == 403


@both_gateways
@pytest.mark.case("154")
@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), AssertionError(), KeyError("x"), StopIteration()])
def test_an_unexpected_exception_of_a_validator_is_500(gateway: str, error: Exception, world: World) -> None:
    wrap = world.tokens(tokens=Failing(error))
    result = send(gateway, wrap, carrying(world, world.bearer(certificate=world.client)))
    assert (result.status, result.seen) == (500, None)
    assert json.loads(result.body)["error"] == "server_error"


@both_gateways
def test_exception_of_the_application_is_its_own(gateway: str, world: World) -> None:
    def broken(*_arguments: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        send(gateway, lambda module, _app: certificates()(module, broken), Request())
