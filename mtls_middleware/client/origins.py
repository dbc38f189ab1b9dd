"""`Origins`: the origins to which a client sends its tokens. Pure: no I/O, no clock."""

from collections.abc import Collection

import httpx2

from mtls_middleware import options
from mtls_middleware.client.errors import CredentialsNotSent
from mtls_middleware.effects.address import check_address
from mtls_middleware.errors import ConfigurationError

_EXAMPLE = "https://api.example"


class Origins:
    """The origins to which tokens may be sent, compared by scheme, host and port (RFC 6454 5).

    `given`: the argument `origins`. `None`: all https URLs. Raises `ConfigurationError`.
    """

    def __init__(self, given: Collection[str] | None) -> None:
        self._allowed: frozenset[tuple[bytes, int | None]] | None = None
        if given is not None:
            self._allowed = frozenset(_origin(each) for each in options.strings("origins", given, f'"{_EXAMPLE}"'))
            if not self._allowed:
                raise ConfigurationError(
                    f"origins={given!r}: expected at least one origin, for example [{_EXAMPLE!r}], or None"
                )

    def check(self, url: httpx2.URL) -> None:
        """Raise `CredentialsNotSent` if no token may be sent to `url`."""
        if url.scheme != "https":
            raise CredentialsNotSent(f"a token is sent only over https, and not to a URL of the scheme {url.scheme!a}")
        if self._allowed is not None and _host_and_port(url) not in self._allowed:
            found = "https://" + url.netloc.decode("ascii")  # without user and password
            raise CredentialsNotSent(
                f"{found!a} is not one of the origins= of CertificateBoundAuth: add it there, or send the request with "
                "auth=None, which sends no token"
            )


def _origin(given: str) -> tuple[bytes, int | None]:
    check_address("origins", given, allow_http=False, example=_EXAMPLE)
    try:
        url = httpx2.URL(given)
    except httpx2.InvalidURL as error:
        raise ConfigurationError(f"origins={given!r} is not a URL ({error}), for example {_EXAMPLE!r}") from None
    if url.raw_path != b"/":
        raise ConfigurationError(f"origins={given!r}: expected a URL without path and query, for example {_EXAMPLE!r}")
    return _host_and_port(url)


def _host_and_port(url: httpx2.URL) -> tuple[bytes, int | None]:
    """Return the host and port to which httpx2 connects. The host is in punycode; the port 443 is `None`."""
    return url.raw_host.lower(), url.port  # httpx2 changes names to lower case, but not IPv6 addresses
