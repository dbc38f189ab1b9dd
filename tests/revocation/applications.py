"""Two applications, WSGI and ASGI, that go by one list of revocations, and a program that revokes: three processes.

`python -m tests.revocation.applications` reads the arguments of `revoke` as JSON, revokes until a minute
hence, and says when it began to.
"""

import json
import os
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import redis

from mtls_middleware import asgi, wsgi
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.revocation import RedisRevocations, RevocableTokens
from mtls_middleware.sources import Nginx


def _revocations() -> RedisRevocations:
    client = redis.Redis(
        port=int(os.environ["REDIS_PORT"]),
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1),
    )
    return RedisRevocations(client, max_age=2)


def _protected(module: Any, application: Any) -> Any:
    revocations = _revocations()
    jwks = json.loads(os.environ["JWKS"])
    jwts = JWTAccessTokens(issuer=os.environ["ISSUER"], audience=os.environ["AUDIENCE"], jwks=jwks)
    if "FOLLOW" in os.environ:  # a mistake where it is done before the server forks, and one that must do no harm
        revocations.follow()
    if "BY_CERTIFICATE" in os.environ:
        options: dict[str, Any] = {"allow": revocations.not_revoked}
    else:
        options = {"tokens": RevocableTokens(jwts, revocations)}
    return module.protect(application, source=Nginx(trusted_proxies=["127.0.0.1"]), **options)


def _tell(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


async def _tell_async(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


if __name__ == "__main__":
    begun = time.monotonic()
    _revocations().revoke(**json.load(sys.stdin), until=datetime.now(UTC) + timedelta(minutes=1))
    print(begun)
elif "JWKS" in os.environ:
    wsgi_application, asgi_application = _protected(wsgi, _tell), _protected(asgi, _tell_async)
