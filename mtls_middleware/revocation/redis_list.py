"""`RedisRevocations`: a list of revoked tokens and certificates in Redis, shared by all processes and machines.

If the copy of the list in a process is too old, the process responds to requests with 503.
"""

import inspect
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from mtls_middleware import options
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.resource_server.introspection_cache import check_timeouts
from mtls_middleware.revocation.entries import entries_of, entry_of
from mtls_middleware.revocation.format import FIRST_PAGE, ListNotCreated, parse_head
from mtls_middleware.revocation.poller import RevocationListPoller
from mtls_middleware.revocation.redis_errors import failure_reason
from mtls_middleware.revocation.writer import RevocationListWriter
from mtls_middleware.rule import Identity
from mtls_middleware.validity import MAX_CLOCK_SKEW

_RETRY_AFTER = 1


@dataclass(frozen=True, slots=True)
class ListStatus:
    """The state of the list in Redis.

    Attributes:
        entries: the number of entries that are valid now.
        changes: the number of revocations that were written to the list. A revocation that the list already has is not
            written again.
    """

    entries: int
    changes: int


class RedisRevocations:
    """A list of revoked tokens and certificates in Redis or Valkey (extra `redis`; version 6.2 or later).

    Create the list once with `create()`. From the first request on, a thread in each process keeps a copy of the list
    up to date. Requests read only this copy in memory. A revocation takes effect in all processes within a second. If
    the list disappears from Redis, this is treated as an outage, and not as an empty list.

    Arguments:
        client: `redis.Redis`, also under ASGI, with short timeouts and few retries. Connect to the primary: a
            disconnected replica returns old data.
        key: the key of the list in Redis.
        max_age: seconds for which the copy is used if Redis is unreachable or the list is missing, 1 to 300.
        on_failure: what happens after `max_age` seconds. `"refuse"`: requests are rejected with 503. `"keep"`: the copy
            is used for `keep_for` seconds more, and after that requests are rejected with 503. In a process that has
            never read the list, requests are always rejected with 503.
        keep_for: additional seconds for which the copy is used with `on_failure="keep"`, 1 to 3600.
        replicas: number of replicas that must confirm each write, 0 to 100. Without confirmation, a failover can lose
            the write, and processes that start later accept what it revoked. Requires that `client` writes to one
            server, so `redis.RedisCluster` is not possible.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `protect(app, source=..., allow=SpiffeTrustDomain("acme.internal") & revocations.not_revoked)`
    """

    def __init__(
        self,
        client: Any,
        *,
        key: str = "mtls_middleware:revoked",
        max_age: float = 10,
        on_failure: Literal["refuse", "keep"] = "refuse",
        keep_for: float = 600,
        replicas: int = 0,
    ) -> None:
        if not all(callable(getattr(client, name, None)) for name in ("eval", "zcount", "execute_command")):
            raise ConfigurationError(
                f"client is a {type(client).__name__}: expected a client of redis-py, for example "
                "redis.Redis(host='revocations.internal')"
            )
        if inspect.iscoroutinefunction(client.execute_command):
            raise ConfigurationError(
                "client is an asyncio client: expected redis.Redis, also under ASGI, because a thread uses it"
            )
        check_timeouts(client)
        options.string("key", key, "billing:revoked")
        options.one_of("on_failure", on_failure, ("refuse", "keep"))
        if options.integer("replicas", replicas, 0, 100, 1) and hasattr(client, "get_node_from_key"):
            raise ConfigurationError(
                "replicas= is not supported with a cluster client: expected redis.Redis, because WAIT needs one server"
            )
        self._client, self._key = client, key
        self._writer = RevocationListWriter(client, key, replicas)
        self._max_age = options.seconds("max_age", max_age, 1, 300, 10)
        if on_failure == "keep":
            self._max_age += options.seconds("keep_for", keep_for, 1, 3600, 600)
        self._poller: RevocationListPoller | None = None

    @property
    def not_revoked(self) -> "NotRevoked":
        """A rule for `allow=` that matches a verified certificate if it is not on the list."""
        return NotRevoked(self)

    def follow(self) -> None:
        """Start to poll the list in this process.

        This method waits for the first poll for at most one second. If it is not called, the first request starts to
        poll and waits. But in an event loop, a request does not wait for a list with more than 40,000 changes. The
        request is rejected with 503. To avoid both, call this method at the start of each worker process.

        Raises `Unavailable` if the system cannot start a thread.
        """
        self._running_poller(in_event_loop=True)

    def create(self, revoked: Iterable[Mapping[str, Any]] = ()) -> None:
        """Create the list if Redis has no list, and add entries to it.

        Call this method once, by hand, and again after Redis has lost the list. Do not call it at each start of a
        program, because this would replace a lost list with an empty list.

        `revoked`: mappings with the arguments of `revoke`.

        Raises `Unavailable` if the outcome is unknown, or if fewer than `replicas` replicas confirmed the write. In
        both cases, call this method again. Raises `ConfigurationError` for an invalid argument.
        """
        self._writer.write("create", entries_of("create", revoked))
        # No process accepts a list that is not marked as complete.
        self._writer.write("complete", [])

    def revoke(
        self, *, until: datetime, token_id: str | None = None, issuer: str | None = None, thumbprint: str | None = None
    ) -> None:
        """Revoke one token, or one certificate with all tokens that are bound to it.

        A revocation cannot be undone: issue a new token or certificate instead. This method blocks for one round trip
        to Redis. In a coroutine, call it with `asyncio.to_thread`.

        Arguments:
            until: the time when the token or certificate expires (`exp`, `notAfter`), as an aware datetime.
            token_id, issuer: `jti` and `iss` of the token. A `jti` is unique only for its issuer (RFC 7519 4.1.7).
            thumbprint: `x5t#S256` of the certificate, instead of `token_id` and `issuer`.

        Raises `Unavailable` if the outcome is unknown, or if fewer than `replicas` replicas confirmed the write. In
        both cases, call this method again. A second call is harmless. Raises `ConfigurationError` for an invalid
        argument.

        Example: `revocations.revoke(thumbprint=certificate.thumbprint, until=certificate.not_valid_after)`
        """
        entry = entry_of(until=until, token_id=token_id, issuer=issuer, thumbprint=thumbprint)
        self._writer.write("revoke", [entry])

    def revoke_each(self, revoked: Iterable[Mapping[str, Any]]) -> None:
        """Revoke several tokens and certificates. `revoked`: mappings with the arguments of `revoke`.

        All mappings are checked before the first revocation is written. Raises `Unavailable` as `revoke` does: then
        some revocations may be written, so call this method again with all mappings. Raises `ConfigurationError`.

        Example: `revocations.revoke_each([{"thumbprint": "A4DtL2Jm...", "until": ends}])`
        """
        entries = entries_of("revoke_each", revoked)
        if entries:
            self._writer.write("revoke", entries)

    def look(self) -> ListStatus | None:
        """Read the state of the list in Redis. Returns `None` if the list does not exist or is not complete.

        This method needs a few round trips. Raises `Unavailable` if Redis is unreachable or the key has other data.

        Example: `revocations.look().entries`
        """
        try:
            head = parse_head(self._client.execute_command("ZRANGE", self._key, -1, -1, NEVER_DECODE=True))
            entries = self._client.zcount(self._key, int(time.time()), f"({FIRST_PAGE}")
        except ListNotCreated:
            return None
        except Exception as failure:
            text = f"cannot read the list under {self._key!r} in Redis: {failure_reason(failure)}"
            raise Unavailable(text, retry_after=_RETRY_AFTER) from failure
        return ListStatus(int(entries), head.changes)

    def __contains__(self, entry: bytes) -> bool:
        """Return whether the copy of the list in this process has this entry.

        Raises `Unavailable` if the copy is too old.
        """
        poller = self._running_poller()
        age = poller.age()
        if age > self._max_age:
            reason = "was never read" if age == math.inf else f"was last read {age:.0f} s ago"
            raise Unavailable(f"the list of revocations {reason}", retry_after=_RETRY_AFTER)
        return entry in poller.revoked[entry[0]]

    def _running_poller(self, *, in_event_loop: bool = False) -> RevocationListPoller:
        poller = self._poller
        if poller is None or poller.process != os.getpid():  # a forked child process needs its own thread
            # No lock is used, because a fork could copy a held lock. Two concurrent calls start two threads. One of the
            # two threads then ends, because nothing refers to its poller.
            poller = self._poller = RevocationListPoller(self._client, self._key)
        if not poller.first_poll.is_set():
            if not poller.start():
                raise Unavailable("no thread can be started to poll the list of revocations", retry_after=_RETRY_AFTER)
            poller.wait(in_event_loop=in_event_loop)
        return poller


class NotRevoked(Identity):
    """The rule `revocations.not_revoked`, which matches a verified certificate if it is not on the list.

    A verified certificate that expired more than five minutes ago does not match, because its entry may have been
    removed from the list.

    `Presented(revocations.not_revoked)` also matches an unverified certificate that is not on the list, even if it has
    expired. So revoke such a certificate, for example a self-signed one, with an `until` far in the future.

    If the list cannot be read, the rule raises `Unavailable`.
    """

    def __init__(self, revocations: RedisRevocations) -> None:
        self._revocations = revocations

    def matches(self, certificate: ClientCertificate) -> bool:
        # `validity="handshake"` accepts expired certificates.
        if certificate.verified and certificate.not_valid_after.timestamp() + MAX_CLOCK_SKEW < time.time():
            return False
        return certificate.digest not in self._revocations

    def __repr__(self) -> str:
        return "revocations.not_revoked"
