"""Dynamic registration and pushed authorization requests: the certificate must be the registered one."""

from typing import Any

import pytest
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from joserfc.errors import UnsupportedAlgorithmError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from tests.integrations import clients
from tests.integrations.authlib_models import BILLING, CA, FORGED, OTHER, SELF, SELF_OTHER, UNVERIFIED, Client, Server
from tests.integrations.django_server import serving

METADATA = clients.metadata(SELF)
PKI, SELF_SIGNED = METADATA["billing"], METADATA["robot"]


@pytest.fixture
def server(tmp_path, monkeypatch) -> Server:
    (tmp_path / "clients-ca.pem").write_text(CA.pem)
    monkeypatch.chdir(tmp_path)
    return Server(METADATA)


def register(server: Server, metadata: dict[str, Any], certificate: Any, *, allowed: bool = True) -> Any:
    """The response of the documented registration endpoint."""

    def save_client(info: dict[str, Any], stored: dict[str, Any]) -> Client:
        client = Client(info["client_id"], stored)
        server.models[client.client_id] = client
        return client

    server.add("registration.py", initial_access_token=lambda request: allowed, save_client=save_client)
    verify = UNVERIFIED if certificate in (SELF, SELF_OTHER) else "SUCCESS"
    return server.post("/register", None, certificate, verify=verify, json={"redirect_uris": [], **metadata})


@pytest.mark.parametrize(("metadata", "certificate"), [(PKI, BILLING), (SELF_SIGNED, SELF)], ids=["PKI", "self-signed"])
def test_a_client_registers_with_its_certificate_and_gets_a_token(server, metadata, certificate):
    response = register(server, metadata, certificate)
    assert response.status_code == 201, response.text
    assert response.json["token_endpoint_auth_method"] == metadata["token_endpoint_auth_method"]
    verify = UNVERIFIED if certificate is SELF else "SUCCESS"
    assert server.token(response.json["client_id"], certificate, verify=verify).status_code == 200
    assert server.token(response.json["client_id"], OTHER).json["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("metadata", "certificate"),
    [
        (PKI, OTHER), (PKI, FORGED), (PKI, SELF), (PKI, None),
        (SELF_SIGNED, SELF_OTHER), (SELF_SIGNED, BILLING), (SELF_SIGNED, None),
        ({**SELF_SIGNED, "jwks": {"keys": []}}, SELF), ({**PKI, "tls_client_auth_san_dns": ["x"]}, BILLING),
    ],
)  # fmt: skip
def test_another_certificate_or_bad_metadata_registers_nothing(server, metadata, certificate):
    response = register(server, metadata, certificate)
    assert (response.status_code, response.json["error"]) == (400, "invalid_client_metadata")
    assert set(server.models) == set(METADATA)


def test_without_permission_nothing_is_registered(server):
    assert register(server, PKI, BILLING, allowed=False).json["error"] == "access_denied"
    assert set(server.models) == set(METADATA)


def test_a_client_without_a_certificate_method_registers_without_one(server):
    response = register(server, {"token_endpoint_auth_method": "client_secret_basic"}, None)
    assert response.status_code == 201


def test_an_outage_of_the_registered_keys_is_503(server):
    metadata = {"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks_uri": "https://localhost:9/jwks"}
    response = register(server, metadata, SELF)
    assert (response.status_code, response.json["error"]) == (503, "temporarily_unavailable")
    assert set(server.models) == set(METADATA)


def test_an_authorization_request_is_pushed_with_the_certificate(server):
    pushed: dict[str, dict[str, str]] = {}
    server.add("pushed_requests.py", save_request=pushed.__setitem__)
    form = {"response_type": "code", "client_id": "billing", "state": "x"}
    for certificate in (OTHER, FORGED, None):
        assert server.post("/par", form, certificate).json["error"] == "invalid_client"
    assert not pushed
    response = server.post("/par", form, BILLING)
    assert response.status_code == 201
    assert pushed == {response.json["request_uri"]: form}


KEYS: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), (RSAKey, 2048)),
    "ES256": (ECKey, "P-256"),
    "ES384": (ECKey, "P-384"),
    "ES512": (ECKey, "P-521"),
    **dict.fromkeys(("EdDSA", "Ed25519"), (OKPKey, "Ed25519")),
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_authlib_signs_with_two_algorithms_as_the_page_says(algorithm):
    kind, size = KEYS[algorithm]

    class Tokens(JWTBearerTokenGenerator):
        def get_jwks(self):
            return KeySet([kind.generate_key(size)])

        def _get_expires_in(self, client, grant_type):
            return 300

    issued = Tokens("https://as.example", alg=algorithm).access_token_generator
    asked = Client("billing", PKI), "client_credentials", None, "read"
    if algorithm in ("RS256", "ES256"):
        assert issued(*asked).count(".") == 2
    else:
        with pytest.raises(UnsupportedAlgorithmError):
            issued(*asked)


@pytest.mark.live
@pytest.mark.parametrize("method", ["tls_client_auth", "self_signed_tls_client_auth", "none"])
def test_django_toolkit_registers_no_certificate_methods_as_the_page_says(tmp_path, method):
    permissions = ("oauth2_provider.dcr.AllowAllDCRPermission",)
    with serving(
        "gunicorn", tmp_path, CA.pem, METADATA, DCR_ENABLED=True, DCR_REGISTRATION_PERMISSION_CLASSES=permissions
    ) as at:
        metadata = {"redirect_uris": [clients.CALLBACK], "grant_types": ["authorization_code"], "client_name": "new"}
        response = at.ask("POST", "/o/register/", json={**metadata, "token_endpoint_auth_method": method})
    if method == "none":
        assert response.status_code == 201, response.text
    else:
        assert (response.status_code, response.json()["error"]) == (400, "invalid_client_metadata")
