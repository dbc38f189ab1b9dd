"""Two applications, WSGI and ASGI, that share what an introspection server said: run by servers of their own."""

import os
from collections.abc import Iterable
from typing import Any

import redis
import redis.asyncio

from mtls_middleware import access_token, asgi, wsgi
from mtls_middleware.resource_server import IntrospectedAccessTokens, RedisAnswers
from mtls_middleware.sources import Nginx
from tests.introspection_server import CLIENT_ID, CLIENT_SECRET


def _protected(module: Any, application: Any, client: Any) -> Any:
    tokens = IntrospectedAccessTokens(
        endpoint=os.environ["ENDPOINT"],
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        allow_http=True,
        cache=RedisAnswers(client),
    )
    return module.protect(application, source=Nginx(trusted_proxies=["127.0.0.1"]), tokens=tokens)


def _hello(environ: Any, start_response: Any) -> Iterable[bytes]:
    token = access_token(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(token.subject if token else None).encode()]


async def _hello_async(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    token = access_token(scope)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(token.subject if token else None).encode()})


if "ENDPOINT" in os.environ:
    _redis: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": int(os.environ["REDIS_PORT"]),
        "socket_timeout": 0.5,
        "socket_connect_timeout": 0.5,
        "retry": None,
    }
    wsgi_application = _protected(
        wsgi, _hello, redis.Redis(**{**_redis, "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 1)})
    )
    _redis.pop("retry")
    asgi_application = _protected(asgi, _hello_async, redis.asyncio.Redis(**_redis))
