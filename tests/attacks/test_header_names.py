"""Names that some server, adapter or framework folds to the name of a certificate's header field."""

import asyncio
from typing import Any

import pytest
from asgiref.wsgi import WsgiToAsgi

from mtls_middleware import client_certificate
from mtls_middleware.asgi import ClientCertificateMiddleware
from mtls_middleware.sources import ClientCertHeader, Envoy, Nginx
from mtls_middleware.sources.vendors import KNOWN_HEADERS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import PROXY, STRANGER, Request, exchange, scope_of, send

TRUST = {"trusted_proxies": ["10.0.0.0/8"]}
SHARP = {name.replace("ss", "\u00df") for name in KNOWN_HEADERS if "ss" in name}


def send_raw(app: Any, peer: str, *pairs: tuple[bytes, bytes]) -> Any:
    scope = scope_of(Request(peer=peer)) | {"headers": pairs}
    return exchange(app, scope, [{"type": "http.request", "body": b"", "more_body": False}])


@pytest.mark.case("003")
@pytest.mark.standard("A2")
@pytest.mark.parametrize("peer", [PROXY, STRANGER])
def test_a_sharp_s_octet_does_not_reach_an_application_behind_an_adapter(peer: str) -> None:
    """`b"x-\\xdfl-client-cert".decode("latin-1").upper()` is X-SSL-CLIENT-CERT: so read Django (ASGI) and asgiref."""
    seen: list[dict[str, Any]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return []

    app = ClientCertificateMiddleware(WsgiToAsgi(application), Nginx(**TRUST))
    send_raw(app, peer, (b"accept", b"*/*"), *((name.encode("latin-1"), b"EVIL") for name in sorted(SHARP)))
    assert SHARP
    assert [key for key, value in seen[0].items() if value == "EVIL"] == []
    assert seen[0]["HTTP_ACCEPT"] == "*/*"


@pytest.mark.parametrize(
    "name",
    [
        b"x-\xdfl-client-cert", b"x.ssl.client.cert", b"x-ssl-client-cert ", b" x-ssl-client-cert",
        b"x-ssl-client-cert\t", b"x-ssl-client-cert\x00", b"x%2dssl%2dclient%2dcert", b":x-ssl-client-cert",
        b"x-ssl-client-cert,", b"x_ssl-client_cert", b"x-s\xc5\xbfl-client-cert", b"http-x-ssl-client-cert",
        b"http_x_ssl_client_cert", b"x--ssl-client-cert",
    ],
)  # fmt: skip
def test_no_other_spelling_of_the_name_is_an_identity(name: bytes, mtls_client: IssuedCertificate) -> None:
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(client_certificate(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = ClientCertificateMiddleware(application, Nginx(verified_by_proxy=True, verify_header=False, **TRUST))
    value = mtls_client.as_nginx()["X-SSL-Client-Cert"].encode()
    send_raw(app, PROXY, (name, value))
    send_raw(app, PROXY, (b"X-SSL-Client-Cert", value))
    assert [each is None for each in seen] == [True, False]


def test_pseudo_fields_of_http_2_in_the_scope_decide_nothing(mtls_client: IssuedCertificate) -> None:
    def wrap(module: Any, app: Any) -> Any:
        return module.protect(app, source=Nginx(**TRUST), exempt=["/health"])

    pseudo = [(":path", "/health"), (":authority", "x/health"), (":method", "OPTIONS"), (":protocol", "websocket")]
    assert send("asgi", wrap, Request(path="/private", headers=pseudo)).status == 403
    assert send("asgi", wrap, Request(path="/health", headers=pseudo)).status == 200


@pytest.mark.parametrize("source", [Nginx(**TRUST), Envoy(**TRUST), ClientCertHeader(**TRUST)])
def test_an_application_that_rewrites_its_scope_affects_only_one_request(source: Any) -> None:
    """The server may use one scope, and one list of headers, for many requests of a connection."""
    reached: list[Any] = []

    async def vandal(scope: Any, receive: Any, send: Any) -> None:
        reached.append({**scope, "mtls_middleware.attached": scope["mtls_middleware.attached"].certificate})
        scope["headers"].append((b"x-ssl-client-cert", b"EVIL"))
        scope["mtls_middleware.certificate"] = "EVIL"
        scope["client"] = (PROXY, 1)

    app, scope = ClientCertificateMiddleware(vandal, source), scope_of(Request(peer=STRANGER))
    for _ in range(2):
        asyncio.run(app(scope, None, None))
    assert reached[0].pop("headers") is not reached[1].pop("headers")
    assert reached[0].pop("client") != reached[1].pop("client")  # the application's own change stays
    assert reached[0] == reached[1]
    assert reached[1]["mtls_middleware.certificate"] is None
