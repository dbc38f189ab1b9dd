"""The pytest plugin: fixtures for a CA, two client certificates and a token issuer, which are created once a session.

Every pytest run of a user loads this module, so each fixture imports the rest of the package only when it is used.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Any

    from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer


@pytest.fixture(scope="session")
def mtls_ca() -> "CertificateAuthority":
    """A throwaway CA for the trust stores, proxies and TLS contexts of tests.

    Example: `def test_store(mtls_ca): store = TrustStore([mtls_ca.certificate])`
    """
    from mtls_middleware.testing import CertificateAuthority

    return CertificateAuthority()


@pytest.fixture(scope="session")
def mtls_client(mtls_ca: "CertificateAuthority") -> "IssuedCertificate":
    """A certificate from `mtls_ca`: `CN=client,O=Tests`, `client.example.test` and `spiffe://example.test/client`.

    Example: `def test_client(mtls_client): fields = mtls_client.as_nginx()`
    """
    return mtls_ca.issue("CN=client,O=Tests", dns=["client.example.test"], uris=["spiffe://example.test/client"])


@pytest.fixture(scope="session")
def mtls_other_client(mtls_ca: "CertificateAuthority") -> "IssuedCertificate":
    """A second valid client certificate from `mtls_ca`, for tests in which the wrong client must be rejected.

    Example: `def test_other(mtls_other_client): fields = mtls_other_client.as_nginx()`
    """
    return mtls_ca.issue("CN=other,O=Tests", dns=["other.example.test"], uris=["spiffe://example.test/other"])


@pytest.fixture(scope="session")
def mtls_issuer() -> "TokenIssuer":
    """A token issuer for the whole session. A test that calls `rotate` or `retire` needs its own `TokenIssuer`.

    Example: `def test_token(mtls_issuer, mtls_client): token = mtls_issuer.token(certificate=mtls_client)`
    """
    from mtls_middleware.testing import TokenIssuer

    return TokenIssuer()


@pytest.fixture
def mtls_environ() -> "dict[str, Any]":
    """A new dictionary with `TESTING_ENVIRON`, for example for `environ_overrides=`.

    Example: `def test_view(client, mtls_environ): client.get("/", environ_overrides=mtls_environ)`
    """
    from mtls_middleware.testing import TESTING_ENVIRON

    return dict(TESTING_ENVIRON)
