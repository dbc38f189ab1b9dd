"""Binds access tokens and refresh tokens to a client certificate, for authorization servers (RFC 8705 3 and 4).

The functions create the `cnf` claim, and later compare it with a certificate. They neither create nor store tokens.
"""

from collections.abc import Mapping
from typing import Any, Literal

from mtls_middleware import binding, options
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused
from mtls_middleware.token_endpoint.clients import RegisteredClient


def confirmation(certificate: ClientCertificate) -> dict[str, str]:
    """Return the `cnf` claim that binds a token to `certificate` (RFC 8705 3.1).

    Add the claim to the JWT or to the introspection response. Use the certificate that the middleware attached to the
    current token request, even if the request is a refresh (RFC 8705 6.3): in the TLS handshake, the client has proved
    that it possesses the private key of this certificate.

    Example: `claims["cnf"] = confirmation(client_certificate(request))`
    """
    return {"x5t#S256": certificate.thumbprint}


def token_confirmation(
    client: RegisteredClient,
    certificate: ClientCertificate | None,
    *,
    without_certificate: Literal["refuse", "unbound"] = "refuse",
) -> dict[str, str] | None:
    """Return the `cnf` claim for an access token of this client, or `None` if the token is not bound.

    The token is bound only if the client registered `tls_client_certificate_bound_access_tokens`.

    Arguments:
        without_certificate: what to do if a client that registered for bound tokens sends no certificate: `"refuse"`
            raises `Refused("invalid_request")`, and `"unbound"` returns `None`. RFC 8705 3.4 allows both.

    Example: `cnf = token_confirmation(client, client_certificate(request))`
    """
    options.one_of("without_certificate", without_certificate, ("refuse", "unbound"))
    if not client.tls_client_certificate_bound_access_tokens:
        return None
    if certificate is not None:
        return confirmation(certificate)
    if without_certificate == "refuse":
        raise Refused(
            "invalid_request",
            "the client registered for certificate-bound tokens, but the request has no client certificate",
        )
    return None


def confirm_refresh_token(cnf: Mapping[str, Any], certificate: ClientCertificate | None) -> None:
    """Check a public client's refresh token against the certificate of this request (RFC 8705 4).

    Do not call this function for clients that authenticate: their refresh tokens are already bound to the client, and
    must stay valid when the client renews its certificate (RFC 8705 7.1).

    Arguments:
        cnf: the result of `confirmation` when the refresh token was issued. Store it with the refresh token.

    Raises `Refused("invalid_grant")` if the certificate does not match.

    Example: `confirm_refresh_token(stored.cnf, client_certificate(request))`
    """
    try:
        binding.confirm({"cnf": cnf}, certificate, "required")
    except Refused as refusal:
        raise refusal.changed(*refusal.evidence, code="invalid_grant") from None
