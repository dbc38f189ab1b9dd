"""The ASGI gateway alone: websockets, lifespan, scopes of other kinds, streaming, concurrency, the transport peer."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from mtls_middleware import access_token, client_certificate
from mtls_middleware.asgi import CertificateBoundTokenMiddleware, ClientCertificateMiddleware, protect
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import PROXY, STRANGER, Request, exchange, scope_of, send

PROXIED = Nginx(trusted_proxies=["10.0.0.0/8"])
DENIAL: dict[str, Any] = {"websocket.http.response": {}}
CONNECT = [{"type": "websocket.connect"}]


class Echo:
    """A websocket application that remembers whether it was reached."""

    scope: Mapping[str, Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept", "headers": []})


def websocket(request: Request, *, denial: bool = True) -> dict[str, Any]:
    scope = scope_of(request, "websocket")
    scope["extensions"] = {**scope["extensions"], **(DENIAL if denial else {})}
    return scope


def refused(app: Any, scope: dict[str, Any]) -> tuple[int, dict[str, str], dict[str, str]]:
    start, body = exchange(app, scope, CONNECT)
    assert (start["type"], body["type"]) == ("websocket.http.response.start", "websocket.http.response.body")
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], headers, json.loads(body["body"])


@pytest.mark.case("144")
@pytest.mark.standard("G14", "J7")
def test_websocket_without_certificate_is_refused_before_accept() -> None:
    for app, status in (
        (protect(echo := Echo(), source=ServerTLS()), 403),
        (ClientCertificateMiddleware(echo, PROXIED, required=True), 403),
        (CertificateBoundTokenMiddleware(echo, TokenIssuer().access_tokens()), 500),
    ):
        got, headers, body = refused(app, websocket(Request()))
        assert (got, echo.scope) == (status, None)
        assert headers["cache-control"] == "no-store"
        assert body["error"] in {"client_certificate_required", "server_error"}
        closed = exchange(app, websocket(Request(), denial=False), CONNECT)
        assert closed == [{"type": "websocket.close", "code": 1008, "reason": ""}]
        assert echo.scope is None


@pytest.mark.case("144")
@pytest.mark.standard("G14")
def test_websocket_is_refused_by_the_challenge_of_http(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = protect(echo := Echo(), source=ServerTLS(), tokens=mtls_issuer.access_tokens())
    status, headers, _ = refused(app, websocket(Request(tls=mtls_client)))
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="protected"')
    stolen = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    status, headers, body = refused(app, websocket(Request(headers=[stolen])))
    assert (status, body["error"]) == (401, "invalid_token")
    assert echo.scope is None


@pytest.mark.case("144")
@pytest.mark.standard("J7")
def test_websocket_with_certificate_and_token_is_accepted(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = protect(echo := Echo(), source=PROXIED, tokens=mtls_issuer.access_tokens())
    bearer = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    request = Request(headers=[*mtls_client.as_nginx().items(), bearer])
    assert exchange(app, websocket(request), CONNECT) == [{"type": "websocket.accept", "headers": []}]
    assert client_certificate(echo.scope) == mtls_client.client_certificate()
    assert access_token(echo.scope) is not None
    assert [name for name, _ in (echo.scope or {})["headers"]] == [b"authorization"]


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}, {"tls": {"client_cert_chain": None}}])
@pytest.mark.standard("J7")
def test_scope_without_client_certificate(extensions: Any) -> None:
    for kind in ("http", "websocket"):
        scope = scope_of(Request(), kind)
        scope["extensions"] = extensions
        sent = exchange(protect(Echo(), source=ServerTLS()), scope, CONNECT)
        assert sent[0].get("status", 403) == 403
        assert sent[0]["type"] in {"http.response.start", "websocket.close"}
    del scope["extensions"]
    assert exchange(protect(Echo(), source=ServerTLS()), scope, CONNECT)[0]["type"] == "websocket.close"


@pytest.mark.case("145")
@pytest.mark.standard("G14")
def test_lifespan_passes_through_as_it_is(mtls_issuer: TokenIssuer) -> None:
    given: list[Any] = []

    async def app(*arguments: Any) -> None:
        given.extend(arguments)

    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}

    async def receive() -> Any: ...
    async def sending(_message: Any) -> None: ...

    wrapped = protect(app, source=PROXIED, tokens=mtls_issuer.access_tokens())
    asyncio.run(wrapped(scope, receive, sending))
    assert [id(each) for each in given] == [id(scope), id(receive), id(sending)]
    assert scope.keys() == {"type", "asgi", "state"}


@pytest.mark.parametrize("kind", ["webtransport", "HTTP", "http2", "", None])
@pytest.mark.case("146")
def test_scope_of_unknown_type_is_refused(kind: Any) -> None:
    app = ClientCertificateMiddleware(echo := Echo(), ServerTLS(), exempt=["/"])
    with pytest.raises(RuntimeError, match="is unknown here"):
        exchange(app, {**scope_of(Request()), "type": kind}, CONNECT)
    assert echo.scope is None


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_scope_is_changed_in_place_and_the_servers_list_is_kept(kind: str, mtls_client: IssuedCertificate) -> None:
    scope = scope_of(Request(headers=[*mtls_client.as_nginx().items(), ("X-Other", "1")]), kind)
    before, headers = dict(scope), scope["headers"]
    given = list(headers)

    async def app(inner: Any, _receive: Any, _send: Any) -> None:
        assert inner is scope

    exchange(protect(app, source=PROXIED), scope, CONNECT)
    ours = {key: value for key, value in scope.items() if key.startswith("mtls_middleware.")}
    assert ours.pop("mtls_middleware.original_headers") == headers == given
    assert scope["headers"] == [(b"x-other", b"1")]
    assert {**scope, "headers": headers} == {**before, **ours, "mtls_middleware.original_headers": given}
    assert client_certificate(scope) == mtls_client.client_certificate()


def test_headers_are_iterables_that_can_be_read_once(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    """As Falcon's test client gives them, by the letter of the specification."""
    bearer = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    scope = scope_of(Request(headers=[*mtls_client.as_nginx().items(), bearer]), "websocket")
    scope["headers"] = iter([iter(pair) for pair in scope["headers"]])
    app = protect(echo := Echo(), source=PROXIED, tokens=mtls_issuer.access_tokens())
    assert exchange(app, scope, CONNECT)[0]["type"] == "websocket.accept"
    assert [name for name, _ in (echo.scope or {})["headers"]] == [b"authorization"]


def test_scope_without_headers_is_one_without_fields() -> None:
    scope = scope_of(Request(), "websocket")
    del scope["headers"]
    assert exchange(ClientCertificateMiddleware(Echo(), PROXIED), scope, CONNECT)[0]["type"] == "websocket.accept"
    assert scope["headers"] == []


@pytest.mark.standard("K10")
def test_keys_from_outside_do_not_survive(mtls_client: IssuedCertificate) -> None:
    forged = {
        "mtls_middleware.certificate": mtls_client.client_certificate(),
        "mtls_middleware.token": object(),
    }
    seen = send("asgi", lambda _, app: ClientCertificateMiddleware(app, PROXIED), Request(extra=forged)).application
    assert (seen.certificate, seen.token) == (None, None)


def test_streamed_messages_pass_one_by_one_and_in_order() -> None:
    messages = [
        {"type": "http.response.early_hint", "links": []},
        {"type": "http.response.start", "status": 200},  # headers may be absent
        {"type": "http.response.body", "body": b"one", "more_body": True},
        {"type": "http.response.body", "body": b"two"},
    ]

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    sent = exchange(ClientCertificateMiddleware(app, PROXIED), scope_of(Request()), [])
    assert [sent[0], *sent[2:]] == [messages[0], *messages[2:]]
    assert sent[1] == {**messages[1], "headers": [(b"vary", b"x-ssl-client-cert")]}
    assert "headers" not in messages[1]


def test_work_after_the_response_is_awaited() -> None:
    done: list[str] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        await asyncio.sleep(0)
        done.append("background")

    exchange(ClientCertificateMiddleware(app, PROXIED), scope_of(Request()), [])
    assert done == ["background"]


def test_refusal_does_not_wait_for_the_body() -> None:
    async def receive() -> Any:
        raise AssertionError("the body of a refused request is not read")

    sent: list[Any] = []

    async def sending(message: Any) -> None:
        sent.append(message)

    asyncio.run(protect(Echo(), source=ServerTLS())(scope_of(Request(method="POST")), receive, sending))
    assert [each["type"] for each in sent] == ["http.response.start", "http.response.body"]


@pytest.mark.case("154")
def test_cancelled_decision_does_not_reach_the_application() -> None:
    class Cancelled:
        def validate(self, _text: str, _now: float) -> Any:
            raise asyncio.CancelledError
            yield

    inner = CertificateBoundTokenMiddleware(echo := Echo(), Cancelled(), binding="when_present")
    app = ClientCertificateMiddleware(inner, ServerTLS())
    with pytest.raises(asyncio.CancelledError):
        exchange(app, scope_of(Request(headers=[("Authorization", "Bearer x")])), [])
    assert echo.scope is None


@pytest.mark.case("063")
def test_concurrent_requests_keep_their_own_certificates(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        certificate = client_certificate(scope)
        thumbprint = b"" if certificate is None else certificate.thumbprint.encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-thumbprint", thumbprint)]})

    layer = ClientCertificateMiddleware(app, PROXIED)

    async def ask(client: IssuedCertificate | None) -> bool:
        headers = [] if client is None else list(client.as_nginx().items())
        sent: list[Any] = []

        async def receive() -> Any: ...
        async def sending(message: Any) -> None:
            sent.append(message)

        await layer(scope_of(Request(headers=headers)), receive, sending)
        return dict(sent[0]["headers"])[b"x-thumbprint"] == (b"" if client is None else client.thumbprint.encode())

    async def gather_all() -> list[bool]:
        return await asyncio.gather(*(ask(each) for each in (mtls_client, None, mtls_other_client) * 200))

    assert all(asyncio.run(gather_all()))


# The transport peer, and addresses that a header wrote


@pytest.mark.parametrize(
    ("client", "forwarded", "trusted"),
    [
        ((PROXY, 50_000), STRANGER, True),
        ([PROXY, 50_000], STRANGER, True),  # daphne
        ((PROXY, "50000"), STRANGER, True),  # granian
        ((PROXY, 50_000), PROXY, True),  # a client on the proxy's own host
        ((PROXY, 0), PROXY, False),  # uvicorn, hypercorn: rewritten
        ((PROXY, 0), None, False),
        ((PROXY, 4711), f"{PROXY}:4711", False),  # uvicorn from 0.54
        ((PROXY, 4711), f"9.9.9.9, {PROXY}:4711", False),
        ((STRANGER, 50_000), PROXY, False),
        (("::1", 4711), "[::1]:4711", False),
        (("10.0.0.7:443", 1), None, False),
    ],
)
def test_an_address_from_a_header_is_not_the_peer(
    client: Any, forwarded: str | None, trusted: bool, mtls_client: IssuedCertificate
) -> None:
    headers = list(mtls_client.as_nginx().items())
    headers += [] if forwarded is None else [("X-Forwarded-For", forwarded)]
    source = Nginx(trusted_proxies=["10.0.0.0/8", "::1"])
    request = Request(headers=headers, extra={"client": client})
    seen = send("asgi", lambda _, app: ClientCertificateMiddleware(app, source), request).application
    assert (seen.certificate is not None) is trusted


def test_address_from_a_header_is_explained(mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    request = Request(headers=list(mtls_client.as_nginx().items()), extra={"client": (PROXY, 0)})
    send("asgi", lambda _, app: ClientCertificateMiddleware(app, PROXIED), request)
    assert "--no-proxy-headers" in caplog.text
