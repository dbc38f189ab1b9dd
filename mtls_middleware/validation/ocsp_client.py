"""`OCSPClient`: looks up statuses at OCSP responders, and caches them (RFC 6960, RFC 5019).

There is at most one exchange at a time for each certificate. The exchanges for several certificates run concurrently.
"""

import logging
import re
import secrets
import ssl
import threading
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from cryptography.hazmat.primitives import hashes

from mtls_middleware.cache import Cache
from mtls_middleware.dependencies import report
from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response, fetch_failed
from mtls_middleware.effects.flow import Begin, Flow, ask
from mtls_middleware.forks import reset_after_fork
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.reusable import Reusable
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.ocsp_records import CachedStatus, OCSPAttempt, OCSPRecord
from mtls_middleware.validation.ocsp_responders import Responder
from mtls_middleware.validation.ocsp_response import Requirements, UnusableOCSPResponse, build_request, verify

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

# Maximum bytes of a response. Usually, a response has 500 bytes, or 2,000 with the responder's certificate.
_LIMIT = 65_536
# Maximum length of a base64 request that is sent by GET (RFC 6960 A.1).
_GET_LIMIT = 255
# Default maximum bytes of all records, and bytes of one record without the issuer's certificate in its key. So the
# statuses of 10,000 certificates are cached.
_CACHED, _RECORD = 20 * 1024 * 1024, 1_000
# The numbers and OIDs in a reason, such as the seconds since nextUpdate. Lines that differ only by them count as the
# same.
_NUMBERS = re.compile("[0-9.]+")
_HEADERS = {"Accept": "application/ocsp-response", "Content-Type": "application/ocsp-request"}

# What a record depends on: the URL, the issuer, the serial number, and the certificate of `signed_by`.
_Key = tuple[str, bytes, int, bytes]


@dataclass(frozen=True, slots=True)
class LookUp:
    """The look-up of the status of one certificate at its responder."""

    key: _Key
    responder: Responder
    request: StatusRequest
    required: Requirements
    record: OCSPRecord


@dataclass(frozen=True, slots=True)
class NoStatus:
    """The reason why no status is known, and the number of seconds until the next attempt."""

    reason: str
    retry_after: float


@dataclass(frozen=True, slots=True)
class _Step:
    """What a flow does for one certificate: use a known status, start an attempt, or wait for an attempt."""

    known: CachedStatus | None
    attempt: OCSPAttempt | None
    is_new: bool

    @property
    def waits(self) -> bool:
        return self.known is None and self.attempt is not None


class OCSPClient:
    """Looks up statuses, and caches them until they expire.

    Arguments:
        tls, proxy, timeout, max_age: see `OCSP`.
        nonce_size: the number of bytes of a nonce (RFC 9654 2.1), or 0 for requests without a nonce.
        uses_get: whether short requests are sent by GET.
        algorithm: the hash that identifies the issuer in requests.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext,
        proxy: str | None,
        timeout: float,
        max_age: float,
        nonce_size: int,
        uses_get: bool,
        algorithm: hashes.SHA1 | hashes.SHA256,
    ) -> None:
        self._tls, self._proxy, self._timeout, self._max_age = tls, proxy, timeout, max_age
        self._nonce_size, self._uses_get, self._algorithm = nonce_size, uses_get, algorithm
        self.records: Cache[_Key, OCSPRecord] = Cache(_CACHED)
        self._lines = LineLimit(lines=1, seconds=30)  # each certificate can cause a failure
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """Create the lock. A fork may happen while another thread holds the lock of the parent."""
        self._lock = threading.Lock()  # protects the records; it is not held during I/O

    def look_up(
        self, responder: Responder, request: StatusRequest, required: Requirements, signer: bytes = b""
    ) -> LookUp:
        """Return the look-up for one certificate. `signer`: the certificate of `required.signed_by` in DER."""
        key = (responder.url, request.issuer_der, request.serial, signer)
        return LookUp(key, responder, request, required, self._record(key))

    def _record(self, key: _Key) -> OCSPRecord:
        record = self.records.get(key)
        if record is None:
            with self._lock:
                record = self.records.get(key)
                if record is None:
                    record = OCSPRecord()
                    self.records.put(key, record, _RECORD + len(key[1]))
        return record

    def reusable(self, look_up: LookUp, cached: CachedStatus, value: T) -> Reusable[T]:
        """Return `value` as a result that is valid as long as `cached` is the newest status, and needs no renewal."""
        return Reusable(value, cached.begins, cached.ends, (partial(self._is_current, look_up, cached),))

    def _is_current(self, look_up: LookUp, cached: CachedStatus, now: float) -> bool:
        record = look_up.record
        return self.records.get(look_up.key) is record and record.known is cached and not record.needs_action(now)

    def current(self, look_ups: Sequence[LookUp], now: float) -> Flow[list[CachedStatus | NoStatus]]:
        """Return the status of each certificate: a cached status, or the result of an exchange, or why there is none.

        All exchanges run at the same time, so that the wait is that for the slowest responder.
        """
        with self._lock:
            steps = [self._step(each, now) for each in look_ups]
        # The flow waits as soon as it makes an exchange itself, so it starts the other exchanges before that.
        first = next((each for each in steps if each.waits), None)
        for step in steps:
            if step.is_new and step is not first and step.attempt is not None:
                yield from self._begin(step.attempt)
        found: list[CachedStatus | NoStatus] = []
        for look_up, step in zip(look_ups, steps, strict=True):
            if step.known is not None:
                found.append(step.known)
            elif step.attempt is None:
                found.append(NoStatus(look_up.record.reason, look_up.record.retry_after(now)))
            else:
                found.append((yield from self._joined(look_up, step.attempt, now)))
        return found

    def _step(self, look_up: LookUp, now: float) -> _Step:
        """Apply a complete attempt, and create a new one if it is due. The lock is held."""
        record = look_up.record
        attempt = record.attempt
        # Without a valid status, this flow joins a broken exchange later, and repeats it there.
        if attempt is not None and attempt.is_complete and (record.valid(now) or not attempt.is_broken):
            self._finish(look_up, attempt, now)
        known = record.valid(now)
        is_new = (known is None or now >= known.renewal_at) and record.is_due(now)
        if is_new:
            attempt = self._attempt(look_up, now)
            record.begin(attempt)
            # Without later requests for the certificate, the body of the response would stay in memory.
            attempt.fetch.outcome.add_done_callback(lambda _: self._end(look_up, attempt))
        return _Step(known, record.attempt, is_new)

    def _end(self, look_up: LookUp, attempt: OCSPAttempt) -> None:
        """Apply an attempt when its exchange ends, in the thread that has made it. A flow may have done so before."""
        with self._lock:
            if attempt.is_complete and not attempt.is_broken:
                self._finish(look_up, attempt, attempt.ended_at)

    def _begin(self, attempt: OCSPAttempt) -> Flow[None]:
        """Start an exchange in the background. `_end` applies the result."""
        try:
            yield from ask(Begin(attempt.fetch))
        except Exception as failure:  # noqa: BLE001 (as in `_joined`)
            attempt.fetch.end_unstarted(failure)

    def _joined(self, look_up: LookUp, attempt: OCSPAttempt, now: float) -> Flow[CachedStatus | NoStatus]:
        """Wait for the exchange of an attempt, and return its result.

        If only this flow stops waiting, for example because too many requests wait, the attempt goes on.
        """
        failure = FetchFailed("the exchange was interrupted")
        try:
            yield from self._exchange(look_up.record, attempt, now)
        except Exception as error:  # noqa: BLE001 (for example, no thread can be started: a failed attempt)
            failure = fetch_failed(error)
            attempt.fetch.end_unstarted(failure)
        with self._lock:
            if attempt.is_complete:
                self._finish(look_up, attempt, now)
        if isinstance(attempt.result, CachedStatus):
            return attempt.result
        retry_after = failure.retry_after or look_up.record.retry_after(now)
        return NoStatus(attempt.result or str(failure), retry_after)

    def _exchange(self, record: OCSPRecord, attempt: OCSPAttempt, now: float) -> Flow[Response]:
        """Make the exchange of an attempt. If the server has closed an idle connection, make it once more."""
        first = attempt.fetch
        try:
            return (yield from ask(first))
        except FetchFailed as failure:
            if not failure.again:
                raise
        with self._lock:
            if attempt.fetch is first:
                record.repeat(attempt, replace(first), now)
        return (yield from ask(attempt.fetch))

    def _attempt(self, look_up: LookUp, now: float) -> OCSPAttempt:
        nonce = secrets.token_bytes(self._nonce_size) if self._nonce_size else None
        request = build_request(look_up.request, self._algorithm, nonce)
        encoded = b64encode(request.der)
        by_get = self._uses_get and len(encoded) <= _GET_LIMIT
        url = look_up.responder.url
        fetch = Fetch(
            f"{url.rstrip('/')}/{quote(encoded, safe='')}" if by_get else url,
            self._tls,
            self._timeout,
            _LIMIT,
            content=None if by_get else request.der,
            headers=_HEADERS,
            connections=look_up.responder.connections,
            proxy=self._proxy,
        )
        return OCSPAttempt(request, fetch, now)

    def _finish(self, look_up: LookUp, attempt: OCSPAttempt, now: float) -> None:
        """Store the result of a complete attempt, and log a failure of the responder. The lock is held."""
        record, found = look_up.record, attempt.fetch.result()
        if record.attempt is not attempt:
            return  # another flow has stored the result
        if isinstance(found, FetchFailed) and found.retry_after is not None:
            record.postpone(attempt, str(found))
            return
        result: CachedStatus | str
        try:
            if not isinstance(found, Response):
                raise UnusableOCSPResponse(str(found))
            if found.status != 200:
                raise UnusableOCSPResponse(f"HTTP status {found.status}")
            # Verify the response at the time of its arrival: a later request may apply the result of the exchange.
            arrived_at = attempt.ended_at
            response = verify(found.body, attempt.request, look_up.request.issuer, arrived_at, look_up.required)
            result = CachedStatus.of(response, attempt.began_at, self._max_age)
        except UnusableOCSPResponse as failure:
            result = str(failure)
        record.finish(attempt, result)
        if isinstance(attempt.result, str):
            self._report(look_up.responder.url, attempt.result, now)
            self._report_end(record, look_up.responder.url, now)

    def _report_end(self, record: OCSPRecord, url: str, now: float) -> None:
        """Report a cached status that expires soon and could not be renewed, and log one line for many statuses."""
        known = record.valid(now)
        if known is None or not known.is_near_end(now):
            return
        reason = f"a cached OCSP response expires in {known.ends - now:.0f} s, and {url} returned no newer response"
        report("ocsp_ending", reason)
        if self._lines.admit((url, "ending"), now) is not None:
            logger.warning("%s; after that, the status of the certificate is unknown", reason)

    def _report(self, url: str, reason: str, now: float) -> None:
        """Report a failure, and log it unless a failure of this responder for this reason was logged a moment ago."""
        report("ocsp_failed", f"{url}: {reason}")
        left_out = self._lines.admit((url, _NUMBERS.sub("", reason)), now)
        if left_out is not None:
            logger.error(
                "the OCSP responder %s gave no usable response: %s; later requests try again; "
                "similar lines left out: %d",
                url,
                reason,
                left_out,
            )
