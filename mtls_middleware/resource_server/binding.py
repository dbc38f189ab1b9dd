"""Is this access token bound to this certificate? RFC 8705 section 3, and nothing else.

Must never know: how either was found or verified. It runs on every request; no cache answers for it (rule 6).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Any, Literal

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused

Binding = Literal["required", "when_present"]

# base64url of 32 octets, no padding. The last character carries two pad bits that RFC 8705's own example sets
# (row H21), so the decoded octets are compared, not the text.
_X5T_S256 = re.compile(r"[A-Za-z0-9_-]{43}")

# Confirmation methods (IANA, RFC 7800) that promise a proof which nobody checks here: all of them must hold, so a token
# that names one is refused, DPoP's jkt above all (RFC 9449 7.2, rows Q3 and Q5). Unknown members are ignored (A15).
_OTHER_METHODS = frozenset({"jwk", "jwe", "kid", "jku", "jkt", "osc", "x5t", "x5c", "x5chain", "x5u"})


def confirm(claims: Mapping[str, Any], certificate: ClientCertificate | None, binding: Binding) -> str | None:
    """The `x5t#S256` value that binds the token to `certificate`; `None` for an unbound token that may pass.

    Raises `Refused("invalid_token")` for every other token: unbound where binding is required, bound to what cannot be
    checked, bound without a certificate, bound to another certificate.
    """
    if "cnf" not in claims:
        if binding == "required":
            raise Refused("invalid_token", "the token is not bound to a certificate, and binding is required")
        return None
    text, expected = thumbprint(claims["cnf"])
    if certificate is None:
        raise Refused("invalid_token", "the token is bound, and there is no client certificate")
    if not hmac.compare_digest(expected, hashlib.sha256(certificate.der).digest()):
        raise Refused("invalid_token", "the token is bound to another certificate")
    return text


def thumbprint(confirmation: object) -> tuple[str, bytes]:
    """The `x5t#S256` value of a `cnf`, and the octets that it stands for. Raises `Refused("invalid_token")`."""
    if not isinstance(confirmation, Mapping) or (octets := decoded(confirmation.get("x5t#S256"))) is None:
        raise Refused("invalid_token", "cnf holds no x5t#S256 of 43 base64url characters")
    if not _OTHER_METHODS.isdisjoint(confirmation):
        raise Refused("invalid_token", "cnf names a second proof that is not checked here (such as DPoP's jkt)")
    return confirmation["x5t#S256"], octets


def decoded(text: object) -> bytes | None:
    """The 32 octets of a thumbprint as text; `None` where it is none."""
    return base64.urlsafe_b64decode(text + "=") if isinstance(text, str) and _X5T_S256.fullmatch(text) else None
