"""curl as the client: each grant of the sample authorization server, and each API, with `--cert` and without."""

import base64
import hashlib
import json
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest

from tests.live.peers.deployment import REDIRECT_URI, SECRET, Deployment

pytestmark = pytest.mark.live


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, list[str]]
    body: str

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def challenge(self) -> str:
        return ", ".join(self.headers.get("www-authenticate", []))


def curl(deployment: Deployment, certificate: str | None, *arguments: str) -> Answer:
    assert shutil.which("curl"), "the tests need curl, which tests/run.sh installs"
    directory = deployment.directory
    own = ("--cert", f"{directory}/{certificate}.pem", "--key", f"{directory}/{certificate}-key.pem")
    report = '\n{"status": %{http_code}, "headers": %{header_json}}'
    done = subprocess.run(
        [
            *("curl", "--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30"),
            *("--cacert", f"{directory}/ca.pem", "--write-out", report),
            *(own if certificate else ()),
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    body, _, report = done.stdout.partition('\n{"status"')
    return Answer(**json.loads('{"status"' + report), body=body)


def post(deployment: Deployment, certificate: str | None, path: str, *more: str, **form: str) -> Answer:
    """A form to where clients with a certificate go, or to where the others do."""
    to = deployment.aliases if certificate else deployment.issuer
    fields = [each for name, value in form.items() for each in ("--data-urlencode", f"{name}={value}")]
    return curl(deployment, certificate, *more, *fields, f"{to}/{path}")


def code(deployment: Deployment, client_id: str) -> dict[str, str]:
    """What a code is exchanged for a token with (RFC 6749 4.1.3, RFC 7636 4.5)."""
    verifier = secrets.token_urlsafe(48)
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": REDIRECT_URI,
        "code_challenge": base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    answer = curl(deployment, None, f"{deployment.issuer}/authorize?{urlencode(query)}")
    assert answer.status == 303
    given = parse_qs(urlsplit(answer.headers["location"][0]).query)["code"][0]
    return {"code": given, "redirect_uri": REDIRECT_URI, "code_verifier": verifier, "client_id": client_id}


def by_client_credentials(deployment: Deployment, client: str) -> Answer:
    return post(deployment, client, "token", grant_type="client_credentials", client_id=client)


def by_code(deployment: Deployment, client: str) -> Answer:
    return post(deployment, client, "token", grant_type="authorization_code", **code(deployment, client))


def by_refresh_token(deployment: Deployment, client: str) -> Answer:
    token = by_code(deployment, client).json["refresh_token"]
    return post(deployment, client, "token", grant_type="refresh_token", refresh_token=token, client_id=client)


@pytest.mark.standard("A2", "A3", "A4", "B15")
@pytest.mark.parametrize(
    ("grant", "client"),
    [
        pytest.param(grant, client, id=f"{grant.__name__}, {client}")
        for grant in (by_client_credentials, by_code, by_refresh_token)
        for client in ("billing", "statistics", "desktop")
        if (grant, client) != (by_client_credentials, "desktop")  # a public client is nobody without a user
    ],
)
def test_every_api_accepts_a_grants_token_only_with_its_certificate(deployment, invoices, grant, client):
    answer = grant(deployment, client)
    assert answer.status == 200
    assert answer.headers["cache-control"] == ["no-store"]
    assert answer.json["token_type"] == "Bearer"
    bearer = ("--header", f"Authorization: Bearer {answer.json['access_token']}", invoices)
    assert curl(deployment, client, *bearer).status == 200
    for certificate in (next(each for each in ("billing", "desktop") if each != client), "statistics renewed", None):
        refusal = curl(deployment, certificate, *bearer)
        assert refusal.status == 401
        assert refusal.challenge.startswith('Bearer realm="protected", error="invalid_token"')
        assert refusal.json["error"] == "invalid_token"


@pytest.mark.standard("A1")
def test_a_certificate_in_client_headers_is_ignored(deployment, invoices):
    token = by_client_credentials(deployment, "billing").json["access_token"]
    billing = deployment.certificates["billing"]
    forged = {
        "X-SSL-Client-Cert": quote(billing.pem, safe=""),
        "X-SSL-Client-Verify": "SUCCESS",
        **billing.as_client_cert(),
    }
    headers = [each for name, value in forged.items() for each in ("--header", f"{name}: {value}")]
    for certificate in ("desktop", None):
        bearer = ("--header", f"Authorization: Bearer {token}", invoices)
        assert curl(deployment, certificate, *headers, *bearer).status == 401


@pytest.mark.standard("G1")
def test_without_a_token_there_is_a_challenge_without_error(deployment, invoices):
    answer = curl(deployment, "billing", invoices)
    assert answer.status == 401
    assert answer.challenge.startswith("Bearer realm=")
    assert "error" not in answer.challenge


@pytest.mark.standard("B2")
def test_a_certificate_alone_does_not_say_who_the_client_is(deployment):
    answer = post(deployment, "billing", "token", grant_type="client_credentials")
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")


@pytest.mark.standard("B6")
@pytest.mark.parametrize("second", [("--data", "client_secret=x"), ("--user", "billing:x")])
def test_a_certificate_and_a_second_method_are_one_too_many(deployment, second):
    form = {"grant_type": "client_credentials", "client_id": "billing"}
    answer = post(deployment, "billing", "token", *second, **form)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


@pytest.mark.standard("B21")
@pytest.mark.parametrize("path", ["introspect", "revoke"])
def test_introspection_and_revocation_authenticate_by_certificate(deployment, path):
    token = by_client_credentials(deployment, "billing").json["access_token"]
    for certificate in ("statistics", "pretender", "desktop", None):
        answer = post(deployment, certificate, path, token=token, client_id="billing")
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert post(deployment, "billing", path, token=token, client_id="billing").status == 200
    active = post(deployment, "billing", "introspect", token=token, client_id="billing").json["active"]
    assert active is (path != "revoke")


def test_introspection_requires_client_authentication(deployment):
    token = by_client_credentials(deployment, "billing").json["access_token"]
    for arguments, form in (
        ((), {"client_id": "desktop"}),  # a public client
        ((), {"client_id": "legacy"}),
        (("--user", "legacy:wrong"), {}),
        ((), {}),
    ):
        for certificate in ("desktop", None):
            answer = post(deployment, certificate, "introspect", *arguments, token=token, **form)
            assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    by_secret = ("--user", f"legacy:{quote(SECRET, safe='')}")
    assert post(deployment, None, "introspect", *by_secret, token=token).json["active"] is True


@pytest.mark.standard("B4", "B17")
@pytest.mark.parametrize("certificate", [None, "statistics"])
def test_a_secret_in_http_basic_is_taken_as_curl_sends_it(deployment, certificate):
    right, wrong = f"legacy:{quote(SECRET, safe='')}", "legacy:wrong"
    form = {"grant_type": "client_credentials"}
    assert post(deployment, certificate, "token", "--user", right, **form).status == 200
    answer = post(deployment, certificate, "token", "--user", wrong, **form)
    assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    assert answer.challenge.startswith("Basic ")


def authorize(deployment: Deployment, **query: str) -> Answer:
    return curl(deployment, None, f"{deployment.issuer}/authorize?{urlencode(query)}")


def test_a_pushed_request_is_used_once_and_by_its_client_alone(deployment):
    pushed = {"response_type": "code", "redirect_uri": REDIRECT_URI, "code_challenge": "x" * 43}
    answer = post(deployment, "billing", "par", client_id="billing", code_challenge_method="S256", **pushed)
    assert answer.status == 201
    request_uri = answer.json["request_uri"]
    assert authorize(deployment, client_id="billing", request_uri=request_uri).status == 303
    assert authorize(deployment, client_id="billing", request_uri=request_uri).json["error"] == "invalid_request"
    answer = post(deployment, "billing", "par", client_id="billing", code_challenge_method="S256", **pushed)
    other = authorize(deployment, client_id="desktop", request_uri=answer.json["request_uri"])
    assert (other.status, other.json["error"]) == (400, "invalid_request")


def test_a_pushed_request_contains_no_request_uri(deployment):
    answer = post(deployment, "billing", "par", client_id="billing", request_uri="urn:x")
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body", ["[]", "null", "{", '{"redirect_uris": "x"}', "{}", '{"token_endpoint_auth_method": 1}']
)
def test_malformed_registration_metadata_is_rejected(deployment, body):
    arguments = ("--header", "Content-Type: application/json", "--data-binary", body, f"{deployment.aliases}/register")
    answer = curl(deployment, "billing", *arguments)
    assert (answer.status, answer.json["error"]) == (400, "invalid_client_metadata")
