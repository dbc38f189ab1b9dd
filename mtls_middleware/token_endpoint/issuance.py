"""What an authorization server puts into the tokens it issues, and checks when refresh tokens come back.

Must never know: how a token is made or stored. It gives the `cnf` object, and compares it later.
"""

from collections.abc import Mapping
from typing import Any, Literal

from mtls_middleware import binding
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.token_endpoint.clients import RegisteredClient


def confirmation(certificate: ClientCertificate) -> dict[str, str]:
    """The `cnf` claim that binds a token to `certificate` (RFC 8705 3.1), for a JWT or an introspection answer.

    The certificate of the token request itself, also when a token is renewed (RFC 8705 6.3): attached by one of our
    layers, so that its key was proven in the handshake.

    Example: `claims["cnf"] = confirmation(client_certificate(request))`
    """
    return {"x5t#S256": certificate.thumbprint}


def token_confirmation(
    client: RegisteredClient,
    certificate: ClientCertificate | None,
    *,
    without_certificate: Literal["refuse", "unbound"] = "refuse",
) -> dict[str, str] | None:
    """The `cnf` claim for an access token of this client, `None` for one that is to be unbound.

    Arguments:
        without_certificate: what a client gets that asks for bound tokens and comes without certificate; RFC 8705 3.4
            leaves it to the server: an error, or an unbound token.

    A client that does not ask for bound tokens gets unbound ones. Raises `Refused("invalid_request")`.

    Example: `cnf = token_confirmation(client, client_certificate(request))`
    """
    if without_certificate not in ("refuse", "unbound"):
        raise ConfigurationError(f"without_certificate={without_certificate!r}: 'refuse' or 'unbound'")
    if not client.tls_client_certificate_bound_access_tokens:
        return None
    if certificate is not None:
        return confirmation(certificate)
    if without_certificate == "refuse":
        raise Refused("invalid_request", "the client asks for bound tokens, and came without certificate")
    return None


def confirm_refresh_token(cnf: Mapping[str, Any], certificate: ClientCertificate | None) -> None:
    """Check a public client's refresh token against the certificate of this request (RFC 8705 4).

    Arguments:
        cnf: what `confirmation` gave when the refresh token was issued, kept with it.

    Refresh tokens of clients that authenticate are bound to the client already, and live through its renewals of
    certificates (RFC 8705 7.1): do not check those. Raises `Refused("invalid_grant")`.

    Example: `confirm_refresh_token(stored.cnf, client_certificate(request))`
    """
    try:
        binding.confirm({"cnf": cnf}, certificate, "required")
    except Refused as refusal:
        raise Refused("invalid_grant", *refusal.evidence) from None
