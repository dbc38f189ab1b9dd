"""Parses the option `--at`, the time at which a command evaluates the request or certificate."""

from datetime import UTC, datetime

from mtls_middleware.errors import ConfigurationError


def seconds_of(text: str) -> float:
    """Convert an ISO 8601 date or time to seconds since the epoch. A time without an offset is in UTC.

    Raises `ConfigurationError`. Example: `seconds_of("2027-01-31")`
    """
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"--at {text}: expected a date or a time of ISO 8601, for example 2027-01-31"
        ) from None
