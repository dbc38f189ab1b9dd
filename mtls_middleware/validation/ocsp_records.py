"""`OCSPRecord`: what a process knows about the status of one certificate, and the attempts to renew it.

Pure: no I/O, no clock.
"""

from dataclasses import dataclass

from cryptography.x509.ocsp import OCSPCertStatus

from mtls_middleware.effects.exchange import Fetch
from mtls_middleware.retry import LONGEST, retry_delay
from mtls_middleware.validation.ocsp_response import OCSPRequest, OCSPStatus

# Part of the period after which a response is renewed in the background, so that requests do not wait for the renewal.
_RENEWAL = 0.8
# Maximum number of seconds for which the status unknown is cached, so that a new certificate soon has a status.
_UNKNOWN = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class CachedStatus:
    """A verified status, and the times from which and before which it is used, in seconds since the epoch."""

    status: OCSPStatus
    begins: float
    ends: float
    renewal_at: float

    @classmethod
    def of(cls, status: OCSPStatus, requested_at: float, max_age: float) -> "CachedStatus":
        """Return a status that is used until its nextUpdate, and for at most `max_age` seconds."""
        longest = min(max_age, _UNKNOWN) if status.status is OCSPCertStatus.UNKNOWN else max_age
        ends = min(status.next_update, requested_at + longest)
        # A flow may have an older time than the flow that made the request. If the difference is larger, the clock was
        # set back, and the status is looked up again.
        return cls(status, requested_at - LONGEST, ends, requested_at + _RENEWAL * (ends - requested_at))

    def is_valid(self, now: float) -> bool:
        """Return whether the status may be used now."""
        return self.begins <= now < self.ends


@dataclass(slots=True, eq=False)
class Attempt:
    """One exchange with a responder. `result`: the status, or the reason for the failure; `None` if not complete."""

    request: OCSPRequest
    fetch: Fetch
    began_at: float
    result: CachedStatus | str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the exchange has ended, so that its result can be applied."""
        return self.fetch.outcome.done()


class OCSPRecord:
    """The last known status of one certificate. The owner of the record protects it by a lock."""

    __slots__ = ("attempt", "attempted_at", "failures", "known", "reason")

    def __init__(self) -> None:
        self.known: CachedStatus | None = None
        self.attempt: Attempt | None = None  # the attempt whose result is not applied yet
        self.attempted_at: float = float("-inf")
        self.failures: int = 0  # the number of failed attempts since the last successful attempt
        self.reason: str = ""  # why the last attempt failed

    def is_due(self, now: float) -> bool:
        """Return whether the next attempt may begin. If the clock was set back, it may begin at once."""
        if self.attempt is not None and self.attempt.is_complete:
            return False  # its result must be applied first
        pause = self._pause()
        return pause <= 0 or not -LONGEST < now - self.attempted_at < pause

    def retry_after(self, now: float) -> float:
        """Return the number of seconds until the next attempt."""
        return self._pause() - (now - self.attempted_at)

    def needs_action(self, now: float) -> bool:
        """Return whether a request must apply a result, or begin a renewal."""
        if self.attempt is not None and self.attempt.is_complete:
            return True
        return (self.known is None or now >= self.known.renewal_at) and self.is_due(now)

    def begin(self, attempt: Attempt) -> None:
        """Store an attempt that begins now."""
        self.attempt, self.attempted_at = attempt, attempt.began_at

    def finish(self, attempt: Attempt, result: CachedStatus | str) -> bool:
        """Store the result of an attempt. Returns `False` if another flow has stored it already."""
        if self.attempt is not attempt:
            return False
        self.attempt = None
        if isinstance(result, CachedStatus) and self._is_replay(result):
            result = "the response is older than the response that reports the certificate as revoked"
        attempt.result = result
        if isinstance(result, str):
            self.failures += 1
            self.reason = result
        else:
            self.failures, self.known = 0, result
        return True

    def _is_replay(self, result: CachedStatus) -> bool:
        """Return whether a response would undo a newer revocation: an attacker can replay an old response."""
        known = self.known
        return (
            known is not None
            and known.status.status is OCSPCertStatus.REVOKED
            and result.status.status is not OCSPCertStatus.REVOKED
            and result.status.this_update <= known.status.this_update
        )

    def _pause(self) -> float:
        """Return the minimum number of seconds between the beginning of the last attempt and of the next attempt.

        An attempt without a result after a while has lost its thread, for example by a fork.
        """
        if self.attempt is not None:
            return LONGEST + self.attempt.fetch.timeout
        return retry_delay(self.failures) if self.failures else 0.0
