"""How an authenticator looks clients up, and what it is put together from."""

import logging
from collections import UserDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, RegisteredClient
from mtls_middleware.errors import Unavailable
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.token_endpoint import ClientAuthenticator, authentication
from tests.ids import shown
from tests.token_endpoint.registrations import BILLING, CA, CLIENTS, SECRET
from tests.token_endpoint.roles import Ask, authentication_result, refused


def test_look_ups_of_each_kind() -> None:
    async def later(client_id: str) -> RegisteredClient | None:
        return CLIENTS.get(client_id)

    class Database:
        async def find(self, client_id: str) -> RegisteredClient | None:
            return CLIENTS.get(client_id)

    for clients in (CLIENTS, UserDict(CLIENTS), CLIENTS.get, CLIENTS.__getitem__):
        for awaiting in (True, False):
            assert authentication_result(ClientAuthenticator(clients), BILLING, awaiting=awaiting) is CLIENTS["billing"]
    for clients in (later, Database().find):
        assert authentication_result(ClientAuthenticator(clients), BILLING, awaiting=True) is CLIENTS["billing"]
        with refused():
            authentication_result(ClientAuthenticator(clients), BILLING, client_id="nobody", awaiting=True)


def test_an_async_look_up_under_wsgi_says_what_to_change() -> None:
    async def later(client_id: str) -> RegisteredClient | None:
        return CLIENTS.get(client_id)

    with pytest.raises(ConfigurationError, match="WSGI cannot await: expected a plain function"):
        authentication_result(ClientAuthenticator(later), BILLING)


def test_a_look_up_that_returns_another_client_admits_no_client(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    def careless(client_id: str) -> RegisteredClient | None:
        return CLIENTS.get(client_id.lower())

    with refused(), caplog.at_level(logging.ERROR):
        ask(ClientAuthenticator(careless), BILLING, client_id="Billing")
    assert "not the RegisteredClient with the requested client_id" in caplog.text


@pytest.mark.parametrize("given", [True, "billing", {"client_id": "billing"}, 7, RegisteredClient, object()], ids=shown)
def test_a_look_up_that_returns_another_type_admits_no_client(ask: Ask, given: Any) -> None:
    for credentials in ({}, {"form": SECRET}):
        with refused():
            ask(ClientAuthenticator(lambda _: given), BILLING, **credentials)


@pytest.mark.parametrize("raised", [KeyError, LookupError, StopIteration, StopAsyncIteration, RuntimeError])
def test_a_failed_look_up_admits_no_client(ask: Ask, raised: type[Exception]) -> None:
    def broken(client_id: str) -> RegisteredClient | None:
        raise raised(CLIENTS["billing"])

    with pytest.raises((raised, RuntimeError)):
        ask(ClientAuthenticator(broken), BILLING)


METHOD: dict[str, Any] = {"token_endpoint_auth_method": "tls_client_auth"}
INVALID: dict[str, Callable[[], RegisteredClient]] = {
    "client 'billing': tls_client_auth requires": lambda: RegisteredClient(client_id="billing", **METHOD),
    "client 'billing': tls_client_auth requires exactly": lambda: RegisteredClient.from_metadata(
        {"client_id": "billing", **METHOD}
    ),
    "client 'b': tls_client_auth_root_dn": lambda: RegisteredClient.from_metadata(
        {"client_id": "b", "tls_client_auth_root_dn": "CN=a"}
    ),
    "client 7: client_id=7: expected a string": lambda: RegisteredClient.from_metadata({"client_id": 7, **METHOD}),
    "the metadata has no client_id": lambda: RegisteredClient.from_metadata(METHOD),
    "metadata is a NoneType": lambda: RegisteredClient.from_metadata(None),  # type: ignore[arg-type]  # wrong on purpose
}


@pytest.mark.parametrize("logged", INVALID)
def test_an_invalid_registration_admits_no_client_and_is_logged(
    ask: Ask, logged: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_lines", LineLimit())  # the tests cause more lines than one second may have
    with refused(), caplog.at_level(logging.ERROR):
        ask(ClientAuthenticator(lambda _: INVALID[logged]()), BILLING)
    assert f"a registration cannot be used: {logged}" in caplog.text


def test_an_unavailable_look_up_sets_retry_after(ask: Ask) -> None:
    def down(client_id: str) -> RegisteredClient | None:
        raise Unavailable("the database is away", retry_after=7)

    with refused("temporarily_unavailable"):
        ask(ClientAuthenticator(down), BILLING)


@pytest.mark.parametrize("client_id", ["c0", "c999999", "c1000000", "billing"])
def test_a_million_clients_cost_one_look_up(ask: Ask, client_id: str, million: "Counting") -> None:
    million.looked_up.clear()
    if client_id == "billing":
        assert ask(ClientAuthenticator(million), BILLING) is CLIENTS["billing"]
    else:
        with refused():
            ask(ClientAuthenticator(million), BILLING, client_id=client_id)
    assert million.looked_up == [client_id]


class Counting(dict[str, RegisteredClient]):
    """Clients that tell what was asked of them; whoever walks over all of them fails the test."""

    def __init__(self, *clients: Any) -> None:
        super().__init__(*clients)
        self.looked_up: list[str] = []

    def get(self, client_id: str, *_: Any) -> RegisteredClient | None:
        self.looked_up.append(client_id)
        return super().get(client_id)

    def __iter__(self) -> Iterator[str]:
        pytest.fail("all clients were walked over")

    items = values = keys = __iter__


@pytest.fixture(scope="module")
def million() -> Counting:
    clients = Counting(dict.fromkeys((f"c{number}" for number in range(1_000_000)), CLIENTS["billing"]))
    clients["billing"] = CLIENTS["billing"]
    return clients


# --- construction ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clients": None}, "a function or a mapping from client_id"),
        ({"clients": [CLIENTS["billing"]]}, "a function or a mapping from client_id"),
        ({"clients": "billing"}, "a function or a mapping from client_id"),
        ({"match": "spki"}, "'certificate' or 'public_key'"),
        ({"match": None}, "'certificate' or 'public_key'"),
        ({"trust_store": "ca.pem"}, "for example TrustStore"),
        ({"trust_store": [CA.certificate]}, "for example TrustStore"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_an_invalid_authenticator_raises_configuration_error(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ClientAuthenticator(**{"clients": CLIENTS, **options})
