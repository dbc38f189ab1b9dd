"""Registration: what identifies exactly one client is taken, everything else is refused in words that help."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate, ConfigurationError, RegisteredClient
from mtls_middleware.policy import DNSName
from mtls_middleware.testing import IssuedCertificate, self_signed
from mtls_middleware.token_endpoint import ClientAuthenticator, RegistrationError
from tests import shared
from tests.ids import shown
from tests.token_endpoint.roles import (
    PKI,
    SELF_SIGNED,
    authentication_result,
    jwk,
    jwks,
    own_certificates,
    pki,
    refused,
)

OWN = self_signed("CN=edge")
OTHER = self_signed("CN=other")
BOUND = "tls_client_certificate_bound_access_tokens"
DRAFT_BOUND = "mutual_tls_sender_constrained_access_tokens"

# One good value for each of the five (RFC 8705 2.1.2).
FIVE = {
    "tls_client_auth_subject_dn": "CN=billing,O=Acme",
    "tls_client_auth_san_dns": "billing.internal",
    "tls_client_auth_san_uri": "spiffe://acme.internal/billing",
    "tls_client_auth_san_ip": "2001:db8::1",
    "tls_client_auth_san_email": "ops@acme.example",
}


def registered(**metadata: Any) -> RegisteredClient:
    return RegisteredClient.from_metadata({"client_id": "billing", **metadata})


# --- the PKI method ---


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.standard("D1", "P6")
def test_one_of_the_five_identifies_a_client(name: str) -> None:
    client = registered(token_endpoint_auth_method=PKI, **{name: FIVE[name]})
    assert getattr(client, name) == FIVE[name]
    assert client.identity is not None
    assert client == RegisteredClient(
        client_id="billing",
        token_endpoint_auth_method=PKI,
        **{name: FIVE[name]},
    )


@pytest.mark.parametrize(
    "names", [(), *[(one, other) for one in FIVE for other in FIVE if one < other], tuple(FIVE)], ids=len
)
@pytest.mark.standard("D1")
@pytest.mark.case("100")
def test_none_or_several_of_the_five_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=f"exactly one of .*; given: {len(names)}"):
        registered(token_endpoint_auth_method=PKI, **{name: FIVE[name] for name in names})


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("empty", ["", " ", "\0", 7, [], {}, True, b"x"], ids=repr)
@pytest.mark.standard("D10")
def test_an_empty_name_identifies_no_client(name: str, empty: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        registered(token_endpoint_auth_method=PKI, **{name: empty})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("subject_dn", "/C=DE/CN=billing"),
        ("subject_dn", 'CN=billing,O="Acme"'),
        ("subject_dn", "CN=billing;O=Acme"),
        ("subject_dn", "CN=bil\\00ling"),
        ("subject_dn", "billing"),
        ("san_dns", "*.internal"),
        ("san_dns", "billing.internal."),
        ("san_dns", "b\u00fccher.example"),
        ("san_uri", "billing.internal"),
        ("san_ip", "192.0.2.0/24"),
        ("san_ip", "192.000.002.001"),
        ("san_ip", "fe80::1%eth0"),
        ("san_ip", "billing.internal"),
        ("san_ip", "3221225985"),
        ("san_email", "acme.example"),
        ("san_email", "ops@"),
    ],
)
@pytest.mark.standard("D2", "D3", "D4", "D5", "D6")
def test_a_value_that_is_no_such_name_is_refused_by_its_parameter(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"tls_client_auth_{name}: "):
        pki(**{name: value})


@pytest.mark.parametrize("method", [SELF_SIGNED, "client_secret_basic", "none", "private_key_jwt"])
@pytest.mark.standard("D1")
@pytest.mark.case("100")
def test_a_subject_of_another_method_is_refused(method: str) -> None:
    with pytest.raises(
        ConfigurationError, match="tls_client_auth_san_dns may be given only with the method 'tls_client_auth'"
    ):
        RegisteredClient(
            client_id="billing",
            token_endpoint_auth_method=method,
            jwks=jwks(OWN),
            tls_client_auth_san_dns="billing.internal",
        )


@pytest.mark.parametrize("method", [SELF_SIGNED, "client_secret_basic", "none", "private_key_jwt"])
@pytest.mark.parametrize("value", ["", None, "billing.internal", 7])
def test_metadata_may_have_names_that_its_method_does_not_use(method: str, value: Any) -> None:
    """Some servers write all members of RFC 8705 for each client, most of them empty."""
    names = dict.fromkeys(FIVE, value)
    client = registered(token_endpoint_auth_method=method, jwks=jwks(OWN), **names)
    assert client.identity is None
    assert client == registered(token_endpoint_auth_method=method, jwks=jwks(OWN))


@pytest.mark.parametrize("name", FIVE)
def test_empty_names_beside_the_registered_name_are_ignored(name: str) -> None:
    others = dict.fromkeys((each for each in FIVE if each != name), "")
    assert registered(token_endpoint_auth_method=PKI, **{name: FIVE[name]}, **others) == registered(
        token_endpoint_auth_method=PKI, **{name: FIVE[name]}
    )


@pytest.mark.parametrize("client_id", ["billing", "b\u202eilling\n" * 50])
def test_an_invalid_registration_names_the_client(client_id: str) -> None:
    with pytest.raises(RegistrationError, match=r"^client 'b") as error:
        registered(client_id=client_id, token_endpoint_auth_method=PKI, tls_client_auth_subject_dn="CN=a;O=b")
    first = str(error.value).partition(": ")[0]
    assert first.isascii()
    assert first.isprintable()
    assert len(first) < 700


# --- the self-signed method ---


def test_a_self_signed_client_brings_its_certificates() -> None:
    client = registered(token_endpoint_auth_method=SELF_SIGNED, jwks=jwks(OWN, OTHER))
    assert client.certificates is not None
    assert len(client.certificates.certificates) == 2
    assert client.identity is None


@pytest.mark.standard("D9")
@pytest.mark.parametrize("method", [SELF_SIGNED, PKI, "private_key_jwt"])
def test_jwks_and_jwks_uri_together_are_refused(method: str) -> None:
    with pytest.raises(ConfigurationError, match=r"one of the two \(RFC 7591 2\)"):
        registered(token_endpoint_auth_method=method, jwks=jwks(OWN), jwks_uri="https://edge.example/jwks")


NO_CERTIFICATE = [
    None,
    {},
    {"keys": {}},
    {"keys": []},
    {"keys": [7, None, "x", []]},
    {"keys": [jwk(OWN, x5c=None)]},
    {"keys": [jwk(OWN, x5c=[])]},
    {"keys": [jwk(OWN, x5c=OWN.pem)]},
    {"keys": [jwk(OWN, x5c=[7])]},
    {"keys": [jwk(OWN, x5c=[OWN.pem])]},
    {"keys": [jwk(OWN, x5c=jwk(OTHER)["x5c"])]},
    {"keys": [jwk(OWN, x5c=None, **{"x5t#S256": OWN.thumbprint})]},
    {"keys": [{"x5c": jwk(OWN)["x5c"]}]},
]


@pytest.mark.parametrize("keys", NO_CERTIFICATE, ids=lambda keys: shown(keys)[:30])
@pytest.mark.standard("B12", "B13")
@pytest.mark.case("139")
def test_a_self_signed_client_without_a_usable_certificate_is_refused(keys: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^client 'billing': jwks: .*(self_signed_tls_client_auth|x5c)"):
        registered(token_endpoint_auth_method=SELF_SIGNED, jwks=keys)


@pytest.mark.parametrize(
    "address",
    [
        "http://edge.example/jwks",
        "http://192.0.2.7/jwks",
        "file:///etc/passwd",
        "ftp://edge.example/jwks",
        "//edge.example/jwks",
        "edge.example/jwks",
        "https://",
        "https://user@edge.example/jwks",
        "https://edge.example/jwks#key",
        "https://edge.example:port/jwks",
        "https://[edge/jwks",
        "https://edge.example/\r\nforged line of a log",
        "https://edge example/jwks",
        "https://b\u00fccher.example/jwks",
        "https://edge.example\0.evil/jwks",
        "",
        7,
        ["https://edge.example/jwks"],
        b"https://edge.example/jwks",
    ],
    ids=repr,
)
@pytest.mark.standard("C10")
def test_an_address_that_is_not_plain_https_is_refused(address: Any) -> None:
    with pytest.raises(ConfigurationError, match="jwks_uri="):
        registered(token_endpoint_auth_method=SELF_SIGNED, jwks_uri=address)


# --- vectors ---


def given_in(rule: dict[str, Any]) -> dict[str, Any]:
    """The metadata that a row of `registration_rules` describes."""
    other_key = {"keys": [jwk(OWN, x5c=jwk(OTHER)["x5c"])]}
    described: dict[str, Any] = {
        "tls_client_auth_subject_dn": FIVE["tls_client_auth_subject_dn"],
        "tls_client_auth_san_dns": FIVE["tls_client_auth_san_dns"],
        "jwks": jwks(OWN),
        "jwks_uri": "https://edge.example/jwks",
    }
    special: dict[str, tuple[str, Any]] = {
        'tls_client_auth_subject_dn=""': ("tls_client_auth_subject_dn", ""),
        "jwks without x5c": ("jwks", {"keys": [jwk(OWN, x5c=None)]}),
        "jwks with x5c[0] key != n/e or x/y": ("jwks", other_key),
    }
    return dict(special.get(each) or (each, described[each]) for each in rule["given"])


@pytest.mark.shared
@pytest.mark.standard("D1", "D9", "D10", "B12", "B13")
@pytest.mark.parametrize(
    "rule",
    shared.read_json("vectors/san.json").get("registration_rules", ()),
    ids=lambda rule: " and ".join(rule["given"]) or "nothing",
)
def test_registration_rules(rule: dict[str, Any]) -> None:
    metadata = {"token_endpoint_auth_method": rule["method"], **given_in(rule)}
    if rule["ok"]:
        registered(**metadata)
    else:
        with pytest.raises(ConfigurationError):
            registered(**metadata)


@pytest.mark.shared
@pytest.mark.standard("B11", "B12", "B14")
def test_the_jwk_of_rfc_8705_appendix_a_registers_its_certificate() -> None:
    appendix = shared.read_json("vectors/rfc8705.json")["appendix_a"]
    client = own_certificates(client_id="edge", jwks={"keys": [appendix["jwk"]]})
    certificate = ClientCertificate.from_pem(appendix["certificate_pem"])  # X.509 v1, expired: nobody checks its chain
    assert authentication_result(ClientAuthenticator({"edge": client}), certificate, client_id="edge") is client
    assert certificate.thumbprint == appendix["cnf"]["x5t#S256"]


# --- the drafts ---


@pytest.mark.standard("P1", "D7")
def test_a_drafts_name_for_bound_tokens_is_read_by_the_switch_alone() -> None:
    assert RegisteredClient.from_metadata({"client_id": "a", DRAFT_BOUND: True}, drafts=True).__dict__[BOUND] is True
    assert RegisteredClient.from_metadata({"client_id": "a", DRAFT_BOUND: True}).__dict__[BOUND] is False
    assert RegisteredClient.from_metadata({"client_id": "a", DRAFT_BOUND: True, BOUND: True}, drafts=True).__dict__[
        BOUND
    ]


@pytest.mark.standard("P1")
@pytest.mark.parametrize(("old", "new"), [(True, False), (False, True), ("true", True), (None, True)])
def test_both_names_that_differ_are_refused(old: Any, new: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{DRAFT_BOUND} and {BOUND} have different values"):
        RegisteredClient.from_metadata({"client_id": "a", DRAFT_BOUND: old, BOUND: new}, drafts=True)


@pytest.mark.standard("P2", "D7")
@pytest.mark.parametrize("value", ["true", "false", "", 1, 0, [], "True"])
@pytest.mark.parametrize("name", [BOUND, DRAFT_BOUND])
def test_a_boolean_is_no_text(value: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="True or False"):
        RegisteredClient.from_metadata({"client_id": "a", name: value}, drafts=True)


@pytest.mark.standard("D7")
def test_bound_tokens_are_asked_for_and_not_the_default() -> None:
    assert registered().tls_client_certificate_bound_access_tokens is False
    assert registered(**{BOUND: True}).tls_client_certificate_bound_access_tokens is True
    assert registered(**{BOUND: None}).tls_client_certificate_bound_access_tokens is False


@pytest.mark.standard("P3")
def test_a_drafts_method_is_another_method_without_the_switch() -> None:
    metadata = {"client_id": "edge", "token_endpoint_auth_method": "pub_key_tls_client_auth", "jwks": jwks(OWN)}
    assert RegisteredClient.from_metadata(metadata, drafts=True).token_endpoint_auth_method == SELF_SIGNED
    without = RegisteredClient.from_metadata(metadata)
    assert without.certificates is None
    assert authentication_result(ClientAuthenticator({"edge": without}), OWN, client_id="edge") is None


@pytest.mark.standard("P4", "B10")
@pytest.mark.parametrize("name", ["tls_client_auth_root_dn", "tls_client_auth_issuer_dn"])
@pytest.mark.parametrize("drafts", [True, False])
@pytest.mark.parametrize("value", ["CN=CA", ""])
def test_an_unsupported_restriction_is_not_dropped_silently(name: str, drafts: bool, value: Any) -> None:
    metadata = {"client_id": "a", "token_endpoint_auth_method": PKI, "tls_client_auth_subject_dn": "CN=a", name: value}
    with pytest.raises(ConfigurationError, match=f"{name}.*trust_store"):
        RegisteredClient.from_metadata(metadata, drafts=drafts)
    absent = RegisteredClient.from_metadata({**metadata, name: None}, drafts=drafts)
    assert absent == RegisteredClient.from_metadata({k: v for k, v in metadata.items() if k != name}, drafts=drafts)


@pytest.mark.standard("P5")
def test_certificates_are_compared_whole_unless_the_drafts_way_is_chosen() -> None:
    renewed = self_signed("CN=edge", key=OWN.key)
    clients = {"edge": own_certificates(OWN)}
    with refused():
        authentication_result(ClientAuthenticator(clients), renewed, client_id="edge")
    assert (
        authentication_result(ClientAuthenticator(clients, match="public_key"), renewed, client_id="edge")
        is clients["edge"]
    )
    with refused():
        authentication_result(ClientAuthenticator(clients, match="public_key"), OTHER, client_id="edge")


@pytest.mark.shared
@pytest.mark.standard("P1", "P3", "P4")
def test_every_name_of_the_drafts_is_known() -> None:
    table = {row["item"]: row for row in shared.read_json("vectors/drafts.json")["rows"]}
    bound = table["AS and client metadata for bound tokens"]
    assert RegisteredClient.from_metadata({"client_id": "a", bound["03-07"]: True}, drafts=True).__dict__[
        bound["08-17 and RFC"]
    ]
    method = table["self-signed method name"]
    metadata = {"client_id": "a", "token_endpoint_auth_method": method["03"], "jwks": jwks(OWN)}
    client = RegisteredClient.from_metadata(metadata, drafts=True)
    assert client.token_endpoint_auth_method == method["04-RFC"]
    for edition in ("00", "01-03"):
        gone = table["issuer restriction"][edition].split()[0]
        with pytest.raises(ConfigurationError, match=gone):
            RegisteredClient.from_metadata({"client_id": "a", gone: "CN=CA"})


# --- metadata in general ---


def test_metadata_without_a_method_are_of_client_secret_basic() -> None:
    assert registered().token_endpoint_auth_method == "client_secret_basic"
    assert registered(token_endpoint_auth_method=None).token_endpoint_auth_method == "client_secret_basic"


def test_other_members_are_ignored() -> None:
    assert registered(redirect_uris=["https://a.example"], client_name="A", jwks_uri=None) == registered()


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "the metadata has no client_id"),
        ({"client_id": None}, "the metadata has no client_id"),
        ({"client_id": ""}, "printable ASCII"),
        ({"client_id": "b\u00fccher"}, "printable ASCII"),
        ({"client_id": "a\nb"}, "printable ASCII"),
        ({"client_id": 7}, "printable ASCII"),
        ({"client_id": "a", "token_endpoint_auth_method": ["none"]}, "printable ASCII"),
        ({"client_id": "a", "token_endpoint_auth_method": ""}, "printable ASCII"),
        (None, "expected a mapping, for example a parsed JSON object"),
        ("{}", "expected a mapping, for example a parsed JSON object"),
        ([], "expected a mapping, for example a parsed JSON object"),
    ],
    ids=repr,
)
def test_metadata_that_describe_no_client_are_refused(metadata: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        RegisteredClient.from_metadata(metadata)


def test_a_client_is_a_value_that_can_be_kept_in_a_set() -> None:
    assert len({own_certificates(OWN), own_certificates(OWN), pki(san_dns="a")}) == 2
    assert "x5c" not in repr(own_certificates(OWN))
    assert pki(san_dns="a").identity == DNSName("a")


def test_a_client_cannot_be_changed() -> None:
    client = pki(san_dns="billing.internal")
    with pytest.raises(AttributeError):
        client.tls_client_auth_san_dns = "other.internal"


def test_changing_the_jwks_object_does_not_change_the_registration() -> None:
    document = jwks(OWN)
    client = own_certificates(jwks=document)
    document["keys"][:] = jwks(OTHER)["keys"]
    with refused():
        authentication_result(ClientAuthenticator({"edge": client}), OTHER, client_id="edge")
    assert authentication_result(ClientAuthenticator({"edge": client}), OWN, client_id="edge") is client


# --- anything at all ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = {
    "client_id": st.just("a") | JSON,
    "token_endpoint_auth_method": st.sampled_from([PKI, SELF_SIGNED, "none", "pub_key_tls_client_auth"]) | JSON,
    **{name: st.sampled_from(list(FIVE.values())) | JSON for name in FIVE},
    "jwks": st.just(jwks(OWN)) | st.builds(lambda keys: {"keys": keys}, JSON) | JSON,
    "jwks_uri": st.just("https://edge.example/jwks") | JSON,
    BOUND: JSON,
    DRAFT_BOUND: JSON,
    "tls_client_auth_root_dn": JSON,
}


@given(metadata=st.fixed_dictionaries({}, optional=MEMBERS), drafts=st.booleans())
@pytest.mark.standard("D1", "D9", "D10")
def test_any_metadata_make_a_client_or_a_configuration_error(metadata: dict[str, Any], drafts: bool) -> None:
    try:
        client = RegisteredClient.from_metadata(metadata, drafts=drafts)
    except ConfigurationError:
        return
    if client.token_endpoint_auth_method == PKI:
        assert len([name for name in FIVE if getattr(client, name) is not None]) == 1
        assert client.identity is not None
    if client.token_endpoint_auth_method == SELF_SIGNED:
        assert (client.certificates is None) is (client.jwks_uri is not None)


@given(JSON)
def test_any_json_text_makes_a_client_or_a_configuration_error(value: Any) -> None:
    text = json.dumps(value)
    try:
        RegisteredClient.from_metadata(json.loads(text))
    except ConfigurationError:
        return
    assert "client_id" in text


def test_the_names_of_metadata_are_those_of_the_constructor(mtls_client: IssuedCertificate) -> None:
    client = RegisteredClient(client_id="a", token_endpoint_auth_method=SELF_SIGNED, jwks=jwks(mtls_client))
    again = RegisteredClient.from_metadata(
        {"client_id": "a", "token_endpoint_auth_method": SELF_SIGNED, "jwks": jwks(mtls_client)}
    )
    assert client == again
