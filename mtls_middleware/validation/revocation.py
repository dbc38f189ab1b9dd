"""`Revocation`: the protocol of revocation sources, and `RevocationSources`, which combines several of them.

No I/O except log records, and no clock.
"""

import logging
from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args

from cryptography import x509

from mtls_middleware import options
from mtls_middleware.cache import Cache, caches_of
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.reusable import Reusable, once, opts_in
from mtls_middleware.validation.crl import StatusRequest

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

# Minimum number of seconds between two warnings about certificates that are accepted because of `soft_fail`. The uses
# between two warnings are logged with the level INFO.
_WARNING_INTERVAL = 30.0
_EXAMPLE = "RevocationLists(['clients-ca.crl'])"

Status = Literal["good", "revoked", "unknown", "not_covered", "unavailable", "exempt"]


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """The status of one certificate in one revocation source.

    Attributes:
        status: `"good"`, `"revoked"`, or one of these: `"unknown"`: the source is responsible for the certificate, but
            does not know it. `"not_covered"`: the source has no current data about the certificate. `"unavailable"`:
            the source cannot be reached now. `"exempt"`: the source does not check this certificate (`leaf_only`).
        reason: the reason for the log of the operator; empty for `"good"` and `"exempt"`.
        retry_after: the number of seconds until the source can be reached, for `"unavailable"`.
        soft_fail: whether the source accepts a certificate that is `"not_covered"` or `"unavailable"`.

    Raises `ConfigurationError`, for example for the status `"Revoked"`.

    Example: `CertificateStatus("revoked", "serial 2a is revoked")`
    """

    status: Status
    reason: str = ""
    retry_after: int = 1
    soft_fail: bool = False

    def __post_init__(self) -> None:
        options.one_of("status", self.status, get_args(Status))
        options.boolean("soft_fail", self.soft_fail)


GOOD, EXEMPT = CertificateStatus("good"), CertificateStatus("exempt")
Statuses = Sequence[CertificateStatus]


class Revocation(Protocol):
    """A source of revocation statuses. `RevocationLists` and `OCSP` implement this protocol.

    If the class itself declares `is_reusable = True`, results are cached as their `begins`, `ends` and `checks` permit.

    Example:
        >>> from mtls_middleware.reusable import once
        >>> class RevokedSerials:
        ...     def __init__(self, serials: set[int]) -> None:
        ...         self._serials = serials
        ...
        ...     def statuses(self, requests: Sequence[StatusRequest], now: float) -> Reusable[Statuses]:
        ...         blocked = [each.serial in self._serials for each in requests]
        ...         return once([CertificateStatus("revoked" if each else "exempt") for each in blocked])
    """

    def statuses(self, requests: Sequence[StatusRequest], now: float) -> Reusable[Statuses] | Flow[Reusable[Statuses]]:
        """Return one status for each request, or a flow that returns the statuses.

        `requests`: one request for each certificate of a validated path except the root. The first request is for the
        leaf. `now`: seconds since the epoch. Raises nothing that the source can express as a status.
        """


class RevocationSources:
    """Checks the certificates of a path by several revocation sources (RFC 5280 6.3, RFC 6960).

    - A certificate that any source reports as revoked is revoked, even if another source reports it as good.
    - A certificate with the status `"unknown"` in any source is rejected, too.
    - Otherwise, the certificate is accepted if one source reports it as good, or if no source checks it.
    - Otherwise, it is accepted if every source that checks it has `soft_fail`. Each use is logged.

    Arguments:
        sources: one source, or a list of sources. All of them are evaluated, even if one is unavailable.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `RevocationSources([OCSP("http://ocsp.ca.internal"), RevocationLists(["clients-ca.crl"])])`
    """

    def __init__(self, sources: Revocation | Collection[Revocation]) -> None:
        given: tuple[Any, ...] = tuple(sources) if isinstance(sources, (list, tuple)) else (sources,)
        if not given:
            raise ConfigurationError(f"revocation={sources!r}: expected at least one source, for example {_EXAMPLE}")
        self._sources: tuple[Revocation, ...] = tuple(
            options.object_with_method("revocation", each, "statuses", _EXAMPLE) for each in given
        )
        self._warned_at = float("-inf")

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches of the sources, which share the memory of a stack of layers."""
        return tuple(cache for each in self._sources for cache in caches_of(each))

    def check(self, requests: Sequence[StatusRequest], now: float) -> Flow[Reusable[None]]:
        """Check that no certificate of a validated path is revoked, and return the time for which this result is valid.

        `requests`: the `status_requests` of the path. `now`: seconds since the epoch.

        Raises `Refused` with the reason if a certificate is revoked or its status is unknown. Raises `Unavailable`
        instead of `Refused` if a source that may know the status cannot be reached.
        """
        found: list[Reusable[Statuses]] = []
        for source in self._sources:
            result = source.statuses(requests, now)
            if isinstance(result, Generator):
                result = yield from result
            found.append(result if opts_in(source) else once(result.value))
        # `strict`: a source that returns too few statuses must not accept a certificate.
        by_certificate = [statuses for _, *statuses in zip(requests, *(each.value for each in found), strict=True)]
        _reject(by_certificate)
        soft = [reason for statuses in by_certificate for reason in _soft_failures(statuses)]
        if soft:
            self._log(soft, now)
            return once(None)  # not reused, so that each use of `soft_fail` is logged
        return Reusable(None).within(*found)

    def _log(self, reasons: Sequence[str], now: float) -> None:
        is_due = abs(now - self._warned_at) >= _WARNING_INTERVAL
        if is_due:
            self._warned_at = now
        level = logging.WARNING if is_due else logging.INFO
        logger.log(level, "accepted because of soft_fail: %s", "; ".join(reasons))


def status_requests(path: Sequence[x509.Certificate]) -> tuple[StatusRequest, ...]:
    """Return the status requests for a path from leaf to root: one for each certificate except the root."""
    return tuple(StatusRequest(certificate, issuer) for certificate, issuer in pairwise(path))


def _reject(by_certificate: Sequence[Statuses]) -> None:
    """Raise `Refused` or `Unavailable` unless each certificate is accepted. A revocation takes precedence."""
    for status in ("revoked", "unknown"):
        reasons = [each.reason for statuses in by_certificate for each in statuses if each.status == status]
        if reasons:
            raise Refused("client_certificate_refused", *dict.fromkeys(reasons))
    undetermined = [failures for statuses in by_certificate if (failures := _failures(statuses))]
    for failures in undetermined:
        if not any(each.status == "unavailable" for each in failures):
            raise Refused("client_certificate_refused", *dict.fromkeys(each.reason for each in failures))
    if undetermined:
        unavailable = [each for failures in undetermined for each in failures if each.status == "unavailable"]
        seconds = max(each.retry_after for each in unavailable)
        raise Unavailable(*dict.fromkeys(each.reason for each in unavailable), retry_after=seconds)


def _failures(statuses: Statuses) -> Statuses:
    """Return the statuses that are the reasons to reject a certificate.

    The result is empty if the certificate is accepted.
    """
    checked = [each for each in statuses if each.status != "exempt"]
    if any(each.status == "good" for each in checked):
        return ()
    return [each for each in checked if not each.soft_fail]


def _soft_failures(statuses: Statuses) -> Sequence[str]:
    """Return the reasons why the status of an accepted certificate is not known.

    The result is empty if the status is good.
    """
    if any(each.status == "good" for each in statuses):
        return ()
    return [each.reason for each in statuses if each.status != "exempt"]
