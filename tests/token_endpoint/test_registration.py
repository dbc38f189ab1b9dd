"""A client registers only a certificate that its connection presents."""

import asyncio
import time
from collections.abc import Callable

import pytest

from mtls_middleware import ClientCertificate, RegisteredClient
from mtls_middleware.errors import Unavailable
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.token_endpoint import ClientAuthenticator
from mtls_middleware.validation import TrustStore
from tests.token_endpoint.registrations import BILLING, CA, EDGE, REPORTS, ROGUE
from tests.token_endpoint.roles import own_certificates, pki, presented, refused

Verify = Callable[[RegisteredClient, ClientCertificate | IssuedCertificate | None], None]
# The clients that are registered already are never looked up.
AUTHENTICATOR = ClientAuthenticator({}, trust_store=TrustStore([CA.certificate]))


@pytest.fixture(params=["blocking", "awaiting"])
def verify(request: pytest.FixtureRequest) -> Verify:
    def call(client: RegisteredClient, certificate: ClientCertificate | IssuedCertificate | None) -> None:
        if isinstance(certificate, IssuedCertificate):
            certificate = certificate.client_certificate()
        if request.param == "awaiting":
            asyncio.run(AUTHENTICATOR.verify_registration_async(client, certificate, time.time()))
        else:
            AUTHENTICATOR.verify_registration(client, certificate, time.time())

    return call


def test_the_registered_certificate_may_register(verify: Verify) -> None:
    verify(pki(san_dns="billing.internal"), BILLING)
    verify(pki(san_dns="billing.internal"), presented(BILLING))  # the trust store verifies it
    verify(own_certificates(EDGE), presented(EDGE))


FORGED = ROGUE.issue("CN=billing,O=Acme", dns=["billing.internal"])


@pytest.mark.parametrize("certificate", [REPORTS, FORGED, EDGE, None], ids=["other", "forged", "self-signed", "none"])
def test_a_name_is_registered_only_by_a_verified_certificate_with_it(
    verify: Verify, certificate: IssuedCertificate | None
) -> None:
    with refused():
        verify(pki(san_dns="billing.internal"), certificate)


@pytest.mark.parametrize("certificate", [BILLING, None])
def test_a_key_is_registered_only_with_its_certificate(verify: Verify, certificate: IssuedCertificate | None) -> None:
    with refused():
        verify(own_certificates(EDGE), certificate)


def test_a_client_without_a_certificate_method_has_nothing_to_prove(verify: Verify) -> None:
    verify(RegisteredClient(client_id="app", token_endpoint_auth_method="none"), None)


def test_keys_that_cannot_be_fetched_are_unavailable(verify: Verify) -> None:
    with pytest.raises(Unavailable):
        verify(own_certificates(jwks_uri="https://localhost:9/jwks"), EDGE)
