"""Checks whether a time is within a validity period (RFC 5280 4.1.2.5). Pure: no clock."""

from datetime import UTC, datetime
from typing import Any, Literal

from mtls_middleware import options
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused

# The time of the check of the validity period: on every request, or only in the TLS handshake, by the server or the
# proxy.
Validity = Literal["each_request", "handshake"]

# Default tolerance in seconds, as in many OAuth libraries. The clocks of machines that use NTP differ by less.
CLOCK_SKEW = 60
# The advice for the operator about a certificate outside of its validity period.
RENEW = (
    "renew the certificate, and let the client open a new connection with it; if the period is right, correct the "
    "clock of this machine"
)

# Maximum tolerance in seconds. A clock that is wrong by more than five minutes must be corrected.
MAX_CLOCK_SKEW = 300


def check_clock_skew(name: str, seconds: float) -> float:
    """Check that `seconds` is from 0 to 300, and return it. Raises `ConfigurationError` with `name` in its message."""
    return options.seconds(name, seconds, 0, MAX_CLOCK_SKEW, CLOCK_SKEW)


def check_validity(validity: Validity) -> Validity:
    """Check that `validity` is `"each_request"` or `"handshake"`, and return it. Raises `ConfigurationError`."""
    return options.one_of("validity", validity, ("each_request", "handshake"))


def with_clock_skew(store: Any, clock_skew: float) -> Any:
    """Return a copy of the trust store with this tolerance in seconds.

    Returns the trust store itself if it has no method `with_clock_skew`. `TrustStore` and `SpiffeTrust` have this
    method.
    """
    adapt = getattr(store, "with_clock_skew", None)
    return adapt(clock_skew) if callable(adapt) else store


def require_valid(certificate: ClientCertificate, now: float, clock_skew: float) -> None:
    """Raises `Refused` if the certificate or its validated path is outside its validity period at `now`.

    `now`: seconds since the epoch. `clock_skew`: tolerance in seconds.
    """
    period = certificate.period
    if period[0] - clock_skew <= now <= period[1] + clock_skew:
        return
    what = "its validity period" if certificate.path_period is None else "the validity period of its validated path"
    raise Refused(
        "client_certificate_refused",
        f"{certificate.thumbprint} is outside of {what}",
        *outside(period, now, clock_skew),
        new_connection=True,
        advice=RENEW,
    )


def outside(period: tuple[float, float], now: float, clock_skew: float) -> tuple[str, str]:
    """Return two log messages. The first says how long ago `period` ended, or when it begins.

    The second contains the period.
    """
    begins, ends = period
    distance = f"it ended {now - ends:.0f} s ago" if now > ends else f"it begins in {begins - now:.0f} s"
    found = f"found: valid from {_timestamp(begins)} to {_timestamp(ends)}"
    return distance, f"{found}; expected: valid at {_timestamp(now)}, with clock_skew={clock_skew:g} s"


def _timestamp(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s since the epoch"
