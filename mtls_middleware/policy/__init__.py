"""Rules over a client certificate: who may come."""

from mtls_middleware.policy.identities import (
    URI,
    DNSName,
    Email,
    IPAddress,
    Issuer,
    SpiffeID,
    SpiffeTrustDomain,
    Subject,
    Thumbprint,
)
from mtls_middleware.policy.rule import ANYONE, Presented, Rule, as_rule

__all__ = [
    "ANYONE",
    "URI",
    "DNSName",
    "Email",
    "IPAddress",
    "Issuer",
    "Presented",
    "Rule",
    "SpiffeID",
    "SpiffeTrustDomain",
    "Subject",
    "Thumbprint",
    "as_rule",
]
