"""Rules that decide which client certificates are allowed."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.policy.anyone import ANYONE
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
    from mtls_middleware.policy.rule import Presented, Rule, as_rule
    from mtls_middleware.policy.spiffe_ids import SpiffeID, SpiffeTrustDomain
    from mtls_middleware.policy.usages import CertificatePolicy, ExtendedKeyUsage

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

if not TYPE_CHECKING:  # with `__getattr__`, a type checker would accept any misspelt name
    __getattr__, __dir__ = exports(
        __name__,
        {
            "policy.anyone": ["ANYONE"],
            "policy.identities": [
                "URI",
                "DNSName",
                "Email",
                "IPAddress",
                "Issuer",
                "Subject",
                "SubjectAttribute",
                "Thumbprint",
                "UserPrincipalName",
            ],
            "policy.issued_by": ["IssuedBy"],
            "policy.issuer_and_serial_number": ["IssuerAndSerialNumber"],
            "policy.rule": ["Presented", "Rule", "as_rule"],
            "policy.spiffe_ids": ["SpiffeID", "SpiffeTrustDomain"],
            "policy.usages": ["CertificatePolicy", "ExtendedKeyUsage"],
        },
    )
