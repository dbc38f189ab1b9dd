"""The token endpoint's layer in both gateways: the way through, one answer for all that is wrong, wrong order."""

import logging
from dataclasses import replace
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, RegisteredClient, oauth_client
from mtls_middleware.layers import decisions
from mtls_middleware.layers.client import ClientLayer
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator
from mtls_middleware.validation import TrustStore
from tests.gateways import MODULES, STRANGER, both_gateways
from tests.ids import shown
from tests.token_endpoint.layer import GOOD, LAYERS, UNKNOWN_ANSWER, error
from tests.token_endpoint.posts import Post, layers, send, send_asgi, send_wsgi
from tests.token_endpoint.registrations import AUTHENTICATOR, BILLING, CA, CLIENTS, EDGE
from tests.token_endpoint.roles import basic

# --- the way through ---


@both_gateways
@pytest.mark.standard("B1", "B3")
@pytest.mark.case("136", "143")
def test_a_client_reaches_the_application_with_its_name_and_whole_body(gateway: str) -> None:
    outcome = send(gateway, LAYERS, GOOD)
    assert outcome.status == 200
    assert outcome.client is CLIENTS["billing"]
    assert outcome.bodies == [GOOD.octets, b""]


@both_gateways
@pytest.mark.standard("B18", "B19")
@pytest.mark.case("136")
def test_self_signed_clients_come_through_where_tls_lets_them(gateway: str) -> None:
    post = Post(body=[("client_id", "edge")], certificate=EDGE, verified=False)
    assert send(gateway, LAYERS, post).client is CLIENTS["edge"]
    forged = self_signed("CN=billing", dns=["billing.internal"])
    assert error(send(gateway, LAYERS, replace(GOOD, certificate=forged, verified=False))) == "401 invalid_client"


@both_gateways
@pytest.mark.standard("B5", "B17")
def test_clients_of_other_methods_come_through_without_a_name(gateway: str) -> None:
    for certificate in (None, BILLING):
        post = Post(body=[("grant_type", "x")], headers=[("Authorization", basic("web"))], certificate=certificate)
        outcome = send(gateway, LAYERS, post)
        assert outcome.reached
        assert outcome.client is None
        assert outcome.bodies == [post.octets, b""]


@both_gateways
@pytest.mark.standard("B5")
@pytest.mark.case("138")
def test_a_client_with_a_registered_certificate_cannot_use_a_secret(gateway: str) -> None:
    for body in ([("grant_type", "x")], [("client_id", "billing")]):
        for certificate in (None, BILLING):
            post = Post(body=body, headers=[("Authorization", basic("billing"))], certificate=certificate)
            assert error(send(gateway, LAYERS, post)) == "400 invalid_request"
    for more in ("client_secret", "client_assertion", "client_assertion_type"):
        post = replace(GOOD, body=[("client_id", "billing"), (more, "x")])
        assert error(send(gateway, LAYERS, post)) == "400 invalid_request"


@both_gateways
@pytest.mark.standard("B16")
def test_a_certificate_header_from_an_untrusted_peer_is_ignored(gateway: str) -> None:
    def behind_nginx(module: Any, app: Any) -> Any:
        inner = module.ClientAuthenticationMiddleware(app, AUTHENTICATOR)
        return module.ClientCertificateMiddleware(inner, Nginx(trusted_proxies=["10.0.0.0/8"]))

    post = Post(headers=list(BILLING.as_nginx().items()))
    assert send(gateway, behind_nginx, post).client is CLIENTS["billing"]
    assert error(send(gateway, behind_nginx, replace(post, peer=STRANGER))) == "401 invalid_client"


# --- one answer for all that is wrong ---


@both_gateways
@pytest.mark.standard("B4", "P11")
@pytest.mark.case("141")
def test_nothing_tells_an_unknown_client_from_a_wrong_certificate(gateway: str) -> None:
    posts = [
        Post(body=[("client_id", "nobody")], certificate=BILLING),
        Post(body=[("client_id", "nobody")]),
        Post(body=[("client_id", "billing")]),
        Post(body=[("client_id", "billing")], certificate=EDGE),
        Post(body=[("client_id", "billing")], certificate=BILLING, verified=False),
        Post(body=[("client_id", "edge")], certificate=BILLING),
        Post(body=[("grant_type", "x")], certificate=BILLING),
        Post(body=[("client_id", "nobody")], headers=[("Authorization", basic("nobody"))]),
    ]
    answers = [send(gateway, LAYERS, each) for each in posts]
    assert {(each.status, each.body, tuple(each.headers)) for each in answers} == {
        (401, UNKNOWN_ANSWER, tuple(answers[0].headers))
    }
    assert not any(each.reached for each in answers)


@both_gateways
@pytest.mark.standard("B4")
def test_a_401_names_a_scheme_and_a_400_does_not(gateway: str) -> None:
    """RFC 6749 5.2: with the scheme that the client used, and clients have no other than Basic to use."""
    unknown = Post(body=b"", headers=[("Authorization", basic("nobody"))])
    assert send(gateway, LAYERS, unknown).header("WWW-Authenticate") == 'Basic realm="clients"'
    two = replace(GOOD, body=[("client_id", "billing")] * 2)
    outcome = send(gateway, LAYERS, two)
    assert error(outcome) == "400 invalid_request"
    assert outcome.header("WWW-Authenticate") is None


@both_gateways
@pytest.mark.case("155", "156", "141")
def test_the_log_says_why_and_quotes_nothing(gateway: str, caplog: pytest.LogCaptureFixture) -> None:
    body = [("client_id", "no\r\nbody"), ("client_secret", "s3cr3t")]
    post = Post(body=body, headers=[("Authorization", "Bearer t0k3n")], certificate=BILLING)
    with caplog.at_level(logging.DEBUG, logger="mtls_middleware"):
        outcome = send(gateway, LAYERS, post)
    assert outcome.status == 401
    assert "no such client" in caplog.text
    assert BILLING.thumbprint in caplog.text
    for secret in ("s3cr3t", "t0k3n", "no\r\nbody", "BEGIN"):
        assert secret not in caplog.text
        assert secret.encode() not in outcome.body


# --- layers around layers ---


@both_gateways
def test_two_layers_for_different_paths_do_not_undo_each_other(gateway: str) -> None:
    def both(module: Any, app: Any) -> Any:
        inner = module.ClientAuthenticationMiddleware(app, AUTHENTICATOR, paths=["/introspect"])
        outer = module.ClientAuthenticationMiddleware(inner, AUTHENTICATOR, paths=["/token"])
        return module.ClientCertificateMiddleware(outer, ServerTLS())

    for path in ("/token", "/introspect"):
        outcome = send(gateway, both, replace(GOOD, path=path))
        assert outcome.client is CLIENTS["billing"]
        assert outcome.bodies == [GOOD.octets, b""]
    assert send(gateway, both, replace(GOOD, path="/other")).client is None


@both_gateways
def test_an_inner_layer_keeps_the_client_of_the_outer_layer(gateway: str) -> None:
    other = RegisteredClient(client_id="billing", token_endpoint_auth_method="none")

    def both(module: Any, app: Any) -> Any:
        inner = module.ClientAuthenticationMiddleware(app, ClientAuthenticator({"billing": other}))
        outer = module.ClientAuthenticationMiddleware(inner, AUTHENTICATOR)
        return module.ClientCertificateMiddleware(outer, ServerTLS())

    assert send(gateway, both, GOOD).client is CLIENTS["billing"]


@both_gateways
def test_the_wrong_order_is_500_and_a_line_that_says_what_to_change(
    gateway: str, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(module: Any, app: Any) -> Any:
        inner = module.ClientCertificateMiddleware(app, ServerTLS())
        return module.ClientAuthenticationMiddleware(inner, AUTHENTICATOR)

    def alone(module: Any, app: Any) -> Any:
        return module.ClientAuthenticationMiddleware(app, AUTHENTICATOR)

    for wrap in (wrong, alone):
        for path in ("/token", "/other"):
            caplog.clear()
            assert error(send(gateway, wrap, replace(GOOD, path=path))) == "500 server_error"
            assert "exchange the two layers" in caplog.text
            assert "ClientCertificateMiddleware(ClientAuthenticationMiddleware(app" in caplog.text


@both_gateways
def test_a_client_claimed_by_the_request_is_ignored(gateway: str) -> None:
    """`mtls_middleware.client` in environ or scope, from a server that lets it through or an application around us."""
    claimed: dict[str, Any] = {"mtls_middleware.client": CLIENTS["billing"]}
    sender: Any = {"wsgi": send_wsgi, "asgi": send_asgi}[gateway]
    assert sender(LAYERS, replace(GOOD, path="/other"), **claimed).client is None


@both_gateways
@pytest.mark.case("154")
def test_a_look_up_that_fails_is_500_without_detail(gateway: str) -> None:
    def broken(client_id: str) -> RegisteredClient:
        raise RuntimeError(f"no table for {client_id}")

    outcome = send(gateway, layers(ClientAuthenticator(broken)), GOOD)
    assert error(outcome) == "500 server_error"
    assert b"table" not in outcome.body


def test_an_async_look_up_works_under_asgi_and_is_an_error_under_wsgi(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def later(client_id: str) -> RegisteredClient | None:
        return CLIENTS.get(client_id)

    wrap = layers(ClientAuthenticator(later))
    assert send_asgi(wrap, GOOD).client is CLIENTS["billing"]
    assert error(send_wsgi(wrap, GOOD)) == "500 server_error"
    assert "WSGI cannot await: expected a plain function" in caplog.text


# --- construction ---


@pytest.mark.parametrize("gateway", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"paths": "/token"}, "paths='/token': expected a list of strings"),
        ({"paths": b"/token"}, "a list of strings"),
        ({"paths": []}, "paths is empty"),
        ({"paths": [7]}, "a list of strings"),
        ({"paths": iter(["/token"])}, "a list of strings"),
        ({"authenticator": None}, "for example ClientAuthenticator"),
        ({"authenticator": CLIENTS}, "for example ClientAuthenticator"),
        ({"authenticator": ClientAuthenticator}, "for example ClientAuthenticator"),
        ({"app": None}, "application"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_an_invalid_layer_raises_configuration_error(gateway: Any, options: dict[str, Any], words: str) -> None:
    given = {"app": lambda *_: None, "authenticator": AUTHENTICATOR, **options}
    with pytest.raises(ConfigurationError, match=words):
        gateway.ClientAuthenticationMiddleware(given.pop("app"), given.pop("authenticator"), **given)


# --- the accessor ---


@pytest.mark.parametrize("forged", ["billing", {"client_id": "billing"}, True, object(), RegisteredClient], ids=shown)
def test_an_attached_value_of_another_type_is_read_as_none(forged: Any) -> None:
    assert oauth_client({"mtls_middleware.client": forged}) is None
    assert oauth_client({"mtls_middleware.client": CLIENTS["web"]}) is CLIENTS["web"]
    assert oauth_client({}) is None


@pytest.mark.parametrize("request_", [None, "request", 7, object(), [("a", "b")]], ids=shown)
def test_a_client_is_read_from_requests_alone(request_: Any) -> None:
    with pytest.raises(TypeError, match="is not a request"):
        oauth_client(request_)


# --- what the operator sees ---


@both_gateways
@pytest.mark.parametrize(
    ("client_id", "certificate"),
    [("billing", EDGE), ("billing", None), ("unknown", BILLING), ("\u202eevil\x1b[31m" + "x" * 500, BILLING)],
)
def test_the_record_of_a_rejected_client_names_the_requested_client(
    gateway: str, client_id: str, certificate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[Any] = []
    stop = decisions.observe(records.append)
    try:
        post = Post(body=[("client_id", client_id)], certificate=certificate)
        assert error(send(gateway, LAYERS, post)) == "401 invalid_client"
    finally:
        stop()
    assert records[0]["found"]["client_id"].startswith(client_id[:200])
    assert records[0]["client_id"] is None
    line = next(each.getMessage() for each in caplog.records if each.name == "mtls_middleware.decision")
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 2_000


def test_the_caches_of_its_trust_store_share_the_memory_of_the_stack() -> None:
    store = TrustStore([CA.certificate])
    layer = ClientLayer(ClientAuthenticator({}, trust_store=store), paths=["/token"])
    assert layer.caches == store.caches != ()
