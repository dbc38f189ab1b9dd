"""Who a request says it is from, and which method that client registered."""

from typing import Any

import pytest

from mtls_middleware import ConfigurationError, RegisteredClient
from mtls_middleware.token_endpoint import ClientAuthenticator, ClientRequest
from tests.token_endpoint.registrations import ASSERTION, AUTHENTICATOR, BILLING, CLIENTS, EDGE, SECRET
from tests.token_endpoint.roles import Ask, assertion, authentication_result, basic, refused

# --- who the request says it is from ---


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"client_id": None}, "invalid_client"),
        ({"client_id": ""}, "invalid_client"),
        ({"form": [("client_id", "billing")]}, "invalid_request"),
        ({"form": [("client_id", "reports")]}, "invalid_request"),
        ({"form": [("client_id", "")]}, "invalid_request"),
        ({"query": [("client_id", "reports")]}, "invalid_request"),
        ({"query": [("client_id", "billing")]}, "invalid_request"),
        ({"client_id": None, "query": [("client_id", "billing")]}, "invalid_request"),
        ({"client_id": "web", "authorization": [basic("billing")]}, "invalid_request"),
        ({"authorization": [basic("web")]}, "invalid_request"),
        ({"form": [("client_secret", "a"), ("client_secret", "a")]}, "invalid_request"),
        ({"form": [("client_secret", ""), ("client_secret", "a")]}, "invalid_request"),
        ({"client_id": "bank", "form": [*ASSERTION, ASSERTION[1]]}, "invalid_request"),
        ({"client_id": "web", "query": [("client_secret", "secret")]}, "invalid_request"),
        ({"client_id": "bank", "query": ASSERTION}, "invalid_request"),
        ({"client_id": "bank", "form": ASSERTION[:1]}, "invalid_request"),
        ({"client_id": "bank", "form": ASSERTION[1:]}, "invalid_request"),
        ({"client_id": None, "authorization": [basic("", "")]}, "invalid_client"),
        ({"client_id": "web", "authorization": [basic("")]}, "invalid_request"),
        ({"client_id": None, "authorization": [""]}, "invalid_client"),
        ({"client_id": None, "authorization": ["Basic d2Vi"]}, "invalid_request"),
        ({"authorization": [basic("billing"), basic("billing")]}, "invalid_request"),
        ({"client_id": "web", "authorization": ["Basic %%%"]}, "invalid_request"),
        ({"client_id": "web", "authorization": ["Basic " + "/w=="]}, "invalid_request"),
        ({"client_id": None, "authorization": [f"{basic('web')},{basic('billing')}"]}, "invalid_request"),
    ],
    ids=lambda value: None if isinstance(value, str) else ascii(value),
)
@pytest.mark.standard("B2", "B6")
@pytest.mark.case("137")
def test_a_request_says_once_and_in_one_place_who_it_is_from(ask: Ask, request_: dict[str, Any], code: str) -> None:
    with refused(code):
        ask(AUTHENTICATOR, BILLING, **request_)


@pytest.mark.standard("B2")
@pytest.mark.case("137")
def test_a_certificate_alone_does_not_look_up_a_client() -> None:
    def look_up(client_id: str) -> RegisteredClient | None:
        pytest.fail(f"looked up {client_id!r}")

    with refused():
        authentication_result(ClientAuthenticator(look_up), BILLING, client_id=None)


OTHER_CREDENTIALS: list[dict[str, Any]] = [
    {"form": SECRET},
    {"form": ASSERTION},
    {"form": ASSERTION[:1]},
    {"form": ASSERTION[1:]},
    {"authorization": [basic("billing")]},
    {"authorization": ["Bearer abc"]},
    {"authorization": ["DPoP abc"]},
    {"authorization": [""]},
    {"client_id": None, "authorization": [basic("billing")]},
    {"client_id": None, "authorization": [f"  {basic('billing')} "]},
    {"client_id": None, "authorization": [basic("billing").replace("Basic", "bAsIc ")]},
    {"client_id": None, "authorization": [basic("bill%69ng")]},
    {"client_id": None, "form": SECRET, "authorization": [basic("billing")]},
]


@pytest.mark.parametrize("credentials", OTHER_CREDENTIALS, ids=ascii)
@pytest.mark.standard("B5", "B6")
@pytest.mark.case("138")
def test_a_certificate_and_a_second_method_are_refused(ask: Ask, credentials: dict[str, Any]) -> None:
    for certificate in (BILLING, None):  # without certificate it is no other client's business either
        with refused("invalid_request"):
            ask(AUTHENTICATOR, certificate, **credentials)


@pytest.mark.parametrize(
    ("client_id", "credentials"),
    [
        ("web", {"authorization": [basic("web")]}),
        (None, {"authorization": [basic("web")]}),
        (None, {"authorization": [basic("w%65b")]}),
        ("bank", {"form": ASSERTION}),
        (None, {"form": assertion("bank")}),
        ("bank", {"form": assertion("bank")}),
        ("spa", {}),
        ("spa", {"form": [("client_secret", "")]}),
        ("", {"authorization": [basic("web")]}),
        (None, {"authorization": ["Bearer abc"]}),
    ],
)
@pytest.mark.standard("B5", "B17")
def test_clients_of_other_methods_pass_unauthenticated(
    ask: Ask, client_id: str | None, credentials: dict[str, Any]
) -> None:
    for certificate in (None, BILLING, EDGE):  # a certificate does not replace the method that they registered
        assert ask(AUTHENTICATOR, certificate, client_id=client_id, **credentials) is None


@pytest.mark.standard("B21")
def test_the_endpoint_does_not_matter(ask: Ask) -> None:
    for form in ([("token", "t")], [("request_uri", "urn:x")], [("login_hint", "alice")], [("grant_type", "x")]):
        assert ask(AUTHENTICATOR, BILLING, form=form) is CLIENTS["billing"]


@pytest.mark.parametrize("client_id", ["Billing", "billing ", " billing", "bill\u0131ng", "billing\0", "BILLING"])
def test_a_client_id_is_compared_character_by_character(ask: Ask, client_id: str) -> None:
    with refused():
        ask(AUTHENTICATOR, BILLING, client_id=client_id)


# --- the request as its caller gives it ---


def test_iterators_are_read_as_often_as_needed() -> None:
    """werkzeug's `form.items(multi=True)` is a generator: a second method must not hide behind its end."""
    form = [("client_id", "billing"), ("client_secret", "x")]
    with refused("invalid_request"):
        AUTHENTICATOR.authenticate(ClientRequest(iter(form), BILLING.client_certificate()), 0)
    with refused("invalid_request"):
        AUTHENTICATOR.authenticate(
            ClientRequest(form[:1], BILLING.client_certificate(), authorization=iter([basic("billing")])), 0
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"form": {"client_id": "billing"}},
        {"form": "client_id=billing"},
        {"form": b"client_id=billing"},
        {"form": None},
        {"query": "a=b"},
        {"authorization": "Basic eA=="},
    ],
    ids=ascii,
)
def test_one_value_where_several_are_meant_is_a_configuration_error(wrong: dict[str, Any]) -> None:
    """A mapping has each name once: a repeated client_id could not be seen."""
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} is a .*: expected a list"):
        ClientRequest(**{"form": [], "certificate": None, **wrong})
