"""Whether a time is within a validity period (RFC 5280 4.1.2.5), and what the log says if not. Pure: no clock."""

from datetime import UTC, datetime
from typing import Any, Literal

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused

# When the period is checked: on every request, or by the server or proxy alone when the connection begins.
Validity = Literal["each_request", "handshake"]

# A minute, as Kerberos realms and most OAuth libraries allow; machines that use NTP differ by less.
CLOCK_SKEW = 60
# Machines whose clocks differ by more than five minutes have a broken clock.
MOST_CLOCK_SKEW = 300


def check_clock_skew(name: str, given: float) -> float:
    """The tolerance in seconds. Raises `ConfigurationError`."""
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= MOST_CLOCK_SKEW:
        raise ConfigurationError(f"{name}={given!r}: expected seconds from 0 to {MOST_CLOCK_SKEW}, for example 60")
    return float(given)


def check_validity(given: Validity) -> Validity:
    """Raises `ConfigurationError` for anything but the two words."""
    if not isinstance(given, str) or given not in ("each_request", "handshake"):
        raise ConfigurationError(f"validity={given!r}: expected 'each_request' (the default) or 'handshake'")
    return given


def with_clock_skew(store: Any, clock_skew: float) -> Any:
    """The trust store with this tolerance, if it has one of its own: `TrustStore` and `SpiffeTrust` do."""
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
    """How far outside of the period this time is; then what was found and what was expected."""
    begins, ends = period
    distance = f"it ended {now - ends:.0f} s ago" if now > ends else f"it begins in {begins - now:.0f} s"
    found = f"found: valid from {_written(begins)} to {_written(ends)}"
    return distance, f"{found}; expected: valid at {_written(now)}, with clock_skew={clock_skew:g} s"


def _written(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f} s since the epoch"
