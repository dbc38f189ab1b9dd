"""What was revoked before its time, tokens and certificates, on one list for all processes and machines.

Must never know: how the list lies in Redis, or is followed. A list that is too old to go by is 503, and nobody passes.
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

from mtls_middleware import binding
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.policy.rule import Identity
from mtls_middleware.resource_server.claims import check_text
from mtls_middleware.resource_server.introspection_cache import check_timeouts
from mtls_middleware.revocation.format import BELOW_NEWS, WRITE, ListNotCreated, RevocationListCopy, written
from mtls_middleware.revocation.poller import RevocationListPoller, reason

# Seconds that an entry outlives what it revokes. A certificate is accepted for up to 300 s after its notAfter
# (clock_skew), and the clock of Redis may be as far ahead of this machine's.
_BEYOND = 600
# The first request of a process waits so long for the first reading, instead of being answered 503.
_FIRST_WAIT = 1.0
_RETRY_AFTER = 1
_AT_ONCE = 500  # entries written by one command: some milliseconds of Redis


@dataclass(frozen=True, slots=True)
class ListStatus:
    """What Redis has: `entries` that count at this moment, and `changes`, revocations written since it was made."""

    entries: int
    changes: int


class RedisRevocations:
    """A list of revoked tokens and certificates in Redis or Valkey (extra `redis`; version 6.2 or later).

    A thread of each process follows it, from the first request on, so that a revocation holds everywhere within a
    second; a request looks into memory alone. The list must be made once: `create()`. Where it is gone, that is an
    outage, and not an empty list.

    Arguments:
        client: `redis.Redis`, under ASGI too, with short timeouts and few retries. Of the primary: a replica that is
            cut off answers with what it knew.
        key: where the list lies.
        max_age: seconds, 1 to 300, that the last reading may be old while Redis cannot be had, or the list is gone.
        on_failure: after that, `"refuse"`: requests are answered 503; `"keep"`: the last known list is gone by for
            `keep_for` seconds more, then 503. A process that never saw the list answers 503.
        keep_for: seconds, up to 3600.

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
                f"client is a {type(client).__name__}: for example redis.Redis(host='revocations.internal')"
            )
        if inspect.iscoroutinefunction(client.execute_command):
            raise ConfigurationError("client is of asyncio: give a redis.Redis, under ASGI too; a thread uses it")
        check_timeouts(client)
        check_text("key", key, "billing:revoked")
        if on_failure not in ("refuse", "keep"):
            raise ConfigurationError(f"on_failure={on_failure!r}: 'refuse' or 'keep'")
        self._client, self._key = client, key
        self._longest = _seconds("max_age", max_age, 300)
        if on_failure == "keep":
            self._longest += _seconds("keep_for", keep_for, 3600)
        self._poller: RevocationListPoller | None = None

    @property
    def not_revoked(self) -> "NotRevoked":
        """A rule for `allow=`: a verified certificate that is not on the list."""
        return NotRevoked(self)

    def follow(self) -> None:
        """Begin to follow the list in this process. The first request does it too, and waits for the first reading, a
        second at most: call it where a worker process starts, and none waits.
        """
        self._running_poller()

    def create(self, revoked: Iterable[Mapping[str, Any]] = ()) -> None:
        """Make the list where there is none, with what is `revoked` already: mappings of the arguments of `revoke`.

        To be done by hand, once, and after Redis has lost the list; a program that does it each time it starts would
        make an empty list of a lost one. On a list that is there, `revoked` is added.

        Raises `Unavailable` where it is not known to be done, so that it must be tried again, and `ConfigurationError`.
        """
        self._write_each("+", "create", revoked)
        self._write(secrets.token_urlsafe(16), [])  # it is a list from now on, and not before

    def revoke(
        self, *, until: datetime, token_id: str | None = None, issuer: str | None = None, thumbprint: str | None = None
    ) -> None:
        """Revoke one token, or all that a certificate does. It blocks for a round trip: `asyncio.to_thread`, where
        that matters. There is no way back: issue a new token, or certificate.

        Arguments:
            until: an aware datetime, when it ends by itself (`exp`, `notAfter`) and everybody refuses it anyway.
            token_id, issuer: `jti` and `iss` of the token; a `jti` is unique for its issuer alone (RFC 7519 4.1.7).
            thumbprint: `x5t#S256` of the certificate, instead.

        Raises `Unavailable` where it is not known to be revoked, so that it must be tried again (twice does no harm),
        and `ConfigurationError`.

        Example: `revocations.revoke(thumbprint=certificate.thumbprint, until=certificate.not_valid_after)`
        """
        self._write("", [_entry(until=until, token_id=token_id, issuer=issuer, thumbprint=thumbprint)])

    def revoke_each(self, revoked: Iterable[Mapping[str, Any]]) -> None:
        """`revoke` for many: mappings of its arguments, all of them checked before the first is written.

        Raises `Unavailable`, after which some may be revoked and all must be tried again, and `ConfigurationError`.

        Example: `revocations.revoke_each([{"thumbprint": "A4DtL2Jm...", "until": ends}])`
        """
        self._write_each("", "revoke_each", revoked)

    def look(self) -> ListStatus | None:
        """What Redis has now, by a few round trips; `None` where no list was made yet, or its making not finished.

        Raises `Unavailable`: Redis cannot be had, or what lies there is no list of ours.

        Example: `revocations.look().entries`
        """
        try:
            known = RevocationListCopy(self._client.zrange(self._key, -1, -1))
            entries = self._client.zcount(self._key, self._client.time()[0], BELOW_NEWS)
        except ListNotCreated:
            return None
        except Exception as failure:
            text = f"no list under {self._key!r} in Redis: {reason(failure)}"
            raise Unavailable(text, retry_after=_RETRY_AFTER) from failure
        return ListStatus(int(entries), known.changes)

    def __contains__(self, entry: bytes) -> bool:
        """Whether this was revoked, as far as this process knows. Raises `Unavailable` where that is too long ago."""
        poller = self._running_poller()
        age = time.monotonic() - poller.fresh_at
        if age > self._longest:
            known = "never" if age == math.inf else f"{age:.0f} s ago"
            raise Unavailable(f"the list of revocations was last read {known}", retry_after=_RETRY_AFTER)
        return entry in poller.revoked

    def _running_poller(self) -> RevocationListPoller:
        poller = self._poller
        if poller is None or poller.process != os.getpid():  # a thread does not survive a fork
            # Without a lock, which a fork could find taken for ever: two that are here at once make two threads, and
            # the one whose object is not held ends by itself.
            poller = self._poller = RevocationListPoller(self._client, self._key)
            try:
                poller.start()
            except RuntimeError as error:
                self._poller = None
                raise Unavailable(
                    "no thread can be started to follow the list of revocations", retry_after=1
                ) from error
        if not poller.tried.is_set():
            poller.tried.wait(max(0.0, poller.began_at + _FIRST_WAIT - time.monotonic()))
        return poller

    def _write_each(self, new: str, caller: str, revoked: Iterable[Mapping[str, Any]]) -> None:
        try:
            entries = [_entry(**each) for each in revoked]
        except TypeError as error:
            raise ConfigurationError(
                f"{caller}() takes mappings such as {{'thumbprint': ..., 'until': ...}}, with the arguments of revoke()"
            ) from error
        for start in range(0, len(entries), _AT_ONCE):
            self._write(new, entries[start : start + _AT_ONCE])

    def _write(self, new: str, entries: list[tuple[bytes, int]]) -> None:
        try:
            done = self._client.eval(WRITE, 1, self._key, new, *written(entries))
        except Exception as failure:
            reason = f"Redis: {type(failure).__name__}; it is not known whether that is revoked"
            raise Unavailable(reason, retry_after=_RETRY_AFTER) from failure
        if done != 1:
            raise Unavailable(
                f"no list of revocations under {self._key!r}: create() makes it", retry_after=_RETRY_AFTER
            )


class NotRevoked(Identity):
    """`revocations.not_revoked`: a verified certificate that is not on the list; `Presented(...)` of it for others.

    A certificate that expired more than five minutes ago is not allowed: the list no longer says whether it is revoked.

    What cannot be known, since Redis cannot be had, is neither yes nor no: `Unavailable` leaves every rule around it.
    """

    def __init__(self, revocations: RedisRevocations) -> None:
        self._revocations = revocations

    def matches(self, certificate: ClientCertificate) -> bool:
        # The list no longer has what expired this long ago. validity="handshake" lets such a certificate come here.
        if certificate.verified and certificate.not_valid_after.timestamp() + _BEYOND / 2 < time.time():
            return False
        return certificate.digest not in self._revocations

    def __repr__(self) -> str:
        return "revocations.not_revoked"


def token_entry(issuer: str, token_id: str) -> bytes:
    """A token as the list has it: SHA-256, as of a certificate, whose DER begins with no bracket."""
    return hashlib.sha256(json.dumps([issuer, token_id]).encode("ascii")).digest()


def _entry(
    *, until: datetime, token_id: str | None = None, issuer: str | None = None, thumbprint: str | None = None
) -> tuple[bytes, int]:
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise ConfigurationError(f"until={until!r}: an aware datetime, for example datetime.fromtimestamp(exp, UTC)")
    second = math.ceil(until.timestamp()) + _BEYOND
    if second < time.time():
        raise ConfigurationError(f"until={until!r} is over: nothing would be revoked")
    if thumbprint is None:
        check_text("token_id", token_id, "the token's jti")
        check_text("issuer", issuer, "https://as.example")
        return token_entry(str(issuer), str(token_id)), second
    if token_id is not None or issuer is not None:
        raise ConfigurationError("thumbprint= beside token_id= or issuer=: one revocation, of one thing")
    octets = binding.decode(thumbprint)
    if octets is None:
        raise ConfigurationError(f"thumbprint={thumbprint!r}: 43 characters of base64url, as certificate.thumbprint")
    return octets, second


def _seconds(name: str, value: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= most:
        raise ConfigurationError(f"{name}={value!r}: seconds, from 1 to {most}, for example 10")
    return float(value)
