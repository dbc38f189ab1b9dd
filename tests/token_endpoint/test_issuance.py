"""What goes into issued tokens, and what a refresh token must come back with."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate, ConfigurationError, RegisteredClient, Verification
from mtls_middleware.testing import CertificateAuthority, TokenIssuer, self_signed
from mtls_middleware.token_endpoint import (
    ClientAuthenticator,
    confirm_refresh_token,
    confirmation,
    token_confirmation,
)
from tests import shared
from tests.token_endpoint.roles import authentication_result, pki, refused

CA = CertificateAuthority()
FIRST, RENEWED = (CA.issue("CN=app,O=Acme").client_certificate() for _ in range(2))
SAME_KEY = self_signed("CN=app", key=CA.issue().key)
BOUND = RegisteredClient(
    client_id="app", token_endpoint_auth_method="none", tls_client_certificate_bound_access_tokens=True
)
PLAIN = RegisteredClient(client_id="app", token_endpoint_auth_method="none")


# --- access tokens ---


@pytest.mark.shared
@pytest.mark.standard("B15", "A5", "A6")
def test_the_cnf_of_rfc_8705_appendix_a() -> None:
    appendix = shared.read_json("vectors/rfc8705.json")["appendix_a"]
    assert confirmation(ClientCertificate.from_pem(appendix["certificate_pem"])) == appendix["cnf"]


@pytest.mark.standard("B15", "E7", "A11")
def test_a_token_is_bound_to_the_certificate_of_its_own_request(mtls_issuer: TokenIssuer) -> None:
    """What `confirmation` gives, the resource server takes from that certificate alone; after a renewal, a new one."""
    for mine, other in ((FIRST, RENEWED), (RENEWED, FIRST)):
        cnf = token_confirmation(BOUND, mine)
        assert cnf == {"x5t#S256": mine.thumbprint}
        confirm_refresh_token(cnf, mine)
        with refused("invalid_grant"):
            confirm_refresh_token(cnf, other)


@pytest.mark.standard("B16")
def test_each_certificate_whose_key_was_proven_can_be_bound_to() -> None:
    """Binding needs no chain: what our layers attach was proven in the handshake, whoever vouches for its names."""
    for verification in Verification:
        certificate = self_signed().client_certificate(verification)
        assert confirmation(certificate) == {"x5t#S256": certificate.thumbprint}


@pytest.mark.standard("D7", "D8", "P18")
def test_a_client_that_asks_for_bound_tokens_gets_bound_ones_or_an_error() -> None:
    assert token_confirmation(BOUND, FIRST) == confirmation(FIRST)
    with refused("invalid_request"):
        token_confirmation(BOUND, None)
    with refused("invalid_request"):
        token_confirmation(BOUND, None, without_certificate="refuse")
    assert token_confirmation(BOUND, None, without_certificate="unbound") is None
    assert token_confirmation(BOUND, FIRST, without_certificate="unbound") == confirmation(FIRST)


@pytest.mark.standard("D7", "A13")
def test_a_client_that_does_not_ask_gets_unbound_ones() -> None:
    for certificate in (FIRST, None):
        assert token_confirmation(PLAIN, certificate) is None


@pytest.mark.parametrize("method", ["none", "private_key_jwt", "client_secret_basic"])
@pytest.mark.standard("A13")
def test_binding_does_not_depend_on_how_the_client_authenticates(method: str) -> None:
    client = RegisteredClient(
        client_id="app", token_endpoint_auth_method=method, tls_client_certificate_bound_access_tokens=True
    )
    assert token_confirmation(client, FIRST) == confirmation(FIRST)


@pytest.mark.parametrize("choice", ["ignore", "", None, True])
def test_an_invalid_choice_raises_configuration_error(choice: Any) -> None:
    for client in (BOUND, PLAIN):
        with pytest.raises(ConfigurationError, match="'refuse' or 'unbound'"):
            token_confirmation(client, FIRST, without_certificate=choice)


# --- refresh tokens ---


@pytest.mark.standard("E1", "E3", "E4")
def test_a_public_clients_refresh_token_needs_its_certificate() -> None:
    cnf = confirmation(FIRST)
    confirm_refresh_token(cnf, FIRST)
    for wrong in (None, RENEWED, SAME_KEY.client_certificate()):
        with refused("invalid_grant"):
            confirm_refresh_token(cnf, wrong)


@pytest.mark.standard("E4", "A18", "P8")
@pytest.mark.parametrize(
    "cnf",
    [
        {},
        None,
        [],
        "x",
        7,
        {"x5t#S256": None},
        {"x5t#S256": ""},
        {"x5t#S256": FIRST.thumbprint + "="},
        {"x5t#S256": FIRST.thumbprint[:42]},
        {"x5t": FIRST.thumbprint},
        {"jkt": FIRST.thumbprint},
        {"x5t#S256": FIRST.thumbprint, "jkt": FIRST.thumbprint},
    ],
)
def test_a_refresh_token_with_an_unreadable_binding_is_rejected(cnf: Any) -> None:
    with refused("invalid_grant"):
        confirm_refresh_token(cnf, FIRST)


@pytest.mark.standard("E2", "E7")
def test_a_client_known_by_name_can_renew_its_certificate() -> None:
    """Its refresh token is bound to the client; the next access token is bound to the certificate of the renewal."""
    client = pki("app", subject_dn="CN=app,O=Acme")
    authenticator = ClientAuthenticator({"app": client})
    for certificate in (FIRST, RENEWED):
        assert authentication_result(authenticator, certificate, client_id="app") is client
    assert confirmation(FIRST) != confirmation(RENEWED)


@given(
    st.none()
    | st.text()
    | st.dictionaries(st.sampled_from(["x5t#S256", "jkt", "x"]), st.none() | st.text() | st.lists(st.integers()))
)
@pytest.mark.standard("E1", "E4")
def test_no_other_cnf_than_the_certificates_own_confirms_it(cnf: Any) -> None:
    with refused("invalid_grant"):
        confirm_refresh_token(cnf, FIRST)
