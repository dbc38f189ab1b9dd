"""`RedisRevocations`: a list of revoked tokens and certificates in Redis, shared by all processes and machines.

If the copy of the list in a process is too old, the process responds to requests with 503.
"""

import hashlib
import inspect
import json
import math
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from mtls_middleware import options
from mtls_middleware.base64_values import sha256_digest
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.policy.rule import Identity
from mtls_middleware.resource_server.introspection_cache import check_timeouts
from mtls_middleware.revocation.format import (
    MAX_ENTRY_SCORE,
    WRITE,
    ListNotCreated,
    RevocationListCopy,
    script_arguments,
)
from mtls_middleware.revocation.poller import RevocationListPoller, reason

# Seconds that an entry stays on the list after its token or certificate has expired. A certificate may be accepted for
# 300 s after its notAfter (clock_skew), and the clock of Redis may be 300 s ahead.
_ENTRY_EXTENSION = 600
# Maximum number of seconds that the first request of a process waits for the first poll. If the request did not wait,
# it would be rejected with 503.
_FIRST_WAIT = 1.0
_RETRY_AFTER = 1
_BATCH = 500  # maximum number of entries in one command, which keeps Redis busy for only a few milliseconds


@dataclass(frozen=True, slots=True)
class ListStatus:
    """The state of the list in Redis.

    Attributes:
        entries: the number of entries that are valid now.
        changes: the number of revocations that were written since the list was created.
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

    Raises `ConfigurationError`.

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
    ) -> None:
        if not all(callable(getattr(client, name, None)) for name in ("zscan", "eval", "execute_command")):
            raise ConfigurationError(
                f"client is a {type(client).__name__}: expected for example redis.Redis(host='revocations.internal')"
            )
        if inspect.iscoroutinefunction(client.execute_command):
            raise ConfigurationError(
                "client is an asyncio client: expected redis.Redis, also under ASGI, because a thread uses it"
            )
        check_timeouts(client)
        options.string("key", key, "billing:revoked")
        options.one_of("on_failure", on_failure, ("refuse", "keep"))
        self._client, self._key = client, key
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

        If this method is not called, the first request starts to poll, and waits for the first poll for at most one
        second. To avoid the wait, call this method at the start of each worker process.
        """
        self._running_poller()

    def create(self, revoked: Iterable[Mapping[str, Any]] = ()) -> None:
        """Create the list if there is no list, and add entries to it.

        Call this method once, by hand, and again after Redis has lost the list. Do not call it at each start of a
        program, because this would replace a lost list by an empty list.

        `revoked`: mappings with the arguments of `revoke`. Raises `Unavailable` if the outcome is unknown: then call
        this method again. Raises `ConfigurationError`.
        """
        self._write_each("+", "create", revoked)
        # This marks the list as complete. No process accepts a list without the mark.
        self._write(secrets.token_urlsafe(16), [])

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

        Raises `Unavailable` if the outcome is unknown: then call this method again. A second call is harmless. Raises
        `ConfigurationError`.

        Example: `revocations.revoke(thumbprint=certificate.thumbprint, until=certificate.not_valid_after)`
        """
        self._write("", [_entry(until=until, token_id=token_id, issuer=issuer, thumbprint=thumbprint)])

    def revoke_each(self, revoked: Iterable[Mapping[str, Any]]) -> None:
        """Revoke several tokens and certificates. `revoked`: mappings with the arguments of `revoke`.

        All mappings are checked before the first revocation is written. Raises `Unavailable` if the outcome is unknown:
        then some revocations may be written, so call this method again with all mappings. Raises `ConfigurationError`.

        Example: `revocations.revoke_each([{"thumbprint": "A4DtL2Jm...", "until": ends}])`
        """
        self._write_each("", "revoke_each", revoked)

    def look(self) -> ListStatus | None:
        """Read the state of the list in Redis. Returns `None` if the list does not exist or is not complete.

        This method needs a few round trips. Raises `Unavailable` if Redis is unreachable or the key has other data.

        Example: `revocations.look().entries`
        """
        try:
            newest = RevocationListCopy(self._client.zrange(self._key, -1, -1))
            entries = self._client.zcount(self._key, self._client.time()[0], MAX_ENTRY_SCORE)
        except ListNotCreated:
            return None
        except Exception as failure:
            text = f"cannot read the list under {self._key!r} in Redis: {reason(failure)}"
            raise Unavailable(text, retry_after=_RETRY_AFTER) from failure
        return ListStatus(int(entries), newest.changes)

    def __contains__(self, entry: bytes) -> bool:
        """Return whether the copy of the list in this process has this entry.

        Raises `Unavailable` if the copy is too old.
        """
        poller = self._running_poller()
        age = time.monotonic() - poller.read_at
        if age > self._max_age:
            reason = "was never read" if age == math.inf else f"was last read {age:.0f} s ago"
            raise Unavailable(f"the list of revocations {reason}", retry_after=_RETRY_AFTER)
        return entry in poller.revoked

    def _running_poller(self) -> RevocationListPoller:
        poller = self._poller
        if poller is None or poller.process != os.getpid():  # a thread does not survive a fork
            # No lock is used, because a fork could copy a held lock. Two concurrent calls start two threads. Then one
            # of the two threads ends, because its poller is not referenced.
            poller = self._poller = RevocationListPoller(self._client, self._key)
            try:
                poller.start()
            except RuntimeError as error:
                self._poller = None
                raise Unavailable("no thread can be started to poll the list of revocations", retry_after=1) from error
        if not poller.first_poll.is_set():
            poller.first_poll.wait(max(0.0, poller.created_at + _FIRST_WAIT - time.monotonic()))
        return poller

    def _write_each(self, mode: str, caller: str, revoked: Iterable[Mapping[str, Any]]) -> None:
        try:
            entries = [_entry(**each) for each in revoked]
        except TypeError as error:
            raise ConfigurationError(
                f"{caller}(): expected mappings of arguments of revoke(), such as {{'thumbprint': ..., 'until': ...}}"
            ) from error
        for start in range(0, len(entries), _BATCH):
            self._write(mode, entries[start : start + _BATCH])

    def _write(self, mode: str, entries: list[tuple[bytes, int]]) -> None:
        try:
            done = self._client.eval(WRITE, 1, self._key, mode, *script_arguments(entries))
        except Exception as failure:
            reason = f"Redis: {type(failure).__name__}; it is not known whether the revocation was written"
            raise Unavailable(reason, retry_after=_RETRY_AFTER) from failure
        if done != 1:
            raise Unavailable(
                f"no list of revocations under {self._key!r}: call create() first", retry_after=_RETRY_AFTER
            )


class NotRevoked(Identity):
    """The rule `revocations.not_revoked`, which matches a verified certificate if it is not on the list.

    `Presented(revocations.not_revoked)` also accepts an unverified certificate that is not on the list. A certificate
    that expired more than five minutes ago does not match, because its entry may have been removed. If the list cannot
    be read, the rule raises `Unavailable`.
    """

    def __init__(self, revocations: RedisRevocations) -> None:
        self._revocations = revocations

    def matches(self, certificate: ClientCertificate) -> bool:
        # The entry of a certificate that expired long ago may have been removed, and `validity="handshake"` accepts
        # expired certificates.
        if certificate.verified and certificate.not_valid_after.timestamp() + _ENTRY_EXTENSION / 2 < time.time():
            return False
        return certificate.digest not in self._revocations

    def __repr__(self) -> str:
        return "revocations.not_revoked"


def token_entry(issuer: str, token_id: str) -> bytes:
    """Return the entry of a token, which is a SHA-256 digest like the entry of a certificate.

    The input of this digest begins with "[". The DER of a certificate does not begin with "[", so the entries of a
    token and a certificate are never equal.
    """
    return hashlib.sha256(json.dumps([issuer, token_id]).encode("ascii")).digest()


def _entry(
    *, until: datetime, token_id: str | None = None, issuer: str | None = None, thumbprint: str | None = None
) -> tuple[bytes, int]:
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise ConfigurationError(
            f"until={until!r}: expected an aware datetime, for example datetime.fromtimestamp(exp, UTC)"
        )
    second = math.ceil(until.timestamp()) + _ENTRY_EXTENSION
    if second < time.time():
        raise ConfigurationError(f"until={until!r} is in the past: expected the expiry of the token or certificate")
    if thumbprint is None:
        options.string("token_id", token_id, "the token's jti")
        options.string("issuer", issuer, "https://as.example")
        return token_entry(str(issuer), str(token_id)), second
    if token_id is not None or issuer is not None:
        raise ConfigurationError(
            "thumbprint= and token_id= or issuer= are given: expected a certificate or a token, not both"
        )
    octets = sha256_digest(thumbprint)
    if octets is None:
        raise ConfigurationError(
            f"thumbprint={thumbprint!r}: expected 43 characters of base64url, such as certificate.thumbprint"
        )
    return octets, second
