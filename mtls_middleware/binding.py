"""Whether an access token is bound to the client certificate of its request: RFC 8705 section 3.1.

Pure: no cache. The comparison is made for every request.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtls_middleware.base64_values import sha256_digest
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused

Binding = Literal["required", "when_present"]

# Confirmation methods (IANA registry, RFC 7800) whose proof is not checked here. All methods that a token names must
# hold, so such a token is rejected; DPoP's jkt is an example (RFC 9449 7.2). Unknown members are ignored.
_OTHER_METHODS = frozenset({"jwk", "jwe", "kid", "jku", "jkt", "osc", "x5t", "x5c", "x5chain", "x5u"})


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The certificate that `cnf` names: its SHA-256 digest, and the thumbprint as the token has it."""

    digest: bytes
    thumbprint: str

    def matches(self, certificate: ClientCertificate, _now: float = 0.0) -> bool:
        """Compares in constant time. `_now`: the comparison is also the check of a `Reusable`."""
        return hmac.compare_digest(self.digest, certificate.digest)


def confirm(claims: Mapping[str, Any], certificate: ClientCertificate | None, binding: Binding) -> Confirmation | None:
    """The confirmation that binds the token to `certificate`; `None` for an unbound token that is accepted.

    Raises `Refused("invalid_token")` for every other token: unbound although binding is required, bound by a method
    that cannot be checked, bound without a certificate, bound to another certificate.
    """
    confirmation = confirmation_of(claims, binding)
    if confirmation is not None:
        compare(confirmation, certificate)
    return confirmation


def confirmation_of(claims: Mapping[str, Any], binding: Binding) -> Confirmation | None:
    """The confirmation in these claims; `None` if there is none and none is required. Raises `Refused`."""
    if "cnf" not in claims:
        if binding == "required":
            raise Refused("invalid_token", "the token is not bound to a certificate, and binding is required")
        return None
    confirmation = claims["cnf"]
    thumbprint = confirmation.get("x5t#S256") if isinstance(confirmation, Mapping) else None
    digest = sha256_digest(thumbprint)
    if thumbprint is None or digest is None:
        raise Refused("invalid_token", "cnf has no x5t#S256 of 43 base64url characters")
    if not _OTHER_METHODS.isdisjoint(confirmation):
        raise Refused("invalid_token", "cnf names a second method that is not checked here, for example DPoP's jkt")
    return Confirmation(digest, thumbprint)


def compare(confirmation: Confirmation, certificate: ClientCertificate | None) -> None:
    """Raises `Refused("invalid_token")` unless the confirmation names this certificate."""
    if certificate is None:
        raise Refused("invalid_token", "the token is bound, and there is no client certificate")
    if not confirmation.matches(certificate):
        raise Refused("invalid_token", "the token is bound to another certificate")
