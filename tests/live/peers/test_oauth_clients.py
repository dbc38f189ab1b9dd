"""npm's two OAuth clients that support RFC 8705, with the sample authorization server and the sample APIs."""

from typing import Any

import pytest

from tests.live.peers.deployment import REDIRECT_URI, SECRET, Deployment, jwks

pytestmark = pytest.mark.live


@pytest.fixture(params=["openid-client", "oauth4webapi"])
def library(request):
    return request.param


def refused(answer: dict) -> bool:
    """Whether the library understood that a protected resource refused the token: RFC 6750 3.1."""
    read = [(each["scheme"], each["parameters"].get("error")) for each in answer.get("challenges", ())]
    return answer["status"] == 401 and read == [("bearer", "invalid_token")]


def error(answer: dict) -> tuple[int, str]:
    """What an endpoint for clients answered: RFC 6749 5.2."""
    return answer["status"], answer["error"]


def bound_to(deployment: Deployment, token: str) -> str | None:
    """The name of the certificate that a token is bound to, as introspection has it (RFC 8705 3.2)."""
    report, _ = deployment.ask("openid-client", "introspection", "billing", "billing", token=token)
    assert report["active"] is True
    if "cnf" not in report:
        return None
    names = {each.thumbprint: name for name, each in deployment.certificates.items()}
    return names[report["cnf"]["x5t#S256"]]


@pytest.mark.standard("B15", "B21", "C3", "C5")
@pytest.mark.parametrize("client", ["billing", "statistics"])
def test_a_client_discovers_the_aliases_and_gets_a_bound_token(deployment, library, client):
    answer, asked = deployment.ask(library, "client_credentials", client, client)
    metadata = f"{deployment.issuer}/.well-known/oauth-authorization-server"
    assert asked == [metadata, f"{deployment.aliases}/token"]
    assert (answer["token_type"], answer["scope"]) == ("bearer", "invoices:read")
    report, asked = deployment.ask(library, "introspection", client, client, token=answer["access_token"])
    assert asked == [metadata, f"{deployment.aliases}/introspect"]
    assert report["active"] is True
    assert report["client_id"] == client
    assert report["cnf"] == {"x5t#S256": deployment.certificates[client].thumbprint}


@pytest.mark.standard("A2", "A4")
@pytest.mark.parametrize(("client", "another"), [("billing", "statistics"), ("statistics", "billing")])
def test_its_token_opens_the_api_with_its_certificate_alone(deployment, library, invoices, client, another):
    token = deployment.ask(library, "client_credentials", client, client)[0]["access_token"]
    answer, _ = deployment.ask(library, "resource", client, client, token=token, url=invoices)
    assert answer["status"] == 200
    assert answer["body"]["for"].startswith(f"CN={client}")
    for certificate in (another, None):
        assert refused(deployment.ask(library, "resource", client, certificate, token=token, url=invoices)[0])


@pytest.mark.standard("B3", "B4")
@pytest.mark.parametrize(
    ("client", "certificate"),
    [
        pytest.param("billing", "desktop", id="tls_client_auth, another client's"),
        pytest.param("billing", "statistics", id="tls_client_auth, another client's self-signed one"),
        pytest.param(
            "billing",
            "pretender",
            id="tls_client_auth, its name, signed by nobody",
            marks=[
                pytest.mark.standard("B19"),
            ],
        ),
        pytest.param("statistics", "billing", id="self-signed, another client's"),
        pytest.param(
            "statistics",
            "statistics renewed",
            id="self-signed, its key in another one",
            marks=[
                pytest.mark.standard("B11"),
            ],
        ),
    ],
)
def test_a_client_with_a_certificate_that_is_not_its_own_gets_no_token(deployment, library, client, certificate):
    assert error(deployment.ask(library, "client_credentials", client, certificate)[0]) == (401, "invalid_client")


@pytest.mark.standard("B1", "B4")
@pytest.mark.parametrize("client", ["billing", "statistics"])
def test_an_endpoint_without_alias_does_not_request_the_certificate(deployment, library, client):
    answer, asked = deployment.ask(library, "client_credentials", client, client, aliases=False)
    assert asked[-1] == f"{deployment.issuer}/token"
    assert error(answer) == (401, "invalid_client")
    assert error(deployment.ask(library, "client_credentials", client, None)[0]) == (401, "invalid_client")


@pytest.mark.standard("B21")
def test_a_client_revokes_its_own_token_and_no_other(deployment, library):
    token = deployment.ask(library, "client_credentials", "billing", "billing")[0]["access_token"]
    answer, asked = deployment.ask(library, "revocation", "statistics", "statistics", token=token)
    assert (answer, asked[-1]) == (None, f"{deployment.aliases}/revoke")
    refused_to = deployment.ask(library, "revocation", "billing", "desktop", token=token)[0]
    assert error(refused_to) == (401, "invalid_client")
    assert bound_to(deployment, token) == "billing"
    assert deployment.ask(library, "revocation", "billing", "billing", token=token)[0] is None
    assert deployment.ask(library, "introspection", "billing", "billing", token=token)[0] == {"active": False}


@pytest.mark.standard("A13", "C3")
def test_a_public_client_gets_a_bound_token_by_code_and_pkce(deployment, invoices):
    public = {"method": "None"}
    answer, asked = deployment.ask("openid-client", "authorization_code", "desktop", "desktop", **public)
    assert asked[1:] == [f"{deployment.issuer}/authorize", f"{deployment.aliases}/token"]
    token = answer["access_token"]
    assert bound_to(deployment, token) == "desktop"
    answer, _ = deployment.ask("openid-client", "resource", "desktop", "desktop", token=token, url=invoices, **public)
    assert answer["status"] == 200
    for certificate in ("billing", None):
        answer, _ = deployment.ask("openid-client", "resource", "desktop", certificate, token=token, url=invoices)
        assert refused(answer)


@pytest.mark.standard("E1", "E3", "E4")
def test_a_public_clients_refresh_token_needs_its_certificate(deployment):
    def ask(action, certificate, **more):
        return deployment.ask("openid-client", action, "desktop", certificate, method="None", **more)[0]

    first = ask("authorization_code", "desktop")
    refresh_token = first["refresh_token"]
    for certificate in ("billing", None):
        assert error(ask("refresh_token", certificate, token=refresh_token)) == (400, "invalid_grant")
    second = ask("refresh_token", "desktop", token=refresh_token)
    assert second["access_token"] != first["access_token"]
    assert bound_to(deployment, second["access_token"]) == "desktop"
    assert ask("revocation", "desktop", token=refresh_token) is None
    assert error(ask("refresh_token", "desktop", token=refresh_token)) == (400, "invalid_grant")


@pytest.mark.standard("A10", "A11", "E2", "E7")
def test_a_new_certificate_keeps_the_refresh_token_but_no_access_token(deployment, invoices):
    def ask(action, certificate, **more):
        return deployment.ask("openid-client", action, "billing", certificate, **more)[0]

    old = ask("authorization_code", "billing")
    assert refused(ask("resource", "billing renewed", token=old["access_token"], url=invoices))
    new = ask("refresh_token", "billing renewed", token=old["refresh_token"])
    assert bound_to(deployment, new["access_token"]) == "billing renewed"
    assert ask("resource", "billing renewed", token=new["access_token"], url=invoices)["status"] == 200
    assert refused(ask("resource", "billing", token=new["access_token"], url=invoices))


@pytest.mark.standard("B5", "B17")
def test_a_client_with_a_secret_needs_it_and_no_certificate(deployment, library):
    def ask(certificate, **more):
        return deployment.ask(library, "client_credentials", "legacy", certificate, **more)[0]

    by_secret = {"method": "ClientSecretBasic", "secret": SECRET}
    assert bound_to(deployment, ask(None, aliases=False, **by_secret)["access_token"]) is None
    assert bound_to(deployment, ask("billing", **by_secret)["access_token"]) == "billing"
    assert error(ask("billing")) == (401, "invalid_client")
    wrong = ask("billing", method="ClientSecretBasic", secret=SECRET + ".")
    assert (wrong["status"], [each["scheme"] for each in wrong["challenges"]]) == (401, ["basic"])  # RFC 6749 5.2


@pytest.mark.standard("A14")
def test_a_token_that_is_bound_to_nothing_opens_no_api(deployment, invoices):
    by_secret = {"method": "ClientSecretBasic", "secret": SECRET}
    answer, _ = deployment.ask("openid-client", "client_credentials", "legacy", None, aliases=False, **by_secret)
    for certificate in ("billing", None):
        report, _ = deployment.ask(
            "openid-client", "resource", "legacy", certificate, token=answer["access_token"], url=invoices, **by_secret
        )
        assert refused(report)


@pytest.mark.standard("B21", "C3")
def test_an_authorization_request_is_pushed_with_the_certificate(deployment, library, invoices):
    answer, asked = deployment.ask(library, "authorization_code", "billing", "billing", pushed=True)
    assert f"{deployment.aliases}/par" in asked
    assert bound_to(deployment, answer["access_token"]) == "billing"
    report, _ = deployment.ask(library, "resource", "billing", "billing", token=answer["access_token"], url=invoices)
    assert report["status"] == 200
    for certificate in ("desktop", None):
        report, _ = deployment.ask(library, "authorization_code", "billing", certificate, pushed=True)
        assert error(report) == (401, "invalid_client")


def registrations(deployment: Deployment) -> dict[str, dict[str, Any]]:
    own = {"token_endpoint_auth_method": "self_signed_tls_client_auth", "redirect_uris": [REDIRECT_URI]}
    return {
        "billing": {
            "token_endpoint_auth_method": "tls_client_auth",
            "tls_client_auth_san_dns": "billing.internal",
            "redirect_uris": [REDIRECT_URI],
        },
        "statistics": {**own, "jwks": jwks(deployment.certificates["statistics"])},
    }


@pytest.mark.parametrize("certificate", ["billing", "statistics"])
def test_a_client_registers_itself_with_its_certificate(deployment, library, invoices, certificate):
    metadata = registrations(deployment)[certificate]
    registered, asked = deployment.ask(library, "registration", None, certificate, metadata=metadata)
    assert asked[-1] == f"{deployment.aliases}/register"
    client_id = registered["client_id"]
    answer, _ = deployment.ask(library, "client_credentials", client_id, certificate)
    report, _ = deployment.ask(library, "resource", client_id, certificate, token=answer["access_token"], url=invoices)
    assert report["status"] == 200
    assert error(deployment.ask(library, "client_credentials", client_id, "desktop")[0]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("registers", "presents"),
    [
        ("billing", "desktop"),
        ("billing", "pretender"),
        ("billing", None),
        ("statistics", "statistics renewed"),
        ("statistics", "billing"),
        ("statistics", None),
    ],
)
def test_a_client_cannot_register_a_certificate_that_it_lacks(deployment, library, registers, presents):
    metadata = registrations(deployment)[registers]
    report, _ = deployment.ask(library, "registration", None, presents, metadata=metadata)
    assert error(report) == (400, "invalid_client_metadata")


def test_a_client_cannot_register_a_lifetime_or_a_scope(deployment):
    metadata = {
        **registrations(deployment)["billing"],
        "lifetime": 10**9,
        "scope": "everything",
        "client_id": "billing",
    }
    registered, _ = deployment.ask("openid-client", "registration", None, "billing", metadata=metadata)
    assert registered["client_id"] != "billing"
    answer, _ = deployment.ask("openid-client", "client_credentials", registered["client_id"], "billing")
    assert (answer["expires_in"], answer["scope"]) == (300, "invoices:read")
