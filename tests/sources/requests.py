"""Requests for the tests of sources: one set of header pairs through both gateways, or straight to a source.

What a proxy writes stands in the tests.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from mtls_middleware.layers.attached import Attached
from mtls_middleware.request import Peer, TLSFacts
from tests.gateways import Outcome, Request, Wrap, call_asgi, message_of, scope_of, send_wsgi
from tests.request_view import View

# The proxy of all tests, and a client that is not the proxy.
PROXY, STRANGER = "10.0.0.1", "203.0.113.9"
TRUST = {"trusted_proxies": ["10.0.0.0/8"]}

Headers = Sequence[tuple[str, str]]


def layer_around(source: Any, options: Mapping[str, Any]) -> Wrap:
    return lambda module, app: module.ClientCertificateMiddleware(app, source, **options)


def through_wsgi(
    source: Any,
    headers: Headers = (),
    *,
    peer: str | None = PROXY,
    environ: Mapping[str, Any] | None = None,
    joint: str = ",",
    **layer: Any,
) -> Outcome:
    """One request through the WSGI layer. Lines of one name are joined by `joint`, as servers do."""
    request = Request(headers=headers, joint=joint, extra={"REMOTE_ADDR": peer, **(environ or {})})
    return send_wsgi(layer_around(source, layer), request)


def through_asgi(
    source: Any,
    headers: Headers = (),
    *,
    peer: str | None = PROXY,
    scope: Mapping[str, Any] | None = None,
    **layer: Any,
) -> Outcome:
    """One request through the ASGI layer, each line an entry of its own. A server may leave `extensions` out."""
    request = Request(headers=headers, peer=peer)
    made = scope_of(request)
    del made["extensions"]
    return finish(call_asgi(layer_around(source, layer), made | dict(scope or {}), [message_of(request)]))


def finish(coroutine: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run what never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        outcome: Outcome = done.value
        return outcome
    raise AssertionError("a source made the layer wait")


GATEWAYS: dict[str, Callable[..., Outcome]] = {"wsgi": through_wsgi, "asgi": through_asgi}


def view(
    headers: Headers = (),
    *,
    peer: Peer | str | None = PROXY,
    extension: Any = None,
    environ: Mapping[str, Any] | None = None,
) -> View:
    """A request as sources see it."""

    def values(name: str) -> tuple[str, ...]:
        return tuple(value for given, value in headers if given.lower() == name)

    return View(
        method="GET",
        path="/",
        query="",
        headers=values,
        peer=peer if isinstance(peer, Peer) else Peer(address=peer),
        tls=TLSFacts(extension=extension, environ=environ),
        attached=Attached(),
        now=0.0,
    )
