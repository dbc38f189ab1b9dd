"""`OCSPRecord`: the last known status of one certificate, and the attempts to renew it."""

from dataclasses import dataclass, field

from cryptography.x509.ocsp import OCSPCertStatus

from mtls_middleware.effects.exchange import Fetch, FetchFailed, Stopwatch
from mtls_middleware.retry import LONGEST, retry_delay
from mtls_middleware.validation.ocsp_response import OCSPRequest, OCSPStatus

# Fraction of the period after which a response is renewed in the background, so that requests do not wait for the
# renewal.
_RENEWAL = 0.8
# Remaining fraction of the period from which a status expires soon. The renewal has then failed several times.
_NEAR_END = 0.1
# Maximum number of seconds for which the status "unknown" is cached. The responder may learn of a new certificate soon.
_UNKNOWN = 30.0
# Seconds until the next attempt if an exchange was not made, because its responder stalls or too many requests wait.
# The circuit breaker has longer pauses, but ends them as soon as the responder responds to another request.
_POSTPONED = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class CachedStatus:
    """A verified response, and the period in which it is used, in seconds since the epoch."""

    response: OCSPStatus
    begins: float
    ends: float
    renewal_at: float

    @classmethod
    def of(cls, response: OCSPStatus, requested_at: float, max_age: float) -> "CachedStatus":
        """Return a status that is used until its nextUpdate, and for at most `max_age` seconds."""
        longest = min(max_age, _UNKNOWN) if response.status is OCSPCertStatus.UNKNOWN else max_age
        ends = min(response.next_update, requested_at + longest)
        # A flow may have an older time than the flow that made the request. If the difference is larger, the clock was
        # set back, and the status is looked up again.
        return cls(response, requested_at - LONGEST, ends, requested_at + _RENEWAL * (ends - requested_at))

    def is_valid(self, now: float) -> bool:
        """Return whether the status may be used now."""
        return self.begins <= now < self.ends

    def is_near_end(self, now: float) -> bool:
        """Return whether less than a tenth of the period in which the status is used remains."""
        return self.ends - now < _NEAR_END * (self.ends - self.begins - LONGEST)


@dataclass(slots=True, eq=False)
class OCSPAttempt:
    """One exchange with a responder. `result`: the status, or the reason for the failure; `None` if not complete."""

    request: OCSPRequest
    fetch: Fetch
    began_at: float
    result: CachedStatus | str | None = None
    _stopwatch: Stopwatch = field(init=False)

    def __post_init__(self) -> None:
        self._stopwatch = Stopwatch(self.fetch)

    def repeat(self, fetch: Fetch, now: float) -> None:
        """Replace a broken exchange by `fetch`, which begins now."""
        self.fetch, self.began_at, self._stopwatch = fetch, now, Stopwatch(fetch)

    @property
    def ended_at(self) -> float:
        """The time when the exchange ended, by the same clock as `began_at`."""
        return self.began_at + self._stopwatch.seconds

    @property
    def is_complete(self) -> bool:
        """Whether the exchange has ended, so that its result can be applied."""
        return self.fetch.outcome.done()

    @property
    def is_broken(self) -> bool:
        """Whether the responder has closed the connection without a response, so that a new exchange may succeed."""
        failure = self.fetch.outcome.exception() if self.is_complete else None
        return isinstance(failure, FetchFailed) and failure.again


class OCSPRecord:
    """The last known status of one certificate. The owner of the record protects it by a lock."""

    __slots__ = ("_next_at", "attempt", "attempted_at", "failures", "known", "reason")

    def __init__(self) -> None:
        self.known: CachedStatus | None = None
        self.attempt: OCSPAttempt | None = None  # the last attempt, until its result is applied
        self.attempted_at: float = float("-inf")
        self.failures: int = 0  # the number of failed attempts since the last successful attempt
        self.reason: str = ""  # why the last attempt failed
        self._next_at: float = float("-inf")  # the time of the next attempt, if no attempt is in progress

    def valid(self, now: float) -> CachedStatus | None:
        """Return the status if it may be used now."""
        return self.known if self.known is not None and self.known.is_valid(now) else None

    def is_due(self, now: float) -> bool:
        """Return whether the next attempt may begin. If the clock was set back, it may begin at once."""
        due = self._next_at
        if self.attempt is not None:
            if self.attempt.is_complete:
                return False  # no new attempt before the result of the last attempt is applied
            # If an attempt has no result after this time, its thread has ended, for example by a fork.
            due = self.attempted_at + LONGEST + self.attempt.fetch.timeout
        return now >= due or now <= self.attempted_at - LONGEST

    def retry_after(self, now: float) -> float:
        """Return the number of seconds until the next attempt, or 0 if an attempt is in progress."""
        return 0.0 if self.attempt is not None else self._next_at - now

    def needs_action(self, now: float) -> bool:
        """Return whether a request must apply a result, or begin a renewal."""
        if self.attempt is not None and self.attempt.is_complete:
            return True
        return (self.known is None or now >= self.known.renewal_at) and self.is_due(now)

    def begin(self, attempt: OCSPAttempt) -> None:
        """Store an attempt that begins now."""
        self.attempt, self.attempted_at = attempt, attempt.began_at

    def repeat(self, attempt: OCSPAttempt, fetch: Fetch, now: float) -> None:
        """Replace the broken exchange of the attempt in progress by `fetch`."""
        attempt.repeat(fetch, now)
        if self.attempt is attempt:
            self.attempted_at = now

    def finish(self, attempt: OCSPAttempt, result: CachedStatus | str) -> None:
        """Store the result of the attempt in progress."""
        self.attempt = None
        if isinstance(result, CachedStatus) and self._is_replay(result):
            result = "the response is older than the response that reports the certificate as revoked"
        attempt.result = result
        if isinstance(result, str):
            self.failures += 1
            self.reason = result
            self._next_at = attempt.ended_at + retry_delay(self.failures)
        else:
            self.failures, self.known, self._next_at = 0, result, float("-inf")

    def postpone(self, attempt: OCSPAttempt, reason: str) -> None:
        """End the attempt in progress, because its HTTP exchange never took place. `reason`: why it did not.

        The attempt does not count as a failure of the responder.
        """
        self.attempt = None
        attempt.result = self.reason = reason
        self._next_at = attempt.ended_at + _POSTPONED

    def _is_replay(self, result: CachedStatus) -> bool:
        """Return whether a response would undo a newer revocation, because an attacker can replay an old response."""
        known = self.known
        return (
            known is not None
            and known.response.status is OCSPCertStatus.REVOKED
            and result.response.status is not OCSPCertStatus.REVOKED
            and result.response.this_update <= known.response.this_update
        )
