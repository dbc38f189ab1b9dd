"""`OCSP`: looks up the revocation status of certificates at the operator's OCSP responders (RFC 6960).

Requests go to configured responders only. An address in a certificate is never used.
"""

import logging
import math
import re
import secrets
import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import Any, Literal
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.ocsp import OCSPCertStatus

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.dependencies import report
from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response, default_context, fetch_failed
from mtls_middleware.effects.flow import Begin, Flow, ask
from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.retry import LONGEST
from mtls_middleware.reusable import Reusable, once
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.ocsp_records import CachedStatus, OCSPAttempt, OCSPRecord
from mtls_middleware.validation.ocsp_responders import Issuer, Responder, Responders, configured_signer
from mtls_middleware.validation.ocsp_response import Requirements, UnusableOCSPResponse, build_request, verify
from mtls_middleware.validation.revocation import EXEMPT, GOOD, CertificateStatus, Statuses
from mtls_middleware.validation.revocation_lists import RevocationLists
from mtls_middleware.validity import CLOCK_SKEW, check_clock_skew

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

# Maximum bytes of a response. Usually, a response has 500 bytes, or 2,000 with the responder's certificate.
_LIMIT = 65_536
_TIMEOUT, _MAX_AGE = 5.0, 3_600.0
# Maximum length of a base64 request that is sent by GET (RFC 6960 A.1).
_GET_LIMIT = 255
# The size of a nonce in bytes (RFC 9654 2.1).
_NONCE_SIZE = 32
# Default maximum bytes of all records, and bytes of one record without the issuer's certificate in its key. So the
# statuses of 10,000 certificates are cached.
_CACHED, _RECORD = 20 * 1024 * 1024, 1_000
# Matches the numbers in a reason, such as the seconds since nextUpdate. Only they differ between similar reasons.
_NUMBERS = re.compile("[0-9]+")
_HEADERS = {"Accept": "application/ocsp-response", "Content-Type": "application/ocsp-request"}

# The key of a record: the URL, the issuer, the serial number, and the certificate of `signed_by`.
_Key = tuple[str, bytes, int, bytes]


class OCSP:
    """Looks up at OCSP responders whether a certificate is revoked, for a `TrustStore`.

    Each certificate of a path, except the root, needs the status good. If a certificate is revoked or unknown to its
    responder, the client is rejected. If the status cannot be looked up, the response is a 503.

    Arguments:
        responders: the URL of the responder for all issuers, or a mapping from an issuer to the URL of its responder.
            The issuer is a DN string, a `cryptography` certificate, a PEM file with one CA certificate, or `"*"` for
            all other issuers. A string that contains `=` is a DN; give a `Path` for a file with `=` in its name. A
            certificate or file matches one key, and a DN matches each CA with this name.
        signed_by: the certificate of the only responder that may sign, or its PEM file, which is read again when it
            changes. Default: the issuing CA, or a responder to which the issuing CA has delegated this by a certificate
            with the extended key usage OCSPSigning.
        max_age: maximum number of seconds for which a response is cached, 1 to 86,400. A response is never cached after
            its nextUpdate. A response without nextUpdate is never cached.
        timeout: maximum seconds of one exchange with a responder.
        leaf_only: check only the client's own certificate, not the intermediate CAs.
        soft_fail: accept a certificate if its responder cannot be reached or gives no usable response, or if no
            responder is configured for its issuer. So an attacker who blocks or changes the responses can use a revoked
            certificate, unless a cached response reports it. Each use is logged. A certificate that a response reports
            as revoked or unknown is always rejected.
        clock_skew: tolerance for the times in a response, in seconds, 0 to 300.
        nonce: `"optional"` sends a nonce and accepts a response without a nonce, `"required"` rejects such a response,
            and `"none"` sends no nonce. A response with another nonce is always rejected (RFC 9654).
        method: `"POST"`, or `"GET"`, so that HTTP caches can respond. With `"GET"`, set `nonce="none"`.
        hash_algorithm: the hash that identifies the issuer in requests, `"SHA-1"` or `"SHA-256"`. Security does not
            depend on it, and many responders support only SHA-1 (RFC 5019 2.1.1).
        responder_lists: lists that cover delegated responders' certificates without `id-pkix-ocsp-nocheck`. Without
            these lists, a response of such a responder is rejected (RFC 6960 4.2.2.2.1).
        tls: verifies https responders. Default: the CAs of the system.
        proxy: the URL of an HTTP proxy. The variables `HTTPS_PROXY` and `HTTP_PROXY` are ignored.
        allow_http: allow http. Responses are signed, and their period limits how long an attacker can replay them, so
            http is usual.

    Raises `ConfigurationError`. Needs the extra `http`.

    Example: `TrustStore(["clients-ca.pem"], revocation=OCSP("http://ocsp.ca.internal"))`
    """

    def __init__(
        self,
        responders: str | Mapping[str, str] | Mapping[Issuer, str],
        *,
        signed_by: str | PathLike[str] | x509.Certificate | None = None,
        max_age: float = _MAX_AGE,
        timeout: float = _TIMEOUT,
        leaf_only: bool = False,
        soft_fail: bool = False,
        clock_skew: float = CLOCK_SKEW,
        nonce: Literal["optional", "required", "none"] = "optional",
        method: Literal["POST", "GET"] = "POST",
        hash_algorithm: Literal["SHA-1", "SHA-256"] = "SHA-1",
        responder_lists: RevocationLists | None = None,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        allow_http: bool = True,
    ) -> None:
        require_extra("httpx2", "http", "OCSP")
        self._tls = tls or default_context()
        self._proxy = options.proxy_url("proxy", proxy)
        self._responders = Responders(responders, self._tls, self._proxy, allow_http=allow_http)
        self._max_age = options.seconds("max_age", max_age, 1, 86_400, _MAX_AGE)
        self._timeout = options.seconds("timeout", timeout, 0.05, 60, _TIMEOUT)
        self._leaf_only = options.boolean("leaf_only", leaf_only)
        self._soft_fail = options.boolean("soft_fail", soft_fail)
        self._nonce = options.one_of("nonce", nonce, ("optional", "required", "none"))
        self._uses_get = options.one_of("method", method, ("POST", "GET")) == "GET"
        algorithm = options.one_of("hash_algorithm", hash_algorithm, ("SHA-1", "SHA-256"))
        self._algorithm = hashes.SHA1() if algorithm == "SHA-1" else hashes.SHA256()  # noqa: S303 (only an identifier)
        if responder_lists is not None and not isinstance(responder_lists, RevocationLists):
            raise ConfigurationError(
                f"responder_lists={responder_lists!r}: expected an object such as RevocationLists(['clients-ca.crl'])"
            )
        self._responder_lists = responder_lists
        self._signer = None if signed_by is None else configured_signer(signed_by)
        skew = check_clock_skew("clock_skew", clock_skew)
        self._required = Requirements(
            check_responder=responder_lists is not None,
            require_nonce=nonce == "required",
            max_age=self._max_age,
            behind=skew,
            # `now` is the time when the request began, so thisUpdate may be up to `timeout` seconds after `now`.
            ahead=skew + self._timeout,
        )
        self._records: Cache[_Key, OCSPRecord] = Cache(_CACHED)
        self._lines = LineLimit(lines=1, seconds=30)  # otherwise, each certificate could cause a line
        self._lock = threading.Lock()  # the lock protects the records, and is not held during I/O

    is_reusable = True

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches that share the memory of a stack of layers."""
        return (self._records,)

    def statuses(self, requests: Sequence[StatusRequest], now: float) -> Flow[Reusable[Statuses]]:
        """Return the status of each certificate of a validated path: see `Revocation`."""
        found: list[Reusable[CertificateStatus]] = []
        for number, request in enumerate(requests):
            if number and self._leaf_only:
                found.append(Reusable(EXEMPT))
            else:
                found.append((yield from self._status(request, now)))
        statuses: Reusable[Statuses] = Reusable([each.value for each in found])
        return statuses.within(*found)

    def _status(self, request: StatusRequest, now: float) -> Flow[Reusable[CertificateStatus]]:
        """Return the status of one certificate, and the time for which it is valid."""
        responder = self._responders.find(request)
        if responder is None:
            reason = f"no OCSP responder is configured for the issuer of serial {request.serial:x}"
            return Reusable(CertificateStatus("not_covered", reason, soft_fail=self._soft_fail))
        signer = None if self._signer is None else self._signer.current(now)
        key = (responder.url, request.issuer_der, request.serial, b"" if signer is None else signer[1])
        required = self._required if signer is None else replace(self._required, signed_by=signer[0])
        record = self._record(key)
        look_up = _LookUp(responder, request, required, record)
        cached = yield from self._current(look_up, now)
        if isinstance(cached, CertificateStatus):
            return once(cached)
        found = Reusable(GOOD, cached.begins, cached.ends, (partial(self._is_current, key, record, cached),))
        if cached.response.responder is not None and self._responder_lists is not None:
            signer_status = yield from self._responder_lists.statuses([cached.response.responder], now)
            if signer_status.value[0].status != "good":
                reason = f"the responder's own certificate: {signer_status.value[0].reason}"
                return once(self._without_response(look_up, reason, record.retry_after(now)))
            found = found.within(signer_status)
        if cached.response.status is OCSPCertStatus.REVOKED:
            return once(CertificateStatus("revoked", _REVOKED.format(request.serial)))
        if cached.response.status is not OCSPCertStatus.GOOD:
            reason = f"the OCSP responder {responder.url} does not know serial {request.serial:x}"
            return once(CertificateStatus("unknown", reason))
        return found if cached.is_valid(now) else once(GOOD)

    def _without_response(self, look_up: "_LookUp", reason: str, retry_after: float) -> CertificateStatus:
        """Return the status if no valid response is known. A revocation stays known until a newer response."""
        known = look_up.record.known
        if known is not None and known.response.status is OCSPCertStatus.REVOKED:
            return CertificateStatus("revoked", _REVOKED.format(look_up.request.serial))
        wait = math.ceil(max(1.0, min(retry_after, LONGEST)))
        return CertificateStatus("unavailable", f"OCSP: {reason}", wait, self._soft_fail)

    def _record(self, key: _Key) -> OCSPRecord:
        record = self._records.get(key)
        if record is None:
            with self._lock:
                record = self._records.get(key)
                if record is None:
                    record = OCSPRecord()
                    self._records.put(key, record, _RECORD + len(key[1]))
        return record

    def _is_current(self, key: _Key, record: OCSPRecord, cached: CachedStatus, now: float) -> bool:
        """Return whether this status is the newest status, and does not need to be renewed."""
        return self._records.get(key) is record and record.known is cached and not record.needs_action(now)

    def _current(self, look_up: "_LookUp", now: float) -> Flow[CachedStatus | CertificateStatus]:
        """Return the cached status, the result of an exchange, or a status with the reason why it is not known."""
        record = look_up.record
        with self._lock:
            attempt = record.attempt
            # Without a valid status, this flow joins a broken exchange below, and repeats it there.
            if attempt is not None and attempt.is_complete and (record.valid(now) or not attempt.is_broken):
                self._finish(look_up, attempt, now)
            known = record.valid(now)
            starts = (known is None or now >= known.renewal_at) and record.is_due(now)
            if starts:
                record.begin(self._attempt(look_up, now))
            attempt = record.attempt
        if known is not None:
            if starts and attempt is not None:
                yield from self._begin(attempt)
            return known
        if attempt is None:
            return self._without_response(look_up, record.reason, record.retry_after(now))
        return (yield from self._joined(look_up, attempt, now))

    def _begin(self, attempt: OCSPAttempt) -> Flow[None]:
        """Start an exchange in the background. A later request applies the result."""
        try:
            yield from ask(Begin(attempt.fetch))
        except Exception as failure:  # noqa: BLE001 (as in `_joined`)
            attempt.fetch.end_unstarted(failure)

    def _joined(self, look_up: "_LookUp", attempt: OCSPAttempt, now: float) -> Flow[CachedStatus | CertificateStatus]:
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
        return self._without_response(look_up, attempt.result or str(failure), retry_after)

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

    def _attempt(self, look_up: "_LookUp", now: float) -> OCSPAttempt:
        nonce = None if self._nonce == "none" else secrets.token_bytes(_NONCE_SIZE)
        request = build_request(look_up.request, self._algorithm, nonce)
        url, content = look_up.responder.url, request.der
        encoded = b64encode(content)
        by_get = self._uses_get and len(encoded) <= _GET_LIMIT
        if by_get:
            url = f"{url.rstrip('/')}/{quote(encoded, safe='')}"
        body = None if by_get else content
        more: dict[str, Any] = {"connections": look_up.responder.connections, "proxy": self._proxy}
        fetch = Fetch(url, self._tls, self._timeout, _LIMIT, content=body, headers=_HEADERS, **more)
        return OCSPAttempt(request, fetch, now)

    def _finish(self, look_up: "_LookUp", attempt: OCSPAttempt, now: float) -> None:
        """Store the result of a complete attempt, and log a failure of the responder. The lock is held."""
        record, found = look_up.record, attempt.fetch.ended_with()
        if record.attempt is not attempt:
            return  # another flow has stored it
        if isinstance(found, FetchFailed) and found.retry_after is not None:
            record.postpone(attempt, str(found))
            return
        result: CachedStatus | str
        try:
            if not isinstance(found, Response):
                raise UnusableOCSPResponse(str(found))
            if found.status != 200:
                raise UnusableOCSPResponse(f"HTTP status {found.status}")
            # Use the time of its arrival, because a later request applies the result of an exchange in the background.
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
        """Report a cached status that ends soon and could not be renewed. Many statuses share one log line."""
        known = record.valid(now)
        if known is None or not known.is_near_end(now):
            return
        reason = f"a cached OCSP response ends in {known.ends - now:.0f} s, and {url} returned no newer response"
        report("ocsp_ending", reason)
        if self._lines.admit((url, "ending"), now) is not None:
            logger.warning("%s; after its end, the certificate has no known status", reason)

    def _report(self, url: str, reason: str, now: float) -> None:
        """Report a failure, and log it unless the same failure of this responder was logged a moment ago."""
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


_REVOKED = "serial {:x} is revoked (OCSP)"


@dataclass(frozen=True, slots=True)
class _LookUp:
    """The look-up of the status of one certificate."""

    responder: Responder
    request: StatusRequest
    required: Requirements
    record: OCSPRecord
