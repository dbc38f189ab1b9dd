"""`Credentials`: the certificate and the token of one request of httpx2. Only the transport sends the token."""

from dataclasses import dataclass

import httpx2

from mtls_middleware.certificate_files import CertificateKeyPair
from mtls_middleware.client.errors import CredentialsNotSent

# The key in a request's extensions for its `Credentials`, and in a response's extensions for its certificate.
EXTENSION = "mtls_middleware"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """The certificate with which a request must be sent, its token, and the URL for which both are meant.

    The transport adds the token to the request. So no other transport can send the token.
    """

    pair: CertificateKeyPair
    token: str
    url: httpx2.URL


def credentials_of(request: httpx2.Request) -> Credentials | None:
    """Return the credentials of `request`, or `None`. Raises `CredentialsNotSent` if they are not meant for its URL."""
    credentials = request.extensions.get(EXTENSION)
    if credentials is None:
        return None
    if not isinstance(credentials, Credentials) or request.url != credentials.url:
        raise CredentialsNotSent(
            "the request is a redirect, which must not carry the token: send a new request to an address that you trust"
        )
    if request.url.scheme != "https":
        raise CredentialsNotSent(
            f"a token is sent only over https, and not to a URL of the scheme {request.url.scheme!a}"
        )
    return credentials


def with_token(request: httpx2.Request, credentials: Credentials | None) -> httpx2.Request:
    """Return a copy of `request` with the token, or `request` itself if there are no credentials.

    `request` never contains the token: httpx2 attaches it to the response and to exceptions, and makes redirects of it.
    """
    if credentials is None:
        return request
    headers = httpx2.Headers(request.headers)
    headers["Authorization"] = f"Bearer {credentials.token}"
    return httpx2.Request(
        request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
    )
