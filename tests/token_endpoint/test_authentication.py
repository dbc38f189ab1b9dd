"""The certificate of a request against the client that it names alone: names, chains, registered certificates."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from mtls_middleware import ClientCertificate, Verification
from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator
from mtls_middleware.token_endpoint.registered_certificates import Match
from mtls_middleware.validation import SpiffeTrust, TrustStore
from tests import shared
from tests.token_endpoint.registrations import AUTHENTICATOR, BILLING, CA, CLIENTS, EDGE, REPORTS, ROGUE, STRANGER
from tests.token_endpoint.roles import (
    PKI,
    SELF_SIGNED,
    Ask,
    authentication_result,
    jwk,
    own_certificates,
    pki,
    presented,
    refused,
)

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
def test_a_certificate_of_one_client_does_not_authenticate_another(ask: Ask) -> None:
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
            authentication_result(authenticator, BILLING.client_certificate(verification))
    else:
        assert authentication_result(authenticator, BILLING.client_certificate(verification)) is CLIENTS["billing"]


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


# clock_skew of the authenticator, leeway of the store, and the tolerance that counts
TOLERANCES = [
    ({}, None, 60), ({}, 5, 5), ({}, 300, 60), ({"clock_skew": 0}, None, 0), ({"clock_skew": 0}, 60, 0),
    ({"clock_skew": 300}, None, 300), ({"clock_skew": 300}, 60, 60),
]  # fmt: skip


@pytest.mark.parametrize("place", ["authenticator", "client"])
@pytest.mark.parametrize("spiffe", [False, True])
def test_a_trust_store_has_the_tolerance_of_the_authenticator(ask: Ask, place: str, spiffe: bool) -> None:
    """The same default as the layers have: what passes a layer is not refused for its date behind it."""
    now = int(time.time())
    certificate = CA.issue(
        dns=["billing.internal"], uris=["spiffe://acme.internal/a"], not_after=datetime.fromtimestamp(now, UTC)
    )
    roots = [CA.certificate]
    for options, leeway, tolerance in TOLERANCES:
        store = SpiffeTrust({"acme.internal": roots}, leeway=leeway) if spiffe else TrustStore(roots, leeway=leeway)
        client = pki(san_dns="billing.internal", trust_store=store if place == "client" else None)
        everyones = store if place == "authenticator" else None
        authenticator = ClientAuthenticator({"billing": client}, trust_store=everyones, **options)
        assert ask(authenticator, certificate, now=now + tolerance) is client, (options, leeway)
        with refused():
            ask(authenticator, certificate, now=now + tolerance + 1)


@pytest.mark.parametrize("clock_skew", [-1, 301, True, None, "60", float("nan")])
def test_a_wrong_tolerance_cannot_be_constructed(clock_skew: Any) -> None:
    with pytest.raises(ConfigurationError, match="clock_skew"):
        ClientAuthenticator({}, clock_skew=clock_skew)


@pytest.mark.standard("B22", "B7")
def test_what_the_trust_store_refuses_is_an_invalid_client(ask: Ask) -> None:
    authenticator = ClientAuthenticator(CLIENTS, trust_store=TrustStore([CA.certificate]))
    names = {"dns": ["billing.internal"]}
    below = CA.issue("CN=billing", **names)
    not_a_ca = CertificateAuthority("CN=Leaf", parent=ROGUE)
    wrong = [
        CA.issue("CN=billing", ca=True, **names),
        CA.issue("CN=billing", extended_key_usage=["server"], **names),
        CA.issue("CN=billing", not_after=below.x509.not_valid_before_utc, **names),
        CA.issue("CN=billing", not_before=below.x509.not_valid_after_utc, **names),
        not_a_ca.issue("CN=billing", **names),
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
            authentication_result(authenticator, STRANGER, client_id="edge")
        assert authentication_result(authenticator, EDGE, client_id="edge") is client  # its neighbour is not spoiled


@pytest.mark.parametrize("key", ["ec", "rsa", "ed25519"])
@pytest.mark.standard("B12", "B14")
def test_each_kind_of_key(key: Any) -> None:
    mine = self_signed("CN=edge", key=key)
    client = own_certificates(mine, EDGE)
    assert authentication_result(ClientAuthenticator({"edge": client}), mine, client_id="edge") is client
    renewed = self_signed("CN=edge", key=mine.key)
    assert (
        authentication_result(ClientAuthenticator({"edge": client}, match="public_key"), renewed, client_id="edge")
        is client
    )


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
        assert authentication_result(AUTHENTICATOR, certificate, client_id=client_id) is CLIENTS[client_id]
    else:
        with refused(expected["result"]):
            authentication_result(AUTHENTICATOR, certificate, client_id=client_id)
