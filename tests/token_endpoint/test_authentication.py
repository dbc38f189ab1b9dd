"""Who a request says it is from, which method that client registered, and its certificate against that client alone."""

import logging
from collections import UserDict
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from mtls_middleware import ClientCertificate, ConfigurationError, RegisteredClient, Verification
from mtls_middleware.errors import Unavailable
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator, ClientRequest
from mtls_middleware.token_endpoint.registered import Match
from mtls_middleware.validation import TrustStore
from tests import shared
from tests.ids import shown
from tests.token_endpoint.roles import (
    PKI,
    SELF_SIGNED,
    Ask,
    asked,
    basic,
    jwk,
    jwks,
    own_certificates,
    pki,
    presented,
    refused,
)

CA = CertificateAuthority()
ROGUE = CertificateAuthority()  # with the very name of the other
BILLING = CA.issue("CN=billing,O=Acme", dns=["billing.internal"])
REPORTS = CA.issue("CN=reports,O=Acme", dns=["reports.internal"])
EDGE, STRANGER = self_signed("CN=edge"), self_signed("CN=edge")

CLIENTS = {
    "billing": pki(san_dns="billing.internal"),
    "reports": pki("reports", subject_dn="CN=reports,O=Acme"),
    "edge": own_certificates(EDGE),
    "web": RegisteredClient(client_id="web", token_endpoint_auth_method="client_secret_basic"),
    "spa": RegisteredClient(client_id="spa", token_endpoint_auth_method="none"),
    "bank": RegisteredClient(client_id="bank", token_endpoint_auth_method="private_key_jwt", jwks=jwks(EDGE)),
}
AUTHENTICATOR = ClientAuthenticator(CLIENTS)
SECRET = [("client_secret", "secret")]
ASSERTION = [
    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
    ("client_assertion", "e30.e30."),
]


# --- the two methods ---


@pytest.mark.standard("B3", "B7")
@pytest.mark.case("136")
def test_a_client_authenticates_by_the_certificate_that_names_it(ask: Ask) -> None:
    assert ask(AUTHENTICATOR, BILLING) is CLIENTS["billing"]
    assert ask(AUTHENTICATOR, REPORTS, client_id="reports") is CLIENTS["reports"]


@pytest.mark.standard("B11", "B18")
@pytest.mark.case("136")
def test_a_self_signed_client_authenticates_by_a_registered_certificate(ask: Ask) -> None:
    for certificate in (EDGE, presented(EDGE)):  # nobody vouches for it, nor needs to
        assert ask(AUTHENTICATOR, certificate, client_id="edge") is CLIENTS["edge"]


@pytest.mark.standard("B3")
def test_a_certificate_of_one_client_is_nothing_for_another(ask: Ask) -> None:
    for client_id, certificate in (("reports", BILLING), ("billing", REPORTS), ("edge", BILLING), ("billing", EDGE)):
        with refused():
            ask(AUTHENTICATOR, certificate, client_id=client_id)


@pytest.mark.standard("B1", "B4")
def test_without_certificate_no_client_that_registered_one_gets_in(ask: Ask) -> None:
    for client_id in ("billing", "reports", "edge"):
        with refused():
            ask(AUTHENTICATOR, None, client_id=client_id)


@pytest.mark.standard("B19", "B1")
def test_a_merely_presented_certificate_never_authenticates_by_its_names(ask: Ask) -> None:
    forged = self_signed("CN=reports,O=Acme", dns=["billing.internal"], uris=["urn:a"], emails=["a@b.example"])
    for client_id in ("billing", "reports"):
        for certificate in (presented(BILLING), presented(REPORTS), presented(forged)):
            with refused():
                ask(AUTHENTICATOR, certificate, client_id=client_id)


@pytest.mark.parametrize("verification", Verification)
@pytest.mark.parametrize("match", get_args(Match))
@pytest.mark.standard("B19")
def test_each_word_of_verification(match: Match, verification: Verification) -> None:
    authenticator = ClientAuthenticator(CLIENTS, match=match)
    if verification is Verification.PRESENTED:
        with refused():
            asked(authenticator, BILLING.client_certificate(verification))
    else:
        assert asked(authenticator, BILLING.client_certificate(verification)) is CLIENTS["billing"]


@pytest.mark.standard("B5")
@pytest.mark.case("140")
def test_the_method_is_the_registered_one_whatever_the_request_brings(ask: Ask) -> None:
    """A CA's certificate for a self-signed client and the reverse; with all that the other method would check."""
    imitation = self_signed("CN=billing,O=Acme", dns=["billing.internal"])
    known_to_ca = CA.issue("CN=edge", key=EDGE.key)
    for client_id, certificate in (("billing", imitation), ("billing", EDGE), ("edge", known_to_ca)):
        for each in (presented(certificate), certificate.client_certificate(Verification.BY_PROXY)):
            if each.verified and certificate is imitation:
                continue  # a proxy that verifies self-signed certificates trusts them
            with refused():
                ask(AUTHENTICATOR, each, client_id=client_id)


# --- chains ---


@pytest.mark.standard("B7", "B10", "B18", "B19")
@pytest.mark.case("140")
def test_the_trust_store_decides_also_where_a_proxy_has_verified(ask: Ask) -> None:
    authenticator = ClientAuthenticator(CLIENTS, trust_store=TrustStore([CA.certificate]))
    assert CA.certificate.subject == ROGUE.certificate.subject
    twin = ROGUE.issue("CN=billing,O=Acme", dns=["billing.internal"])
    alone = self_signed("CN=billing,O=Acme", dns=["billing.internal"])
    for verification in Verification:
        assert ask(authenticator, BILLING.client_certificate(verification)) is CLIENTS["billing"]
        for wrong in (twin, alone):
            with refused():
                ask(authenticator, wrong.client_certificate(verification))


@pytest.mark.standard("B10")
def test_a_clients_own_trust_store_comes_first(ask: Ask) -> None:
    pinned = pki(san_dns="billing.internal", trust_store=TrustStore([CA.certificate]))
    both = TrustStore([CA.certificate, ROGUE.certificate])
    authenticator = ClientAuthenticator({"billing": pinned, "reports": CLIENTS["reports"]}, trust_store=both)
    assert ask(authenticator, BILLING) is pinned
    with refused():
        ask(authenticator, ROGUE.issue("CN=billing", dns=["billing.internal"]))
    elsewhere = ROGUE.issue("CN=reports,O=Acme")
    assert ask(authenticator, elsewhere, client_id="reports") is CLIENTS["reports"]


@pytest.mark.standard("B22", "B7")
def test_what_the_trust_store_refuses_is_an_invalid_client(ask: Ask) -> None:
    authenticator = ClientAuthenticator(CLIENTS, trust_store=TrustStore([CA.certificate]))
    names = {"dns": ["billing.internal"]}
    below = CA.issue("CN=billing", **names)
    not_a_ca = CertificateAuthority("CN=Leaf", parent=ROGUE)
    wrong = [
        CA.issue("CN=billing", ca=True, **names),  # type: ignore[arg-type]
        CA.issue("CN=billing", extended_key_usage=["server"], **names),  # type: ignore[arg-type]
        CA.issue("CN=billing", not_after=below.x509.not_valid_before_utc, **names),  # type: ignore[arg-type]
        CA.issue("CN=billing", not_before=below.x509.not_valid_after_utc, **names),  # type: ignore[arg-type]
        not_a_ca.issue("CN=billing", **names),  # type: ignore[arg-type]
    ]
    for each in wrong:
        with refused() as caught:
            ask(authenticator, each)
        assert len(caught.value.evidence) >= 2  # what the store says, for the operator


@pytest.mark.standard("B9")
def test_a_store_that_cannot_say_now_is_503_and_one_that_refuses_401(ask: Ask) -> None:
    """Where revocation lists are checked they are part of the store, and their absence is not a yes."""

    class Down:
        def validate(self, certificate: ClientCertificate, now: float) -> Iterator[Any]:
            yield from ()
            raise Unavailable("no revocation list", retry_after=30)

    with refused("temporarily_unavailable"):
        ask(ClientAuthenticator(CLIENTS, trust_store=Down()), BILLING)


@pytest.mark.standard("B18")
def test_a_self_signed_client_is_not_asked_for_a_chain(ask: Ask) -> None:
    authenticator = ClientAuthenticator(CLIENTS, trust_store=TrustStore([CA.certificate]))
    assert ask(authenticator, presented(EDGE), client_id="edge") is CLIENTS["edge"]


@pytest.mark.standard("E2", "B7")
def test_a_renewed_certificate_with_the_same_name_lets_the_same_client_in(ask: Ask) -> None:
    renewed = CA.issue("CN=billing,O=Acme", dns=["billing.internal"])
    assert renewed.der != BILLING.der
    assert ask(AUTHENTICATOR, renewed) is CLIENTS["billing"]


# --- registered certificates ---


@pytest.mark.standard("B11", "B12", "B13")
@pytest.mark.case("139")
def test_only_the_very_certificate_counts(ask: Ask) -> None:
    renewed = self_signed("CN=edge", key=EDGE.key)
    for certificate in (renewed, STRANGER):
        with refused():
            ask(AUTHENTICATOR, certificate, client_id="edge")


@pytest.mark.parametrize(
    "bad",
    [
        jwk(STRANGER, x5c=None),
        jwk(STRANGER, x5c=None, **{"x5t#S256": STRANGER.thumbprint, "x5t": STRANGER.thumbprint[:28]}),
        jwk(STRANGER, x5c=jwk(EDGE)["x5c"]),
        jwk(EDGE, x5c=jwk(STRANGER)["x5c"]),
        jwk(STRANGER, x5c=[jwk(STRANGER)["x5c"][0].replace("+", "-").replace("/", "_").rstrip("=") + "_"]),
        jwk(STRANGER, x5c=[jwk(STRANGER)["x5c"][0] + "\n"]),
        jwk(STRANGER, x5c=[STRANGER.pem]),
        jwk(STRANGER, x5c=[jwk(EDGE)["x5c"][0], jwk(STRANGER)["x5c"][0]]),
        jwk(STRANGER, x=jwk(EDGE)["x"]),
        jwk(STRANGER, kty="oct", k="AAAA"),
    ],
    ids=[
        "no x5c",
        "only x5t",
        "another certificate",
        "another key",
        "base64url",
        "a line break",
        "PEM",
        "second of two",
        "half a key",
        "symmetric",
    ],
)
@pytest.mark.standard("B12", "B13", "B14")
@pytest.mark.case("139")
def test_an_entry_that_does_not_hold_its_own_certificate_holds_none(bad: dict[str, Any]) -> None:
    client = own_certificates(jwks={"keys": [bad, jwk(EDGE)]})
    authenticators = [ClientAuthenticator({"edge": client}, match=match) for match in get_args(Match)]
    for authenticator in authenticators:
        with refused():
            asked(authenticator, STRANGER, client_id="edge")
        assert asked(authenticator, EDGE, client_id="edge") is client  # its neighbour is not spoiled


@pytest.mark.parametrize("key", ["ec", "rsa", "ed25519"])
@pytest.mark.standard("B12", "B14")
def test_each_kind_of_key(key: Any) -> None:
    mine = self_signed("CN=edge", key=key)
    client = own_certificates(mine, EDGE)
    assert asked(ClientAuthenticator({"edge": client}), mine, client_id="edge") is client
    renewed = self_signed("CN=edge", key=mine.key)
    assert asked(ClientAuthenticator({"edge": client}, match="public_key"), renewed, client_id="edge") is client


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
        ({"client_id": "", "authorization": [basic("web")]}, "invalid_request"),
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
def test_nobody_is_looked_up_by_certificate_alone() -> None:
    def look_up(client_id: str) -> RegisteredClient | None:
        pytest.fail(f"looked up {client_id!r}")

    with refused():
        asked(ClientAuthenticator(look_up), BILLING, client_id=None)


OTHER_CREDENTIALS: list[dict[str, Any]] = [
    {"form": SECRET},
    {"form": [("client_secret", "")]},
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
        ("web", {"form": SECRET}),
        ("bank", {"form": ASSERTION}),
        (None, {"form": ASSERTION}),
        ("spa", {}),
        ("web", {}),
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


# --- look-ups ---


def test_look_ups_of_each_kind() -> None:
    async def later(client_id: str) -> RegisteredClient | None:
        return CLIENTS.get(client_id)

    class Database:
        async def find(self, client_id: str) -> RegisteredClient | None:
            return CLIENTS.get(client_id)

    for clients in (CLIENTS, UserDict(CLIENTS), CLIENTS.get, CLIENTS.__getitem__):
        for awaiting in (True, False):
            assert asked(ClientAuthenticator(clients), BILLING, awaiting=awaiting) is CLIENTS["billing"]
    for clients in (later, Database().find):
        assert asked(ClientAuthenticator(clients), BILLING, awaiting=True) is CLIENTS["billing"]
        with refused():
            asked(ClientAuthenticator(clients), BILLING, client_id="nobody", awaiting=True)


def test_an_async_look_up_under_wsgi_says_what_to_change() -> None:
    async def later(client_id: str) -> RegisteredClient | None:
        return CLIENTS.get(client_id)

    with pytest.raises(ConfigurationError, match="WSGI cannot await: give a plain function"):
        asked(ClientAuthenticator(later), BILLING)


def test_a_look_up_that_gives_another_client_lets_nobody_in(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    def careless(client_id: str) -> RegisteredClient | None:
        return CLIENTS.get(client_id.lower())

    with refused(), caplog.at_level(logging.ERROR):
        ask(ClientAuthenticator(careless), BILLING, client_id="Billing")
    assert "another" in caplog.text or "something else" in caplog.text


@pytest.mark.parametrize("given", [True, "billing", {"client_id": "billing"}, 7, RegisteredClient, object()], ids=shown)
def test_a_look_up_that_gives_no_registered_client_lets_nobody_in(ask: Ask, given: Any) -> None:
    for credentials in ({}, {"form": SECRET}):
        with refused():
            ask(ClientAuthenticator(lambda _: given), BILLING, **credentials)


@pytest.mark.parametrize("raised", [KeyError, LookupError, StopIteration, StopAsyncIteration, RuntimeError])
def test_a_look_up_that_fails_lets_nobody_in(ask: Ask, raised: type[Exception]) -> None:
    def broken(client_id: str) -> RegisteredClient | None:
        raise raised(CLIENTS["billing"])

    with pytest.raises((raised, RuntimeError)):
        ask(ClientAuthenticator(broken), BILLING)


def test_a_look_up_that_is_down_says_when_to_come_back(ask: Ask) -> None:
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

    def get(self, client_id: str, *_: Any) -> RegisteredClient | None:  # type: ignore[override]
        self.looked_up.append(client_id)
        return super().get(client_id)

    def __iter__(self) -> Iterator[str]:
        pytest.fail("all clients were walked over")

    items = values = keys = __iter__  # type: ignore[assignment]


@pytest.fixture(scope="module")
def million() -> Counting:
    clients = Counting(dict.fromkeys((f"c{number}" for number in range(1_000_000)), CLIENTS["billing"]))
    clients["billing"] = CLIENTS["billing"]
    return clients


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
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))}: a list"):
        ClientRequest(**{"form": [], "certificate": None, **wrong})


# --- construction ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clients": None}, "a function or a mapping from client_id"),
        ({"clients": [CLIENTS["billing"]]}, "a function or a mapping from client_id"),
        ({"clients": "billing"}, "a function or a mapping from client_id"),
        ({"match": "spki"}, "'certificate' or 'public_key'"),
        ({"match": None}, "'certificate' or 'public_key'"),
        ({"trust_store": "ca.pem"}, "is no trust store"),
        ({"trust_store": [CA.certificate]}, "is no trust store"),
    ],
    ids=lambda value: None if isinstance(value, str) else next(iter(value)),
)
def test_an_authenticator_put_together_wrongly_says_so(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ClientAuthenticator(**{"clients": CLIENTS, **options})


# --- other servers' expectations ---


@pytest.mark.shared
@pytest.mark.standard("B1", "B4", "B11")
@pytest.mark.parametrize(
    "expected",
    shared.read_json("vectors/oidc-provider/expectations.json").get("client_auth", ()),
    ids=lambda row: f"{row['method']}, {row['case']}",
)
def test_what_node_oidc_provider_decides_we_decide(expected: dict[str, str]) -> None:
    certificate: IssuedCertificate | ClientCertificate | None
    match expected["method"], expected["case"]:
        case (_, "no certificate" | "no cert"):
            certificate = None
        case (str() as method, "proxy says not verified"):
            assert method == PKI
            certificate = presented(BILLING)
        case (_, "subject/SAN mismatch" | "cert not in jwks"):
            certificate = REPORTS
        case (str() as method, "jwks rotated at jwks_uri"):
            assert (method, expected["result"]) == (SELF_SIGNED, "ok after refresh")
            return  # test_jwks_uri.py: it takes a server
        case (str() as method, _):
            certificate = {PKI: BILLING, SELF_SIGNED: EDGE}[method]
    client_id = {PKI: "billing", SELF_SIGNED: "edge"}[expected["method"]]
    if expected["result"] == "ok":
        assert asked(AUTHENTICATOR, certificate, client_id=client_id) is CLIENTS[client_id]
    else:
        with refused(expected["result"]):
            asked(AUTHENTICATOR, certificate, client_id=client_id)
