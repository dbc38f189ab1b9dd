"""django-oauth-toolkit with real models: disagreements when a client is saved, and refreshes in the grace period."""

from collections.abc import Iterator

import pytest

from tests.integrations import django_project
from tests.integrations.clients import BOUND, basic, metadata
from tests.integrations.django_server import Server, serving
from tests.integrations.test_django_toolkit import (
    BILLING,
    CA,
    PKI,
    SELF,
    SELF_OTHER,
    UNVERIFIED,
    cnf,
    introspect,
    issued,
    of_its_own,
    refused,
)

pytestmark = pytest.mark.live

# Each step is one save; it prints what stopped it.
SAVE = """
import django
django.setup()
from clients.models import ClientMetadata
from oauth2_provider.models import Application
def attempt(save):
    try:
        save()
        print("saved")
    except Exception as error:
        print(type(error).__name__, error)
def application(name, kind):
    return Application.objects.create(client_id=name, client_type=kind, authorization_grant_type="client-credentials")
def describe(application, **members):
    ClientMetadata.objects.create(application=application, members=members)
public, confidential, changed = application("p", "public"), application("c", "confidential"), application("x", "public")
attempt(lambda: describe(public, token_endpoint_auth_method="private_key_jwt"))
attempt(lambda: describe(public, token_endpoint_auth_method="client_secret_basic"))
attempt(lambda: describe(confidential, token_endpoint_auth_method="none"))
attempt(lambda: describe(confidential, token_endpoint_auth_method="client_secret_jwt"))
attempt(lambda: describe(confidential, token_endpoint_auth_method="tls_client_auth"))
attempt(lambda: describe(confidential, token_endpoint_auth_method="client_secret_post"))
attempt(lambda: describe(changed, token_endpoint_auth_method="none"))
def change():
    changed.client_type = "confidential"
    changed.save()
attempt(change)
"""


def test_a_disagreement_is_rejected_when_it_is_saved(tmp_path) -> None:
    environment = django_project.write(tmp_path, CA.pem, {"app": metadata(SELF)["app"]})
    result = of_its_own(environment, SAVE)
    lines = result.stdout.splitlines()
    assert len(lines) == 8, result.stderr
    for line, part in zip(
        lines,
        [
            "client 'p': token_endpoint_auth_method is 'private_key_jwt', which django-oauth-toolkit cannot verify",
            "client_type is 'public': set client_type to 'confidential', or register 'none'",
            "client_type is 'confidential': set client_type to 'public', or register the method",
            "which django-oauth-toolkit cannot verify",
            "tls_client_auth requires exactly one of",
            "saved",
            "saved",
            "client_type is 'confidential': set client_type to 'public', or register the method",
        ],
        strict=True,
    ):
        assert part in line


CLIENTS = metadata(SELF) | {"web": PKI, "careless": {"token_endpoint_auth_method": "client_secret_basic", **BOUND}}


@pytest.fixture(scope="module", params=[False, True], ids=["tokens stored", "digests stored"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Refresh tokens are replaced at each use, and an old one is valid for five more minutes."""
    provider = {
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 300,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "ROTATE_REFRESH_TOKEN": True,
        "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": request.param,
    }
    with serving("gunicorn", tmp_path_factory.mktemp("grace"), CA.pem, CLIENTS, **provider) as running_server:
        running_server.digests = request.param
        yield running_server


@pytest.mark.standard("B15")
def test_a_retried_refresh_is_bound_to_its_certificate_or_rejected(server) -> None:
    granted = issued(server.post("/o/token/", server.code("web", "v" * 50), BILLING))
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"], "client_id": "web"}
    first = issued(server.post("/o/token/", form, BILLING))
    assert introspect(server, first["access_token"])["cnf"] == cnf(BILLING)
    renewed = CA.issue("CN=billing", dns=["billing.internal"])
    refused(server.post("/o/token/", form, renewed), "invalid_grant", 400)
    again = server.post("/o/token/", form, BILLING)
    if server.digests:  # the toolkit has no text of the earlier token to return
        refused(again, "invalid_grant", 400)
    else:
        assert issued(again)["access_token"] == first["access_token"]
    refused(server.post("/o/token/", form, renewed), "invalid_grant", 400)
    newest = form | {"refresh_token": first["refresh_token"]}
    bound = issued(server.post("/o/token/", newest, renewed))["access_token"]  # not a retry: a token of its own
    assert introspect(server, bound)["cnf"] == cnf(renewed)


@pytest.mark.standard("P10")
def test_a_public_client_needs_its_certificate_in_the_grace_period(server) -> None:
    granted = issued(server.post("/o/token/", server.code("app", "v" * 50), SELF, verify=UNVERIFIED))
    form = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"], "client_id": "app"}
    first = issued(server.post("/o/token/", form, SELF, verify=UNVERIFIED))
    for certificate in (None, SELF_OTHER, BILLING):
        refused(server.post("/o/token/", form, certificate, verify=UNVERIFIED), "invalid_grant", 400)
    again = server.post("/o/token/", form, SELF, verify=UNVERIFIED)
    if not server.digests:
        assert issued(again)["refresh_token"] == first["refresh_token"]


def test_a_public_client_with_a_registered_secret_is_rejected(server) -> None:
    """A public application that registered a secret: its refresh token would be unbound and unauthenticated."""
    form = server.code("careless", "v" * 50)
    for headers in ({}, basic("careless")):
        for certificate in (None, SELF):
            refused(server.post("/o/token/", form, certificate, verify=UNVERIFIED, headers=headers))
    assert "client 'careless': token_endpoint_auth_method is 'client_secret_basic'" in server.log()
