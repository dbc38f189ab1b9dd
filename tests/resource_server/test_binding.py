"""A token and a certificate belong together or they do not: RFC 8705 section 3, through both gateways."""

import ast
import base64
import hashlib
import inspect
import time
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from mtls_middleware import ClientCertificate, Refused, Verification, binding
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer, self_signed
from tests.gateways import Outcome
from tests.resource_server import forge
from tests.resource_server.stack import Stack
from tests.shared import read_json

EXAMPLE = read_json("vectors/rfc8705.json") or {
    "appendix_a": {"certificate_pem": "", "cnf": {}},
    "wrong_values_that_must_not_match": {},
    "same_digest_other_spelling": {},
}
PEM = EXAMPLE["appendix_a"]["certificate_pem"]


def bearer(cnf: Any = ..., **claims: Any) -> str:
    """A well-signed token with any `cnf`; none at all by default."""
    confirmed = {} if cnf is ... else {"cnf": cnf}
    return "Bearer " + forge.token(payload=forge.claims(**claims, **confirmed))


def assert_invalid_token(outcome: Outcome) -> None:
    assert (outcome.status, outcome.error, outcome.reached) == (401, "invalid_token", False)
    assert outcome.header("Cache-Control") == "no-store"


@pytest.mark.case("103")
@pytest.mark.standard("A2", "Q1")
def test_a_token_bound_to_the_certificate_of_the_request_is_let_through(
    stack: type[Stack], mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer
) -> None:
    app = stack(mtls_issuer.access_tokens())
    outcome = app.request(f"Bearer {mtls_issuer.token(certificate=mtls_client)}", certificate=mtls_client)
    assert outcome.status == 200
    assert outcome.token
    assert (outcome.token.bound, outcome.token.confirmation) == (True, mtls_client.thumbprint)
    assert outcome.certificate
    assert outcome.certificate.der == mtls_client.der


@pytest.mark.shared
@pytest.mark.case("103")
@pytest.mark.standard("A6", "A8", "H20")
def test_the_expired_certificate_of_rfc_8705_appendix_a_is_accepted(stack: type[Stack]) -> None:
    outcome = stack(forge.access_tokens()).request(bearer(EXAMPLE["appendix_a"]["cnf"]), certificate=PEM)
    assert outcome.status == 200
    assert outcome.certificate
    assert outcome.certificate.verification is Verification.PRESENTED


@pytest.mark.shared
@pytest.mark.case("108")
@pytest.mark.standard("A6", "A18", "H20", "H23")
@pytest.mark.parametrize("name", EXAMPLE["wrong_values_that_must_not_match"])
def test_no_other_digest_or_spelling_of_the_example_matches(stack: type[Stack], name: str) -> None:
    value = EXAMPLE["wrong_values_that_must_not_match"][name]
    assert_invalid_token(stack(forge.access_tokens()).request(bearer({"x5t#S256": value}), certificate=PEM))


@pytest.mark.shared
@pytest.mark.standard("H21")
def test_the_pad_bits_that_the_rfcs_own_example_sets_do_not_matter(stack: type[Stack]) -> None:
    other = EXAMPLE["same_digest_other_spelling"]["non_canonical_last_char"]
    assert other != EXAMPLE["appendix_a"]["cnf"]["x5t#S256"]
    assert stack(forge.access_tokens()).request(bearer({"x5t#S256": other}), certificate=PEM).status == 200


@pytest.mark.case("104")
@pytest.mark.standard("A2", "A3", "G5", "G7")
def test_another_clients_certificate_is_refused(
    stack: type[Stack], mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    app = stack(forge.access_tokens(), realm="example")
    outcome = app.request(bearer({"x5t#S256": mtls_client.thumbprint}), certificate=mtls_other_client)
    assert_invalid_token(outcome)
    assert outcome.challenge
    assert outcome.challenge["realm"] == "example"


@pytest.mark.case("104")
@pytest.mark.standard("A10", "A11")
def test_a_renewed_certificate_with_the_same_key_needs_a_new_token(
    stack: type[Stack], mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    renewed = mtls_ca.issue(mtls_client.x509.subject, key=mtls_client.key)
    assert renewed.key.public_key() == mtls_client.key.public_key()
    app = stack(forge.access_tokens())
    assert_invalid_token(app.request(bearer({"x5t#S256": mtls_client.thumbprint}), certificate=renewed))
    assert app.request(bearer({"x5t#S256": renewed.thumbprint}), certificate=renewed).status == 200


@pytest.mark.case("105")
@pytest.mark.standard("A4", "G6")
@pytest.mark.parametrize("mode", ["required", "when_present"])
def test_a_bound_token_without_a_certificate_is_refused(
    stack: type[Stack], mode: str, mtls_client: IssuedCertificate
) -> None:
    app = stack(forge.access_tokens(), binding=mode)
    assert_invalid_token(app.request(bearer({"x5t#S256": mtls_client.thumbprint})))


@pytest.mark.standard("A9")
def test_the_binding_setting_decides_whether_a_certificate_is_required(
    stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    text = bearer({"x5t#S256": mtls_client.thumbprint})
    for mode, status in (("required", 401), ("when_present", 200)):
        app = stack(forge.access_tokens(), binding=mode)
        assert app.request(bearer()).status == status
        outcome = app.request(text)  # one final answer: nothing that would begin a handshake again
        assert_invalid_token(outcome)
        assert {name.lower() for name, _ in outcome.headers}.isdisjoint({"connection", "upgrade"})


@pytest.mark.standard("A1")
def test_a_certificate_named_in_an_ordinary_header_is_never_used(
    stack: type[Stack], mtls_client: IssuedCertificate
) -> None:
    named = {
        **mtls_client.as_nginx(),
        **mtls_client.as_client_cert(),
        "SSL-Client-Cert": mtls_client.as_nginx()["X-SSL-Client-Cert"],
    }
    text = bearer({"x5t#S256": mtls_client.thumbprint})
    assert_invalid_token(stack(forge.access_tokens()).request(text, headers=named))


@pytest.mark.case("106")
@pytest.mark.standard("A14")
def test_an_unbound_token_is_refused_by_default(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    assert_invalid_token(stack(forge.access_tokens()).request(bearer(), certificate=mtls_client))


@pytest.mark.case("107")
@pytest.mark.standard("A14")
@pytest.mark.parametrize("with_certificate", [True, False])
def test_binding_when_present_accepts_an_unbound_token(
    stack: type[Stack], with_certificate: bool, mtls_client: IssuedCertificate
) -> None:
    app = stack(forge.access_tokens(), binding="when_present")
    outcome = app.request(bearer(), certificate=mtls_client if with_certificate else None)
    assert outcome.status == 200
    assert outcome.token
    assert (outcome.token.bound, outcome.token.confirmation) == (False, None)


def cannot_be_checked(client: IssuedCertificate) -> dict[str, Any]:
    """Every `cnf` that must not let `client` through."""
    right, digest = client.thumbprint, hashlib.sha256(client.der).digest()
    standard = base64.b64encode(digest).decode().rstrip("=")
    return {
        "empty": {},
        "null": None,
        "text": "x",
        "the thumbprint itself": right,
        "list": [],
        "list of the right one": [{"x5t#S256": right}],
        "number": 1,
        "true": True,
        "value empty": {"x5t#S256": ""},
        "value null": {"x5t#S256": None},
        "value number": {"x5t#S256": 1},
        "value list": {"x5t#S256": [right]},
        "value object": {"x5t#S256": {"x5t#S256": right}},
        "42 characters": {"x5t#S256": right[:-1]},
        "44 characters": {"x5t#S256": right + "A"},
        "43 wrong characters": {"x5t#S256": "A" * 43},
        "padded": {"x5t#S256": right + "="},
        "hexadecimal": {"x5t#S256": digest.hex()},
        "standard base64": {"x5t#S256": "+/" + standard[2:]},
        "newline after": {"x5t#S256": right + "\n"},
        "blank before": {"x5t#S256": " " + right},
        "full-width letters": {"x5t#S256": "\uff21" * 43},
        "x5t": {"x5t": base64.urlsafe_b64encode(hashlib.sha1(client.der).digest()).decode().rstrip("=")},
        "lower case name": {"x5t#s256": right},
        "x5t#S512": {"x5t#S512": right},
        "jkt alone": {"jkt": right},
        "kid alone": {"kid": right},
        "jwk alone": {"jwk": forge.JWK},
        "jkt beside": {"x5t#S256": right, "jkt": right},
        "jwk beside": {"x5t#S256": right, "jwk": forge.JWK},
        "kid beside": {"x5t#S256": right, "kid": "1"},
        "x5t beside": {"x5t#S256": right, "x5t": "x"},
    }


VARIANTS = sorted(cannot_be_checked(self_signed("CN=names only")))


@pytest.mark.case("108")
@pytest.mark.standard("A16", "A18", "A19", "H20", "Q3", "Q5", "Q9")
@pytest.mark.parametrize("mode", ["required", "when_present"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_binding_setting_rejects_an_unknown_confirmation(
    stack: type[Stack], mode: str, variant: str, mtls_client: IssuedCertificate
) -> None:
    cnf = cannot_be_checked(mtls_client)[variant]
    app = stack(forge.access_tokens(), binding=mode)
    assert_invalid_token(app.request(bearer(cnf), certificate=mtls_client))


@pytest.mark.standard("A15")
def test_an_unknown_member_beside_the_thumbprint_is_ignored(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    app = stack(forge.access_tokens())
    cnf = {"x5t#S256": mtls_client.thumbprint, "https://as.test/unknown": {"deep": [1]}}
    assert app.request(bearer(cnf), certificate=mtls_client).status == 200
    assert_invalid_token(app.request(bearer({**cnf, "x5t#S256": "A" * 43}), certificate=mtls_client))


@pytest.mark.case("123")
@pytest.mark.standard("Q3", "Q4")
def test_a_dpop_bound_token_is_refused_with_either_scheme(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    app = stack(forge.access_tokens(), binding="when_present")
    dpop_bound = bearer({"jkt": mtls_client.thumbprint}, token_type="DPoP")
    assert_invalid_token(app.request(dpop_bound, certificate=mtls_client))
    outcome = app.request(dpop_bound.replace("Bearer", "DPoP"), certificate=mtls_client)
    assert (outcome.status, outcome.error, outcome.reached) == (401, None, False)
    certificate_bound = bearer({"x5t#S256": mtls_client.thumbprint}).replace("Bearer", "DPoP")
    assert app.request(certificate_bound, certificate=mtls_client).status == 401


@pytest.mark.standard("H22")
def test_the_x5t_header_of_the_signer_is_not_a_confirmation(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    text = "Bearer " + forge.token({**forge.HEADER, "x5t#S256": mtls_client.thumbprint})
    assert_invalid_token(stack(forge.access_tokens()).request(text, certificate=mtls_client))
    outcome = stack(forge.access_tokens(), binding="when_present").request(text, certificate=mtls_client)
    assert outcome.token
    assert outcome.token.bound is False


@pytest.mark.standard("A8")
def test_an_unverified_certificate_is_enough_for_proof_of_possession(stack: type[Stack]) -> None:
    own = self_signed("CN=nobody vouches")
    outcome = stack(forge.access_tokens()).request(bearer({"x5t#S256": own.thumbprint}), certificate=own.pem)
    assert outcome.status == 200
    assert outcome.certificate
    assert outcome.certificate.verified is False


@pytest.mark.case("125")
@pytest.mark.standard("A23")
def test_the_certificate_is_compared_on_every_request(
    stack: type[Stack], mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    app = stack(forge.access_tokens())
    mine, theirs = (bearer({"x5t#S256": each.thumbprint}) for each in (mtls_client, mtls_other_client))
    assert app.request(mine, certificate=mtls_client).status == 200
    assert_invalid_token(app.request(mine, certificate=mtls_other_client))
    assert_invalid_token(app.request(mine))
    assert_invalid_token(app.request(theirs, certificate=mtls_client))
    assert app.request(mine, certificate=mtls_client).status == 200


@pytest.mark.case("125")
def test_a_remembered_token_ends_with_its_exp(
    stack: type[Stack], mtls_client: IssuedCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = stack(forge.access_tokens(leeway=10))
    text = bearer({"x5t#S256": mtls_client.thumbprint})
    assert app.request(text, certificate=mtls_client).status == 200
    for view in ("wsgi_request", "asgi_request"):
        clock = SimpleNamespace(time=lambda: time.time() + 86_411)
        monkeypatch.setattr(f"mtls_middleware.{view}.time", clock)
    assert_invalid_token(app.request(text, certificate=mtls_client))


@pytest.mark.standard("A13")
def test_binding_applies_to_tokens_of_public_clients(
    stack: type[Stack], mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    app = stack(forge.access_tokens())
    public = bearer({"x5t#S256": mtls_client.thumbprint}, client_id="public", client_auth_method="none")
    assert app.request(public, certificate=mtls_client).status == 200
    assert_invalid_token(app.request(public, certificate=mtls_other_client))


def test_confirm_reads_a_read_only_confirmation(mtls_client: IssuedCertificate) -> None:
    cnf = MappingProxyType({"x5t#S256": mtls_client.thumbprint})
    certificate = mtls_client.client_certificate(Verification.PRESENTED)
    assert binding.confirm({"cnf": cnf}, certificate, "required").thumbprint == mtls_client.thumbprint


@pytest.mark.standard("H24")
def test_confirm_hashes_the_der_whatever_spelling_of_pem_it_came_in(mtls_client: IssuedCertificate) -> None:
    claims = {"cnf": {"x5t#S256": mtls_client.thumbprint}}
    for pem in (mtls_client.pem, mtls_client.pem.replace("\n", "\r\n"), "text\n" + mtls_client.pem.strip()):
        assert binding.confirm(claims, ClientCertificate.from_pem(pem), "required")
    with pytest.raises(Refused):
        ClientCertificate.from_der(mtls_client.der + b"\0")


@pytest.mark.case("158")
def test_thumbprints_are_compared_in_constant_time_alone() -> None:
    tree = ast.parse(inspect.getsource(binding))
    digests = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "digest"]
    compared = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and "compare_digest" in ast.dump(node.func)
    ]
    assert len(compared) == 1
    inside = list(ast.walk(compared[0]))
    assert digests
    assert all(each in inside for each in digests)
