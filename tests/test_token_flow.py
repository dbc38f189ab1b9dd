"""The token endpoint's layer in both gateways: the body read once and left whole, paths, answers, wrong order."""

import asyncio
import io
import json
import logging
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import pytest

from mtls_middleware import ConfigurationError, RegisteredClient, oauth_client
from mtls_middleware.request import MAX_BODY
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator
from tests.gateways import MODULES, STRANGER, both_gateways, exchange, scope_of
from tests.ids import shown
from tests.token_endpoint.posts import FORM, Outcome, Post, environ_for, layers, send, send_asgi, send_wsgi
from tests.token_endpoint.roles import basic, own_certificates, pki

CA = CertificateAuthority()
BILLING = CA.issue("CN=billing", dns=["billing.internal"])
EDGE = self_signed("CN=edge")
CLIENTS = {
    "billing": pki(san_dns="billing.internal"),
    "edge": own_certificates(EDGE),
    "web": RegisteredClient(client_id="web", token_endpoint_auth_method="client_secret_basic"),
}
AUTHENTICATOR = ClientAuthenticator(CLIENTS)
LAYERS = layers(AUTHENTICATOR)
GOOD = Post(certificate=BILLING)
UNKNOWN_ANSWER = b'{"error": "invalid_client", "error_description": "Client authentication failed."}'


def error(outcome: Outcome) -> str:
    assert not outcome.reached
    assert outcome.header("Cache-Control") == "no-store"
    assert outcome.header("Content-Type") == "application/json"
    return f"{outcome.status} {json.loads(outcome.body)['error']}"


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
def test_a_client_that_registered_a_certificate_does_not_come_through_with_a_secret(gateway: str) -> None:
    for body in ([("grant_type", "x")], [("client_id", "billing")]):
        for certificate in (None, BILLING):
            post = Post(body=body, headers=[("Authorization", basic("billing"))], certificate=certificate)
            assert error(send(gateway, LAYERS, post)) == "400 invalid_request"
    for more in ("client_secret", "client_assertion", "client_assertion_type"):
        post = replace(GOOD, body=[("client_id", "billing"), (more, "x")])
        assert error(send(gateway, LAYERS, post)) == "400 invalid_request"


@both_gateways
@pytest.mark.standard("B16")
def test_a_certificate_in_a_header_that_nobody_vouches_for_is_none(gateway: str) -> None:
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


# --- who it says it is from, on the wire ---


@both_gateways
@pytest.mark.standard("B2")
@pytest.mark.case("137")
def test_client_id_is_said_once_and_in_the_body(gateway: str) -> None:
    for post, expected in (
        (replace(GOOD, body=b"client_id=billing&client_id=billing"), "400 invalid_request"),
        (replace(GOOD, body=b"client_id=billing&client%5Fid=edge"), "400 invalid_request"),
        (replace(GOOD, query="client_id=billing"), "400 invalid_request"),
        (replace(GOOD, query="client%5fid"), "400 invalid_request"),
        (replace(GOOD, body=b"grant_type=x", query="client_id=billing"), "400 invalid_request"),
        (replace(GOOD, body=b"grant_type=x"), "401 invalid_client"),
        (replace(GOOD, body=b""), "401 invalid_client"),
        (replace(GOOD, body=b"client_id="), "401 invalid_client"),
        (replace(GOOD, body=b"client_id"), "401 invalid_client"),
        (replace(GOOD, body=b"Client_ID=billing"), "401 invalid_client"),
        (replace(GOOD, body=b"client_id=billing;grant_type=x"), "401 invalid_client"),
        (replace(GOOD, headers=[("Authorization", basic("web"))]), "400 invalid_request"),
        (replace(GOOD, headers=[("Authorization", basic("billing"))] * 2), "400 invalid_request"),
        (replace(GOOD, body=b"", headers=[("Authorization", basic("web"))] * 2), "400 invalid_request"),
    ):
        assert error(send(gateway, LAYERS, post)) == expected, post
    assert send(gateway, LAYERS, replace(GOOD, query="tenant=a&x")).client is CLIENTS["billing"]


@both_gateways
@pytest.mark.case("143")
def test_a_body_that_is_no_form_in_utf_8_is_refused(gateway: str) -> None:
    utf_16 = "client_id=billing".encode("utf-16")
    multipart = b'--x\r\nContent-Disposition: form-data; name="client_id"\r\n\r\nbilling\r\n--x--\r\n'
    for body, content_type in (
        (utf_16, f"{FORM}; charset=utf-16"),
        (b"client_id=billing", f"{FORM}; charset=utf-16"),
        (utf_16, FORM),
        (multipart, "multipart/form-data; boundary=x"),
        (b'{"client_id": "billing"}', "application/json"),
        (b"client_id=billing", "text/plain"),
        (b"client_id=billing", None),
        (b"client_id=billing", ""),
        (b"client_id=billing", f"{FORM}, application/json"),
        (b"client_id=billing", f"{FORM}; charset=utf-8; charset=utf-16"),
        (b"client_id=b\xffilling", FORM),
        (b"client_id=b%ffilling", FORM),
        (b"&".join(b"a=b" for _ in range(201)), FORM),
    ):
        post = replace(GOOD, body=body, content_type=content_type)
        assert error(send(gateway, LAYERS, post)) == "400 invalid_request", (body[:40], content_type)
    for content_type in (f"{FORM};charset=UTF-8", f'{FORM}; charset="utf-8"', FORM.upper(), f" {FORM} ; charset=utf-8"):
        assert send(gateway, LAYERS, replace(GOOD, content_type=content_type)).client is CLIENTS["billing"]


# --- the body ---


def padded(length: int) -> Post:
    start = b"client_id=billing&pad="
    return replace(GOOD, body=start + b"x" * (length - len(start)))


@both_gateways
@pytest.mark.case("143")
def test_a_body_is_read_up_to_a_limit(gateway: str) -> None:
    outcome = send(gateway, LAYERS, padded(MAX_BODY))
    assert outcome.client is CLIENTS["billing"]
    assert outcome.bodies == [padded(MAX_BODY).octets, b""]
    for length in (MAX_BODY + 1, 10_000_000):
        assert error(send(gateway, LAYERS, padded(length))) == "413 invalid_request"


class Counting(io.BytesIO):
    """An input that tells how much was taken from it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.case("143")
def test_no_more_than_the_limit_is_taken_in() -> None:
    source = Counting(padded(10_000_000).octets)
    outcome = send_wsgi(LAYERS, GOOD, **{"wsgi.input": source, "CONTENT_LENGTH": "10000000"})
    assert error(outcome) == "413 invalid_request"
    assert source.taken == 0
    chunked = {"wsgi.input": source, "wsgi.input_terminated": True}
    assert error(send_wsgi(LAYERS, GOOD, without=["CONTENT_LENGTH"], **chunked)) == "413 invalid_request"
    assert source.taken <= MAX_BODY + 1


@pytest.mark.case("143")
def test_wsgi_chunked_body_is_read_where_the_server_ends_it() -> None:
    for length in ({}, {"CONTENT_LENGTH": ""}):
        outcome = send_wsgi(LAYERS, GOOD, without=["CONTENT_LENGTH"], **{"wsgi.input_terminated": True}, **length)
        assert outcome.client is CLIENTS["billing"]
        assert outcome.bodies == [GOOD.octets, b""]


@pytest.mark.case("143")
def test_wsgi_body_without_length_or_end_is_none() -> None:
    """Reading it could wait for ever (PEP 3333)."""

    class Waiting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            pytest.fail("read")

    outcome = send_wsgi(LAYERS, GOOD, without=["CONTENT_LENGTH"], **{"wsgi.input": Waiting()})
    assert error(outcome) == "401 invalid_client"


@pytest.mark.case("143")
@pytest.mark.parametrize("length", ["-1", "+5", "5.0", "abc", "0x5", " 5", "5,5", "\u0665", "1e2", "-"])
def test_wsgi_length_that_is_no_number_is_refused(length: str) -> None:
    assert error(send_wsgi(LAYERS, GOOD, CONTENT_LENGTH=length)) == "400 invalid_request"


@pytest.mark.case("143")
def test_wsgi_lengths_that_lie() -> None:
    whole = len(GOOD.octets)
    assert error(send_wsgi(LAYERS, GOOD, CONTENT_LENGTH=str(whole + 1))) == "400 invalid_request"
    assert error(send_wsgi(LAYERS, GOOD, CONTENT_LENGTH="9" * 5000)) == "413 invalid_request"
    shorter = send_wsgi(LAYERS, GOOD, CONTENT_LENGTH=str(len("client_id=billing")))
    assert shorter.bodies == [b"client_id=billing", b""]  # what we decided on is what the application gets


@pytest.mark.case("143")
@pytest.mark.parametrize("raised", [OSError, ConnectionResetError, TimeoutError])
def test_wsgi_input_that_breaks_off_is_the_clients_doing(raised: type[OSError]) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise raised
            return super().read(5)

    assert error(send_wsgi(LAYERS, GOOD, **{"wsgi.input": Broken(GOOD.octets)})) == "400 invalid_request"


def test_wsgi_input_may_come_in_pieces() -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(1)

    outcome = send_wsgi(LAYERS, GOOD, **{"wsgi.input": Dripping(GOOD.octets)})
    assert outcome.client is CLIENTS["billing"]
    assert outcome.bodies == [GOOD.octets, b""]


def messages(*pieces: bytes) -> list[dict[str, Any]]:
    return [{"type": "http.request", "body": each, "more_body": True} for each in pieces] + [{"type": "http.request"}]


@pytest.mark.case("143")
def test_asgi_body_may_come_in_many_messages() -> None:
    single = [bytes([each]) for each in GOOD.octets]
    for sent in (messages(*single), messages(b"", GOOD.octets, b""), [{"type": "http.request", "body": GOOD.octets}]):
        outcome = send_asgi(LAYERS, GOOD, sent)
        assert outcome.client is CLIENTS["billing"]
        assert outcome.bodies == [GOOD.octets, b""]


@pytest.mark.case("143")
def test_asgi_client_that_goes_away_is_not_taken_for_a_short_body() -> None:
    cut = [{"type": "http.request", "body": b"client_id=billing", "more_body": True}, {"type": "http.disconnect"}]
    for sent in (cut, cut[1:]):
        assert error(send_asgi(LAYERS, GOOD, sent)) == "400 invalid_request"


@pytest.mark.case("143")
def test_asgi_body_without_end_is_cut_off() -> None:
    endless = messages(*[b"x" * 1000] * 10_000)
    assert error(send_asgi(LAYERS, GOOD, endless)) == "413 invalid_request"


@both_gateways
def test_bodies_of_other_paths_are_not_touched(gateway: str) -> None:
    """No limit, no form: it is the application's."""
    post = Post(body=b"\xff" * 100_000, content_type="application/octet-stream", path="/upload", certificate=BILLING)
    outcome = send(gateway, LAYERS, post)
    assert outcome.bodies == [post.octets, b""]
    assert outcome.client is None


# --- paths and methods ---


@both_gateways
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post", "Post", ""])
def test_another_method_than_post_is_405(gateway: str, method: str) -> None:
    outcome = send(gateway, LAYERS, replace(GOOD, method=method))
    assert (outcome.status, outcome.header("Allow")) == (405, "POST")
    assert not outcome.reached
    assert bool(outcome.body) is (method != "HEAD")


@both_gateways
@pytest.mark.parametrize(
    "path",
    ["/", "/token/", "//token", "/TOKEN", "/token;x", "/token%20", "/token ", "/x/token", "/./token", "/token\0", ""],
)
def test_every_other_path_passes_with_nobody_attached(gateway: str, path: str) -> None:
    for method in ("POST", "GET"):
        outcome = send(gateway, LAYERS, replace(GOOD, path=path, method=method))
        assert outcome.reached
        assert outcome.client is None


@both_gateways
def test_paths_are_what_the_application_routes_on(gateway: str) -> None:
    wrap = layers(AUTHENTICATOR, paths=["/token", "/introspect", "/b\u00fccher"])
    for path in ("/token", "/introspect", "/b\u00fccher"):
        assert send(gateway, wrap, replace(GOOD, path=path)).client is CLIENTS["billing"]
        assert send(gateway, wrap, replace(GOOD, path=path, root="/oauth")).client is CLIENTS["billing"]
        assert send(gateway, wrap, replace(GOOD, path=path, query="a=b")).client is CLIENTS["billing"]
    assert send(gateway, wrap, replace(GOOD, path="/revoke")).client is None


@both_gateways
@pytest.mark.standard("B21")
def test_each_endpoint_of_the_list_is_one(gateway: str) -> None:
    wrap = layers(AUTHENTICATOR, paths={"/introspect", "/revoke", "/par", "/bc-authorize"})
    for path in ("/introspect", "/revoke", "/par", "/bc-authorize"):
        assert send(gateway, wrap, replace(GOOD, path=path)).client is CLIENTS["billing"]
        assert error(send(gateway, wrap, replace(GOOD, path=path, certificate=None))) == "401 invalid_client"


@pytest.mark.case("144")
def test_a_websocket_at_a_token_endpoint_is_closed() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        pytest.fail("reached")

    app = LAYERS(MODULES["asgi"], application)
    sent = exchange(app, scope_of(GOOD.request, "websocket"), [{"type": "websocket.connect"}])
    assert [each["type"] for each in sent] == ["websocket.close"]


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
def test_an_inner_layer_that_knows_the_client_by_another_method_keeps_what_the_outer_found(gateway: str) -> None:
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
            assert "wrap the other way round" in caplog.text
            assert "ClientCertificateMiddleware(ClientAuthenticationMiddleware(app" in caplog.text


@both_gateways
def test_a_client_that_the_outside_claims_is_nobody(gateway: str) -> None:
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


def test_an_async_look_up_works_under_asgi_and_under_wsgi_says_what_to_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def later(client_id: str) -> RegisteredClient | None:
        return CLIENTS.get(client_id)

    wrap = layers(ClientAuthenticator(later))
    assert send_asgi(wrap, GOOD).client is CLIENTS["billing"]
    assert error(send_wsgi(wrap, GOOD)) == "500 server_error"
    assert "WSGI cannot await: give a plain function" in caplog.text


@pytest.mark.parametrize("gateway", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"paths": "/token"}, "paths='/token': a list of texts"),
        ({"paths": b"/token"}, "a list of texts"),
        ({"paths": []}, "paths is empty"),
        ({"paths": [7]}, "a list of texts"),
        ({"paths": iter(["/token"])}, "a list of texts"),
        ({"authenticator": None}, "for example ClientAuthenticator"),
        ({"authenticator": CLIENTS}, "for example ClientAuthenticator"),
        ({"authenticator": ClientAuthenticator}, "for example ClientAuthenticator"),
        ({"app": None}, "application"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_layer_put_together_wrongly_says_so(gateway: Any, options: dict[str, Any], words: str) -> None:
    given = {"app": lambda *_: None, "authenticator": AUTHENTICATOR, **options}
    with pytest.raises(ConfigurationError, match=words):
        gateway.ClientAuthenticationMiddleware(given.pop("app"), given.pop("authenticator"), **given)


# --- what applications of each framework read ---


def described(request: Any, form: Any) -> dict[str, Any]:
    client = oauth_client(request)
    return {"client": client and client.client_id, "grant": form.get("grant_type")}


def flask_app(wrap: Any) -> Any:
    import flask

    app = flask.Flask(__name__)
    app.post("/token")(lambda: described(flask.request, flask.request.form))
    return wrap(MODULES["wsgi"], app.wsgi_app)


def werkzeug_app(wrap: Any) -> Any:
    from werkzeug import Request as WerkzeugRequest
    from werkzeug import Response

    @WerkzeugRequest.application
    def app(request: WerkzeugRequest) -> Response:
        return Response(json.dumps(described(request, request.form)))

    return wrap(MODULES["wsgi"], app)


@cache
def _django() -> None:
    import django
    from django.conf import settings

    if not settings.configured:  # once in a process: for the other module that has a Django, this one overrides it
        settings.configure(SECRET_KEY="for tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF="tests.test_frameworks")
    django.setup()


def django_view(request: Any) -> Any:
    from django.http import JsonResponse

    return JsonResponse(described(request, request.POST))


def __getattr__(name: str) -> Any:
    """Django's URLconf, made when Django asks this module for it."""
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.urls import path

    return [path("token", django_view)]


def django_wsgi(wrap: Any) -> Any:
    _django()
    from django.core.wsgi import get_wsgi_application

    return wrap(MODULES["wsgi"], _routed(get_wsgi_application()))


def django_asgi(wrap: Any) -> Any:
    _django()
    from django.core.asgi import get_asgi_application

    return wrap(MODULES["asgi"], _routed(get_asgi_application()))


def _routed(app: Any) -> Any:
    """With the routes of this module."""
    from django.test import override_settings

    def wsgi(environ: Any, start_response: Any) -> Any:
        with override_settings(ROOT_URLCONF=__name__):
            return app(environ, start_response)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        with override_settings(ROOT_URLCONF=__name__):
            await app(scope, receive, send)

    return asgi if type(app).__name__ == "ASGIHandler" else wsgi


def starlette_app(wrap: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def view(request: Any) -> Any:
        return JSONResponse(described(request, dict(parse_qsl((await request.body()).decode()))))

    return wrap(MODULES["asgi"], Starlette(routes=[Route("/token", view, methods=["POST"])]))


def fastapi_app(wrap: Any) -> Any:
    import fastapi

    app = fastapi.FastAPI()

    @app.post("/token")
    async def view(request: fastapi.Request) -> dict[str, Any]:
        return described(request, dict(parse_qsl((await request.body()).decode())))

    return wrap(MODULES["asgi"], app)


def quart_app(wrap: Any) -> Any:
    import quart

    app = quart.Quart(__name__)

    @app.post("/token")
    async def view() -> dict[str, Any]:
        return described(quart.request, await quart.request.form)

    return wrap(MODULES["asgi"], app.asgi_app)


WSGI_APPS = [flask_app, werkzeug_app, django_wsgi]
ASGI_APPS = [django_asgi, starlette_app, fastapi_app, quart_app]


def answered_wsgi(app: Any, environ: dict[str, Any]) -> tuple[int, bytes]:
    statuses: list[int] = []
    chunks = app(environ, lambda status, *_: statuses.append(int(status.split()[0])))
    body = b"".join(chunks)
    if hasattr(chunks, "close"):
        chunks.close()
    return statuses[0], body


@pytest.mark.parametrize("make", WSGI_APPS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.case("143", "136")
def test_a_wsgi_framework_reads_the_client_and_the_form(make: Any, chunked: bool) -> None:
    app = make(LAYERS)
    environ = environ_for(GOOD)
    if chunked:  # as gunicorn gives it
        del environ["CONTENT_LENGTH"]
        environ |= {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    status, body = answered_wsgi(app, environ)
    assert (status, json.loads(body)) == (200, {"client": "billing", "grant": "client_credentials"})
    assert answered_wsgi(app, environ_for(replace(GOOD, certificate=None))) == (401, UNKNOWN_ANSWER)


def staying(app: Any) -> Any:
    """The client waits for its answer: Django gives up where it does not."""

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        async def from_client() -> Any:
            message = await receive()
            return message if message["type"] == "http.request" else await asyncio.Future()

        await app(scope, from_client, send)

    return waiting


@pytest.mark.parametrize("make", ASGI_APPS, ids=lambda make: make.__name__)
@pytest.mark.case("143", "136")
def test_an_asgi_framework_reads_the_client_and_the_form(make: Any) -> None:
    app = staying(make(LAYERS))
    outcome = send_asgi(lambda _module, _app: app, GOOD, messages(GOOD.octets[:7], GOOD.octets[7:]))
    assert (outcome.status, json.loads(outcome.body)) == (200, {"client": "billing", "grant": "client_credentials"})
    refused = send_asgi(lambda _module, _app: app, replace(GOOD, certificate=None))
    assert (refused.status, refused.body) == (401, UNKNOWN_ANSWER)


@pytest.mark.parametrize("forged", ["billing", {"client_id": "billing"}, True, object(), RegisteredClient], ids=shown)
def test_what_is_no_registered_client_is_read_as_nobody(forged: Any) -> None:
    assert oauth_client({"mtls_middleware.client": forged}) is None
    assert oauth_client({"mtls_middleware.client": CLIENTS["web"]}) is CLIENTS["web"]
    assert oauth_client({}) is None


@pytest.mark.parametrize("request_", [None, "request", 7, object(), [("a", "b")]], ids=shown)
def test_a_client_is_read_from_requests_alone(request_: Any) -> None:
    with pytest.raises(TypeError, match="is no request"):
        oauth_client(request_)
