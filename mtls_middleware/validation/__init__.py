"""Validates certificate chains in this process: trust stores, revocation lists, OCSP and SPIFFE bundles."""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.validation.chain_validator import ChainValidator
    from mtls_middleware.validation.crl import StatusRequest
    from mtls_middleware.validation.ocsp import OCSP
    from mtls_middleware.validation.revocation import CertificateStatus, Revocation
    from mtls_middleware.validation.revocation_lists import RevocationLists
    from mtls_middleware.validation.spiffe_bundles import SpiffeTrust
    from mtls_middleware.validation.store import TrustStore

__all__ = [
    "OCSP",
    "CertificateStatus",
    "ChainValidator",
    "Revocation",
    "RevocationLists",
    "SpiffeTrust",
    "StatusRequest",
    "TrustStore",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "validation.chain_validator": ["ChainValidator"],
            "validation.crl": ["StatusRequest"],
            "validation.ocsp": ["OCSP"],
            "validation.revocation": ["CertificateStatus", "Revocation"],
            "validation.revocation_lists": ["RevocationLists"],
            "validation.spiffe_bundles": ["SpiffeTrust"],
            "validation.store": ["TrustStore"],
        },
    )
