"""The server of docs/integrations.md with django-oauth-toolkit, on gunicorn (WSGI) and uvicorn (ASGI)."""

import base64
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from tests.integrations import django_project
from tests.integrations.clients import BOUND, SECRET, basic, metadata
from tests.integrations.django_server import Server, serving

pytestmark = pytest.mark.live

CA, OTHER_CA = CertificateAuthority(), CertificateAuthority()
BILLING, OTHER = (CA.issue(f"CN={name}", dns=[f"{name}.internal"]) for name in ("billing", "other"))
FORGED = OTHER_CA.issue("CN=billing", dns=["billing.internal"])  # the right name, from an untrusted CA
SELF, SELF_OTHER = self_signed("CN=robot"), self_signed("CN=robot")
UNVERIFIED = "FAILED:self-signed certificate"
PKI = {"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_san_dns": "billing.internal", **BOUND}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CLIENTS = metadata(SELF) | {
    "web": PKI,
    "careless": PKI,  # a public client for the toolkit, with a certificate registered
    "absent": {"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks_uri": "https://127.0.0.1:9/jwks"},
}
# Both of oauthlib's servers, tokens stored as they are and by their digests alone, refresh tokens changed and kept.
PROVIDERS: dict[str, dict[str, Any]] = {
    "gunicorn": {},
    "uvicorn": {
        "OIDC_ENABLED": True,
        "OIDC_RSA_PRIVATE_KEY": KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "SCOPES": {"read": "Read", "openid": "OpenID", "introspection": "Introspect tokens"},
        "DEFAULT_SCOPES": ["read"],
        "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
        "ROTATE_REFRESH_TOKEN": False,
    },
}


@pytest.fixture(scope="module", params=PROVIDERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp(request.param)
    with serving(request.param, directory, CA.pem, CLIENTS, **PROVIDERS[request.param]) as running_server:
        yield running_server


def issued(response):
    assert response.status_code == 200, response.text
    assert response.json()["token_type"] == "Bearer"
    return response.json()


def refused(response, error="invalid_client", status=401):
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert "access_token" not in response.text


def introspect(server, text):
    return server.post("/o/introspect/", {"token": text, "client_id": "billing"}, BILLING).json()


def cnf(certificate: IssuedCertificate) -> dict[str, str]:
    return {"x5t#S256": certificate.thumbprint}


@pytest.mark.standard("B1", "B15", "B21")
def test_introspection_returns_the_binding_of_a_certificate_clients_token(server):
    for client_id, certificate, verify in (("billing", BILLING, "SUCCESS"), ("robot", SELF, UNVERIFIED)):
        text = issued(server.token(client_id, certificate, verify=verify))["access_token"]
        answer = introspect(server, text)
        assert (answer["active"], answer["client_id"], answer["cnf"]) == (True, client_id, cnf(certificate))


@pytest.mark.standard("B3", "B4", "B7", "B11", "B19")
@pytest.mark.parametrize(
    ("client_id", "certificate", "verify"),
    [
        pytest.param("billing", None, "SUCCESS", id="none"),
        pytest.param("billing", OTHER, "SUCCESS", id="another client's"),
        pytest.param("billing", FORGED, "SUCCESS", id="of another CA"),
        pytest.param("billing", FORGED, UNVERIFIED, id="unverified"),
        pytest.param("robot", None, "SUCCESS", id="none for self-signed"),
        pytest.param("robot", SELF_OTHER, UNVERIFIED, id="not registered"),
        pytest.param("nobody", BILLING, "SUCCESS", id="nobody's client"),
        pytest.param("secret", BILLING, "SUCCESS", id="a client with a secret"),
        pytest.param("app", SELF, UNVERIFIED, id="a public client"),
        pytest.param("careless", None, "SUCCESS", id="none for a public type"),
    ],
)
def test_a_wrong_or_missing_certificate_is_invalid_client(server, client_id, certificate, verify):
    refused(server.token(client_id, certificate, verify=verify))


@pytest.mark.standard("B5", "B17")
def test_a_client_with_a_secret_ignores_its_certificate(server):
    form = {"grant_type": "client_credentials"}
    for certificate in (None, BILLING):
        text = issued(server.post("/o/token/", form, certificate, headers=basic("secret")))["access_token"]
        assert "cnf" not in introspect(server, text)
    refused(server.post("/o/token/", form, BILLING, headers=basic("secret", "wrong")))
    refused(server.post("/o/token/", form | {"client_id": "secret", "client_secret": SECRET}))  # it registered Basic


def test_a_client_that_asks_for_bound_tokens_gets_bound_ones_or_none(server):
    form = {"grant_type": "client_credentials"}
    text = issued(server.post("/o/token/", form, OTHER, headers=basic("bound-secret")))["access_token"]
    assert introspect(server, text)["cnf"] == cnf(OTHER)
    refused(server.post("/o/token/", form, headers=basic("bound-secret")), "invalid_request", 400)


@pytest.mark.standard("B5", "B6")
@pytest.mark.parametrize("client_id", ["billing", "robot", "careless"])
def test_a_client_of_a_certificate_never_comes_by_its_secret(server, client_id):
    text = issued(server.token("billing", BILLING))["access_token"]
    form = {"grant_type": "client_credentials", "token": text}
    for certificate in (None, BILLING):
        for sent, headers in (
            (form, basic(client_id)),
            (form | {"client_id": client_id}, basic(client_id)),
            (form | {"client_id": client_id, "client_secret": SECRET}, {}),
            (form | {"client_id": "secret"}, basic(client_id)),
        ):
            for path in ("/o/token/", "/o/revoke_token/"):
                response = server.post(path, sent, certificate, headers=headers)
                assert response.status_code in (400, 401)
                assert response.json()["error"] in ("invalid_client", "invalid_request")
            assert server.post("/o/introspect/", sent, certificate, headers=headers).status_code == 403
    assert introspect(server, text)["active"] is True


@pytest.mark.standard("B2")
@pytest.mark.case("137")
def test_a_client_id_that_is_absent_repeated_or_in_the_query_is_refused(server):
    form = {"grant_type": "client_credentials"}
    refused(server.post("/o/token/", form, BILLING))
    twice = server.post("/o/token/", form | {"client_id": ["secret", "billing"]}, BILLING)
    refused(twice, "invalid_request", 400)
    in_query = server.post("/o/token/?client_id=billing", form, BILLING)
    refused(in_query, "invalid_request", 400)
    text = issued(server.token("billing", BILLING))["access_token"]
    for path in ("/o/introspect/?client_id=billing", "/o/introspect/?client_id=secret"):
        response = server.post(path, {"token": text, "client_id": "billing"}, BILLING)
        assert response.status_code == 403


@pytest.mark.standard("B21")
def test_introspection_and_revocation_authenticate_by_certificate(server):
    text = issued(server.token("billing", BILLING))["access_token"]
    form = {"token": text, "client_id": "billing"}
    for certificate in (None, OTHER, FORGED):
        assert server.post("/o/introspect/", form, certificate).status_code == 403
        refused(server.post("/o/revoke_token/", form, certificate))
    robots = {"token": text, "client_id": "robot"}
    assert server.post("/o/revoke_token/", robots, SELF, verify=UNVERIFIED).status_code == 200
    assert introspect(server, text)["active"] is True  # another client's token stays
    assert server.post("/o/revoke_token/", form, BILLING).status_code == 200
    assert introspect(server, text) == {"active": False}
    assert introspect(server, "unknown") == {"active": False}


@pytest.mark.standard("B21")
def test_introspection_is_for_clients_and_for_tokens_of_its_scope(server):
    """What the toolkit's view asks for: client authentication, or a token with the scope `introspection`."""
    form = {"grant_type": "client_credentials", "client_id": "billing"}
    scoped, other = (
        issued(server.post("/o/token/", form | {"scope": scope}, BILLING))["access_token"]
        for scope in ("introspection", "read")
    )
    named, secret = {"client_id": "billing"}, {"client_secret": SECRET}
    bearer, wrong = ({"Authorization": f"Bearer {text}"} for text in (scoped, other))
    for more, certificate, headers, status in (
        (named, BILLING, {}, 200),
        ({}, None, basic("secret"), 200),
        ({}, BILLING, bearer, 200),
        ({}, None, bearer, 403),  # the token is bound
        ({}, OTHER, bearer, 403),
        ({}, BILLING, wrong, 403),
        (named | secret, BILLING, {}, 403),
        (named, None, {}, 403),
        ({"client_id": "app"}, OTHER, {}, 403),
        ({"client_id": "plain-app"}, None, {}, 403),
        ({}, BILLING, {}, 403),
    ):
        response = server.post("/o/introspect/", {"token": other, **more}, certificate, headers=headers)
        assert response.status_code == status, (more, certificate, headers)
        assert status == 403 or response.json()["cnf"] == cnf(BILLING)


@pytest.mark.standard("A1", "A2")
def test_a_bound_token_at_a_protected_view_needs_its_certificate(server):
    text = issued(server.token("robot", SELF, verify=UNVERIFIED))["access_token"]
    bearer = {"Authorization": f"Bearer {text}"}
    paths = ["/me"] if server.kind == "uvicorn" else ["/me", "/decorated"]
    for path in paths:
        assert server.ask("GET", path, SELF, verify=UNVERIFIED, headers=bearer).text == "me"
        for certificate in (None, BILLING, SELF_OTHER):
            assert server.ask("GET", path, certificate, verify=UNVERIFIED, headers=bearer).status_code == 403
            challenged = server.ask("GET", "/challenged", certificate, verify=UNVERIFIED, headers=bearer)
            assert challenged.status_code == 401
            assert 'error="invalid_token"' in challenged.headers["WWW-Authenticate"]
    assert server.ask("GET", "/challenged", SELF, verify=UNVERIFIED, headers=bearer).text == "me"
    assert server.ask("GET", "/decorated", None, headers=bearer).status_code >= 400


def test_what_a_token_is_bound_to_cannot_be_changed_or_cut_off(server):
    text = issued(server.token("billing", BILLING))["access_token"]
    start, mark, thumbprint = text.rpartition("~x5t-S256~")
    assert (mark, thumbprint) == ("~x5t-S256~", BILLING.thumbprint)
    for forged in (start, start + mark + OTHER.thumbprint, text + mark + OTHER.thumbprint, start + mark):
        bearer = {"Authorization": f"Bearer {forged}"}
        for certificate in (None, OTHER, BILLING):
            assert server.ask("GET", "/me", certificate, headers=bearer).status_code == 403
        assert introspect(server, forged) == {"active": False}


@pytest.mark.standard("P10")
def test_a_public_client_with_pkce_gets_bound_access_and_refresh_tokens(server):
    granted = issued(server.post("/o/token/", server.code("app", "a" * 50), SELF, verify=UNVERIFIED))
    assert introspect(server, granted["access_token"])["cnf"] == cnf(SELF)
    assert introspect(server, granted["access_token"])["username"] == "alice"
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"], "client_id": "app"}
    for certificate in (None, SELF_OTHER):
        refused(server.post("/o/token/", form, certificate, verify=UNVERIFIED), "invalid_grant", 400)
    stripped = form | {"refresh_token": granted["refresh_token"].partition("~")[0]}
    refused(server.post("/o/token/", stripped, SELF, verify=UNVERIFIED), "invalid_grant", 400)
    renewed = issued(server.post("/o/token/", form, SELF, verify=UNVERIFIED))
    assert introspect(server, renewed["access_token"])["cnf"] == cnf(SELF)
    assert (renewed["refresh_token"] == granted["refresh_token"]) is (server.kind == "uvicorn")
    form["refresh_token"] = renewed["refresh_token"]
    refused(server.post("/o/token/", form), "invalid_grant", 400)


def test_a_public_client_needs_its_code_verifier_and_a_certificate(server):
    wrong = server.code("app", "a" * 50) | {"code_verifier": "b" * 50}
    refused(server.post("/o/token/", wrong, SELF, verify=UNVERIFIED), "invalid_grant", 400)
    refused(server.post("/o/token/", server.code("app", "a" * 50)), "invalid_request", 400)


def test_a_public_client_that_does_not_ask_is_served_without_certificate(server):
    granted = issued(server.post("/o/token/", server.code("plain-app", "a" * 50)))
    assert "cnf" not in introspect(server, granted["access_token"])
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"], "client_id": "plain-app"}
    issued(server.post("/o/token/", form))


def test_a_client_that_authenticates_refreshes_with_a_renewed_certificate(server):
    granted = issued(server.post("/o/token/", server.code("web", "v" * 50), BILLING))
    assert "~" not in granted["refresh_token"]
    renewed = CA.issue("CN=billing", dns=["billing.internal"])
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"], "client_id": "web"}
    refused(server.post("/o/token/", form, OTHER))
    assert introspect(server, issued(server.post("/o/token/", form, renewed))["access_token"])["cnf"] == cnf(renewed)


def test_a_public_client_type_with_a_registered_certificate_is_rejected(server):
    form = server.code("careless", "v" * 50)
    for certificate in (None, OTHER, BILLING):
        refused(server.post("/o/token/", form, certificate))
    log = server.log()
    assert "client 'careless': token_endpoint_auth_method is 'tls_client_auth'" in log
    assert "client_type is 'public': set client_type to 'confidential'" in log


def test_an_id_token_speaks_of_the_very_token_that_was_issued(server):
    if server.kind == "gunicorn":
        assert "openid" not in server.http.get("/o/.well-known/oauth-authorization-server").text
        return
    granted = issued(server.post("/o/token/", server.code("web", "v" * 50, "openid read"), BILLING))
    claims = jwt.decode(granted["id_token"], KEY.public_key(), ["RS256"], audience="web")
    half = hashlib.sha256(granted["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    assert introspect(server, granted["access_token"])["cnf"] == cnf(BILLING)


def test_an_outage_of_registered_keys_causes_503_with_retry_after(server):
    response = server.token("absent", SELF, verify=UNVERIFIED)
    refused(response, "temporarily_unavailable", 503)
    assert int(response.headers["Retry-After"]) > 0


# In a process of its own for each: Django has its settings once.

ASK = """
import sys, django
django.setup()
import werkzeug.test
from mtls_middleware.testing import TESTING_ENVIRON, CertificateAuthority
from tests.integrations.page_code import proxy_fields
from wsgi import application
peer = {**TESTING_ENVIRON, "REMOTE_ADDR": "127.0.0.1", "wsgi.errors": sys.stderr}
certificate = proxy_fields(CertificateAuthority().issue("CN=any"))
authorization = {"Authorization": sys.argv[1]}
application = application._app if sys.argv[2] == "bare" else application
form = {"grant_type": "client_credentials"}
response = werkzeug.test.Client(application).post(
    "/o/token/", data=form, headers=certificate | authorization, environ_overrides=peer
)
print(response.status_code, response.text)
"""


@pytest.mark.parametrize(
    ("wrong", "how", "clients", "message"),
    [
        pytest.param(
            {"ACCESS_TOKEN_GENERATOR": None}, "", ["bound-secret"], "set ACCESS_TOKEN_GENERATOR", id="generator"
        ),
        pytest.param({"OAUTH2_BACKEND_CLASS": None}, "bare", [], "OAUTH2_BACKEND_CLASS", id="backend"),
        pytest.param({}, "bare", [], "has no ClientCertificateMiddleware", id="layer"),
        pytest.param(
            {"OAUTH2_VALIDATOR_CLASS": "mtls_middleware.integrations.django_toolkit.CertificateValidator"},
            "",
            [],
            "CertificateValidator.registry: expected a ClientRegistry",
            id="registry",
        ),
    ],
)
def test_wrong_settings_issue_no_token_and_name_the_fix(tmp_path, wrong, how, clients, message):
    environment = django_project.write(tmp_path, CA.pem, {name: CLIENTS[name] for name in clients}, **wrong)
    result = of_its_own(environment, ASK, basic("bound-secret")["Authorization"], how)
    assert message in result.stderr
    assert "access_token" not in result.stdout


def of_its_own(environment: dict[str, str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment | {"PROPAGATE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


# Requests as a toolkit with other views would make them: for each, whether the validator admits the client.
DIFFERENTLY = """
import sys, django
django.setup()
from oauthlib.common import Request
from clients.oauth import Validator
from mtls_middleware.integrations.django_toolkit import bound_access_token
validator = Validator()
def request(form, basic=None, **more):
    headers = {"HTTP_AUTHORIZATION": basic, "Authorization": basic} if basic else {}
    return Request("/o/token/", "POST", form, headers | {"mtls_middleware.certificate": None} | more)
def admitted(ask, *given):
    try:
        return ask(*given)
    except Exception as error:
        return getattr(error, "error", repr(error))
billing, secret = sys.argv[1:3]
own = request("grant_type=client_credentials&client_id=secret", secret)
print(admitted(validator.authenticate_client, own), bound_access_token(own, "of my own"))
print(admitted(validator.authenticate_client, request("client_id=secret", billing)))
print(admitted(validator.authenticate_client, request("mtls_registered_client=x&client=x&client_id=secret", secret)))
for named in ("plain-app", "careless", "nobody", "secret"):
    print(named, admitted(validator.authenticate_client_id, named, request("client_id=" + named)))
print(admitted(validator.authenticate_client_id, "plain-app", request("client_id=secret", secret)))
print(admitted(validator.authenticate_client, request("client_id=plain-app")))
def at_the_authorization_endpoint(client_id):
    uri = "/o/authorize/?response_type=token&grant_type=refresh_token&client_id=" + client_id
    implicit = Request(uri, "GET", "", {"mtls_middleware.certificate": certificate})
    validator.validate_client_id(client_id, implicit)
    return bound_access_token(implicit, "implicit")
from mtls_middleware.testing import CertificateAuthority
certificate = CertificateAuthority().issue("CN=browser").client_certificate()
for named in ("plain-app", "app", "careless"):
    print(named, admitted(at_the_authorization_endpoint, named))
"""


# The toolkit's fallback: Basic fails, then it takes the absent client_secret for an empty one. This client has one.
EMPTY = """
import base64, django
django.setup()
from django.contrib.auth.hashers import make_password
from oauth2_provider.models import Application
from oauthlib.common import Request
from clients.oauth import Validator
application = Application(client_id="blank", client_type="confidential", authorization_grant_type="client-credentials")
for stored in ("", make_password("")):
    application.client_secret, application.hash_client_secret = stored, False
    application.save()
    outcomes = []
    for form, basic in (
        ("client_id=blank", "blank:wrong"), ("client_id=blank", "blank:"), ("client_id=blank", None),
        ("client_id=blank&client_secret=", None), ("client_id=blank&client_secret=", "blank:wrong"),
        ("client_id=blank&grant_type=urn:ietf:params:oauth:grant-type:device_code", "blank:wrong"),
    ):
        headers = {"mtls_middleware.certificate": None}
        if basic:
            encoded = "Basic " + base64.b64encode(basic.encode()).decode()
            headers["Authorization"] = headers["HTTP_AUTHORIZATION"] = encoded
        try:
            outcomes.append(Validator().authenticate_client(Request("/o/token/", "POST", form, headers)))
        except Exception as error:
            outcomes.append(error.error)
    print(outcomes)
"""


def test_an_application_with_an_empty_secret_has_no_secret(tmp_path):
    environment = django_project.write(tmp_path, CA.pem, {"plain-app": CLIENTS["plain-app"]})
    result = of_its_own(environment, EMPTY)
    assert result.stdout.splitlines() == [
        "['invalid_client', 'invalid_client', 'invalid_client', 'invalid_client', 'invalid_client', 'invalid_client']",
        "[False, 'invalid_client', 'invalid_client', 'invalid_client', False, False]",
    ], result.stderr


def test_the_validator_enforces_the_registered_method_on_every_call(tmp_path):
    clients = {name: CLIENTS[name] for name in ("billing", "secret", "app", "plain-app", "careless")}
    environment = django_project.write(tmp_path, CA.pem, clients)
    authorizations = [basic(name)["Authorization"] for name in ("billing", "secret")]
    result = of_its_own(environment, DIFFERENTLY, *authorizations)
    assert result.stdout.splitlines() == [
        "True of my own",
        "invalid_request",
        "True",
        "plain-app True",
        "careless invalid_client",
        "nobody invalid_client",
        "secret invalid_client",
        "False",
        "False",
        "plain-app implicit",
        "app invalid_request",
        "careless invalid_client",
    ], result.stderr
