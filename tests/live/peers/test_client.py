"""Our client with tokens of oidc-provider, JWT and opaque, at APIs behind our middleware."""

import httpx2
import pytest

from mtls_middleware.client import CertificateBoundAuth, CertificateFiles, CertificateTransport, TokenError
from tests.live.peers import deployment
from tests.live.peers.test_oidc_provider import AUDIENCE, OPAQUE, provider

__all__ = ["provider"]  # a fixture

pytestmark = pytest.mark.live

# By how the API validates its tokens.
RESOURCES = {"signature": AUDIENCE, "certificate": OPAQUE}
METHODS = {"billing": "tls_client_auth", "statistics": "self_signed_tls_client_auth"}


@pytest.mark.parametrize("name", deployment.NAMES)
@pytest.mark.parametrize("way", RESOURCES)
@pytest.mark.parametrize("discovery", ["rfc8414", "openid"])
@pytest.mark.parametrize("client", METHODS)
def test_its_tokens_are_obtained_and_accepted(provider, client, discovery, way, name):
    files = CertificateFiles(provider.directory / f"{client}.pem", provider.directory / f"{client}-key.pem")
    roots = provider.directory / "ca.pem"
    auth = CertificateBoundAuth(
        issuer=provider.issuer,
        client_id=client,
        certificate=files,
        scopes=["invoices:read"],
        resource=RESOURCES[way],
        method=METHODS[client],
        discovery=discovery,
        roots=roots,
    )
    with httpx2.Client(transport=CertificateTransport(files, roots=roots), auth=auth) as requests:
        response = requests.get(f"{provider.apis[name]}/by-{way}/invoices")
    assert response.json() == {"client_id": client, "bound": True, "confirmation": files.current().thumbprint}


def test_its_rejection_is_a_typed_error(provider):
    files = CertificateFiles(provider.directory / "billing.pem", provider.directory / "billing-key.pem")
    roots = provider.directory / "ca.pem"
    auth = CertificateBoundAuth(issuer=provider.issuer, client_id="statistics", certificate=files, roots=roots)
    transport = CertificateTransport(files, roots=roots)
    with httpx2.Client(transport=transport, auth=auth) as requests, pytest.raises(TokenError) as caught:
        requests.get(f"{provider.apis[deployment.NAMES[0]]}/by-signature/invoices")
    assert caught.value.oauth_error == "invalid_client"
