"""Caches introspection responses for some seconds, in this process or in Redis.

The cache contains the server's responses, and no decisions. Each request is checked against the cached response.
"""

import base64
import binascii
import hashlib
import hmac
import inspect
import json
import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.effects.flow import Call, Flow, ask
from mtls_middleware.errors import ConfigurationError, Unavailable

logger: logging.Logger = logging.getLogger("mtls_middleware.introspection")

# Seconds without calls to Redis after a failure. During an outage, only one request every five seconds waits for the
# timeout of a call.
_COOL_DOWN = 5.0
# Minimum number of characters in `secret`, the same as for the shared secret of a proxy.
_MIN_SECRET_LENGTH = 16


@dataclass(frozen=True, slots=True)
class IntrospectionKey:
    """The cache key for the introspection of one token at one server by one client.

    Attributes:
        key: a digest, which does not reveal the token.
        seal: 64 bytes from which the encryption key is derived. To compute them, one needs the token, and also the
            client's secret if the client has a secret.
    """

    key: str
    seal: bytes = field(repr=False)

    @classmethod
    def for_token(cls, token: str, *, endpoint: str, client_id: str, secret: str | None) -> "IntrospectionKey":
        """Return the key for the introspection of `token`. `secret`: the client's secret, or `None`."""
        data = json.dumps([endpoint, client_id, token]).encode("ascii")
        return cls(hashlib.sha256(data).hexdigest(), hmac.digest((secret or "").encode("utf-8"), data, "sha512"))


class IntrospectionCache(Protocol):
    """Stores introspection responses as opaque records."""

    def get(self, key: IntrospectionKey, now: float) -> Flow[bytes | None]:
        """Return the cached record for `key`, or `None` if no record is cached.

        Raises `Unavailable` if the cache fails and the request must be rejected. To cause an introspection instead,
        return `None`.
        """

    def put(self, key: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]:
        """Cache `record` under `key` for `seconds` seconds."""


class MemoryAnswers:
    """Caches introspection responses in this process.

    Arguments:
        size: maximum number of cached responses. Each response has at most 16 kB. If the cache is full, the least
            recently used response is removed.

    Raises `ConfigurationError`.

    Example: `IntrospectedAccessTokens(endpoint=..., client_id=..., client_secret=..., cache=MemoryAnswers())`
    """

    def __init__(self, size: int = 4096) -> None:
        options.integer("size", size, 1, 10_000_000, 4096)
        self._records: Cache[str, bytes] = Cache(size)

    is_reusable = True

    def get(self, key: IntrospectionKey, now: float) -> Flow[bytes | None]:  # noqa: ARG002 (see `IntrospectionCache`)
        """Return the cached record, or `None` if no record is cached. The caller checks the age of the record."""
        yield from ()
        return self._records.get(key.key)

    def put(self, key: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]:  # noqa: ARG002 (as `get`)
        """Cache `record` under `key`, without a time limit: the reader checks whether the record is too old."""
        yield from ()
        self._records.put(key.key, record)

    def has(self, key: IntrospectionKey, record: bytes, now: float) -> bool:  # noqa: ARG002 (the signature of a `Check`)
        """Return whether this record is still cached, and no newer record has replaced it."""
        return self._records.get(key.key) is record


class RedisAnswers:
    """Caches introspection responses in Redis or Valkey, shared by processes and machines (extra `redis`).

    The records are encrypted and authenticated with a key that is derived from the token and the client secret
    (AES-SIV, RFC 5297). An attacker with access to Redis, but without the token, can neither read nor forge a response.

    Arguments:
        client: `redis.Redis` under WSGI, `redis.asyncio.Redis` under ASGI, with short timeouts and few retries.
        prefix: the beginning of all keys in Redis.
        on_failure: what happens while Redis is unavailable. `"ask"`: each request causes an introspection. `"refuse"`:
            requests are rejected with 503, which protects the introspection server from the additional load.
        timeout: maximum number of seconds for one command of an asyncio client, 0.001 to 5. Default: 0.25. A blocking
            client uses its own `socket_timeout`.
        secret: 16 characters or more, the same on all machines. Give a secret if `IntrospectedAccessTokens` has no
            `client_secret`. Without both, an attacker with write access to Redis and a token could forge the response
            for that token.

    Raises `ConfigurationError`.

    Example: `RedisAnswers(redis.asyncio.Redis(host="cache.internal", socket_timeout=0.2, socket_connect_timeout=0.2))`
    """

    def __init__(
        self,
        client: Any,
        *,
        prefix: str = "mtls_middleware:introspection:",
        on_failure: Literal["ask", "refuse"] = "ask",
        timeout: float = 0.25,
        secret: str | None = None,
    ) -> None:
        if not all(callable(getattr(client, name, None)) for name in ("get", "set", "execute_command")):
            raise ConfigurationError(
                f"client is a {type(client).__name__}: expected for example redis.asyncio.Redis(host='cache.internal')"
            )
        options.string("prefix", prefix, "billing:introspection:")
        options.one_of("on_failure", on_failure, ("ask", "refuse"))
        options.seconds("timeout", timeout, 0.001, 5, 0.25)
        if secret is not None and (not isinstance(secret, str) or len(secret) < _MIN_SECRET_LENGTH):
            raise ConfigurationError(f"secret: expected a string of {_MIN_SECRET_LENGTH} characters or more")
        try:
            AESSIV(bytes(64))
        except UnsupportedAlgorithm:
            raise ConfigurationError(
                "RedisAnswers needs AES-SIV (RFC 5297), which this OpenSSL does not support, for example in FIPS "
                "mode; use MemoryAnswers() instead"
            ) from None
        self._prefix, self._on_failure, self._timeout = prefix, on_failure, float(timeout)
        self._secret = (secret or "").encode("utf-8")
        self._get, self._set = client.get, client.set
        if inspect.iscoroutinefunction(client.execute_command):
            self._get, self._set = self._with_timeout(client.get), self._with_timeout(client.set)
        else:
            check_timeouts(client)
        self._lock = threading.Lock()  # protects `_failed_at`; it is not held during I/O
        self._failed_at: float | None = None

    def _with_timeout(self, command: Callable[..., Any]) -> Callable[..., Any]:
        import asyncio

        async def call(*arguments: object) -> Any:
            async with asyncio.timeout(self._timeout):
                return await command(*arguments)

        return call

    def get(self, key: IntrospectionKey, now: float) -> Flow[bytes | None]:
        """Return the cached record, or `None` if no readable record is cached.

        Raises `Unavailable` if Redis is unavailable and `on_failure` is `"refuse"`.
        """
        available, found = yield from self._call(now, self._get, self._prefix + key.key)
        if not available and self._on_failure == "refuse":
            raise Unavailable("Redis is unavailable, and on_failure='refuse'", retry_after=math.ceil(_COOL_DOWN))
        return None if found is None else self._decrypt(found, key)

    def put(self, key: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]:
        """Cache `record` under `key` for `seconds` seconds, if Redis is available."""
        encrypted = base64.b64encode(self._cipher(key).encrypt(record, [key.key.encode("ascii")]))
        milliseconds = max(1, int(seconds * 1000))
        yield from self._call(now, self._set, self._prefix + key.key, encrypted, None, milliseconds)

    def _call(self, now: float, function: Callable[..., Any], *arguments: object) -> Flow[tuple[bool, Any]]:
        """Call Redis, and return whether it is available, and the result of the command."""
        with self._lock:
            if self._failed_at is not None:
                if abs(now - self._failed_at) < _COOL_DOWN:
                    return False, None
                self._failed_at = now  # only this request calls Redis; concurrent requests do not wait
        try:
            found = yield from ask(Call(function, arguments))
        except ConfigurationError:  # the client is an asyncio client under WSGI; this is not an outage
            raise
        except Exception as failure:  # noqa: BLE001 (any exception of the Redis client counts as an outage)
            self._failed_at = now
            logger.error("Redis: %s; the next attempt is in %d s", type(failure).__name__, _COOL_DOWN)
            return False, None
        self._failed_at = None
        return True, found

    def _cipher(self, key: IntrospectionKey) -> AESSIV:
        return AESSIV(hmac.digest(self._secret, key.seal, "sha512"))

    def _decrypt(self, found: object, key: IntrospectionKey) -> bytes | None:
        try:
            encrypted = base64.b64decode(found, validate=True) if isinstance(found, (bytes, str)) else b""
            return self._cipher(key).decrypt(encrypted, [key.key.encode("ascii")])
        except (InvalidTag, binascii.Error, ValueError):
            logger.error(
                "a record in Redis cannot be decrypted: check that all machines have the same secret=, and that no "
                "other program writes keys that begin with %r",
                self._prefix,
            )
            return None


def check_timeouts(client: Any) -> None:
    """Raises `ConfigurationError` unless a blocking Redis client has timeouts of at most 1 second and at most 1 retry.

    Nothing else interrupts a call of a blocking client.
    """
    settings = client.get_connection_kwargs() if hasattr(client, "get_connection_kwargs") else {}
    advice = (
        "redis.Redis(host='cache.internal', socket_timeout=0.2, socket_connect_timeout=0.2, "
        "retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1))"
    )
    for name in ("socket_timeout", "socket_connect_timeout"):
        seconds = settings.get(name)
        if not isinstance(seconds, (int, float)) or not 0 < seconds <= 1:
            raise ConfigurationError(f"client with {name}={seconds!r}: expected at most 1 second, for example {advice}")
    retry = settings.get("retry")
    if retry is not None and retry.get_retries() not in (0, 1):
        raise ConfigurationError(f"client with {retry.get_retries()} retries: expected at most 1, for example {advice}")
