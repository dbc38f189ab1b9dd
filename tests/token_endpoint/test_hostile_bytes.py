"""Whatever arrives at a token endpoint: a typed refusal or a pass, and never as somebody else."""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import cryptography_vectors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate, Refused, RegisteredClient, Verification
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.layers.attached import Attached
from mtls_middleware.layers.client import ClientLayer
from mtls_middleware.request import Peer, TLSFacts
from mtls_middleware.responses import RESPONSES
from mtls_middleware.testing import CertificateAuthority, self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator, ClientRequest
from mtls_middleware.token_endpoint.registered_certificates import Match, RegisteredCertificates
from mtls_middleware.validation import TrustStore
from tests.request_view import View
from tests.token_endpoint.posts import Post, layers, send_asgi, send_wsgi
from tests.token_endpoint.roles import authentication_result, basic, jwk, own_certificates, pki, refused

CA = CertificateAuthority()
BILLING = CA.issue("CN=billing", dns=["billing.internal"])
EDGE = self_signed("CN=edge")
KINDS = [self_signed(key=kind) for kind in ("ec", "rsa", "ed25519")]
CLIENTS = {
    "billing": pki(san_dns="billing.internal"),
    "edge": own_certificates(EDGE),
    "web": RegisteredClient(client_id="web", token_endpoint_auth_method="client_secret_basic"),
}
LAYER = ClientLayer(ClientAuthenticator(CLIENTS), paths=["/token"])
EXPECTED = {"invalid_request", "invalid_client"}

# Some of the vectors are read with a warning, which the suite would make an error that no user sees.
pytestmark = [
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Attribute.s length must be:UserWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Each example would be a record that pytest keeps."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def decided(decide: Callable[[], RegisteredClient | None]) -> tuple[RegisteredClient | None, str | None]:
    """The client, and the code of a refusal; every other exception comes out."""
    try:
        return decide(), None
    except Refused as refusal:
        return None, refusal.code


# --- requests ---

FORMS = st.lists(
    st.tuples(
        st.sampled_from(["client_id", "client_secret", "client_assertion", "grant_type", "x"]) | st.text(max_size=5),
        st.sampled_from(["billing", "edge", "web", ""]) | st.text(max_size=10),
    ),
    max_size=4,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs).encode("utf-8", "surrogatepass"))
BODIES = st.binary(max_size=60) | FORMS | st.just(b"client_id=billing")
TYPES = st.sampled_from(["application/x-www-form-urlencoded"]) | st.text(max_size=40)
AUTHORIZATIONS = st.lists(
    st.text(max_size=30)
    | st.text(max_size=20).map("Basic {}".format)
    | st.text(st.characters(codec="utf-8"), max_size=10).map(basic)
    | st.binary(max_size=20).map(lambda octets: "Basic " + base64.b64encode(octets).decode()),
    max_size=2,
)
CERTIFICATES = [None, BILLING, EDGE]


@given(
    body=BODIES,
    content_type=TYPES,
    query=st.text(st.characters(max_codepoint=255), max_size=30),
    authorization=AUTHORIZATIONS,
    certificate=st.sampled_from(CERTIFICATES),
    method=st.sampled_from(["POST", "GET", ""]),
)
@pytest.mark.standard("B2", "B3", "B4", "B6")
@pytest.mark.case("143")
def test_any_request_is_refused_by_type_or_passes_as_who_it_is(
    *, body: bytes, content_type: str, query: str, authorization: list[str], certificate: Any, method: str
) -> None:
    fields = {"content-type": [content_type], "authorization": authorization}
    attached = Attached()
    attached.set("certificate", certificate and certificate.client_certificate())
    view = View(
        method=method,
        path="/token",
        query=query,
        headers=lambda name: fields.get(name, []),
        peer=Peer(),
        tls=TLSFacts(),
        attached=attached,
        now=0,
        body=body,
    )
    client, code = decided(lambda: BlockingDriver().run(LAYER.decide(view, LAYER.route(view))).value)
    assert code in ({None, *EXPECTED} if method == "POST" else {"method_not_allowed"})
    if client is not None:  # then it is exactly this
        assert (client, certificate) in ((CLIENTS["billing"], BILLING), (CLIENTS["edge"], EDGE))
        assert f"client_id={client.client_id}".encode() in body
        assert not authorization


@given(
    body=BODIES,
    content_type=st.none() | st.text(st.characters(codec="latin-1"), max_size=30),
    query=st.text(st.characters(max_codepoint=255), max_size=30),
    authorization=st.text(st.characters(codec="latin-1"), max_size=30)
    | AUTHORIZATIONS.map(lambda all_: (all_ or [""])[0]),
    certificate=st.sampled_from(CERTIFICATES),
)
@pytest.mark.case("143")
def test_both_gateways_answer_any_request_alike_and_never_with_500(
    body: bytes, content_type: str | None, query: str, authorization: str, certificate: Any
) -> None:
    authorization = authorization.encode("utf-8", "replace").decode("latin-1")
    headers = [("Authorization", authorization)] if authorization else []
    post = Post(body=body, content_type=content_type, query=query, headers=headers, certificate=certificate)
    wrap = layers(ClientAuthenticator(CLIENTS))
    outcomes = [send_wsgi(wrap, post), send_asgi(wrap, post)]
    assert outcomes[0].status == outcomes[1].status
    assert outcomes[0].status in (200, 400, 401)
    assert outcomes[0].client is outcomes[1].client
    for outcome in outcomes:
        assert outcome.bodies == ([body, b""] if outcome.status == 200 else [])


@given(
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4),
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=2),
    st.lists(st.text(max_size=20), max_size=2),
)
def test_any_texts_in_a_request_are_refused_by_type_or_pass(form: Any, query: Any, authorization: Any) -> None:
    request = ClientRequest(form, BILLING.client_certificate(), query, authorization)
    client, code = decided(lambda: ClientAuthenticator(CLIENTS).authenticate(request, 0))
    assert client is None
    assert code in {None, *EXPECTED}


# --- key sets ---

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["AQAB", "A"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["kty", "crv", "n", "e", "x", "y", "x5c", "d", "k", "alg", "use", "key_ops", "kid"]
ENTRIES = st.builds(
    lambda base, changes: {**base, **changes},
    st.sampled_from([{}, *(jwk(each) for each in KINDS)]),
    st.dictionaries(st.sampled_from(NAMES), JSON | st.just(jwk(EDGE)["x5c"]) | st.sampled_from(["RSA", "EC", "OKP"])),
)


@given(JSON | st.lists(ENTRIES | JSON, max_size=3).map(lambda keys: {"keys": keys}))
@pytest.mark.standard("B12", "B13", "B14")
def test_any_json_is_a_key_set_or_none(document: Any) -> None:
    try:
        found = RegisteredCertificates.parse_text("a client", json.dumps(document))
    except ValueError:
        return
    own = [each for each in KINDS if found.contains(each.client_certificate(), "certificate")]
    assert len(own) == len(found.certificates)  # nothing else than what stands there whole


@given(st.binary(max_size=200))
def test_any_octets_are_a_key_set_or_none(text: bytes) -> None:
    try:
        RegisteredCertificates.parse_text("a client", text)
    except ValueError:
        return


def mutated(der: bytes, position: int, octet: int) -> bytes:
    position %= len(der)
    return der[:position] + bytes([octet]) + der[position + 1 :]


@given(position=st.integers(0, 2000), octet=st.integers(0, 255), kind=st.sampled_from(KINDS))
@pytest.mark.standard("B11", "B22")
def test_a_certificate_changed_in_one_octet_matches_no_client(position: int, octet: int, kind: Any) -> None:
    der = mutated(kind.der, position, octet)
    if der == kind.der:
        return
    try:
        certificate = ClientCertificate.from_der(der, verification=Verification.BY_PROXY)
    except MalformedCertificate:
        return
    clients = {"edge": own_certificates(kind), "billing": pki(san_dns="x.internal"), "dn": pki("dn", subject_dn="CN=x")}
    for client_id in clients:
        with refused():
            authentication_result(ClientAuthenticator(clients), certificate, client_id=client_id)
    entry = {**jwk(kind), "x5c": [base64.b64encode(der).decode("ascii")]}
    RegisteredCertificates.parse({"keys": [entry]})  # read or left out


# --- malformed certificates of PyPI's cryptography-vectors ---


def vectors() -> dict[str, bytes]:
    """The first certificate of each file, as DER."""
    root = Path(cryptography_vectors.__file__).parent / "x509"
    found = {}
    for path in sorted(each for each in root.rglob("*") if each.suffix in (".pem", ".der", ".crt", ".cer")):
        octets = path.read_bytes()
        block = re.search(rb"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----", octets)
        if block or b"-----BEGIN" not in octets:
            found[str(path.relative_to(root))] = base64.b64decode(block[1]) if block else octets
    return found


VECTORS = vectors()
# `cryptography` itself wrote them, so they are what it says; the one good thing in each list is its own client.
ONE_EACH = {
    "dn": pki("dn", subject_dn="CN=billing,O=Acme"),
    "dns": pki("dns", san_dns="billing.internal"),
    "uri": pki("uri", san_uri="urn:acme:billing"),
    "ip": pki("ip", san_ip="2001:db8::7"),
    "email": pki("email", san_email="billing@acme.example"),
    "edge": own_certificates(EDGE),
}
STORE = TrustStore([CA.certificate])


def test_the_vectors_are_there() -> None:
    assert len(VECTORS) > 500
    assert len([name for name in VECTORS if name.startswith("custom")]) > 50


@pytest.mark.parametrize("client_id", ONE_EACH)
@pytest.mark.standard("B22", "D12")
@pytest.mark.case("087")
def test_no_certificate_of_the_vectors_is_anything_but_refused(client_id: str) -> None:
    authenticators = [ClientAuthenticator(ONE_EACH, match=match) for match in get_args(Match)]
    authenticators.append(ClientAuthenticator(ONE_EACH, trust_store=STORE))
    read = 0
    for name, der in VECTORS.items():
        try:
            certificate = ClientCertificate.from_der(der, verification=Verification.BY_PROXY)
        except MalformedCertificate:
            continue
        read += 1
        for authenticator in authenticators:
            try:
                with refused():
                    authentication_result(authenticator, certificate, client_id=client_id)
            except BaseException as error:
                raise AssertionError(name) from error
    assert read > 500


@pytest.mark.standard("B22")
def test_no_certificate_of_the_vectors_spoils_the_chain_of_a_good_one() -> None:
    """What stands beside the leaf is the client's to choose too: used, passed over, or refused by type."""
    authenticator = ClientAuthenticator(CLIENTS, trust_store=STORE)
    for der in VECTORS.values():
        certificate = ClientCertificate.from_der(BILLING.der, chain=(der,), verification=Verification.BY_PROXY)
        assert decided(lambda shown=certificate: authentication_result(authenticator, shown)) in (
            (CLIENTS["billing"], None),
            (None, "invalid_client"),
        )


@pytest.mark.standard("B12", "B13")
def test_no_certificate_of_the_vectors_breaks_a_key_set() -> None:
    entries = [{**jwk(EDGE), "x5c": [base64.b64encode(der).decode("ascii")]} for der in VECTORS.values()]
    for some in (entries[start : start + 199] for start in range(0, len(entries), 199)):
        found = RegisteredCertificates.parse({"keys": [*some, jwk(EDGE)]})
        assert found == RegisteredCertificates.parse({"keys": [jwk(EDGE)]})


def test_every_code_that_is_raised_here_has_an_answer() -> None:
    assert RESPONSES.keys() >= {*EXPECTED, "method_not_allowed", "payload_too_large", "invalid_grant"}
