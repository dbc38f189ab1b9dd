"""Answers of an introspection server, remembered for seconds: in this process, or in Redis for many machines.

Must never know: what an answer says, or for how long it is good. What is kept is the server's own answer, never a
verdict: each process decides again, and compares the certificate, on every request.
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

from mtls_middleware.cache import Cache
from mtls_middleware.effects.flow import Call, Flow, ask
from mtls_middleware.errors import ConfigurationError, Unavailable

logger: logging.Logger = logging.getLogger("mtls_middleware.introspection")

# After a failure Redis is let alone for so many seconds: an outage costs one request in five seconds its timeout.
_COOL_DOWN = 5.0
_SHORTEST_SECRET = 16  # as for the secret of a proxy


@dataclass(frozen=True, slots=True)
class IntrospectionKey:
    """One token, asked of one server by one of its clients.

    `key` names the question and tells nothing of the token. `seal`, 64 octets, can be made by nobody who does not hold
    the token itself (and the client's secret, where there is one).
    """

    key: str
    seal: bytes = field(repr=False)

    @classmethod
    def about(cls, token: str, *, endpoint: str, client_id: str, secret: str | None) -> "IntrospectionKey":
        whole = json.dumps([endpoint, client_id, token]).encode("ascii")
        return cls(hashlib.sha256(whole).hexdigest(), hmac.digest((secret or "").encode("utf-8"), whole, "sha512"))


class IntrospectionCache(Protocol):
    """Where answers are remembered: `None` is "not known"; `Unavailable` where nobody is to be asked instead."""

    def get(self, question: IntrospectionKey, now: float) -> Flow[bytes | None]: ...
    def put(self, question: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]: ...


class MemoryAnswers:
    """Answers in this process.

    Arguments:
        size: how many, of 16 kB at most each; those that were not used longest go first.

    Raises `ConfigurationError`.

    Example: `IntrospectedAccessTokens(endpoint=..., client_id=..., client_secret=..., cache=MemoryAnswers())`
    """

    def __init__(self, size: int = 4096) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigurationError(f"size={size!r}: how many answers to remember, for example 4096")
        self._records: Cache[str, bytes] = Cache(size)

    def get(self, question: IntrospectionKey, now: float) -> Flow[bytes | None]:  # noqa: ARG002 (as RedisAnswers has it)
        yield from ()
        return self._records.get(question.key)

    def put(self, question: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]:  # noqa: ARG002 (as get)
        yield from ()
        self._records.put(question.key, record)

    def has(self, question: IntrospectionKey, record: bytes, now: float) -> bool:  # noqa: ARG002 (as `Check` has it)
        """Whether this very record is still cached, and no newer one."""
        return self._records.get(question.key) is record


class RedisAnswers:
    """Answers in Redis or Valkey, shared by all processes and machines that use it (extra `redis`).

    What lies there is encrypted and sealed with the token's own text (AES-SIV, RFC 5297): who reads it learns nothing,
    and who writes it can neither make an answer nor change one, unless he holds that token, and the client secret.

    Arguments:
        client: `redis.Redis` under WSGI, `redis.asyncio.Redis` under ASGI, with short timeouts and few retries.
        prefix: what its keys begin with.
        on_failure: `"ask"`: while Redis cannot be had, each request asks the introspection server; `"refuse"`: it is
            answered 503, so that the server is spared the load.
        timeout: seconds for one look-up with an asyncio client; others are bounded by their own `socket_timeout`.
        secret: known to all machines, 16 characters or more: without it who can write to Redis, and holds a token of
            his own, could change what is said of that token, where introspection is authenticated by certificate.

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
                f"client is a {type(client).__name__}: for example redis.asyncio.Redis(host='cache.internal')"
            )
        if not isinstance(prefix, str) or not prefix:
            raise ConfigurationError(f"prefix={prefix!r}: a text, for example 'billing:introspection:'")
        if on_failure not in ("ask", "refuse"):
            raise ConfigurationError(f"on_failure={on_failure!r}: 'ask' or 'refuse'")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= 5:
            raise ConfigurationError(f"timeout={timeout!r}: seconds, more than 0 and 5 at most, for example 0.25")
        if secret is not None and (not isinstance(secret, str) or len(secret) < _SHORTEST_SECRET):
            raise ConfigurationError(f"secret: a text of {_SHORTEST_SECRET} characters or more")
        try:
            AESSIV(bytes(64))
        except UnsupportedAlgorithm:
            raise ConfigurationError(
                "RedisAnswers needs AES-SIV (RFC 5297), which this OpenSSL does not have, as in FIPS mode: for example "
                "MemoryAnswers() needs none"
            ) from None
        self._prefix, self._on_failure, self._timeout = prefix, on_failure, float(timeout)
        self._secret = (secret or "").encode("utf-8")
        self._get, self._set = client.get, client.set
        if inspect.iscoroutinefunction(client.execute_command):
            self._get, self._set = self._bounded(client.get), self._bounded(client.set)
        else:
            check_timeouts(client)
        self._lock = threading.Lock()  # around what follows; never held while anybody waits
        self._failed_at: float | None = None

    def _bounded(self, command: Callable[..., Any]) -> Callable[..., Any]:
        import asyncio

        async def call(*arguments: object) -> Any:
            async with asyncio.timeout(self._timeout):
                return await command(*arguments)

        return call

    def get(self, question: IntrospectionKey, now: float) -> Flow[bytes | None]:
        """What is remembered. Raises `Unavailable` where Redis cannot be had, and `on_failure` is `"refuse"`."""
        reached, found = yield from self._call(now, self._get, self._prefix + question.key)
        if not reached and self._on_failure == "refuse":
            raise Unavailable("Redis cannot be had, and on_failure='refuse'", retry_after=math.ceil(_COOL_DOWN))
        return None if found is None else self._opened(found, question)

    def put(self, question: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]:
        """Remember `record` for so many seconds, where Redis can be had."""
        sealed = base64.b64encode(self._cipher(question).encrypt(record, [question.key.encode("ascii")]))
        milliseconds = max(1, int(seconds * 1000))
        yield from self._call(now, self._set, self._prefix + question.key, sealed, None, milliseconds)

    def _call(self, now: float, function: Callable[..., Any], *arguments: object) -> Flow[tuple[bool, Any]]:
        """Whether Redis was reached, and what it said."""
        with self._lock:
            if self._failed_at is not None:
                if abs(now - self._failed_at) < _COOL_DOWN:
                    return False, None
                self._failed_at = now  # one tries, the others go on without
        try:
            found = yield from ask(Call(function, arguments))
        except ConfigurationError:  # an asyncio client under WSGI: no outage
            raise
        except Exception as failure:  # noqa: BLE001 (whatever the library raises is an outage)
            self._failed_at = now
            logger.error("Redis: %s; it is left alone for %d s", type(failure).__name__, _COOL_DOWN)
            return False, None
        self._failed_at = None
        return True, found

    def _cipher(self, question: IntrospectionKey) -> AESSIV:
        return AESSIV(hmac.digest(self._secret, question.seal, "sha512"))

    def _opened(self, found: object, question: IntrospectionKey) -> bytes | None:
        try:
            sealed = base64.b64decode(found, validate=True) if isinstance(found, (bytes, str)) else b""
            return self._cipher(question).decrypt(sealed, [question.key.encode("ascii")])
        except (InvalidTag, binascii.Error, ValueError):
            logger.error("an answer in Redis is not one of ours: who else writes under %r?", self._prefix)
            return None


def check_timeouts(client: Any) -> None:
    """A client that blocks must not do so for long: nothing else would end it."""
    settings = client.get_connection_kwargs() if hasattr(client, "get_connection_kwargs") else {}
    advice = (
        "redis.Redis(host='cache.internal', socket_timeout=0.2, socket_connect_timeout=0.2, "
        "retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1))"
    )
    for name in ("socket_timeout", "socket_connect_timeout"):
        seconds = settings.get(name)
        if not isinstance(seconds, (int, float)) or not 0 < seconds <= 1:
            raise ConfigurationError(f"client with {name}={seconds!r}: 1 second at most, for example {advice}")
    retry = settings.get("retry")
    if retry is not None and retry.get_retries() not in (0, 1):
        raise ConfigurationError(f"client with {retry.get_retries()} retries: 1 at most, for example {advice}")
