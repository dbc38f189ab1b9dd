"""What is not of this package in a stack: users' sources, trust stores and validators, and middleware of others."""

from pathlib import Path
from typing import Any

from mtls_middleware import sources
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.validation import TrustStore
from tests.differential.environment import Outside

TRUST: dict[str, Any] = {"trusted_proxies": ["10.0.0.0/8"]}


class UsersNginx(sources.Nginx):
    """A subclass that reads a field which its base does not."""

    def find(self, view: Any) -> Any:
        return None if "strict" in view.headers("x-mode") else super().find(view)


class UsersTLS(sources.ServerTLS):
    """The same over the server's own TLS."""

    def find(self, view: Any) -> Any:
        return None if "strict" in view.headers("x-mode") else super().find(view)


class UsersSource:
    """A source of a user's own."""

    can_verify, vary = True, "x-mode"

    def __init__(self) -> None:
        self._nginx = sources.Nginx(**TRUST)
        self.drop_headers = self._nginx.drop_headers

    def find(self, view: Any) -> Any:
        return None if "strict" in view.headers("x-mode") else self._nginx.find(view)


class UsersStore:
    """A trust store of a user's own, whose result changes."""

    def __init__(self, outside: Outside) -> None:
        self._outside, self._store = outside, TrustStore.from_pem_file(fixed_roots(outside))

    def validate(self, certificate: Any, now: float) -> Any:
        return certificate if self._outside.flipped else self._store.validate(certificate, now)


class UsersTokens:
    """A validator of a user's own, whose result changes."""

    def __init__(self, tokens: Any, outside: Outside) -> None:
        self._tokens, self._outside = tokens, outside

    def validate(self, text: str, now: float) -> Any:
        return self._tokens.validate(text, now - 30 if self._outside.flipped else now)


class UsersJWT(JWTAccessTokens):
    """A subclass with a further condition, which changes."""

    def __init__(self, outside: Outside, **options: Any) -> None:
        super().__init__(**options)
        self._outside = outside

    def validate(self, text: str, now: float) -> Any:
        return super().validate("x" if self._outside.flipped else text, now)


def fixed_roots(outside: Outside) -> Path:
    """A file that no event replaces."""
    path = outside.folder / "fixed.pem"
    if not path.exists():
        path.write_text(outside.material["roots"]["ca"], "ascii")
    return path


# What is not of this package, between layers


def relay(gateway: str, inner: Any) -> Any:
    """A middleware that does nothing: the layers around it and inside of it are two gateways."""

    def called(environ: Any, start_response: Any) -> Any:
        return inner(environ, start_response)

    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    return called if gateway == "wsgi" else awaited


def dispatcher(gateway: str, tried: list[Any]) -> Any:
    """Calls one application after the other with the same environ or scope, until one does not reject the request."""
    return _dispatched_wsgi(tried) if gateway == "wsgi" else _dispatched_asgi(tried)


def _dispatched_wsgi(tried: list[Any]) -> Any:
    def called(environ: Any, start_response: Any) -> Any:
        for application in tried:
            started: list[Any] = []
            body = b"".join(application(environ, lambda *given, to=started: to.append(given)))
            if started[-1][0][:1] == "2":
                break
        start_response(*started[-1])
        return [body]

    return called


def _dispatched_asgi(tried: list[Any]) -> Any:
    async def awaited(scope: Any, receive: Any, send: Any) -> None:
        messages: list[Any] = []
        received: list[Any] = []
        for application in tried:
            messages.clear()
            await application(scope, _replaying(received, receive), _keeping(messages))
            if messages[0].get("status") == 200 or messages[0]["type"] == "websocket.accept":
                break
        for message in messages:
            await send(message)

    return awaited


def _replaying(received: list[Any], receive: Any) -> Any:
    """A `receive` that begins with the messages which an earlier application has received."""
    position = 0

    async def again() -> Any:
        nonlocal position
        if position == len(received):
            received.append(await receive())
        position += 1
        return received[position - 1]

    return again


def _keeping(messages: list[Any]) -> Any:
    async def keep(message: Any) -> None:
        messages.append(message)

    return keep
