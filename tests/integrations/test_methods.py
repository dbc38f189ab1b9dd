"""The registered method is the only one, in Authlib and in django-oauth-toolkit: a table of methods and endpoints."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from mtls_middleware.token_endpoint.credentials import CREDENTIAL_PARAMETERS, STANDARD_METHODS
from tests.integrations.authlib_models import BILLING, CA, PROXY, SELF, UNVERIFIED, Server
from tests.integrations.clients import metadata
from tests.integrations.django_server import serving
from tests.integrations.page_code import proxy_fields
from tests.methods import CUSTOM, IN, SECRET, UNKNOWN, USED, expected, sent
from tests.token_endpoint.roles import EC_KEY, assertion, basic

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
        return self.raw(endpoint, urlencode([*ENDPOINTS[endpoint].items(), *form]).encode(), headers, *shown)

    def raw(
        self, endpoint: str, body: bytes, headers: Any, certificate: Any = None, verify: str = "SUCCESS", **how: Any
    ) -> str:
        """`headers`: beside the content type of a form. `how`: `query`, and the HTTP `method`."""
        fields = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        fields |= proxy_fields(certificate, verify=verify) if certificate else {}
        path, method = f"{self.paths[endpoint]}?{how.get('query', '')}".rstrip("?"), how.get("method", "POST")
        if self.library == "authlib":
            client, base = self.server.app.test_client(), "https://as.example"
            response = client.open(
                path, method=method, data=body, headers=fields, base_url=base, environ_overrides=PROXY
            )
        else:
            response = self.server.http.request(method, path, content=body, headers=fields)
        if response.status_code >= 500:
            return f"{response.status_code} {response.text}"
        if endpoint == "introspection" and response.status_code == 403:
            return "403"
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        error = (json.loads(response.text) or {}).get("error") if is_json and response.text else None
        if response.status_code == 200 or (endpoint in ("token", "refresh") and error == "invalid_grant"):
            return IN
        return f"{response.status_code} {error}"


@pytest.fixture(scope="module", params=["authlib", pytest.param("toolkit", marks=pytest.mark.live)])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    directory = tmp_path_factory.mktemp("table")
    if request.param == "toolkit":
        # No scope: the toolkit 3.4.1 fails with a TypeError on the scope that oauthlib 4.0.1 gives it for a device.
        provider = {"OAUTH_DEVICE_VERIFICATION_URI": "https://as.example/device", "DEFAULT_SCOPES": []}
        with serving("gunicorn", directory, CA.pem, CLIENTS, **provider) as server:
            yield Asked("toolkit", server, TOOLKIT)
        return
    (directory / "clients-ca.pem").write_text(CA.pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        authlib = Server(CLIENTS)
    authlib.add("client_assertions.py", first_use=lambda subject, jti: True)
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


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("registered", CLIENTS)
def test_parameters_without_a_value_change_nothing(ask: Asked, registered: str, endpoint: str) -> None:
    """RFC 6749 3.2: they are treated as omitted."""
    without, with_empty = {}, {}
    for used in USED:
        what = sent(registered, used)
        given = {name for name, _ in what.form}
        if ask.library == "toolkit" and endpoint == "device authorization":
            given.add("client_id")  # oauthlib requires it there
        empty = [(name, "") for name in CREDENTIAL_PARAMETERS if name not in given]
        without[used] = ask(endpoint, what.form, what.authorization, what.certificate)
        with_empty[used] = ask(endpoint, [*what.form, *empty], what.authorization, what.certificate)
    assert with_empty == without


# --- attacks: none of these requests may authenticate, and none may be a server error ---

BASIC_CLIENT, POST_CLIENT, JWT_CLIENT = "client_secret_basic", "client_secret_post", "private_key_jwt"


def form(*pairs: tuple[str, str]) -> bytes:
    return urlencode(pairs).encode()


def header(user: str, secret: str = SECRET, scheme: str = "Basic") -> dict[str, str]:
    return {"Authorization": basic(user, secret).replace("Basic", scheme)}


def multipart(*pairs: tuple[str, str]) -> tuple[bytes, dict[str, str]]:
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in pairs]
    return "".join([*parts, "--x--\r\n"]).encode(), {"Content-Type": "multipart/form-data; boundary=x"}


def signed_payload(payload: bytes) -> tuple[str, str]:
    """An assertion with the client's own signature, whatever the payload is."""
    parts = b".".join(base64.urlsafe_b64encode(each).rstrip(b"=") for each in (b'{"alg": "ES256"}', payload))
    signature = jwt.get_algorithm_by_name("ES256").sign(parts, EC_KEY)
    return "client_assertion", f"{parts.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


JSON = {"Content-Type": "application/json"}
NAMED_JWT = (("client_id", JWT_CLIENT), assertion(JWT_CLIENT)[0])
TWICE = multipart(("client_id", "none"), ("client_id", POST_CLIENT), ("client_secret", SECRET))
ATTACKS: dict[str, tuple[bytes, dict[str, str], dict[str, Any]]] = {
    "Basic of one client, client_id of another": (form(("client_id", "none")), header(BASIC_CLIENT), {}),
    "Basic with a wrong secret, client_id of it": (form(("client_id", BASIC_CLIENT)), header(BASIC_CLIENT, "x"), {}),
    "Basic of one, secret of another": (
        form(("client_id", POST_CLIENT), ("client_secret", SECRET)),
        header(BASIC_CLIENT),
        {},
    ),
    "Basic and client_secret": (form(("client_id", BASIC_CLIENT), ("client_secret", SECRET)), header(BASIC_CLIENT), {}),
    "Basic and an assertion": (form(*assertion(JWT_CLIENT)), header(JWT_CLIENT), {}),
    "client_secret and an assertion": (
        form(("client_id", POST_CLIENT), ("client_secret", SECRET), *assertion(POST_CLIENT)),
        {},
        {},
    ),
    "Basic with an empty secret": (b"", header(BASIC_CLIENT, ""), {}),
    "Basic with an empty secret for a client of another method": (b"", header(POST_CLIENT, ""), {}),
    "Basic with an empty secret for a public client": (form(("client_id", "none")), header("none", ""), {}),
    "Basic with an empty user": (form(("client_id", "none")), header(""), {}),
    "Basic with an empty user alone": (b"", header(""), {}),
    "Basic with nothing": (b"", {"Authorization": "Basic Og=="}, {}),
    "Basic without a colon": (b"", {"Authorization": "Basic bm9uZQ=="}, {}),
    "Basic after a tab": (b"", {"Authorization": basic(BASIC_CLIENT).replace(" ", "\t")}, {}),
    "Basic with junk inside": (b"", {"Authorization": basic(BASIC_CLIENT)[:-4] + "!" + basic(BASIC_CLIENT)[-4:]}, {}),
    "two Basic in one field": (b"", {"Authorization": f"{basic(BASIC_CLIENT)}, {basic(JWT_CLIENT)}"}, {}),
    "basic in lower case for a client of JWT": (b"", header(JWT_CLIENT, SECRET, "basic"), {}),
    "an empty client_secret": (form(("client_id", POST_CLIENT), ("client_secret", "")), {}, {}),
    "an empty client_secret for a client of Basic": (form(("client_id", BASIC_CLIENT), ("client_secret", "")), {}, {}),
    "a client_secret without a value": (form(("client_id", JWT_CLIENT)) + b"&client_secret", {}, {}),
    "an empty client_id before": (b"client_id=&client_id=none", {}, {}),
    "an empty client_id after": (b"client_id=none&client_id=", {}, {}),
    "client_id twice": (b"client_id=none&client_id=none", {}, {}),
    "client_id twice, once encoded": (b"client_id=none&client%5Fid=none", {}, {}),
    "client_secret twice": (
        form(("client_id", POST_CLIENT), ("client_secret", "x"), ("client_secret", SECRET)),
        {},
        {},
    ),
    "client_assertion twice": (form(*assertion(JWT_CLIENT), assertion(JWT_CLIENT)[1]), {}, {}),
    "client_id in the query": (b"", {}, {"query": "client_id=none"}),
    "client_id in the query and in the body": (form(("client_id", "none")), {}, {"query": "client_id=none"}),
    "client_secret in the query": (form(("client_id", POST_CLIENT)), {}, {"query": f"client_secret={SECRET}"}),
    "everything in the query": (b"", {}, {"query": urlencode({"client_id": POST_CLIENT, "client_secret": SECRET})}),
    "an assertion in the query": (b"", {}, {"query": urlencode(assertion(JWT_CLIENT))}),
    "an assertion of another type": (
        form(("client_assertion_type", "urn:x"), assertion(JWT_CLIENT)[1], ("client_id", JWT_CLIENT)),
        {},
        {},
    ),
    "an assertion without a type": (form(assertion(JWT_CLIENT)[1]), {}, {}),
    "a type without an assertion": (form(assertion(JWT_CLIENT)[0], ("client_id", "none")), {}, {}),
    "an assertion of one client, client_id of another": (form(("client_id", "none"), *assertion(JWT_CLIENT)), {}, {}),
    "an assertion with a MAC of the secret": (form(*assertion(JWT_CLIENT, key=SECRET, algorithm="HS256")), {}, {}),
    "an assertion without a signature": (form(*assertion(JWT_CLIENT, key=None, algorithm="none")), {}, {}),
    "an assertion of a client with a certificate": (form(*assertion("tls_client_auth")), {}, {}),
    "an assertion nested deeply": (form(*NAMED_JWT, signed_payload(b"[" * 20_000)), {}, {}),
    "an assertion of two clients": (
        form(*NAMED_JWT, signed_payload(b'{"sub": "private_key_jwt", "sub": "none"}')),
        {},
        {},
    ),
    "a client that nobody registered": (form(("client_id", "nobody")), {}, {}),
    "a public client that nobody registered, by Basic": (b"", header("nobody"), {}),
    "another case": (form(("client_id", "None")), {}, {}),
    "a blank before": (form(("client_id", " none")), {}, {}),
    "letters beyond ASCII": (form(("client_id", "n\u00f6ne")), {}, {}),
    "letters beyond ASCII by Basic": (b"", header("n\u00f6ne"), {}),
    "a full-width letter": (form(("client_id", "\uff4eone")), {}, {}),
    "a NUL": (form(("client_id", "none\0")), {}, {}),
    "a NUL by Basic": (b"", header("client_secret_basic\0"), {}),
    "an octet that is not UTF-8": (b"client_id=none%ff", {}, {}),
    "a client_id with brackets": (b"client_id[]=none", {}, {}),
    "semicolons": (b"x=y;client_id=none", {}, {}),
    "a JSON body": (json.dumps({"client_id": "none", **ENDPOINTS["refresh"]}).encode(), JSON, {}),
    "a JSON body with a secret": (json.dumps({"client_id": POST_CLIENT, "client_secret": SECRET}).encode(), JSON, {}),
    "a multipart body with client_id twice": (TWICE[0], TWICE[1], {}),
    "PUT": (form(("client_id", "none")), {}, {"method": "PUT"}),
    "PUT with a secret": (form(("client_id", POST_CLIENT), ("client_secret", SECRET)), {}, {"method": "PUT"}),
    "GET with Basic of a client of JWT": (b"", header(JWT_CLIENT), {"method": "GET", "query": "token=x"}),
    "GET of a public client": (b"", {}, {"method": "GET", "query": "client_id=none&token=x"}),
    "parameters with the names of attributes": (
        form(
            ("client_id", JWT_CLIENT), ("client", "none"), ("mtls_registered_client", "none"), ("auth_method", "none")
        ),
        {},
        {},
    ),
    "a charset for Basic in the query": (b"", header(BASIC_CLIENT, "x"), {"query": "encoding=nonsense"}),
    "a charset for Basic in the body": (form(("encoding", "nonsense")), header(BASIC_CLIENT, "x"), {}),
    "another charset for Basic": (form(("encoding", "utf-7")), header("none", "+AGE-"), {}),
    "a device of a public client by Basic": (
        form(("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", "x")),
        header("none", "wrong"),
        {},
    ),
    "client credentials of a public client": (
        form(("grant_type", "client_credentials"), ("client_id", "none")),
        {},
        {"alone": True},
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.standard("B2", "B5", "B6")
@pytest.mark.case("137", "138")
def test_an_attack_authenticates_no_client(ask: Asked, attack: str) -> None:
    body, headers, how = ATTACKS[attack]
    is_form = "Content-Type" not in headers
    found = {}
    for endpoint, fields in ENDPOINTS.items():
        if how.get("alone") and endpoint != "token":
            continue
        own = urlencode({k: v for k, v in fields.items() if f"{k}=".encode() not in body}).encode()
        whole = b"&".join(each for each in (body, own) if each) if is_form else body
        for certificate, verify in ((None, "SUCCESS"), (BILLING, "SUCCESS"), (SELF, UNVERIFIED)):
            found[endpoint, verify, bool(certificate)] = ask.raw(endpoint, whole, headers, certificate, verify, **how)
    assert not {where: what for where, what in found.items() if what == IN or what.startswith("5")}
