"""`Gateway`: runs the layers in front of an ASGI application (ASGI 3).

The package `layers` makes all decisions. The WSGI gateway uses the same package.
"""

from typing import Any

from mtls_middleware.asgi_cancellation import cancelled, write_after
from mtls_middleware.asgi_messages import ASGIApp, varying, write
from mtls_middleware.asgi_request import ASGIRequest, enter, facts_reader, leave
from mtls_middleware.asgi_websocket import watched
from mtls_middleware.effects.flow import AwaitingDriver
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.layers.decisions import record_allowed, reject
from mtls_middleware.layers.interface import Layer
from mtls_middleware.layers.stack import Stack


class Gateway:
    """Runs a stack of layers in front of one application. Adjacent middlewares are merged into one stack."""

    def __init__(self, app: ASGIApp, layer: Layer) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r} is not an ASGI application")
        self._app: ASGIApp = app
        self._layers: tuple[Layer, ...] = (layer,)
        if isinstance(app, Gateway) and type(app).__call__ is Gateway.__call__:
            self._app, self._layers = app._app, (layer, *app._layers)
        self._stack = Stack(self._layers, facts_reader)
        self._vary = [(b"vary", each.encode("ascii")) for each in self._stack.vary]
        self._prefixes = ApplicationPrefixes(self._app)
        self._driver = AwaitingDriver()

    @property
    def application(self) -> ASGIApp:
        """The application that all layers of this gateway wrap."""
        return self._app

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of this gateway, the outermost first, as `mtls-middleware doctor` describes them."""
        return self._layers

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._app(scope, receive, send)
            return
        if kind not in ("http", "websocket"):
            raise RuntimeError(f"ASGI scope type {kind!r} is unknown here; expected 'http', 'websocket' or 'lifespan'")
        try:
            request = ASGIRequest(scope, receive, self._prefixes)
        except Exception as error:  # noqa: BLE001 (fail closed: the application is not reached)
            await write(reject(self._layers[0], error, None), scope, receive, send)
            return
        response, watch, cancellation = None, None, None
        try:
            decided = self._stack.recall(request)
            if decided < len(self._layers):
                response = await self._driver.run(self._stack.decide(request, decided))
            if request.is_websocket:
                watch = watched(request, request.rechecks, receive, send, self._driver)
        except Exception as error:  # noqa: BLE001 (fail closed: the application is not reached)
            response = reject(request.layer, error, request)
        except BaseException as error:  # noqa: BLE001 (`cancelled` raises it again, unless asyncio cancels the task)
            cancellation, response = error, reject(request.layer, cancelled(error), request)
        finally:
            # Remove the fields from rejected requests, too, because outer middleware sees these.
            request.place(self._stack.drop_headers)
        if response is not None:
            if cancellation is None:
                await write(response, scope, receive, send)
            else:
                await write_after(cancellation, response, scope, receive, send)
            return
        record_allowed(request.layer, request)
        send = varying(send, self._vary) if self._vary else send
        passage = request.attached.passage
        outside = enter(passage)
        try:
            await (self._app(scope, request.receive, send) if watch is None else watch.run(self._app, scope))
        finally:
            leave(passage, outside)
