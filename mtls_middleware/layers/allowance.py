"""`require_allowed`: checks a certificate by the rule of a path or route, and explains a rejection for the log."""

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Refused
from mtls_middleware.rule import Rule, near_miss

_NOT_ALLOWED = (
    "if this client may be allowed, change allow= of the layer, or the rule of require_certificate at the route; "
    "`mtls-middleware inspect certificate.pem` prints the names in its certificate"
)
_UNREADABLE = (
    "a part of the certificate cannot be read: only the rule Thumbprint and bound tokens work without it; "
    'let its CA issue another one, and see docs/validation.md, "Certificates that cannot be read"'
)
_NO_PATH = "IssuedBy needs a path from a trust store: give the layer trust_store="


def require_allowed(rule: Rule | None, certificate: ClientCertificate) -> None:
    """Raise `Refused` unless the rule allows the certificate. `None` allows every verified certificate.

    Example: `require_allowed(Subject("CN=ops,O=Acme"), certificate)`
    """
    if rule is None:
        if not certificate.verified:
            raise Refused(
                "client_certificate_refused",
                f"{certificate.thumbprint} is only presented, not verified",
                *certificate.unreadable_parts,
                advice=_UNREADABLE
                if certificate.unreadable
                else "give the source a verify_header= or verified_by_proxy=True (if the proxy rejects all other "
                "certificates), or the layer a trust_store=",
            )
    elif not rule.holds(certificate):
        raise Refused(
            "client_certificate_refused",
            f"{certificate.thumbprint} is not allowed by {rule!r}",
            *certificate.unreadable_parts,
            advice=near_miss(rule, certificate) or _advice(rule, certificate),
        )


def _advice(rule: Rule, certificate: ClientCertificate) -> str:
    if certificate.unreadable_parts:
        return _UNREADABLE
    return _NO_PATH if rule.needs_path and not certificate.path else _NOT_ALLOWED
