"""Chain validation in this process: trust stores, revocation lists, SPIFFE bundles."""

from mtls_middleware.validation.revocation import RevocationLists
from mtls_middleware.validation.spiffe_bundles import SpiffeTrust
from mtls_middleware.validation.store import TrustStore

__all__ = ["RevocationLists", "SpiffeTrust", "TrustStore"]
