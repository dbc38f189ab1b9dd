"""`check_address`: which URLs of the configuration, of discovery and of registered clients the library may fetch."""

import ipaddress
import re
from urllib.parse import urlsplit

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError

# Maximum number of characters in a URL. Some URLs come from OAuth clients, for example `jwks_uri`.
_MAX_LENGTH = 2_048
# Matches the host and the port of a URL. The host is a name or an IP address, without user name, zone id and
# percent-encoding.
_HOST_AND_PORT = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")


def check_address(
    what: str, uri: str, *, allow_http: bool, example: str = "https://as.example/jwks", is_signed: bool = False
) -> None:
    """Check that the library may fetch a URL: https, or http to a loopback address if `allow_http` is true.

    `what`: the name of the argument that contains the URL, for the message. `is_signed`: `allow_http` permits http to
    any host, because the response has a signature. Raises `ConfigurationError`.
    """
    options.boolean("allow_http", allow_http)
    if isinstance(uri, str) and len(uri) > _MAX_LENGTH:
        raise ConfigurationError(
            f"{what} of {len(uri)} characters: expected at most {_MAX_LENGTH}, for example {example!r}"
        )
    try:
        # A URL contains only printable ASCII characters without spaces (RFC 3986 2). A line break could forge a log
        # line. Check this before `urlsplit`, which takes quadratic time to normalise non-ASCII characters.
        if not (uri.isascii() and uri.isprintable()) or " " in uri:
            raise ValueError
        parts = urlsplit(uri)
        host, _ = parts.hostname, parts.port
        # Whether `urlsplit` accepts "[::1].a.test" depends on the Python version (CVE-2025-0938).
        if parts.netloc.startswith("["):
            ipaddress.IPv6Address(parts.netloc.partition("]")[0][1:])
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{what}={uri!r} is not a URL: expected a URL, for example {example!r}") from error
    if not host or not _HOST_AND_PORT.fullmatch(parts.netloc) or "#" in uri:
        raise ConfigurationError(
            f"{what}={uri!r}: expected a URL without a user name or a fragment, for example {example!r}"
        )
    if parts.scheme == "https" or (parts.scheme == "http" and allow_http and (is_signed or _is_loopback(host))):
        return
    raise ConfigurationError(
        f"{what}={uri!r}: expected https (allow_http=True allows http to loopback addresses, for tests)"
    )


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    # Whether "::ffff:127.0.0.1" is a loopback address depends on the Python version.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
