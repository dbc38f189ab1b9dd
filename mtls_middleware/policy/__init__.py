"""Rules that decide which client certificates are allowed."""

from mtls_middleware.anyone import ANYONE
from mtls_middleware.policy.identities import (
    URI,
    DNSName,
    Email,
    IPAddress,
    Issuer,
    Subject,
    SubjectAttribute,
    Thumbprint,
    UserPrincipalName,
)
from mtls_middleware.policy.issued_by import IssuedBy
from mtls_middleware.policy.issuer_and_serial_number import IssuerAndSerialNumber
from mtls_middleware.policy.spiffe_ids import SpiffeID, SpiffeTrustDomain
from mtls_middleware.policy.usages import CertificatePolicy, ExtendedKeyUsage
from mtls_middleware.rule import Presented, Rule, as_rule

__all__ = [
    "ANYONE",
    "URI",
    "CertificatePolicy",
    "DNSName",
    "Email",
    "ExtendedKeyUsage",
    "IPAddress",
    "IssuedBy",
    "Issuer",
    "IssuerAndSerialNumber",
    "Presented",
    "Rule",
    "SpiffeID",
    "SpiffeTrustDomain",
    "Subject",
    "SubjectAttribute",
    "Thumbprint",
    "UserPrincipalName",
    "as_rule",
]
