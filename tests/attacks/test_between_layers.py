"""What an application's own middleware may do between two layers of ours, and what no request can do."""

from collections.abc import Callable
from typing import Any

import pytest

from mtls_middleware import ClientCertificate, RegisteredClient, asgi, effects
from mtls_middleware.effects.flow import Call, Flow
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from mtls_middleware.token_endpoint import ClientAuthenticator
from tests.gateways import Request, both_gateways, exchange, scope_of, send

Pair = tuple[Any, Any]


def between(app: Any, change: Callable[[list[Pair]], Any]) -> Any:
    async def changing(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "headers": change(list(scope["headers"]))}, receive, send)

    return changing


# What ASGI lets a middleware put there: "an iterable of [name, value] two-item iterables".
SHAPES: dict[str, Callable[[list[Pair]], Any]] = {
    "list": list,
    "tuple": tuple,
    "iterator": iter,
    "generator": lambda pairs: (pair for pair in pairs),
    "map": lambda pairs: map(list, pairs),
    "capitals": lambda pairs: [(name.upper(), value) for name, value in pairs],
    "views": lambda pairs: [(memoryview(name), memoryview(value)) for name, value in pairs],
    "arrays": lambda pairs: [(bytearray(name), bytearray(value)) for name, value in pairs],
    "mapping's items": lambda pairs: dict(pairs).items(),
}
OTHERS: dict[str, Callable[[list[Pair]], Any]] = {
    "texts": lambda pairs: [(name.decode(), value.decode()) for name, value in pairs],
    "text values": lambda pairs: [(name, value.decode()) for name, value in pairs],
    "none": lambda _: None,
    "mapping": dict,
    "no pairs": lambda pairs: [b"authorization" for _ in pairs],
}


def ask(layers: Callable[[Any], Any], request: Request) -> tuple[int, list[Pair] | None]:
    """The status, and the header fields that the application read."""
    seen: list[list[Pair]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append([tuple(pair) for pair in scope["headers"]])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    messages = [{"type": "http.request", "body": b"client_id=abc", "more_body": False}]
    return exchange(layers(application), scope_of(request), messages)[0]["status"], seen[0] if seen else None


@pytest.mark.parametrize("shape", SHAPES)
def test_fields_that_can_be_read_once_are_read_once(
    shape: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    tokens = mtls_issuer.access_tokens()

    def layers(app: Any) -> Any:
        inner = asgi.CertificateBoundTokenMiddleware(app, tokens)
        inner = between(asgi.CertificateBoundTokenMiddleware(inner, tokens), SHAPES[shape])
        return asgi.ClientCertificateMiddleware(inner, ServerTLS())

    text = mtls_issuer.token(certificate=mtls_client)
    once = Request(tls=mtls_client, headers=[("Accept", "*/*"), ("Authorization", f"Bearer {text}")])
    status, seen = ask(layers, once)
    assert (status, len(seen or [])) == (200, 2)
    if shape != "mapping's items":
        assert ask(layers, once.with_headers(("Authorization", "Bearer x"))) == (400, None)


@pytest.mark.parametrize("shape", SHAPES)
def test_field_shapes_do_not_hide_a_second_client_authentication(shape: str, mtls_client: IssuedCertificate) -> None:
    """A client that authenticates in two ways is refused (RFC 6749 2.3)."""
    client = RegisteredClient(
        client_id="abc",
        token_endpoint_auth_method="tls_client_auth",
        tls_client_auth_subject_dn="CN=client,O=Tests",
    )

    def layers(app: Any) -> Any:
        inner = between(asgi.ClientAuthenticationMiddleware(app, ClientAuthenticator({"abc": client})), SHAPES[shape])
        return asgi.ClientCertificateMiddleware(inner, ServerTLS())

    form = ("Content-Type", "application/x-www-form-urlencoded")
    request = Request(method="POST", path="/token", tls=mtls_client, headers=[form])
    assert ask(layers, request)[0] == 200
    assert ask(layers, request.with_headers(("Authorization", "Basic YWJjOmFiYw==")))[0] in (400, 401)


@pytest.mark.parametrize("shape", OTHERS)
def test_header_fields_of_an_unexpected_type_do_not_admit_a_client(
    shape: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    def layers(app: Any) -> Any:
        inner = between(asgi.CertificateBoundTokenMiddleware(app, mtls_issuer.access_tokens()), OTHERS[shape])
        return asgi.ClientCertificateMiddleware(inner, ServerTLS())

    text = mtls_issuer.token(certificate=mtls_client)
    status, seen = ask(layers, Request(tls=mtls_client, headers=[("Authorization", f"Bearer {text}")]))
    assert (status in (400, 401, 500), seen) == (True, None)


@pytest.mark.parametrize("shape", ["views", "arrays", "capitals"])
def test_octets_of_another_kind_are_read_alike_whatever_came_before(
    shape: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """A view of octets equals them, and so do the names of a request that was taken apart already."""
    changes = [list, SHAPES[shape], list, SHAPES[shape]]
    reached: list[list[Pair]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append([(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]])

    inner = asgi.ClientCertificateMiddleware(application, ServerTLS(), required=True)
    inner = asgi.ClientCertificateMiddleware(
        asgi.CertificateBoundTokenMiddleware(inner, mtls_issuer.access_tokens()), ServerTLS()
    )

    def change(pairs: list[Pair]) -> Any:
        return changes.pop()(pairs)

    app = between(inner, change)
    authorization = ("Authorization", f"Bearer {mtls_issuer.token(certificate=mtls_client)}")
    request = Request(tls=mtls_client, headers=[authorization, ("X_SSL_Client_Cert", "EVIL"), ("Accept", "*/*")])
    while changes:
        exchange(app, scope_of(request), [])
    assert len(reached) == 4
    assert all([name for name, _ in each] == [b"authorization", b"accept"] for each in reached)


def test_a_list_of_fields_that_changes_under_way_is_read_as_it_was(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """A server goes on writing into its list (uvicorn: trailer fields), while a layer waits for an answer."""
    text = mtls_issuer.token(certificate=mtls_client)
    scope = scope_of(Request(tls=mtls_client, headers=[("Accept", "*/*"), ("Authorization", f"Bearer {text}")]))
    given, reached = list(scope["headers"]), []

    async def change() -> None:
        scope["headers"][:] = [(b"authorization", b"Bearer EVIL"), (b"x-ssl-client-cert", b"EVIL")]

    class Waiting:
        def validate(self, certificate: ClientCertificate, now: float) -> Flow[ClientCertificate]:
            yield from effects.ask(Call(change, ()))
            return certificate

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["headers"])

    inner = asgi.CertificateBoundTokenMiddleware(application, mtls_issuer.access_tokens())
    exchange(asgi.ClientCertificateMiddleware(inner, ServerTLS(), trust_store=Waiting()), scope, [])
    assert reached == [given]


@both_gateways
def test_a_field_that_one_layer_keeps_is_not_read_by_those_further_in(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """The proxy's secret may come as `Authorization`: it is no token then, and no second way to authenticate."""
    secret = ("Authorization", "Bearer the-proxys-own-secret")

    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=Nginx(shared_secret=secret), tokens=mtls_issuer.access_tokens())

    result = send(gateway, wrap, Request(headers=[*mtls_client.as_nginx().items(), secret]))
    assert (result.status, result.header("WWW-Authenticate")) == (401, 'Bearer realm="protected"')
