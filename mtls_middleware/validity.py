"""Checks whether a time is within a validity period (RFC 5280 4.1.2.5). Pure: no clock."""

from datetime import UTC, datetime
from typing import Any, Literal

from mtls_middleware import options
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused

# When the period is checked: on every request, or only by the server or proxy, in the TLS handshake.
Validity = Literal["each_request", "handshake"]

# Default tolerance in seconds, as in many OAuth libraries. The clocks of machines that use NTP differ by less.
CLOCK_SKEW = 60
# Largest tolerance in seconds. A clock that is wrong by more than five minutes needs repair.
MAX_CLOCK_SKEW = 300


def check_clock_skew(name: str, seconds: float) -> float:
    """The tolerance in seconds. Raises `ConfigurationError`."""
    return options.seconds(name, seconds, 0, MAX_CLOCK_SKEW, CLOCK_SKEW)


def check_validity(validity: Validity) -> Validity:
    """Raises `ConfigurationError` unless the argument is one of the two strings."""
    return options.one_of("validity", validity, ("each_request", "handshake"))


def with_clock_skew(store: Any, clock_skew: float) -> Any:
    """A copy of the trust store with this tolerance, if it supports this: `TrustStore` and `SpiffeTrust` do."""
    adapt = getattr(store, "with_clock_skew", None)
    return adapt(clock_skew) if callable(adapt) else store


def require_valid(certificate: ClientCertificate, now: float, clock_skew: float) -> None:
    """Raises `Refused` if the certificate, or the path that a trust store validated, is outside its validity period."""
    period = certificate.period
    if period[0] - clock_skew <= now <= period[1] + clock_skew:
        return
    what = "its validity period" if certificate.path_period is None else "the validity period of its validated path"
    raise Refused(
        "client_certificate_refused",
        f"{certificate.thumbprint} is outside of {what}",
        *outside(period, now, clock_skew),
        new_connection=True,
    )


def outside(period: tuple[float, float], now: float, clock_skew: float) -> tuple[str, str]:
    """Two messages for the log: by how much the time is outside the period, and the period found."""
    begins, ends = period
    distance = f"it ended {now - ends:.0f} s ago" if now > ends else f"it begins in {begins - now:.0f} s"
    found = f"found: valid from {_timestamp(begins)} to {_timestamp(ends)}"
    return distance, f"{found}; expected: valid at {_timestamp(now)}, with clock_skew={clock_skew:g} s"


def _timestamp(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s since the epoch"
