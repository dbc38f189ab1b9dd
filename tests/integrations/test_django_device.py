"""Device codes of django-oauth-toolkit: each one is for the client that it was issued to."""

import contextlib
import sqlite3
from collections.abc import Iterator

import oauthlib
import pytest

from tests.integrations.authlib_models import BILLING, CA, OTHER, SELF, UNVERIFIED
from tests.integrations.clients import SECRET, basic, metadata
from tests.integrations.django_server import Server, serving

pytestmark = pytest.mark.live

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
CLIENTS = metadata(SELF) | {"posting": {"token_endpoint_auth_method": "client_secret_post"}}
# oauthlib 4.0.1 gives the toolkit 3.4.1 a scope for a device (TypeError), and calls a method that the toolkit lacks.
FITS = oauthlib.__version__ != "4.0.1"
# What each client sends to authenticate by its registered method.
GOOD = {
    "billing": {"certificate": BILLING},
    "robot": {"certificate": SELF, "verify": UNVERIFIED},
    "secret": {"headers": basic("secret")},
    "posting": {"form": {"client_secret": SECRET}},
    "app": {"certificate": OTHER},
    "plain-app": {},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("device")
    provider = {
        "OAUTH_DEVICE_VERIFICATION_URI": "https://as.example/device",
        **({} if FITS else {"DEFAULT_SCOPES": []}),
    }
    with serving("gunicorn", directory, CA.pem, CLIENTS, **provider) as running_server:
        running_server.database = directory / "db.sqlite3"
        changed(running_server, "update oauth2_provider_application set authorization_grant_type = ?", DEVICE_CODE)
        yield running_server


def changed(server, statement: str, *values: str) -> None:
    with contextlib.closing(sqlite3.connect(server.database)) as database, database:
        database.execute(statement, values)


def sent(server, path: str, client_id: str, more: dict[str, str]):
    options = {"form": {}, **GOOD[client_id]}
    form = {"client_id": client_id, **more, **options.pop("form")}
    return server.post(path, form, options.pop("certificate", None), **options)


def device_code(server, client_id: str) -> str:
    """The code of a device whose user agreed."""
    response = sent(server, "/o/device-authorization/", client_id, {})
    assert response.status_code == 200, response.text
    code = response.json()["device_code"]
    agreed = "status = 'authorized', user_id = (select id from auth_user)"
    changed(server, f"update oauth2_provider_devicegrant set {agreed} where device_code = ?", code)
    return code


@pytest.mark.standard("B6")
@pytest.mark.parametrize("owner", GOOD)
def test_a_device_code_is_for_the_client_that_it_was_issued_to(server, owner: str) -> None:
    poll = {"grant_type": DEVICE_CODE, "device_code": device_code(server, owner)}
    for client_id in set(GOOD) - {owner}:
        response = sent(server, "/o/token/", client_id, poll)
        assert (client_id, response.status_code, response.json()) == (client_id, 400, {"error": "invalid_grant"})
    own = sent(server, "/o/token/", owner, poll)
    assert own.status_code == (200 if FITS else 500)
