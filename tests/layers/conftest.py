"""Who takes part."""

import pytest

from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.layers.world import World


@pytest.fixture(scope="module")
def world(mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> World:
    return World(mtls_client, mtls_other_client, mtls_issuer)
