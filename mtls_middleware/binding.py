"""Checks whether an access token is bound to the client certificate of the request (RFC 8705 section 3.1).

The result is not cached: the comparison is made for every request.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtls_middleware.base64_values import sha256_digest
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused
from mtls_middleware.reusable import Check

Binding = Literal["required", "when_present"]

# Confirmation methods (IANA registry, RFC 7800) that this library cannot check, for example DPoP's jkt (RFC 9449 7.2).
# All methods in a token must be checked, so a token with one of these is rejected. Unknown members are ignored.
_OTHER_METHODS = frozenset({"jwk", "jwe", "kid", "jku", "jkt", "osc", "x5t", "x5c", "x5chain", "x5u"})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The certificate to which a token is bound by its `cnf` claim.

    Attributes:
        digest: the SHA-256 digest of the certificate, 32 bytes.
        thumbprint: the digest in base64url, exactly as the token contains it.
    """

    digest: bytes
    thumbprint: str

    def matches(self, certificate: ClientCertificate) -> bool:
        """Return whether this is the certificate to which the token is bound, compared in constant time."""
        return hmac.compare_digest(self.digest, certificate.digest)

    def check(self, certificate: ClientCertificate) -> Check:
        """Return a function that compares again, for each use of a cached decision."""
        return lambda _now: self.matches(certificate)


def confirm(claims: Mapping[str, Any], certificate: ClientCertificate | None, binding: Binding) -> Confirmation | None:
    """Return the confirmation that binds the token to `certificate`, or `None` for an unbound token that is accepted.

    Raises `Refused("invalid_token")` if the token is unbound but `binding` is `"required"`, if it is bound by a method
    that cannot be checked, if the request has no certificate, or if the token is bound to a different certificate.
    """
    confirmation = confirmation_of(claims, binding)
    if confirmation is not None:
        compare(confirmation, certificate)
    return confirmation


def confirmation_of(claims: Mapping[str, Any], binding: Binding) -> Confirmation | None:
    """Return the confirmation in the `cnf` claim, or `None` if the token is not bound and `binding` allows this.

    Raises `Refused("invalid_token")` for any other token.
    """
    if "cnf" not in claims:
        if binding == "required":
            raise Refused("invalid_token", "the token is not bound to a certificate, and binding is required")
        return None
    found = claims["cnf"]
    confirmation: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    if "jkt" in confirmation:
        raise Refused(
            "invalid_token",
            "the token is bound by DPoP (cnf has jkt, RFC 9449), which is not supported",
            advice="let the authorization server bind the tokens of this client to its certificate "
            "(tls_client_certificate_bound_access_tokens, RFC 8705 3.4)",
        )
    thumbprint = confirmation.get("x5t#S256")
    digest = sha256_digest(thumbprint)
    if thumbprint is None or digest is None:
        raise Refused("invalid_token", "cnf has no x5t#S256 of 43 base64url characters")
    if not _OTHER_METHODS.isdisjoint(confirmation):
        raise Refused("invalid_token", "cnf has a second confirmation method that cannot be checked here")
    return Confirmation(digest, thumbprint)


def compare(confirmation: Confirmation, certificate: ClientCertificate | None) -> None:
    """Raises `Refused("invalid_token")` unless the token is bound to `certificate` by this confirmation."""
    if certificate is None:
        raise Refused(
            "invalid_token",
            "the token is bound to a certificate, but the request has no client certificate",
            expected={"thumbprint": confirmation.thumbprint},
        )
    if not confirmation.matches(certificate):
        raise Refused(
            "invalid_token",
            "the token is bound to another certificate",
            advice="the client must use the token with the certificate for which it was issued; behind a proxy, check "
            "that the application gets the client's certificate and not the proxy's",
            found={"thumbprint": certificate.thumbprint},
            expected={"thumbprint": confirmation.thumbprint},
        )
