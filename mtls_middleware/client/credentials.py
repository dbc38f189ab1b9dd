"""`RequestCredentials`: the certificate and the token with which a request is sent. The transport reads them."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from mtls_middleware.certificate_files import CertificateKeyPair
from mtls_middleware.client.errors import CredentialsNotSent

# The key of a request's extensions with its `RequestCredentials`, and of a response's extensions with its certificate.
EXTENSION = "mtls_middleware"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Credentials:
    """The certificate with which a request must be sent, its token, and the URL for which both are meant."""

    pair: CertificateKeyPair
    token: str
    url: httpx2.URL


class RequestCredentials:
    """The credentials of a request while it is sent. They are removed after the response or an exception.

    Several threads and tasks may send the same request object at once. Then there are several credentials.
    """

    __slots__ = ("_in_use",)

    def __init__(self) -> None:
        self._in_use: list[Credentials] = []  # `append` and `remove` are atomic

    def add(self, credentials: Credentials) -> None:
        """Let the transport send the request with `credentials`. Call `remove` later."""
        self._in_use.append(credentials)

    def remove(self, credentials: Credentials) -> None:
        """Forget `credentials`."""
        self._in_use.remove(credentials)

    def __reduce__(self) -> tuple[type["RequestCredentials"], tuple[()]]:
        """Support `copy` and `pickle`, for example of the request's extensions. The copy has no credentials."""
        return RequestCredentials, ()

    def meant_for(self, url: httpx2.URL) -> Credentials | None:
        """Return the newest credentials that are meant for `url`, or `None`."""
        for credentials in reversed(tuple(self._in_use)):
            if credentials.url is url or credentials.url == url:  # a comparison of two objects takes 4 microseconds
                return credentials
        return None


def request_credentials(request: httpx2.Request) -> RequestCredentials:
    """Return the object with the credentials of `request` while it is sent. All threads get the same object."""
    found = request.extensions.setdefault(EXTENSION, RequestCredentials())
    if not isinstance(found, RequestCredentials):
        raise CredentialsNotSent(f"the extension {EXTENSION!r} of the request is reserved for this library: remove it")
    return found


def credentials_of(request: httpx2.Request) -> Credentials | None:
    """Return the credentials of `request`, or `None`. Raises `CredentialsNotSent` if they are not meant for its URL."""
    found = request.extensions.get(EXTENSION)
    if found is None:
        return None
    credentials = found.meant_for(request.url) if isinstance(found, RequestCredentials) else None
    if credentials is None:
        raise CredentialsNotSent(
            "the request is a redirect, which must not carry the token, or is sent again without CertificateBoundAuth: "
            "send a new request to an address that you trust"
        )
    return credentials


class RequestWithToken(httpx2.Request):
    """A copy of a request with the token. Only the transport has it, and only while it sends the request.

    The caller's request never contains the token: httpx2 attaches it to the response and to exceptions, and makes
    redirects of it.
    """

    def __init__(self, request: httpx2.Request, credentials: Credentials) -> None:
        # The constructor of httpx2 would check the URL again.
        self.method: str = request.method
        self.url: httpx2.URL = request.url
        self.headers: httpx2.Headers = httpx2.Headers(request.headers)
        self.headers["Authorization"] = f"Bearer {credentials.token}"
        self.stream: httpx2.SyncByteStream | httpx2.AsyncByteStream = request.stream
        self.extensions: dict[str, Any] = dict(request.extensions)
        trace = self.extensions.get("trace")
        if trace is not None:
            self.extensions["trace"] = _without_token(trace)


def _without_token(trace: Callable[[str, dict[str, Any]], Any]) -> Callable[[str, dict[str, Any]], Any]:
    """Return the user's function `trace` for events whose requests have no token. `trace` may log header fields."""

    def traced(name: str, info: dict[str, Any]) -> Any:
        request = info.get("request")
        if request is not None:
            request = copy.copy(request)
            request.headers = [field for field in request.headers if field[0].lower() != b"authorization"]
            info = {**info, "request": request}
        return trace(name, info)

    return traced
