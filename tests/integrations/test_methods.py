"""The registered method is the only one, in Authlib and in django-oauth-toolkit: a table of methods and endpoints."""

from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from mtls_middleware.token_endpoint.credentials import STANDARD_METHODS
from tests.integrations.authlib_models import BILLING, CA, SELF, UNVERIFIED, Server
from tests.integrations.clients import metadata
from tests.integrations.django_server import serving
from tests.methods import CUSTOM, IN, UNKNOWN, USED, expected, sent
from tests.token_endpoint.roles import EC_KEY

Ask = Callable[..., str]

PUBLIC_JWK = jwt.get_algorithm_by_name("ES256").to_jwk(EC_KEY.public_key(), as_dict=True)
OWN: dict[str, dict[str, Any]] = {
    "tls_client_auth": {"tls_client_auth_san_dns": "billing.internal"},
    "self_signed_tls_client_auth": {"jwks": metadata(SELF)["robot"]["jwks"]},
    "private_key_jwt": {"jwks": {"keys": [PUBLIC_JWK]}},
}
# One client for each method, named after it.
CLIENTS = {
    method: {"token_endpoint_auth_method": method, "client_name": "table", **OWN.get(method, {})}
    for method in (*STANDARD_METHODS, CUSTOM)
}
# Each endpoint, and a request of which only the client's authentication can be wrong.
ENDPOINTS = {
    "token": {"grant_type": "authorization_code", "code": "x", "redirect_uri": "https://app.example/callback"},
    "refresh": {"grant_type": "refresh_token", "refresh_token": "x"},
    "introspection": {"token": "x"},
    "revocation": {"token": "x"},
    "device authorization": {},
}
AUTHLIB = dict(zip(ENDPOINTS, ("/token", "/token", "/introspect", "/revoke", "/device_authorization"), strict=True))
TOOLKIT = {
    "token": "/o/token/",
    "refresh": "/o/token/",
    "introspection": "/o/introspect/",
    "revocation": "/o/revoke_token/",
    "device authorization": "/o/device-authorization/",
}
UNVERIFIABLE = {"authlib": {"client_secret_jwt", CUSTOM}, "toolkit": {"client_secret_jwt", "private_key_jwt", CUSTOM}}


class Asked:
    """One library's server: what becomes of a request to one of its endpoints."""

    def __init__(self, library: str, server: Any, paths: dict[str, str]) -> None:
        self.library, self.server, self.paths = library, server, paths

    def __call__(self, endpoint: str, form: list[tuple[str, str]], authorization: str | None, certificate: Any) -> str:
        shown = {"CA's": (BILLING, "SUCCESS"), "own": (SELF, UNVERIFIED)}.get(certificate, (None, "SUCCESS"))
        headers = {} if authorization is None else {"Authorization": authorization}
        whole = ENDPOINTS[endpoint] | dict(form)
        response = self.server.post(self.paths[endpoint], whole, shown[0], verify=shown[1], headers=headers)
        if endpoint == "introspection" and response.status_code == 403:
            return "403"
        answer = response.json if self.library == "authlib" else response.json() if response.text else {}
        error = (answer or {}).get("error")
        if response.status_code == 200 or (endpoint in ("token", "refresh") and error == "invalid_grant"):
            return IN
        return f"{response.status_code} {error}"


@pytest.fixture(scope="module", params=["authlib", pytest.param("toolkit", marks=pytest.mark.live)])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    directory = tmp_path_factory.mktemp("table")
    if request.param == "toolkit":
        # No scope: the toolkit 3.4 fails with a TypeError on the scope that oauthlib 4.0 gives it for a device.
        provider = {"OAUTH_DEVICE_VERIFICATION_URI": "https://as.example/device", "DEFAULT_SCOPES": []}
        with serving("gunicorn", directory, CA.pem, CLIENTS, **provider) as server:
            yield Asked("toolkit", server, TOOLKIT)
        return
    (directory / "clients-ca.pem").write_text(CA.pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        authlib = Server(CLIENTS)
    authlib.verify_assertions(lambda subject, jti: True)
    yield Asked("authlib", authlib, AUTHLIB)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("registered", CLIENTS)
@pytest.mark.standard("B5", "B6", "B21")
@pytest.mark.case("138", "140")
def test_each_method_at_each_endpoint(ask: Asked, registered: str, endpoint: str) -> None:
    found, wanted = {}, {}
    for used in USED:
        what = sent(registered, used)
        form = what.form
        if ask.library == "toolkit" and endpoint == "device authorization" and not form:
            form = [("client_id", registered)]  # oauthlib demands it beside Basic, too
        found[used] = ask(endpoint, form, what.authorization, what.certificate)
        outcome = expected(registered, used)
        closed = registered in UNVERIFIABLE[ask.library] or (registered == "none" and endpoint == "introspection")
        outcome = UNKNOWN if closed and outcome == IN else outcome
        wanted[used] = "403" if ask.library == "toolkit" and endpoint == "introspection" and outcome != IN else outcome
    assert found == wanted
