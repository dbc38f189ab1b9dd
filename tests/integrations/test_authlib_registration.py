"""Authlib's client beside its registration metadata: each disagreement, when a client is saved and when it asks."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware import ConfigurationError
from tests.integrations.authlib_models import BILLING, CA, Client, Server
from tests.integrations.clients import basic
from tests.integrations.test_methods import CLIENTS
from tests.methods import SECRET
from tests.token_endpoint.roles import assertion

Check = Callable[[str, str], bool]


@pytest.fixture
def server(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "clients-ca.pem").write_text(CA.pem)
    monkeypatch.chdir(tmp_path)
    return Server(dict(CLIENTS))


def recorded(server: Server, client_id: str, check: Check) -> Any:
    """The client of this id, whose own record is `check`."""
    client = Client(client_id, CLIENTS[client_id])
    client.check_endpoint_auth_method = check
    server.models[client_id] = client
    return client


DISAGREEMENTS: dict[str, tuple[Check, str]] = {
    "denies the method": (lambda method, endpoint: False, "check_endpoint_auth_method denies this method at 'token'"),
    "admits another": (
        lambda method, endpoint: method in ("client_secret_basic", "client_secret_post"),
        "admits client_secret_post at 'token'",
    ),
    "is public": (lambda method, endpoint: method in ("client_secret_basic", "none"), "admits none at 'token'"),
    "admits all": (
        lambda method, endpoint: True,
        "admits client_secret_jwt, client_secret_post, none, private_key_jwt",
    ),
}


@pytest.mark.parametrize("case", DISAGREEMENTS)
def test_a_disagreement_is_rejected_when_saved_and_when_used(server, case, caplog) -> None:
    check, message = DISAGREEMENTS[case]
    client = recorded(server, "client_secret_basic", check)
    with pytest.raises(ConfigurationError, match="client 'client_secret_basic': token_endpoint_auth_method") as caught:
        server.authlib.check_registration(client, server.registration(client))
    assert message in str(caught.value)
    for path, form in (("/token", {"grant_type": "client_credentials"}), ("/introspect", {"token": "x"})):
        for _ in range(2):
            response = server.post(path, form, headers=basic("client_secret_basic", SECRET))
            assert (response.status_code, response.json["error"]) == (401, "invalid_client")
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert message in errors[0]
    assert len(errors) == len(set(errors))  # each disagreement once, however often the client asks


def test_a_client_with_a_certificate_is_held_to_its_record_as_well(server) -> None:
    assert server.token("tls_client_auth", BILLING).status_code == 200
    for check in (lambda method, endpoint: True, lambda method, endpoint: method == "none"):
        recorded(server, "tls_client_auth", check)
        assert server.token("tls_client_auth", BILLING).status_code == 401


@pytest.mark.parametrize("method", CLIENTS)
def test_an_agreeing_client_may_be_saved_if_something_verifies_its_method(server, method: str) -> None:
    client = Client(method, CLIENTS[method])  # not saved yet
    saved = client, server.registration(client)
    if method in ("private_key_jwt", "client_secret_jwt", "attest_jwt_client_auth"):
        with pytest.raises(ConfigurationError, match=rf"register_client_auth_method\('{method}', \.\.\.\)"):
            server.authlib.check_registration(*saved)
        server.authlib.register_client_auth_method(method, lambda query, request: None)
    server.authlib.check_registration(*saved)


def test_an_unverifiable_method_is_rejected_and_the_log_names_the_fix(server, caplog) -> None:
    form = {"grant_type": "client_credentials", **dict(assertion("private_key_jwt"))}
    assert server.post("/token", form).json["error"] == "invalid_client"
    assert "call server.register_client_auth_method('private_key_jwt', ...)" in caplog.text
    server.add("client_assertions.py", first_use=lambda subject, jti: True)
    assert server.post("/token", form).status_code == 200


def test_an_assertion_is_verified_by_authlib_and_used_once(server) -> None:
    seen: set[str] = set()
    server.add("client_assertions.py", first_use=lambda subject, jti: not (jti in seen or seen.add(jti)))
    form = {"grant_type": "client_credentials", **dict(assertion("private_key_jwt"))}
    forged = {**form, "client_assertion": form["client_assertion"][:-4] + "AAAA"}
    assert server.post("/token", forged).json["error"] == "invalid_client"
    assert server.post("/token", form).status_code == 200
    assert server.post("/token", form).json["error"] == "invalid_client"


def test_a_client_that_only_one_of_the_two_stores_knows_is_rejected(server, monkeypatch, caplog) -> None:
    stranger = Client("stranger", CLIENTS["client_secret_basic"])
    with pytest.raises(ConfigurationError, match="query_client returned another client"):
        server.authlib.check_registration(stranger, server.registration(server.models["client_secret_basic"]))
    form, header = {"grant_type": "client_credentials"}, basic("client_secret_basic", SECRET)
    monkeypatch.setattr(server.authlib, "query_client", lambda client_id: None)
    assert server.post("/token", form, headers=header).json["error"] == "invalid_client"
    assert "query_client does not find the client" in caplog.text
    monkeypatch.setattr(server.authlib, "query_client", lambda client_id: stranger)
    assert server.post("/token", form, headers=header).json["error"] == "invalid_client"
    assert "query_client returned another client" in caplog.text
