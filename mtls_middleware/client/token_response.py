"""Reads the response of a token endpoint (RFC 6749 5), and checks that the token is bound (RFC 8705 3).

This module performs no I/O and reads no clock.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from mtls_middleware.base64_values import base64url_octets
from mtls_middleware.binding import confirm
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.client.errors import TokenError, TokenNotBound
from mtls_middleware.effects.exchange import Response
from mtls_middleware.errors import Refused
from mtls_middleware.json_values import excerpt, json_document, json_object

# Number of seconds for which a token is used if the response has no `expires_in`.
_DEFAULT_LIFETIME = 60.0
# Maximum number of seconds for which a token is used, whatever `expires_in` is.
_MAX_LIFETIME = 86_400.0
# Matches a token that can be sent in a header field (RFC 6750 2.1).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_MAX_TOKEN = 16_384
# Matches an OAuth error code (RFC 6749 5.2), which is safe to log.
_ERROR = re.compile(r"[\x20\x21\x23-\x5B\x5D-\x7E]{1,80}")


@dataclass(frozen=True, slots=True)
class BoundToken:
    """An access token, and the certificate for which it was issued.

    `lifetime`: seconds for which the token is valid, from the time of the token request.
    """

    text: str = field(repr=False)
    certificate: ClientCertificate
    lifetime: float


def read_token(response: Response, certificate: ClientCertificate, *, server_binds: bool) -> BoundToken:
    """Return the token in the response to a token request that was sent over a connection of `certificate`.

    `server_binds`: whether the metadata says that the server binds tokens. An opaque token is accepted only then,
    because the client cannot read it. Raises `TokenError`.
    """
    if response.status != 200:
        raise _rejection(response)
    try:
        members = json_document(response.body)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise TokenError("invalid_response", "the response of the token endpoint is not a JSON object")
    text, kind = members.get("access_token"), members.get("token_type")
    if not isinstance(text, str) or len(text) > _MAX_TOKEN or not _TOKEN.fullmatch(text):
        expected = f"a string of at most {_MAX_TOKEN} characters (RFC 6750 2.1)"
        raise TokenError("invalid_response", f"access_token of the response is missing or invalid; expected {expected}")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenError("invalid_response", f"token_type of the response is {excerpt(kind)}; expected Bearer")
    lifetime = _lifetime(members.get("expires_in"))
    _check_binding(text, certificate, server_binds=server_binds)
    return BoundToken(text, certificate, lifetime)


def _rejection(response: Response) -> TokenError:
    try:
        found = json_object(response.body).get("error")
    except ValueError:
        found = None
    error = found if isinstance(found, str) and _ERROR.fullmatch(found) else None
    reason = f"the token endpoint responds with status {response.status}; error: {error}"
    if response.status >= 500 or response.status == 429:
        return TokenError("unavailable", reason, oauth_error=error)
    if 300 <= response.status < 400:
        return TokenError("invalid_response", f"{reason}; redirects are not followed")
    return TokenError("rejected", reason, oauth_error=error)


def _lifetime(given: object) -> float:
    """Return the value of `expires_in`. Some servers send the number as a string."""
    if given is None:
        return _DEFAULT_LIFETIME
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 10:
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int | float) or not given > 0:
        raise TokenError("invalid_response", f"expires_in of the response is {excerpt(given)}; expected seconds")
    return float(min(given, _MAX_LIFETIME))


def _check_binding(text: str, certificate: ClientCertificate, *, server_binds: bool) -> None:
    claims = _claims(text)
    if claims is None:
        if not server_binds:
            raise TokenNotBound(
                "the token is not a JWT, and the metadata does not contain tls_client_certificate_bound_access_tokens: "
                "true (RFC 8705 3.3), so it is unknown whether the token is bound; change this at the server"
            )
        return
    try:
        confirm(claims, certificate, "required")
    except Refused as refused:
        raise TokenNotBound(
            f"{refused.evidence[0]}; let the server bind the tokens of this client "
            "(tls_client_certificate_bound_access_tokens, RFC 8705 3.4)"
        ) from None


def _claims(text: str) -> dict[str, Any] | None:
    """Return the claims of a signed JWT without verifying it, or `None` for any other token.

    Raises `TokenNotBound` for a JWT whose claims cannot be read, because lenient parsers may read another `cnf`.
    """
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        header = json_object(base64url_octets(parts[0]))
    except ValueError:
        return None
    if "alg" not in header:
        return None
    try:
        return json_object(base64url_octets(parts[1]))
    except ValueError as error:
        raise TokenNotBound(
            f"the claims of the JWT cannot be read ({error}), so it is unknown whether it is bound"
        ) from None
