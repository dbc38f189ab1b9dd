"""Bound tokens of an authorization server by another author, npm's oidc-provider, at APIs behind our middleware."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import Refused
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.token_endpoint import well_known
from tests.live.peers import deployment, node
from tests.live.servers import free_port, running

pytestmark = pytest.mark.live

AUDIENCE, ELSEWHERE = "https://api.example", "https://elsewhere.example"
ALGORITHMS = ("RS256", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
# The name of the resource selects the algorithm of the signature. The audience is the same for all of them.
OPAQUE = f"{AUDIENCE}/opaque"
RESOURCES = {
    OPAQUE: {"audience": AUDIENCE},
    AUDIENCE: {"audience": AUDIENCE, "alg": "ES256"},
    ELSEWHERE: {"audience": ELSEWHERE, "alg": "ES256"},
    **{f"{AUDIENCE}/{each}": {"audience": AUDIENCE, "alg": each} for each in ALGORITHMS},
}
OPAQUE_TOKEN = {"parameters": {"resource": OPAQUE, "scope": "invoices:read"}}
TOKEN = {"parameters": {"resource": AUDIENCE, "scope": "invoices:read"}}


def clients(known: dict[str, IssuedCertificate]) -> list[dict[str, Any]]:
    """One client for each method of RFC 8705, two with a secret (for bound tokens and for others), and the APIs."""
    common = {
        "redirect_uris": [],
        "response_types": [],
        "grant_types": ["client_credentials"],
        "scope": "invoices:read",
    }
    by_code = {
        "redirect_uris": [deployment.REDIRECT_URI],
        "response_types": ["code"],
        "grant_types": ["client_credentials", "authorization_code", "refresh_token"],
        "scope": "invoices:read offline_access",
        "application_type": "native",  # only native applications can have a redirect_uri with http and 127.0.0.1
    }
    bound = {**common, "tls_client_certificate_bound_access_tokens": True}
    pki = {"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "billing.internal"}
    own = {"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": deployment.jwks(known["statistics"])}
    api = {**pki, "tls_client_auth_san_dns": "api.internal"}
    secret = {"token_endpoint_auth_method": "client_secret_basic", "client_secret": deployment.SECRET}
    return [
        {"client_id": "billing", **bound, **pki, **by_code},
        {"client_id": "desktop", **bound, **by_code, "token_endpoint_auth_method": "none"},
        *(
            {
                "client_id": f"signs-{alg}",
                **bound,
                **pki,
                **by_code,
                "request_object_signing_alg": alg,
                "jwks": {"keys": [public]},
            }
            for alg, (_, public) in REQUEST_OBJECT_KEYS.items()
        ),
        {"client_id": "statistics", **bound, **own},
        {"client_id": "with-a-secret", **bound, **secret},
        {"client_id": "unbound", **common, **secret},
        {"client_id": "api", **common, **api},
        *(
            {"client_id": f"api-{each}", **common, **api, "introspection_signed_response_alg": each}
            for each in ALGORITHMS
        ),
        {"client_id": "api-with-a-secret", **common, **secret},
    ]


def request_object_key(alg: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A new private JWK for this algorithm, and its public JWK."""
    algorithm = jwt.get_algorithm_by_name("EdDSA" if alg == "Ed25519" else alg)
    made: dict[str, Any] = {
        "PS256": lambda: rsa.generate_private_key(65537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
    }
    key = made[alg]()
    private, public = (algorithm.to_jwk(each, as_dict=True) for each in (key, key.public_key()))
    common = {"alg": alg, "kid": f"request objects, {alg}"}
    return {**private, **common, "key_ops": ["sign"]}, {**public, **common, "key_ops": ["verify"], "use": "sig"}


REQUEST_OBJECT_KEYS = {alg: request_object_key(alg) for alg in ("PS256", "ES256", "ES384", "Ed25519")}


@pytest.fixture(scope="module")
def provider(tmp_path_factory) -> Iterator[deployment.Deployment]:
    """The provider, and our APIs, which take its keys from where its metadata says."""
    directory: Path = tmp_path_factory.mktemp("provider")
    authority, known = deployment.certificate_files(directory)
    port, flask, starlette = free_port(), free_port(), free_port()
    issuer = f"https://localhost:{port}"
    settings = {"port": port, "issuer": issuer, "directory": str(directory), "clients": clients(known)}
    (directory / "provider.json").write_text(json.dumps({**settings, "resources": RESOURCES}))
    with contextlib.ExitStack() as servers:
        become = ["-m", "tests.live.peers.node", "provider.mjs", str(directory / "provider.json")]
        servers.enter_context(running(become, port))
        with httpx2.Client(verify=authority.client_context(), trust_env=False) as reader:
            metadata = reader.get(well_known(issuer)).raise_for_status().json()
        assert metadata["tls_client_certificate_bound_access_tokens"] is True
        own = {"directory": str(directory), "audience": AUDIENCE, "secret": deployment.SECRET, "algorithms": ALGORITHMS}
        (directory / "api.json").write_text(json.dumps({**metadata, **own}))
        apps = "tests.live.peers.apis"
        for command, listening in (
            (deployment.gunicorn(f"{apps}:flask_api()", flask, directory), flask),
            ([*deployment.uvicorn(f"{apps}:starlette_api", starlette, directory), "--factory"], starlette),
        ):
            servers.enter_context(running(command, listening, SETTINGS=f"{directory}/api.json"))
        ports = zip(deployment.NAMES, (flask, starlette), strict=True)
        apis = {name: f"https://localhost:{each}" for name, each in ports}
        client = servers.enter_context(node.answering("client.mjs"))
        yield deployment.Deployment(directory, authority, known, issuer, issuer, apis, client)


@pytest.fixture(params=deployment.NAMES)
def invoices(provider, request):
    return f"{provider.apis[request.param]}/by-signature/invoices"


@pytest.fixture(params=deployment.NAMES)
def api(provider, request):
    return provider.apis[request.param]


def refused(answer: dict) -> bool:
    read = [(each["scheme"], each["parameters"].get("error")) for each in answer.get("challenges", ())]
    return answer["status"] == 401 and read == [("bearer", "invalid_token")]


@pytest.mark.standard("A2", "A4", "A5", "C3")
@pytest.mark.parametrize(("client", "another"), [("billing", "statistics"), ("statistics", "billing")])
@pytest.mark.parametrize("library", ["openid-client", "oauth4webapi"])
def test_its_bound_token_is_accepted_with_its_certificate_alone(provider, library, invoices, client, another):
    answer, asked = provider.ask(library, "client_credentials", client, client, **TOKEN)
    assert asked[-1] == f"{provider.issuer}/token"  # it has no aliases
    token, thumbprint = answer["access_token"], provider.certificates[client].thumbprint
    assert jwt.decode(token, options={"verify_signature": False})["cnf"] == {"x5t#S256": thumbprint}
    answer, _ = provider.ask(library, "resource", client, client, token=token, url=invoices)
    assert answer == {"status": 200, "body": {"client_id": client, "bound": True, "confirmation": thumbprint}}
    for certificate in (another, f"{client} renewed", None):
        assert refused(provider.ask(library, "resource", client, certificate, token=token, url=invoices)[0])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_of_its_signature_algorithms_is_verified(provider, invoices, algorithm):
    parameters = {"resource": f"{AUDIENCE}/{algorithm}", "scope": "invoices:read"}
    answer, _ = provider.ask("openid-client", "client_credentials", "billing", "billing", parameters=parameters)
    token = answer["access_token"]
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    report, _ = provider.ask("openid-client", "resource", "billing", "billing", token=token, url=invoices)
    assert report["status"] == 200
    report, _ = provider.ask("openid-client", "resource", "billing", "desktop", token=token, url=invoices)
    assert refused(report)


@pytest.mark.standard("C9", "C10", "C16")
@pytest.mark.parametrize("discovery", ["rfc8414", "openid"])
def test_its_keys_are_found_through_each_of_its_documents(provider, discovery):
    answer, _ = provider.ask("openid-client", "client_credentials", "billing", "billing", **TOKEN)
    trusting = provider.authority.client_context()
    tokens = JWTAccessTokens(issuer=provider.issuer, audience=AUDIENCE, discovery=discovery, ssl_context=trusting)
    assert BlockingDriver().run(tokens.validate(answer["access_token"], time.time())).client_id == "billing"
    slash = f"{provider.issuer}/"  # another issuer, although its documents would be the same
    tokens = JWTAccessTokens(issuer=slash, audience=AUDIENCE, discovery=discovery, ssl_context=trusting)
    with pytest.raises(Refused, match="another issuer"):
        BlockingDriver().run(tokens.validate(answer["access_token"], time.time()))


@pytest.mark.standard("A13")
def test_the_binding_of_a_secret_clients_token_is_enforced(provider, invoices):
    by_secret = {"method": "ClientSecretBasic", "secret": deployment.SECRET}
    answer, _ = provider.ask("openid-client", "client_credentials", "with-a-secret", "desktop", **TOKEN, **by_secret)
    token = answer["access_token"]
    statuses = [
        provider.ask("openid-client", "resource", "with-a-secret", each, token=token, url=invoices, **by_secret)[0]
        for each in ("desktop", "billing", None)
    ]
    assert [each["status"] for each in statuses] == [200, 401, 401]


@pytest.mark.standard("A14")
def test_its_unbound_token_is_refused_with_any_certificate(provider, invoices):
    by_secret = {"method": "ClientSecretBasic", "secret": deployment.SECRET}
    answer, _ = provider.ask("openid-client", "client_credentials", "unbound", "desktop", **TOKEN, **by_secret)
    for certificate in ("desktop", None):
        report, _ = provider.ask(
            "openid-client", "resource", "unbound", certificate, token=answer["access_token"], url=invoices, **by_secret
        )
        assert refused(report)


@pytest.mark.standard("A21", "H4")
def test_a_token_for_another_resource_is_rejected(provider, invoices):
    elsewhere = {"parameters": {"resource": ELSEWHERE, "scope": "invoices:read"}}
    answer, _ = provider.ask("openid-client", "client_credentials", "billing", "billing", **elsewhere)
    token = answer["access_token"]
    assert refused(provider.ask("openid-client", "resource", "billing", "billing", token=token, url=invoices)[0])


@pytest.mark.standard("A21", "G4")
def test_its_token_without_the_scope_is_too_small(provider, invoices):
    answer, _ = provider.ask(
        "openid-client", "client_credentials", "billing", "billing", parameters={"resource": AUDIENCE}
    )
    report, _ = provider.ask(
        "openid-client", "resource", "billing", "billing", token=answer["access_token"], url=invoices
    )
    assert report["status"] == 403
    (challenge,) = report["challenges"]
    assert challenge["parameters"]["error"] == "insufficient_scope"
    assert challenge["parameters"]["scope"] == "invoices:read"


@pytest.mark.standard("A7", "F1", "F8")
@pytest.mark.parametrize("way", ["secret", "certificate", "ES256-response"])
@pytest.mark.parametrize(("client", "another"), [("billing", "statistics"), ("statistics", "billing")])
def test_its_opaque_bound_token_is_accepted_with_its_certificate_alone(provider, api, way, client, another):
    answer, _ = provider.ask("openid-client", "client_credentials", client, client, **OPAQUE_TOKEN)
    token, url = answer["access_token"], f"{api}/by-{way}/invoices"
    assert token.count(".") == 0
    answer, _ = provider.ask("openid-client", "resource", client, client, token=token, url=url)
    thumbprint = provider.certificates[client].thumbprint
    assert answer == {"status": 200, "body": {"client_id": client, "bound": True, "confirmation": thumbprint}}
    for certificate in (another, f"{client} renewed", None):
        assert refused(provider.ask("openid-client", "resource", client, certificate, token=token, url=url)[0])


@pytest.mark.standard("A7", "A14")
def test_its_opaque_unbound_token_is_refused_with_any_certificate(provider, api):
    by_secret = {"method": "ClientSecretBasic", "secret": deployment.SECRET}
    answer, _ = provider.ask("openid-client", "client_credentials", "unbound", "desktop", **OPAQUE_TOKEN, **by_secret)
    settings = {"token": answer["access_token"], "url": f"{api}/by-certificate/invoices", **by_secret}
    for certificate in ("desktop", None):
        assert refused(provider.ask("openid-client", "resource", "unbound", certificate, **settings)[0])


@pytest.mark.parametrize("way", ["certificate", "ES256-response"])
def test_its_opaque_token_is_refused_from_when_it_is_revoked(provider, api, way):
    answer, _ = provider.ask("openid-client", "client_credentials", "billing", "billing", **OPAQUE_TOKEN)
    settings = {"token": answer["access_token"], "url": f"{api}/by-{way}/invoices"}
    assert provider.ask("openid-client", "resource", "billing", "billing", **settings)[0]["status"] == 200
    provider.ask("openid-client", "revocation", "billing", "billing", token=answer["access_token"])
    assert refused(provider.ask("openid-client", "resource", "billing", "billing", **settings)[0])


@pytest.mark.standard("F2")
def test_an_api_with_wrong_introspection_credentials_answers_503(provider, api):
    answer, _ = provider.ask("openid-client", "client_credentials", "billing", "billing", **OPAQUE_TOKEN)
    settings = {"token": answer["access_token"], "url": f"{api}/by-wrong-secret/invoices"}
    report, _ = provider.ask("openid-client", "resource", "billing", "billing", **settings)
    assert (report["status"], report["body"]["error"]) == (503, "temporarily_unavailable")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signed_introspection_responses_of_each_algorithm_are_read(provider, api, algorithm):
    answer, _ = provider.ask("openid-client", "client_credentials", "billing", "billing", **OPAQUE_TOKEN)
    settings = {"token": answer["access_token"], "url": f"{api}/by-{algorithm}-response/invoices"}
    assert provider.ask("openid-client", "resource", "billing", "billing", **settings)[0]["status"] == 200
    assert refused(provider.ask("openid-client", "resource", "billing", "desktop", **settings)[0])


def code(resource: str) -> dict[str, Any]:
    """The settings of the authorization code flow for this resource."""
    parameters = {"resource": resource, "scope": "invoices:read offline_access", "prompt": "consent"}
    return {"parameters": parameters, "at_token_endpoint": {"resource": resource}}


def statuses(provider: deployment.Deployment, token: str, way: str) -> dict[str | None, set[int]]:
    """The statuses of both APIs for a token with different certificates."""
    return {
        certificate: {
            provider.ask(
                "openid-client", "resource", "billing", certificate, token=token, url=f"{api}/by-{way}/invoices"
            )[0]["status"]
            for api in provider.apis.values()
        }
        for certificate in ("billing", "billing renewed", "desktop", None)
    }


REJECTED: dict[str | None, set[int]] = {each: {401} for each in ("billing", "billing renewed", "desktop", None)}


@pytest.mark.standard("A10", "A11", "E2")
@pytest.mark.parametrize(("resource", "way"), [(AUDIENCE, "signature"), (OPAQUE, "certificate")])
def test_a_refreshed_token_is_bound_to_the_renewed_certificate(provider, resource, way):
    old, _ = provider.ask("openid-client", "authorization_code", "billing", "billing", **code(resource))
    assert statuses(provider, old["access_token"], way) == {**REJECTED, "billing": {200}}
    asked = {"token": old["refresh_token"], "at_token_endpoint": {"resource": resource}}
    new, _ = provider.ask("openid-client", "refresh_token", "billing", "billing renewed", **asked)
    assert new["refresh_token"] != old["refresh_token"]
    assert statuses(provider, new["access_token"], way) == {**REJECTED, "billing renewed": {200}}


@pytest.mark.standard("A13", "E1")
def test_a_public_client_refreshes_with_its_certificate_alone(provider):
    public = {"method": "None"}
    first, _ = provider.ask("openid-client", "authorization_code", "desktop", "desktop", **code(AUDIENCE), **public)
    asked = {"token": first["refresh_token"], "at_token_endpoint": {"resource": AUDIENCE}, **public}
    report, _ = provider.ask("openid-client", "refresh_token", "desktop", "billing", **asked)
    assert (report["status"], report["error"]) == (400, "invalid_grant")
    second, _ = provider.ask("openid-client", "refresh_token", "desktop", "desktop", **asked)
    assert statuses(provider, second["access_token"], "signature") == {**REJECTED, "desktop": {200}}


@pytest.mark.parametrize("library", ["openid-client", "oauth4webapi"])
@pytest.mark.parametrize("alg", [None, *REQUEST_OBJECT_KEYS])
def test_a_pushed_or_signed_authorization_request_gives_a_bound_token(provider, library, alg):
    client_id, more = (
        ("billing", {}) if alg is None else (f"signs-{alg}", {"request_object_key": REQUEST_OBJECT_KEYS[alg][0]})
    )
    settings = {**code(AUDIENCE), **more, "pushed": True}
    answer, asked = provider.ask(library, "authorization_code", client_id, "billing", **settings)
    assert f"{provider.issuer}/request" in asked
    assert statuses(provider, answer["access_token"], "signature") == {**REJECTED, "billing": {200}}


def test_a_request_is_pushed_only_with_the_clients_certificate(provider):
    report, _ = provider.ask("openid-client", "authorization_code", "billing", "desktop", **code(AUDIENCE), pushed=True)
    assert (report["status"], report["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("library", ["openid-client", "oauth4webapi"])
def test_a_client_that_registers_itself_gets_bound_tokens(provider, library):
    own = provider.certificates["statistics"]
    metadata = {
        "token_endpoint_auth_method": "self_signed_tls_client_auth",
        "jwks": deployment.jwks(own),
        "grant_types": ["client_credentials"],
        "response_types": [],
        "redirect_uris": [],
        "tls_client_certificate_bound_access_tokens": True,
        "scope": "invoices:read",
    }
    registered, _ = provider.ask(library, "registration", None, None, metadata=metadata)
    client_id = registered["client_id"]
    answer, _ = provider.ask(library, "client_credentials", client_id, "statistics", **TOKEN)
    settings = {"token": answer["access_token"], "url": f"{provider.apis[deployment.NAMES[0]]}/by-signature/invoices"}
    assert provider.ask(library, "resource", client_id, "statistics", **settings)[0]["status"] == 200
    assert refused(provider.ask(library, "resource", client_id, "billing", **settings)[0])
    report, _ = provider.ask(library, "client_credentials", client_id, "billing", **TOKEN)
    assert (report["status"], report["error"]) == (401, "invalid_client")
