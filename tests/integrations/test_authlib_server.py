"""The server of docs/integrations.md with Authlib and Flask: clients by certificate, tokens bound to it."""

import logging
from typing import Any

import flask
import jwt
import pytest

from mtls_middleware import ConfigurationError
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import Unavailable
from mtls_middleware.integrations.authlib_server import CertificateAuthorizationServer, CertificateBoundTokenGenerator
from mtls_middleware.resource_server import JWTAccessTokens
from tests.integrations.authlib_models import (
    BILLING,
    CA,
    FORGED,
    KEY,
    OTHER,
    PROXY,
    SELF,
    SELF_OTHER,
    UNVERIFIED,
    Client,
    Server,
)
from tests.integrations.clients import SECRET, basic, metadata
from tests.integrations.page_code import proxy_fields


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("as")
    (directory / "clients-ca.pem").write_text(CA.pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        return Server(metadata(SELF))


def claims_of(response):
    assert response.status_code == 200, response.text
    return jwt.decode(response.json["access_token"], KEY.public_key(), ["RS256"], audience="https://api.example")


def refused(response, error="invalid_client", status=401):
    assert (response.status_code, response.json["error"]) == (status, error)
    assert "access_token" not in response.json


@pytest.mark.standard("B1", "B15")
def test_a_client_with_the_registered_name_gets_a_bound_token(server):
    claims = claims_of(server.token("billing", BILLING))
    assert claims["cnf"] == {"x5t#S256": BILLING.thumbprint}
    assert claims["client_id"] == "billing"


@pytest.mark.standard("B11", "B18")
def test_a_client_with_a_registered_certificate_gets_a_bound_token(server):
    response = server.token("robot", SELF, verify=UNVERIFIED)
    assert claims_of(response)["cnf"] == {"x5t#S256": SELF.thumbprint}


def test_our_resource_server_takes_the_token_with_its_certificate(server, mtls_ca):
    from mtls_middleware import access_token
    from mtls_middleware.sources import ServerTLS
    from mtls_middleware.wsgi import protect

    text = server.token("billing", BILLING).json["access_token"]
    public = {"keys": [jwt.get_algorithm_by_name("RS256").to_jwk(KEY.public_key(), as_dict=True) | {"kid": "k"}]}
    accepted = JWTAccessTokens(issuer="https://as.example", audience="https://api.example", jwks=public)
    api = flask.Flask("api")
    api.add_url_rule("/", "view", lambda: access_token(flask.request).client_id)
    api.wsgi_app = protect(api.wsgi_app, source=ServerTLS(), tokens=accepted)
    headers = {"Authorization": f"Bearer {text}"}
    with_its_own = api.test_client().get("/", headers=headers, environ_overrides=BILLING.as_environ())
    with_another = api.test_client().get("/", headers=headers, environ_overrides=OTHER.as_environ())
    assert (with_its_own.status_code, with_its_own.text, with_another.status_code) == (200, "billing", 401)


@pytest.mark.standard("B3", "B4", "B7", "B19")
@pytest.mark.parametrize(
    ("client_id", "certificate", "verify"),
    [
        ("billing", None, "SUCCESS"),
        ("billing", OTHER, "SUCCESS"),
        ("billing", FORGED, "SUCCESS"),
        ("billing", FORGED, UNVERIFIED),
        ("billing", SELF, UNVERIFIED),
        ("robot", None, "SUCCESS"),
        ("robot", SELF_OTHER, UNVERIFIED),
        ("robot", BILLING, "SUCCESS"),
        ("nobody", BILLING, "SUCCESS"),
        ("secret", BILLING, "SUCCESS"),
        ("app", BILLING, "SUCCESS"),
    ],
    ids=lambda value: {id(BILLING): "billing's", id(OTHER): "other's", id(FORGED): "forged", id(SELF): "robot's"}.get(
        id(value), "another" if value is SELF_OTHER else str(value)
    ),
)
def test_a_wrong_or_missing_certificate_is_invalid_client(server, client_id, certificate, verify):
    response = server.token(client_id, certificate, verify=verify)
    refused(response)
    assert response.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_public_client_cannot_use_client_credentials(server):
    refused(server.token("app", OTHER))


@pytest.mark.standard("B17")
def test_a_client_with_a_secret_keeps_working(server):
    form = {"grant_type": "client_credentials"}
    claims = claims_of(server.post("/token", form, headers=basic("secret")))
    assert (claims["client_id"], "cnf" in claims) == ("secret", False)
    refused(server.post("/token", form, headers=basic("secret", "wrong")))


@pytest.mark.standard("B5")
def test_a_certificate_binds_a_secret_clients_token_only_on_request(server):
    form = {"grant_type": "client_credentials"}
    assert "cnf" not in claims_of(server.post("/token", form, BILLING, headers=basic("secret")))
    bound = claims_of(server.post("/token", form, BILLING, headers=basic("bound-secret")))
    assert bound["cnf"] == {"x5t#S256": BILLING.thumbprint}


def test_a_client_that_registered_bound_tokens_needs_a_certificate(server):
    response = server.post("/token", {"grant_type": "client_credentials"}, headers=basic("bound-secret"))
    refused(response, "invalid_request", 400)


@pytest.mark.standard("B5", "B6")
@pytest.mark.parametrize("path", ["/token", "/introspect", "/revoke"])
@pytest.mark.parametrize("certificate", [None, BILLING], ids=["without", "with"])
@pytest.mark.parametrize("client_id", ["billing", "robot"])
def test_a_client_of_a_certificate_never_comes_by_its_secret(server, path, certificate, client_id):
    form = {"grant_type": "client_credentials", "token": "x"}
    for sent, headers in (
        (form, basic(client_id)),
        (form | {"client_id": client_id}, basic(client_id)),
        (form | {"client_id": client_id, "client_secret": SECRET}, {}),
        (form | {"client_id": "secret"}, basic(client_id)),
    ):
        response = server.post(path, sent, certificate, headers=headers)
        assert response.status_code in (400, 401)
        assert response.json["error"] in ("invalid_client", "invalid_request")


def test_a_method_of_the_users_own_is_held_to_as_well(server, monkeypatch):
    """It reads requests in its own way: here, a header that the library knows nothing of."""
    header = "X-Client"
    server.authlib.register_client_auth_method("by_header", lambda query, request: query(request.headers[header]))
    own, other = (Client(name, {"token_endpoint_auth_method": "by_header"}) for name in ("own", "other"))
    monkeypatch.setitem(server.models, "own", own)
    monkeypatch.setitem(server.models, "other", other)
    monkeypatch.setattr(server.authlib._endpoints["introspection"][0], "CLIENT_AUTH_METHODS", ["by_header"])
    form = {"token": "x", "client_id": "own"}
    assert server.post("/introspect", form, headers={header: "own"}).status_code == 200
    for named in ("other", "secret", "billing", "nobody"):
        refused(server.post("/introspect", form, headers={header: named}), status=400)
    for client_id in ("secret", "billing", "nobody"):
        refused(server.post("/introspect", form | {"client_id": client_id}, headers={header: client_id}), status=400)
    refused(server.post("/introspect", form | {"client_secret": SECRET}, headers={header: "own"}), status=400)


@pytest.mark.standard("B2")
@pytest.mark.case("137")
def test_a_client_id_that_is_absent_repeated_or_in_the_query_is_refused(server):
    form = {"grant_type": "client_credentials"}
    refused(server.post("/token", form, BILLING))
    refused(server.post("/token", form | {"client_id": ["billing", "billing"]}, BILLING), "invalid_request", 400)
    in_query = server.post("/token", form | {"client_id": "billing"}, BILLING, query="client_id=billing")
    refused(in_query, "invalid_request", 400)


def test_a_method_that_a_grant_does_not_name_is_refused_there(server):
    grant = next(each for each, _ in server.authlib._token_grants if each.GRANT_TYPE == "client_credentials")
    before = grant.TOKEN_ENDPOINT_AUTH_METHODS
    grant.TOKEN_ENDPOINT_AUTH_METHODS = ["self_signed_tls_client_auth"]
    try:
        refused(server.token("billing", BILLING), status=400)  # Basic is not offered either
        assert server.token("robot", SELF, verify=UNVERIFIED).status_code == 200
    finally:
        grant.TOKEN_ENDPOINT_AUTH_METHODS = before


@pytest.mark.standard("B21")
def test_introspection_authenticates_by_certificate_and_tells_the_binding(server):
    text = server.token("robot", SELF, verify=UNVERIFIED).json["access_token"]
    form = {"token": text, "client_id": "billing"}
    answer = server.post("/introspect", form, BILLING)
    assert answer.json["active"] is True
    assert answer.json["cnf"] == {"x5t#S256": SELF.thumbprint}
    refused(server.post("/introspect", form, OTHER))
    refused(server.post("/introspect", form))
    unbound = claims_text(server.post("/token", {"grant_type": "client_credentials"}, headers=basic("secret")))
    report = server.post("/introspect", {"token": unbound}, headers=basic("secret")).json
    assert (report["active"], "cnf" in report) == (True, False)


def claims_text(response):
    assert response.status_code == 200
    return response.json["access_token"]


@pytest.mark.standard("B21")
def test_revocation_authenticates_by_certificate(server):
    granted = server.post("/token", server.code("billing", "v" * 50), BILLING).json
    form = {"token": granted["refresh_token"], "client_id": "billing"}
    refused(server.post("/revoke", form, OTHER))
    refused(server.post("/revoke", form))
    again = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"], "client_id": "billing"}
    assert server.post("/revoke", form, BILLING).status_code == 200
    refused(server.post("/token", again, BILLING), "invalid_grant", 400)


@pytest.mark.standard("P10")
def test_a_public_client_with_pkce_gets_bound_access_and_refresh_tokens(server):
    granted = server.post("/token", server.code("app", "a" * 50), SELF, verify=UNVERIFIED)
    assert claims_of(granted)["cnf"] == {"x5t#S256": SELF.thumbprint}
    assert claims_of(granted)["sub"] == "alice"
    form = {"grant_type": "refresh_token", "refresh_token": granted.json["refresh_token"], "client_id": "app"}
    for certificate in (None, SELF_OTHER):
        refused(server.post("/token", form, certificate, verify=UNVERIFIED), "invalid_grant", 400)
    renewed = server.post("/token", form, SELF, verify=UNVERIFIED)
    assert claims_of(renewed)["cnf"] == {"x5t#S256": SELF.thumbprint}
    form["refresh_token"] = renewed.json["refresh_token"]
    refused(server.post("/token", form), "invalid_grant", 400)


def test_a_public_client_needs_its_code_verifier_and_a_certificate(server):
    wrong = server.code("app", "a" * 50) | {"code_verifier": "b" * 50}
    refused(server.post("/token", wrong, SELF, verify=UNVERIFIED), "invalid_grant", 400)
    refused(server.post("/token", server.code("app", "a" * 50)), "invalid_request", 400)


def test_a_public_client_that_does_not_ask_is_served_without_certificate(server):
    granted = server.post("/token", server.code("plain-app", "a" * 50))
    assert "cnf" not in claims_of(granted)
    form = {"grant_type": "refresh_token", "refresh_token": granted.json["refresh_token"], "client_id": "plain-app"}
    assert server.post("/token", form).status_code == 200


def test_an_unbound_refresh_token_of_a_bound_client_is_rejected(server):
    granted = server.post("/token", server.code("app", "a" * 50), SELF, verify=UNVERIFIED).json
    next(each for each in server.saved if each.refresh_token == granted["refresh_token"]).cnf = None
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"], "client_id": "app"}
    refused(server.post("/token", form, SELF, verify=UNVERIFIED), "invalid_grant", 400)


def test_a_client_that_authenticates_refreshes_with_a_renewed_certificate(server):
    granted = server.post("/token", server.code("billing", "v" * 50), BILLING).json
    renewed = CA.issue("CN=billing", dns=["billing.internal"])
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"], "client_id": "billing"}
    assert claims_of(server.post("/token", form, renewed))["cnf"] == {"x5t#S256": renewed.thumbprint}


@pytest.mark.standard("B20")
def test_an_authorization_endpoint_token_ignores_the_browsers_certificate(server):
    generate = server.authlib._token_generators["default"]
    with server.app.test_request_context("/authorize", base_url="https://as.example"):
        given = generate.get_extra_claims(server.models["plain-app"], "implicit", None, "read")
        assert "cnf" not in given
        from authlib.oauth2.rfc6749 import InvalidRequestError

        with pytest.raises(InvalidRequestError):
            generate.get_extra_claims(server.models["app"], "implicit", None, "read")


@pytest.mark.standard("B16")
def test_a_certificate_header_that_bypasses_the_proxy_is_ignored(server):
    form = {"grant_type": "client_credentials", "client_id": "billing"}
    response = server.app.test_client().post(
        "/token",
        data=form,
        headers=proxy_fields(BILLING),
        base_url="https://as.example",
        environ_overrides={**PROXY, "REMOTE_ADDR": "203.0.113.9"},
    )
    refused(response)


def test_without_the_certificate_layer_nothing_is_answered(server, monkeypatch):
    monkeypatch.setattr(server.app, "wsgi_app", server.app.wsgi_app._app)
    monkeypatch.setattr(server.app, "testing", True)
    with pytest.raises(ConfigurationError, match="has no ClientCertificateMiddleware"):
        server.token("billing", BILLING)


def test_what_cannot_be_had_is_503_with_a_time_to_come_back(server, monkeypatch):
    def validate(certificate: ClientCertificate, now: float) -> Any:
        raise Unavailable("the CRL", retry_after=7)

    monkeypatch.setattr(server.registry._authenticator._trust_store, "decide", validate)
    response = server.token("billing", BILLING)
    refused(response, "temporarily_unavailable", 503)
    assert response.headers["Retry-After"] == "7"


def test_the_log_says_why_and_nothing_secret(server, caplog):
    caplog.set_level(logging.DEBUG, "mtls_middleware")
    refused(server.token("billing", OTHER))
    allowed, record = [each for each in caplog.records if each.name == "mtls_middleware.decision"]
    assert allowed.mtls["outcome"] == "allowed"  # by the certificate layer; Authlib's server then refuses
    assert record.mtls["code"] == "invalid_client"
    assert record.mtls["thumbprint"] == OTHER.thumbprint
    assert "BEGIN CERTIFICATE" not in caplog.text
    caplog.clear()
    server.post("/token", {"grant_type": "client_credentials"}, headers=basic("billing"))
    assert caplog.records
    assert SECRET not in caplog.text


def test_a_server_without_registry_cannot_be_made():
    for made in (
        lambda: CertificateAuthorizationServer(registry={"billing": None}),
        lambda: CertificateBoundTokenGenerator("https://as.example", registry=None),
    ):
        with pytest.raises(ConfigurationError, match=r"registry=.*for example ClientRegistry\(clients\)"):
            made()
