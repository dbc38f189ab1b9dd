"""`Gateway`: runs the layers in front of a WSGI application (PEP 3333).

The package `layers` makes all decisions. The ASGI gateway uses the same package.
"""

from collections.abc import Generator, Iterable, Iterator
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.layers.application_prefixes import ApplicationPrefixes
from mtls_middleware.layers.attached import Passage
from mtls_middleware.layers.decisions import record_allowed, reject
from mtls_middleware.layers.interface import Layer
from mtls_middleware.layers.stack import Stack
from mtls_middleware.wsgi_messages import varying, write
from mtls_middleware.wsgi_request import WSGIRequest, facts_reader, keys

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Gateway:
    """Runs a stack of layers in front of one application. Adjacent middlewares are merged into one stack."""

    def __init__(self, app: "WSGIApplication", layer: Layer) -> None:
        if not callable(app):
            raise ConfigurationError(f"app={app!r} is not a WSGI application")
        self._app: WSGIApplication = app
        self._layers: tuple[Layer, ...] = (layer,)
        if isinstance(app, Gateway) and type(app).__call__ is Gateway.__call__:
            self._app, self._layers = app._app, (layer, *app._layers)
        self._stack = Stack(self._layers, facts_reader)
        self._drop = keys(self._stack.drop_headers)
        self._vary = [("Vary", each) for each in self._stack.vary]
        self._prefixes = ApplicationPrefixes(self._app)
        self._driver = BlockingDriver()

    @property
    def application(self) -> "WSGIApplication":
        """The application that all layers of this gateway wrap."""
        return self._app

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of this gateway, the outermost first, as `mtls-middleware doctor` describes them."""
        return self._layers

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        try:
            request = WSGIRequest(environ, start_response, self._prefixes)
        except Exception as error:  # noqa: BLE001 (fail closed: the application is not reached)
            return write(reject(self._layers[0], error, None), environ, start_response)
        response = None
        try:
            decided = self._stack.recall(request)
            if decided < len(self._layers):
                response = self._driver.run(self._stack.decide(request, decided))
        except Exception as error:  # noqa: BLE001 (fail closed: the application is not reached)
            response = reject(request.layer, error, request)
        finally:
            # Remove the fields from rejected requests, too, because outer middleware sees these.
            request.place(self._drop)
        if response is not None:
            return write(response, environ, start_response)
        record_allowed(request.layer, request)
        passage = request.attached.passage
        passage.running = True
        try:
            body = self._app(environ, varying(start_response, self._vary) if self._vary else start_response)
        finally:
            passage.running = False
        # If the application is a generator, it runs while the server reads the body, and may then call further layers.
        return _Running(body, passage) if type(body) is GeneratorType else body


class _Running:
    """A response that a generator produces. The application of the passage is running while it produces each part."""

    def __init__(self, response: Generator[bytes, Any, Any], passage: Passage) -> None:
        self._response, self._passage = response, passage

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._passage.running = True
        try:
            return next(self._response)
        finally:
            self._passage.running = False

    def close(self) -> None:
        self._passage.running = True
        try:
            self._response.close()
        finally:
            self._passage.running = False
