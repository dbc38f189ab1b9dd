"""SPIFFE IDs against the vectors of go-spiffe and the rules of X.509-SVID."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware.names import spiffe
from mtls_middleware.policy import SpiffeID, SpiffeTrustDomain
from mtls_middleware.testing import CertificateAuthority
from tests import shared

VECTORS = shared.read_json("vectors/spiffe/spiffe-ids.json")
AUTHORITY = CertificateAuthority()


def of(*uris: str) -> str | None:
    return AUTHORITY.issue(uris=uris).client_certificate().spiffe_id


@pytest.mark.shared
@pytest.mark.parametrize("text", VECTORS.get("valid", ()))
def test_valid_ids_are_read(text):
    assert spiffe.check(text).trust_domain == "trustdomain"


@pytest.mark.shared
@pytest.mark.case("101")
@pytest.mark.standard("N9", "N10", "N11")
@pytest.mark.parametrize("text", VECTORS.get("invalid", ()))
def test_invalid_ids_are_refused(text):
    with pytest.raises(ValueError, match="SPIFFE"):
        spiffe.check(text)


@pytest.mark.shared
@pytest.mark.standard("N9", "N10")
@pytest.mark.parametrize(
    ("key", "template"),
    [
        ("invalid_trust_domain_bytes (spiffe://trustdomain<chr>/path)", "spiffe://trustdomain{}/path"),
        ("invalid_path_bytes (spiffe://trustdomain/path<chr>)", "spiffe://trustdomain/path{}"),
    ],
)
def test_no_other_character_is_allowed(key, template):
    assert VECTORS[key]
    for code in VECTORS[key]:
        with pytest.raises(ValueError, match="SPIFFE"):
            spiffe.check(template.format(chr(code)))


@pytest.mark.standard("N11")
def test_two_thousand_and_forty_eight_octets_are_the_limit():
    longest = "spiffe://td/" + "a" * (2048 - len("spiffe://td/"))
    assert spiffe.check(longest)
    with pytest.raises(ValueError, match="SPIFFE"):
        spiffe.check(longest + "a")


@pytest.mark.case("101")
@pytest.mark.standard("N1", "N2", "N3")
def test_a_certificate_has_an_id_only_if_its_one_uri_is_one():
    assert of("spiffe://td/wl") == "spiffe://td/wl"
    for uris in (
        ["spiffe://td/wl", "spiffe://td/other"],
        ["spiffe://td/wl", "https://x"],
        ["https://td/wl"],
        ["spiffe://td"],
        [],
    ):
        assert of(*uris) is None


@pytest.mark.case("101")
def test_a_trust_domain_does_not_match_as_a_prefix():
    certificate = AUTHORITY.issue(uris=["spiffe://td.evil/wl"]).client_certificate()
    assert not SpiffeTrustDomain("td").holds(certificate)
    assert not SpiffeID("spiffe://td/wl").holds(certificate)
    assert SpiffeTrustDomain("td.evil").holds(certificate)


@given(st.text())
def test_arbitrary_text_is_an_id_or_a_value_error(text):
    try:
        parsed = spiffe.check(text)
    except ValueError:
        return
    assert text == f"spiffe://{parsed.trust_domain}{parsed.path}"
