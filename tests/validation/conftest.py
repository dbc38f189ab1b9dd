"""A throwaway CA for each file of tests, and a store that trusts it."""

import pytest

from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import TrustStore


@pytest.fixture(scope="module")
def ca():
    return CertificateAuthority()


@pytest.fixture(scope="module")
def store(ca):
    return TrustStore([ca.certificate])
