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
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.effects.cool_down import CoolDown
from mtls_middleware.effects.flow import Call, Flow, ask
from mtls_middleware.errors import ConfigurationError, Unavailable

logger: logging.Logger = logging.getLogger("mtls_middleware.introspection")

# Maximum number of seconds for which the cache does not send GET, or SET, after a failure of this command. During an
# outage, only one request in this time waits for the timeout of a call.
_MAX_COOL_DOWN = 5.0
# Minimum number of characters in `secret`, the same as for the shared secret of a proxy.
_MIN_SECRET_LENGTH = 16


@dataclass(frozen=True, slots=True)
class IntrospectionKey:
    """The cache key for the introspection of one token at one server by one client.

    Attributes:
        key: a digest, which does not reveal the token.
        seal: 64 bytes from which the encryption key is derived. They can be computed only with the token, and with the
            client's secret if the client has a secret.

    Example:
        >>> url = "https://as.example/introspect"
        >>> key = IntrospectionKey.for_token("opaque", endpoint=url, client_id="api", secret=None)
        >>> len(key.key), len(key.seal)
        (64, 64)
    """

    key: str
    seal: bytes = field(repr=False)

    @classmethod
    def for_token(
        cls, token: str, *, endpoint: str, client_id: str, secret: str | None, kind: str = ""
    ) -> "IntrospectionKey":
        """Return the key for the introspection of `token`.

        `secret`: the secret that identifies this client, or `None`. `kind`: the method of authentication, and whether
        responses are signed.
        """
        data = json.dumps([endpoint, client_id, kind, token]).encode("ascii")
        seal = hmac.digest((secret or "").encode("utf-8"), data, "sha512")
        # With a different secret, the server may give a different response, so the secret is part of the key.
        return cls(hashlib.sha256(data + hashlib.sha256(seal).digest()).hexdigest(), seal)


class IntrospectionCache(Protocol):
    """Stores introspection responses as opaque records.

    Example:
        >>> class DictionaryCache:
        ...     def __init__(self) -> None:
        ...         self._records: dict[str, bytes] = {}
        ...
        ...     def get(self, key: IntrospectionKey, now: float) -> Flow[bytes | None]:
        ...         yield from ()  # a cache on another server yields a Call here
        ...         return self._records.get(key.key)
        ...
        ...     def put(self, key: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]:
        ...         yield from ()
        ...         self._records[key.key] = record
    """

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

    Raises `ConfigurationError` if an argument is invalid.

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


class _CommandFailed(Exception):  # noqa: N818 (`RedisAnswers` handles it)
    """Raised if a Redis command fails. The message is the type of the failure. `seconds`: the duration of the call."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class _Command:
    """A command of a Redis client. `function` raises `_CommandFailed`."""

    name: str
    function: Callable[..., Any]
    cool_down: CoolDown


def _timed(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: object) -> Any:
        begun = time.monotonic()
        try:
            return function(*arguments)
        except Exception as failure:  # any exception of the Redis client counts as an outage
            raise _CommandFailed(type(failure).__name__, time.monotonic() - begun) from failure

    return call


def _timed_async(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
    import asyncio

    async def call(*arguments: object) -> Any:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                return await function(*arguments)
        except Exception as failure:  # as in `_timed`
            raise _CommandFailed(type(failure).__name__, time.monotonic() - begun) from failure

    return call


class RedisAnswers:
    """Caches introspection responses in Redis or Valkey, shared by processes and machines (extra `redis`).

    The records are encrypted and authenticated with a key that is derived from the token and the client secret
    (AES-SIV, RFC 5297). An attacker with access to Redis, but without the token, can neither read nor forge a response.

    Arguments:
        client: `redis.Redis` under WSGI, `redis.asyncio.Redis` under ASGI, with short timeouts and few retries.
        prefix: the beginning of all keys in Redis.
        on_failure: what happens while GET fails. `"ask"`: each request causes an introspection. `"refuse"`: requests
            are rejected with 503, which protects the introspection server from the additional load. While only SET
            fails, for example because Redis is full, cached responses are used, and new ones are not cached.
        timeout: maximum number of seconds for one command of an asyncio client, 0.001 to 5. Default: 0.25. A blocking
            client uses its own `socket_timeout`.
        secret: 16 characters or more, the same on all machines. Give a secret if `IntrospectedAccessTokens` has no
            `client_secret`. Without both, an attacker with write access to Redis and a token could forge the response
            for that token.

    Raises `ConfigurationError` if an argument is invalid.

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
                f"client is a {type(client).__name__}: expected an asynchronous Redis client, "
                "for example redis.asyncio.Redis(host='cache.internal')"
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
        timed: Callable[[Callable[..., Any]], Callable[..., Any]] = _timed
        if inspect.iscoroutinefunction(client.execute_command):
            timed = partial(_timed_async, self._timeout)
        else:
            check_timeouts(client)
        self._get = _Command("GET", timed(client.get), CoolDown(_MAX_COOL_DOWN))
        self._set = _Command("SET", timed(client.set), CoolDown(_MAX_COOL_DOWN))

    def get(self, key: IntrospectionKey, now: float) -> Flow[bytes | None]:
        """Return the cached record, or `None` if no readable record is cached.

        Raises `Unavailable` if GET fails and `on_failure` is `"refuse"`.
        """
        available, found = yield from self._call(now, self._get, self._prefix + key.key)
        if not available and self._on_failure == "refuse":
            raise Unavailable("Redis is unavailable, and on_failure='refuse' rejects the request", retry_after=1)
        return None if found is None else self._decrypt(found, key)

    def put(self, key: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]:
        """Cache `record` under `key` for `seconds` seconds, unless SET fails."""
        encrypted = base64.b64encode(self._cipher(key).encrypt(record, [key.key.encode("ascii")]))
        milliseconds = max(1, int(seconds * 1000))
        yield from self._call(now, self._set, self._prefix + key.key, encrypted, None, milliseconds)

    def _call(self, now: float, command: "_Command", *arguments: object) -> Flow[tuple[bool, Any]]:
        """Call Redis. Returns whether the command succeeded, and its result."""
        attempt = command.cool_down.begin(now)
        if attempt is None:
            return False, None
        succeeded = False
        try:
            found = yield from ask(Call(command.function, arguments))
            succeeded = True
        except _CommandFailed as failure:
            delay = command.cool_down.failed(attempt, now + failure.seconds)
            logger.error("Redis: %s failed (%s); the next attempt is in %g s", command.name, failure, delay)
            return False, None
        finally:
            command.cool_down.ended(attempt, succeeded=succeeded)
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

    Only these timeouts can interrupt a call of a blocking client.
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
