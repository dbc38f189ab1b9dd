"""Explains for the log why a rule does not hold for a certificate that almost matches it."""

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.policy.rule import Rule


def near_miss(rule: Rule, certificate: ClientCertificate) -> str | None:
    """Return what to change if the rule almost matches the certificate, or `None`. Raises nothing.

    Example: `near_miss(Subject("O=Acme,CN=billing"), certificate)`
    """
    try:
        return rule.near_miss(certificate)
    except Exception:  # noqa: BLE001 (an explanation for the log changes no response)
        return None
