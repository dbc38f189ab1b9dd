"""What the applications of these tests say of a request, and the proxy that they are behind."""

from typing import Any

from mtls_middleware import access_token, client_certificate, oauth_client
from mtls_middleware.policy import SpiffeTrustDomain
from mtls_middleware.sources import Nginx

# Test clients have no peer with an address, so the proxy is known by its secret.
SECRET = ("X-Proxy-Secret", "correct horse battery staple")
SOURCE = Nginx(shared_secret=SECRET)
ALLOW = SpiffeTrustDomain("example.test")

Headers = dict[str, str]


def seen(request: Any, header: str | None) -> dict[str, str | None]:
    """What a view says of its request."""
    certificate, token = client_certificate(request), access_token(request)
    return {
        "thumbprint": certificate and certificate.thumbprint,
        "subject": token and token.subject,
        "header": header,
    }


def described(request: Any, form: Any) -> dict[str, Any]:
    """What a view at a token endpoint says."""
    client = oauth_client(request)
    return {"client": client and client.client_id, "grant": form.get("grant_type")}
