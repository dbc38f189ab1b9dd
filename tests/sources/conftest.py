"""Both gateways, and certificates whose names are hard to carry."""

from collections.abc import Callable

import pytest

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.gateways import Outcome
from tests.sources.requests import GATEWAYS


@pytest.fixture(params=GATEWAYS.values(), ids=GATEWAYS.keys())
def through(request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """`through(source, headers, peer=..., required=...)`: one request through the public layer of a gateway."""
    chosen: Callable[..., Outcome] = request.param
    return chosen


@pytest.fixture(scope="session")
def mtls_chained(mtls_ca: CertificateAuthority) -> IssuedCertificate:
    """A client below an intermediate CA: its `chain` has one certificate."""
    return mtls_ca.intermediate().issue("CN=chained,O=Tests")
