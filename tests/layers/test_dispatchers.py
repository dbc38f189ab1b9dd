"""One scope or environ, several applications: each is decided from what the server gave, not from another's traces."""

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware import access_token, asgi, client_certificate, wsgi
from mtls_middleware.layers.attached import ORIGINAL_HEADERS_KEY
from mtls_middleware.policy import Thumbprint
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import MODULES, STRANGER, Request, both_gateways, environ_of, scope_of
from tests.layers.world import SECRET, TRUSTED, nginx

OWN = {"certificate_header": "X-Own", "verify_header": "X-Own-Verify"}  # names that no other layer drops
FORGED = ("X-SSL-Client-Cert", "forged")


class Tried:
    """What the applications of one dispatcher saw, in the order in which they were tried."""

    def __init__(self) -> None:
        self.certificates: list[Any] = []
        self.headers: list[set[str]] = []
        self.statuses: list[int] = []

    def saw(self, carrier: Any) -> None:
        self.certificates.append(client_certificate(carrier))
        if "headers" in carrier:
            self.headers.append({name.decode("latin-1") for name, _ in carrier["headers"]})
        else:
            self.headers.append({key[5:].lower().replace("_", "-") for key in carrier if key.startswith("HTTP_")})


def application(gateway: str, tried: Tried, *, generates: bool = False) -> Any:
    """An application that has nothing here: 404."""

    async def asgi_app(scope: Any, _receive: Any, send: Any) -> None:
        tried.saw(scope)
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        tried.saw(environ)
        start_response("404 Not Found", [])
        return [b""]

    def generating(environ: Any, start_response: Any) -> Iterator[bytes]:
        tried.saw(environ)
        start_response("404 Not Found", [])
        yield b""
        yield b"never read"

    return {"asgi": asgi_app, "wsgi": generating if generates else wsgi_app}[gateway]


def dispatch(gateway: str, tried: Tried, apps: list[Any], carrier: Any) -> Any:
    """Try each application with the very same environ or scope, and without politeness: no close(), no copy."""
    for app in apps:
        if gateway == "asgi":

            async def send(message: Any) -> None:
                if message["type"].endswith("start"):
                    tried.statuses.append(message["status"])

            async def receive() -> Any:
                return {"type": "http.request", "body": b"", "more_body": False}

            asyncio.run(app(carrier, receive, send))
        else:
            answer = app(carrier, lambda status, *_: tried.statuses.append(int(status[:3])))
            next(iter(answer), b"")
    return carrier


def carrier_of(gateway: str, request: Request) -> dict[str, Any]:
    return environ_of(request) if gateway == "wsgi" else scope_of(request)


Stack = Callable[[Any, Any], Any]


def stack(source: Any, **options: Any) -> Stack:
    return lambda module, app: module.ClientCertificateMiddleware(app, source, **options)


def play(gateway: str, request: Request, *stacks: Stack, generates: bool = False) -> tuple[Tried, dict[str, Any]]:
    tried = Tried()
    inner = application(gateway, tried, generates=generates)
    apps = [each(MODULES[gateway], inner) for each in stacks]
    return tried, dispatch(gateway, tried, apps, carrier_of(gateway, request))


@both_gateways
@pytest.mark.parametrize("generates", [False, True])
def test_each_application_decides_for_itself(gateway: str, generates: bool, mtls_client: IssuedCertificate) -> None:
    request = Request(headers=nginx(mtls_client))
    trusting, server = stack(Nginx(trusted_proxies=TRUSTED)), stack(ServerTLS())
    tried, _ = play(gateway, request, trusting, server, trusting, server, trusting, generates=generates)
    assert [each is not None for each in tried.certificates] == [True, False, True, False, True]
    assert all("x-ssl-client-cert" not in each for each in tried.headers)


@both_gateways
def test_certificate_of_another_application_is_ignored(gateway: str, mtls_client: IssuedCertificate) -> None:
    request = Request(headers=nginx(mtls_client))
    tried, _ = play(
        gateway,
        request,
        stack(Nginx(trusted_proxies=TRUSTED)),
        stack(ServerTLS(), required=True),
        stack(Nginx(trusted_proxies=["192.0.2.0/24"]), required=True),
    )
    assert tried.statuses == [404, 403, 403]


@both_gateways
def test_token_layer_of_another_application_has_no_certificate_layer(
    gateway: str, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """Its operator forgot the certificate layer; what an application before had found must not stand in for it."""
    bearer = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    tokens = mtls_issuer.access_tokens()
    tried, carrier = play(
        gateway,
        Request(tls=mtls_client, headers=[bearer]),
        lambda module, app: module.protect(app, source=ServerTLS(), tokens=tokens),
        lambda module, app: module.CertificateBoundTokenMiddleware(app, tokens),
    )
    assert tried.statuses == [404, 500]
    assert (client_certificate(carrier), access_token(carrier)) == (None, None)


@both_gateways
def test_first_application_that_rejects_leaves_the_second_its_certificate(
    gateway: str, mtls_client: IssuedCertificate
) -> None:
    source = Nginx(trusted_proxies=TRUSTED)
    tried, carrier = play(
        gateway, Request(headers=nginx(mtls_client)), stack(source, allow=Thumbprint("A" * 43)), stack(source)
    )
    assert tried.statuses == [403, 404]
    assert tried.certificates == [mtls_client.client_certificate()]
    assert client_certificate(carrier) == mtls_client.client_certificate()


@both_gateways
@pytest.mark.parametrize("refuses", [False, True])
def test_what_one_application_must_not_see_no_later_one_sees(
    gateway: str, refuses: bool, mtls_client: IssuedCertificate
) -> None:
    """The first one's secret and its own field: the second one's layer does not know their names."""
    own = [("X-Own", "forged"), ("X-Own-Verify", "SUCCESS"), SECRET, ("X-Other", "1"), FORGED]
    first = Nginx(trusted_proxies=TRUSTED, shared_secret=SECRET, **OWN)
    tried, carrier = play(
        gateway,
        Request(headers=own, peer=STRANGER),
        stack(first, required=refuses),
        stack(ServerTLS()),
        stack(Nginx(trusted_proxies=TRUSTED)),
    )
    assert tried.statuses == ([403] if refuses else [404]) + [404, 404]
    assert all(each == {"x-other"} for each in tried.headers)
    outside = Tried()
    outside.saw(carrier)
    assert outside.headers == [{"x-other"}]


@both_gateways
def test_what_an_application_does_to_its_scope_decides_nothing(gateway: str, mtls_client: IssuedCertificate) -> None:
    """Django's request.META is the environ itself; ProxyHeadersMiddleware of uvicorn writes into the scope."""
    tried = Tried()

    def vandal(carrier: Any) -> None:
        tried.saw(carrier)
        if gateway == "wsgi":
            carrier["REMOTE_ADDR"] = "10.0.0.1"
            carrier |= mtls_client.as_environ()
            carrier |= {"HTTP_" + name.upper().replace("-", "_"): value for name, value in nginx(mtls_client)}
        else:
            carrier["client"] = ("10.0.0.1", 1)
            carrier["extensions"] = {"tls": mtls_client.as_tls_extension()}
            carrier["headers"] += [(name.lower().encode(), value.encode()) for name, value in nginx(mtls_client)]

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        vandal(environ)
        start_response("404 Not Found", [])
        return []

    async def asgi_app(scope: Any, _receive: Any, send: Any) -> None:
        vandal(scope)
        await send({"type": "http.response.start", "status": 404, "headers": []})

    app = wsgi_app if gateway == "wsgi" else asgi_app
    stacks = [stack(Nginx(trusted_proxies=TRUSTED)), stack(ServerTLS()), stack(Nginx(trusted_proxies=TRUSTED))]
    apps = [each(MODULES[gateway], app) for each in stacks]
    dispatch(gateway, tried, apps, carrier_of(gateway, Request(peer=STRANGER)))
    assert tried.certificates == [None, None, None]


@both_gateways
def test_rule_is_that_of_the_path_that_the_next_application_gets(gateway: str, mtls_client: IssuedCertificate) -> None:
    """A dispatcher, or the application before, may have changed it: what is served is what must be decided."""
    tried, module = Tried(), MODULES[gateway]
    allow = {"/private": Thumbprint("A" * 43), "/": Thumbprint(mtls_client.thumbprint)}
    app = module.ClientCertificateMiddleware(application(gateway, tried), ServerTLS(), allow=allow)
    carrier = carrier_of(gateway, Request(tls=mtls_client, path="/open"))
    dispatch(gateway, tried, [app], carrier)
    carrier |= {"PATH_INFO": "/private"} if gateway == "wsgi" else {"path": "/private"}
    dispatch(gateway, tried, [app], carrier)
    assert tried.statuses == [404, 403]


@both_gateways
def test_a_reused_environ_or_scope_gets_a_new_decision_per_request(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    """Clients share the proxy's connection: the certificate of one request must never be that of the next."""
    tried, carrier = Tried(), {}
    source = Nginx(trusted_proxies=TRUSTED)
    app = MODULES[gateway].ClientCertificateMiddleware(application(gateway, tried), source)
    requests = [
        Request(headers=[*nginx(mtls_client), ("X-Other", "1" * 20)]),
        Request(headers=[*nginx(mtls_other_client), ("X-Other", "1" * 20)]),
        Request(headers=[("X-Other", "2" * 20)]),
        Request(peer=STRANGER, headers=nginx(mtls_client)),
    ]
    for request in requests:
        carrier |= carrier_of(gateway, request)
        dispatch(gateway, tried, [app], carrier)
    expected = [mtls_client.client_certificate(), mtls_other_client.client_certificate(), None, None]
    assert tried.certificates == expected


@both_gateways
def test_two_layers_of_a_later_application_find_what_an_earlier_one_hid(
    gateway: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    """The proxy's own certificate must not stand in for the client's."""
    proxied = Nginx(trusted_proxies=TRUSTED, **OWN)
    own = zip(OWN.values(), dict(nginx(mtls_client)).values(), strict=True)
    tried, _ = play(
        gateway,
        Request(headers=list(own), tls=mtls_other_client),
        stack(proxied),
        lambda module, app: stack(ServerTLS())(module, stack(proxied)(module, app)),
    )
    assert tried.certificates == [mtls_client.client_certificate()] * 2


# An application that has not ended when the next one is tried


async def _suspended(app: Any, scope: Any) -> asyncio.Task[None]:
    """Call this application as Starlette's `BaseHTTPMiddleware` does: it waits until its body is read."""
    started = asyncio.Event()

    async def send(_message: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(app(scope, None, send))
    await started.wait()
    return task


def test_application_that_still_runs_is_not_around_the_next_one(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    tried, nested = Tried(), Tried()
    bearer = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    scope = scope_of(Request(headers=[*nginx(mtls_client), bearer]))
    trusting = asgi.ClientCertificateMiddleware(application("asgi", tried), Nginx(trusted_proxies=TRUSTED))
    inner = [
        asgi.ClientCertificateMiddleware(application("asgi", tried), ServerTLS()),
        asgi.ClientCertificateMiddleware(application("asgi", tried), ServerTLS(), required=True),
        asgi.CertificateBoundTokenMiddleware(application("asgi", tried), mtls_issuer.access_tokens()),
        trusting,
    ]

    async def dispatcher(scope: Any, receive: Any, send: Any) -> None:
        nested.saw(scope)
        tasks = [await _suspended(app, scope) for app in (trusting, *inner)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        nested.saw(scope)

    asyncio.run(dispatcher(scope, None, None))
    expected = mtls_client.client_certificate()
    assert tried.certificates == [expected, None, expected]
    # Within a layer, all of them are inside of it.
    tried.certificates.clear()
    nested.certificates.clear()
    outer = asgi.ClientCertificateMiddleware(dispatcher, Nginx(trusted_proxies=TRUSTED))
    asyncio.run(outer(scope_of(Request(headers=[*nginx(mtls_client), bearer])), None, None))
    assert nested.certificates == [expected, expected]
    assert tried.certificates == [expected] * 5


def test_applications_that_run_at_once_decide_for_themselves(mtls_client: IssuedCertificate) -> None:
    tried, answers = Tried(), []
    scope = scope_of(Request(headers=nginx(mtls_client)))

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await application("asgi", tried)(scope, receive, send)

    async def send(message: Any) -> None:
        answers.append(message.get("status"))

    async def both() -> None:
        trusting = asgi.ClientCertificateMiddleware(slow, Nginx(trusted_proxies=TRUSTED))
        server = asgi.ClientCertificateMiddleware(application("asgi", tried), ServerTLS(), required=True)
        await asyncio.gather(trusting(scope, None, send), server(scope, None, send))

    asyncio.run(both())
    assert 403 in answers
    assert len(tried.certificates) == 1


def test_request_that_is_abandoned_does_not_disturb_another_one(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """The garbage collector closes a coroutine within the code that runs at the moment."""
    tried = Tried()
    bearer = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    tokens = asgi.CertificateBoundTokenMiddleware(application("asgi", tried), mtls_issuer.access_tokens())

    async def waits(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.sleep(0)

    async def collects(scope: Any, receive: Any, send: Any) -> None:
        abandoned.close()
        await tokens(scope, receive, send)

    abandoned = asgi.ClientCertificateMiddleware(waits, ServerTLS())(scope_of(Request()), None, None)
    contextvars.copy_context().run(abandoned.send, None)
    outer = asgi.ClientCertificateMiddleware(collects, ServerTLS())
    dispatch("asgi", tried, [outer], scope_of(Request(tls=mtls_client, headers=[bearer])))
    assert tried.statuses == [404]


# A decision that is cut off


class CutOff(BaseException):
    """What gevent's `Timeout`, `SystemExit` and `asyncio.CancelledError` are."""


@both_gateways
def test_an_interrupted_decision_leaves_no_forged_field_outside(gateway: str, mtls_client: IssuedCertificate) -> None:
    def cut_off(_: object) -> bool:
        raise CutOff

    app = stack(Nginx(trusted_proxies=TRUSTED), allow=cut_off)(MODULES[gateway], application(gateway, Tried()))
    carrier = carrier_of(gateway, Request(headers=[*nginx(mtls_client), ("X-Other", "1")]))
    with pytest.raises(CutOff):
        dispatch(gateway, Tried(), [app], carrier)
    outside = Tried()
    outside.saw(carrier)
    assert (outside.certificates, outside.headers) == ([None], [{"x-other"}])


# Dispatchers within a layer, and layers within each other


@both_gateways
@pytest.mark.parametrize("generates", [False, True])
def test_dispatcher_within_a_layer_keeps_what_is_outside_of_it(
    gateway: str, generates: bool, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    tried, module = Tried(), MODULES[gateway]
    inner = application(gateway, tried, generates=generates)
    tokens = mtls_issuer.access_tokens()
    bearer = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    apps = [
        module.CertificateBoundTokenMiddleware(inner, tokens),
        module.ClientCertificateMiddleware(inner, ServerTLS(), required=True),
        module.CertificateBoundTokenMiddleware(inner, tokens),
    ]

    def wsgi_dispatcher(environ: Any, start_response: Any) -> Iterator[bytes]:
        for app in apps:
            yield from app(environ, lambda status, *_: tried.statuses.append(int(status[:3])))
        start_response("200 OK", [])

    async def asgi_dispatcher(scope: Any, receive: Any, _send: Any) -> None:
        async def send(message: Any) -> None:
            if message["type"].endswith("start"):
                tried.statuses.append(message["status"])

        for app in apps:
            await app(scope, receive, send)

    dispatcher = wsgi_dispatcher if gateway == "wsgi" else asgi_dispatcher
    outer = module.ClientCertificateMiddleware(dispatcher, Nginx(trusted_proxies=TRUSTED))
    request = Request(headers=[*nginx(mtls_client), bearer])
    ignored, carrier = Tried(), carrier_of(gateway, request)
    if gateway == "wsgi":
        list(outer(carrier, lambda *_: None))
    else:
        dispatch(gateway, ignored, [outer], carrier)
    assert tried.statuses == [404, 404, 404]
    assert tried.certificates == [mtls_client.client_certificate()] * 3


def test_generator_between_two_layers_calls_the_inner_one_late(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """A WSGI middleware that is a generator function calls what is inside when its response is read."""
    tried = Tried()
    bearer = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    tokens = wsgi.CertificateBoundTokenMiddleware(application("wsgi", tried), mtls_issuer.access_tokens())

    def late(environ: Any, start_response: Any) -> Iterator[bytes]:
        yield from tokens(environ, start_response)

    app = wsgi.ClientCertificateMiddleware(late, ServerTLS())
    environ = environ_of(Request(tls=mtls_client, headers=[bearer]))
    answer = app(environ, lambda status, *_: tried.statuses.append(int(status[:3])))
    assert b"".join(answer) == b""
    assert tried.statuses == [404]
    assert tried.certificates == [mtls_client.client_certificate()]


def test_generated_response_is_closed_once(mtls_client: IssuedCertificate) -> None:
    closed: list[int] = []

    def app(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(1)

    answer = wsgi.ClientCertificateMiddleware(app, ServerTLS())(environ_of(Request(tls=mtls_client)), lambda *_: None)
    assert next(iter(answer)) == b"one"
    answer.close()
    answer.close()
    assert closed == [1]


def test_response_that_is_not_generated_is_passed_as_it_is() -> None:
    """A server that knows its own file wrapper sends the file itself (PEP 3333)."""
    response = [b"one"]
    app = wsgi.ClientCertificateMiddleware(lambda *_: response, ServerTLS())
    assert app(environ_of(Request()), lambda *_: None) is response


# What is outside of the layer, and trailers


def test_original_headers_are_those_that_came_with_the_request(mtls_client: IssuedCertificate) -> None:
    """uvicorn appends trailer fields to the list in the scope: no later application may take them for the proxy's."""
    tried = Tried()
    scope = scope_of(Request(headers=[("X-Other", "1")]))
    server_list = scope["headers"]

    async def reads_body(inner: Any, _receive: Any, send: Any) -> None:
        server_list.extend((name.lower().encode(), value.encode()) for name, value in nginx(mtls_client))
        await application("asgi", tried)(inner, None, send)

    apps = [asgi.ClientCertificateMiddleware(reads_body, Nginx(trusted_proxies=TRUSTED)) for _ in range(2)]
    dispatch("asgi", tried, apps, scope)
    assert tried.certificates == [None, None]
    assert scope[ORIGINAL_HEADERS_KEY] == [(b"x-other", b"1")]


def test_error_handlers_outside_see_the_certificate_and_no_forged_field(mtls_client: IssuedCertificate) -> None:
    """Starlette keeps the handlers for `Exception` and 500 outside of all middleware that is added."""
    from starlette.applications import Starlette
    from starlette.requests import Request as StarletteRequest
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    seen: dict[str, Any] = {}

    async def failing(request: StarletteRequest) -> None:
        request.state.step = "failing"
        raise LookupError

    async def handler(request: StarletteRequest, _error: Exception) -> JSONResponse:
        certificate = client_certificate(request)
        seen.update(
            thumbprint=None if certificate is None else certificate.thumbprint,
            forged="x-ssl-client-cert" in request.headers,
            parameters=request.path_params,
            state=request.state.step,
            endpoint=request.scope["endpoint"].__name__,
        )
        return JSONResponse({}, 500)

    app = Starlette(routes=[Route("/{name}", failing)], exception_handlers={Exception: handler})
    app.add_middleware(asgi.ClientCertificateMiddleware, source=Nginx(shared_secret=SECRET))
    client = TestClient(app, raise_server_exceptions=False)
    headers = dict([*nginx(mtls_client), SECRET])
    assert client.get("/one", headers=headers).status_code == 500
    assert seen == {
        "thumbprint": mtls_client.thumbprint,
        "forged": False,
        "parameters": {"name": "one"},
        "state": "failing",
        "endpoint": "failing",
    }
    assert client.get("/one", headers=dict(nginx(mtls_client))).status_code == 500
    assert (seen["thumbprint"], seen["forged"]) == (None, False)


def test_application_in_application_of_frameworks_keeps_its_layers(
    mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    """Starlette's Mount copies nothing, FastAPI's sub-application copies the scope: the token layer is further in."""
    import fastapi
    from fastapi.testclient import TestClient

    inner, outer = fastapi.FastAPI(), fastapi.FastAPI()

    @inner.get("/who")
    async def who(request: fastapi.Request) -> dict[str, Any]:
        token, certificate = access_token(request), client_certificate(request)
        return {"token": token is not None, "certificate": certificate is not None}

    inner.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=mtls_issuer.access_tokens())
    outer.mount("/api", inner)
    outer.add_middleware(asgi.ClientCertificateMiddleware, source=Nginx(shared_secret=SECRET))
    bearer = ("Authorization", "Bearer " + mtls_issuer.token(certificate=mtls_client))
    headers = dict([*nginx(mtls_client), SECRET, bearer])
    for _ in range(2):
        assert TestClient(outer).get("/api/who", headers=headers).json() == {"token": True, "certificate": True}


# start_response


@pytest.mark.parametrize("by_keyword", [False, True])
def test_exc_info_passes_by_keyword_and_by_position(by_keyword: bool) -> None:
    got: list[Any] = []

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        if by_keyword:
            start_response("500 Internal Server Error", [], exc_info=("type", "value", "traceback"))
        else:
            start_response("500 Internal Server Error", [], ("type", "value", "traceback"))
        return []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        got.append((status, headers, exc_info))

    wsgi.ClientCertificateMiddleware(app, Nginx(trusted_proxies=TRUSTED))(environ_of(Request()), start_response)
    vary = [("Vary", "x-ssl-client-cert")]
    assert got == [
        ("200 OK", vary, None),
        ("500 Internal Server Error", vary, ("type", "value", "traceback")),
    ]


def test_start_response_of_two_arguments_is_called_with_two() -> None:
    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    got: list[Any] = []
    layer = wsgi.ClientCertificateMiddleware(app, Nginx(trusted_proxies=TRUSTED))
    layer(environ_of(Request()), lambda status, headers: got.append(status))
    assert got == ["200 OK"]
