"""Parses the option `--at`: the time for which a command decides."""

from datetime import UTC, datetime

from mtls_middleware.errors import ConfigurationError


def seconds_of(text: str) -> float:
    """Return a date or time of ISO 8601 in seconds since the epoch. Without an offset, it is in UTC.

    Raises `ConfigurationError`. Example: `seconds_of("2027-01-31")`
    """
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"--at {text}: expected a date or a time of ISO 8601, for example 2027-01-31"
        ) from None
