"""Key sources over a real key server, and ways to ask them."""

import asyncio
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mtls_middleware.effects.flow import AwaitingDriver, Flow
from mtls_middleware.jwks import FetchedKeys
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.testing import TokenIssuer
from tests.key_server import KeyServer
from tests.resource_server.stack import Stack

HOUR = 3600.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for plain http, where loading the system's CAs only takes time
START = 1_000_000.0


def awaited(flow: Flow[Any]) -> Any:
    return asyncio.run(AwaitingDriver().run(flow))


def fetched(server: KeyServer) -> FetchedKeys:
    return FetchedKeys(server.url, allow_http=True, tls=NO_TLS)


def fetching(issuer: TokenIssuer, server: KeyServer) -> JWTAccessTokens:
    return issuer.access_tokens(jwks_uri=server.url, allow_http=True, ssl_context=NO_TLS)


def protected(stack: type[Stack], issuer: TokenIssuer, server: KeyServer) -> Stack:
    return stack(fetching(issuer, server))


def at_once(number: int, act: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(number)

    def waited(each: int) -> Any:
        barrier.wait()
        return act(each)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(waited, range(number)))
