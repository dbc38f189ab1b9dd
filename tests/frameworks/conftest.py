"""What the client and its proxy send."""

import pytest

from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.frameworks.reports import SECRET, Headers


@pytest.fixture
def proxied(mtls_client: IssuedCertificate) -> Headers:
    return dict([SECRET, *mtls_client.as_nginx().items()])


@pytest.fixture
def bearer(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> Headers:
    return {"Authorization": "Bearer " + mtls_issuer.token(certificate=mtls_client, claims={"sub": "alice"})}
