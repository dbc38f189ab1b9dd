"""`OCSP`: decides by OCSP responses whether certificates are revoked (RFC 6960).

Requests go to the operator's responders only. An address in a certificate is never used.
"""

import math
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.ocsp import OCSPCertStatus

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.effects.exchange import default_context
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError, require_extra
from mtls_middleware.retry import LONGEST
from mtls_middleware.reusable import Reusable, once
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.ocsp_client import LookUp, NoStatus, OCSPClient
from mtls_middleware.validation.ocsp_records import CachedStatus
from mtls_middleware.validation.ocsp_responders import Issuer, Responders, configured_signer
from mtls_middleware.validation.ocsp_response import Requirements
from mtls_middleware.validation.revocation import EXEMPT, GOOD, CertificateStatus, Statuses
from mtls_middleware.validation.revocation_lists import RevocationLists
from mtls_middleware.validity import CLOCK_SKEW, check_clock_skew

_TIMEOUT, _MAX_AGE = 5.0, 3_600.0
# Bytes of a nonce (RFC 9654 2.1).
_NONCE_SIZE = 32
_REVOKED = "serial {:x} is revoked (OCSP)"


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
        tls, proxy = tls or default_context(), options.proxy_url("proxy", proxy)
        self._responders = Responders(responders, tls, proxy, allow_http=allow_http, uses_get=method == "GET")
        max_age = options.seconds("max_age", max_age, 1, 86_400, _MAX_AGE)
        timeout = options.seconds("timeout", timeout, 0.05, 60, _TIMEOUT)
        self._leaf_only = options.boolean("leaf_only", leaf_only)
        self._soft_fail = options.boolean("soft_fail", soft_fail)
        options.one_of("nonce", nonce, ("optional", "required", "none"))
        options.one_of("method", method, ("POST", "GET"))
        algorithm = options.one_of("hash_algorithm", hash_algorithm, ("SHA-1", "SHA-256"))
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
            max_age=max_age,
            behind=skew,
            # The time of a request is that of its beginning, so a response may be `timeout` seconds younger.
            ahead=skew + timeout,
        )
        self._client = OCSPClient(
            tls=tls,
            proxy=proxy,
            timeout=timeout,
            max_age=max_age,
            nonce_size=0 if nonce == "none" else _NONCE_SIZE,
            uses_get=method == "GET",
            algorithm=hashes.SHA1() if algorithm == "SHA-1" else hashes.SHA256(),  # noqa: S303 (only an identifier)
        )

    is_reusable = True

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches that share the memory of a stack of layers."""
        return (self._client.records,)

    def statuses(self, requests: Sequence[StatusRequest], now: float) -> Flow[Reusable[Statuses]]:
        """Return the status of each certificate of a validated path: see `Revocation`."""
        checked = requests[:1] if self._leaf_only else requests
        look_ups = [self._look_up(request, now) for request in checked]
        responses = iter((yield from self._client.current([each for each in look_ups if each is not None], now)))
        found: list[Reusable[CertificateStatus]] = []
        for request, look_up in zip(checked, look_ups, strict=True):
            if look_up is None:
                found.append(Reusable(self._not_covered(request)))
            else:
                found.append((yield from self._status(look_up, next(responses), now)))
        exempt = [EXEMPT] * (len(requests) - len(checked))
        statuses: Reusable[Statuses] = Reusable([each.value for each in found] + exempt)
        return statuses.within(*found)

    def _look_up(self, request: StatusRequest, now: float) -> LookUp | None:
        """Return the look-up for one certificate, or `None` if no responder is configured for its issuer."""
        responder = self._responders.find(request)
        if responder is None:
            return None
        if self._signer is None:
            return self._client.look_up(responder, request, self._required)
        certificate, der = self._signer.current(now)
        return self._client.look_up(responder, request, replace(self._required, signed_by=certificate), der)

    def _status(
        self, look_up: LookUp, response: CachedStatus | NoStatus, now: float
    ) -> Flow[Reusable[CertificateStatus]]:
        """Return the status of one certificate, and the time for which it is valid."""
        if isinstance(response, NoStatus):
            return once(self._without_response(look_up, response))
        found = self._client.reusable(look_up, response, GOOD)
        if response.response.responder is not None and self._responder_lists is not None:
            signer_status = yield from self._responder_lists.statuses([response.response.responder], now)
            if signer_status.value[0].status != "good":
                reason = f"the responder's own certificate: {signer_status.value[0].reason}"
                return once(self._without_response(look_up, NoStatus(reason, look_up.record.retry_after(now))))
            found = found.within(signer_status)
        serial = look_up.request.serial
        if response.response.status is OCSPCertStatus.REVOKED:
            return once(CertificateStatus("revoked", _REVOKED.format(serial)))
        if response.response.status is not OCSPCertStatus.GOOD:
            reason = f"the OCSP responder {look_up.responder.url} does not know serial {serial:x}"
            return once(CertificateStatus("unknown", reason))
        return found if response.is_valid(now) else once(GOOD)

    def _without_response(self, look_up: LookUp, found: NoStatus) -> CertificateStatus:
        """Return the status if there is no valid response. A revocation stays known until a newer response."""
        known = look_up.record.known
        if known is not None and known.response.status is OCSPCertStatus.REVOKED:
            return CertificateStatus("revoked", _REVOKED.format(look_up.request.serial))
        wait = math.ceil(max(1.0, min(found.retry_after, LONGEST)))
        return CertificateStatus("unavailable", f"OCSP: {found.reason}", wait, self._soft_fail)

    def _not_covered(self, request: StatusRequest) -> CertificateStatus:
        reason = f"no OCSP responder is configured for the issuer of serial {request.serial:x}"
        return CertificateStatus("not_covered", reason, soft_fail=self._soft_fail)
