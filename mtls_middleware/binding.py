"""Is this access token bound to this certificate? RFC 8705 section 3, and nothing else.

Must never know: how either was found or verified. What a token's `cnf` says is read once for each token; the
comparison is made on every request, and no cache answers for it.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused
from mtls_middleware.resource_server.token import AccessToken

Binding = Literal["required", "when_present"]

# base64url of 32 octets, no padding. The last character carries two pad bits that RFC 8705's own example sets,
# so the decoded octets are compared, not the text.
_X5T_S256 = re.compile(r"[A-Za-z0-9_-]{43}")

# Confirmation methods (IANA, RFC 7800) that promise a proof which nobody checks here: all of them must hold, so a token
# that names one is refused, DPoP's jkt above all (RFC 9449 7.2). Unknown members are ignored.
_OTHER_METHODS = frozenset({"jwk", "jwe", "kid", "jku", "jkt", "osc", "x5t", "x5c", "x5chain", "x5u"})


@dataclass(frozen=True, slots=True)
class Proof:
    """What `cnf` asks for: the certificate with this SHA-256. `thumbprint` is the text that says so."""

    digest: bytes
    thumbprint: str


def confirm(claims: Mapping[str, Any], certificate: ClientCertificate | None, binding: Binding) -> str | None:
    """The `x5t#S256` value that binds the token to `certificate`; `None` for an unbound token that may pass.

    Raises `Refused("invalid_token")` for every other token: unbound where binding is required, bound to what cannot be
    checked, bound without a certificate, bound to another certificate.
    """
    proof = demanded(claims, binding)
    if proof is None:
        return None
    compare(proof, certificate)
    return proof.thumbprint


def confirmed(token: AccessToken, certificate: ClientCertificate | None, binding: Binding) -> AccessToken:
    """The same for a token: itself where it is unbound and may pass, else marked as bound. Raises as `confirm` does."""
    known: tuple[Proof, AccessToken] | None = token.proof
    if known is None:
        proof = demanded(token.claims, binding)
        if proof is None:
            return token
        known = proof, token.bound_by(proof.thumbprint)
        object.__setattr__(token, "proof", known)
    compare(known[0], certificate)
    return known[1]


def demanded(claims: Mapping[str, Any], binding: Binding) -> Proof | None:
    """What `cnf` in these claims demands, `None` where there is none and none is needed. Raises `Refused`."""
    if "cnf" not in claims:
        if binding == "required":
            raise Refused("invalid_token", "the token is not bound to a certificate, and binding is required")
        return None
    confirmation = claims["cnf"]
    thumbprint = confirmation.get("x5t#S256") if isinstance(confirmation, Mapping) else None
    digest = decoded(thumbprint)
    if thumbprint is None or digest is None:
        raise Refused("invalid_token", "cnf holds no x5t#S256 of 43 base64url characters")
    if not _OTHER_METHODS.isdisjoint(confirmation):
        raise Refused("invalid_token", "cnf names a second proof that is not checked here (such as DPoP's jkt)")
    return Proof(digest, thumbprint)


def decoded(thumbprint: object) -> bytes | None:
    """The 32 octets of a thumbprint as text; `None` where it is none."""
    if isinstance(thumbprint, str) and _X5T_S256.fullmatch(thumbprint):
        return base64.urlsafe_b64decode(thumbprint + "=")
    return None


def compare(proof: Proof, certificate: ClientCertificate | None) -> None:
    """Raises `Refused("invalid_token")` unless this is the certificate that is asked for."""
    if certificate is None:
        raise Refused("invalid_token", "the token is bound, and there is no client certificate")
    if not hmac.compare_digest(proof.digest, certificate.digest):
        raise Refused("invalid_token", "the token is bound to another certificate")
