"""The pytest plugin: a CA, two clients of it and a token issuer, made once per session.

Must never know: anything but pytest until a fixture is asked for. It is loaded into every pytest run of a user.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import Any

    from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer


@pytest.fixture(scope="session")
def mtls_ca() -> "CertificateAuthority":
    """A throwaway CA: `TrustStore`s, proxies and TLS contexts of the tests trust it."""
    from mtls_middleware.testing import CertificateAuthority

    return CertificateAuthority()


@pytest.fixture(scope="session")
def mtls_client(mtls_ca: "CertificateAuthority") -> "IssuedCertificate":
    """A client of `mtls_ca`: `CN=client,O=Tests`, `client.example.test`, `spiffe://example.test/client`."""
    return mtls_ca.issue("CN=client,O=Tests", dns=["client.example.test"], uris=["spiffe://example.test/client"])


@pytest.fixture(scope="session")
def mtls_other_client(mtls_ca: "CertificateAuthority") -> "IssuedCertificate":
    """Another client of `mtls_ca`, as valid, and not the one that a token or rule is about."""
    return mtls_ca.issue("CN=other,O=Tests", dns=["other.example.test"], uris=["spiffe://example.test/other"])


@pytest.fixture(scope="session")
def mtls_issuer() -> "TokenIssuer":
    """A token issuer. Session-wide: tests that `rotate` or `retire` keys make a `TokenIssuer` of their own."""
    from mtls_middleware.testing import TokenIssuer

    return TokenIssuer()


@pytest.fixture
def mtls_environ() -> "dict[str, Any]":
    """`TESTING_ENVIRON` as a dictionary of the test's own, for `environ_overrides=` and the like."""
    from mtls_middleware.testing import TESTING_ENVIRON

    return dict(TESTING_ENVIRON)
