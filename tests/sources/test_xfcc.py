"""Envoy's `x-forwarded-client-cert`: which element, which certificate, and what certificates cannot forge into it."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware import ConfigurationError
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources import Envoy
from mtls_middleware.sources.xfcc import client_certificate
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, self_signed
from tests import shared
from tests.gateways import Outcome
from tests.growth import assert_grows_with_size
from tests.sources.requests import STRANGER, TRUST

EMITTED = shared.read_json("vectors/envoy-xfcc/envoy-emitted.json").get("cases", [])
KEYCLOAK = shared.read_json("vectors/envoy-xfcc/keycloak-cases.json").get("cases", [])
PLAY = shared.read_json("vectors/envoy-xfcc/play-parser-cases.json").get("cases", [])


def escaped(*certificates: str) -> str:
    return quote("".join(certificates), safe="")


def element(certificate: IssuedCertificate, *, more: str = "") -> str:
    """As Envoy writes it: Hash, Cert, Subject, then URI and DNS, bare."""
    names = certificate.client_certificate()
    subject = names.subject.replace("\\", "\\\\").replace('"', '\\"')
    bare = "".join(f";URI={each}" for each in names.uris) + "".join(f";DNS={each}" for each in names.dns_names)
    digest = hashlib.sha256(certificate.der).hexdigest()
    return f'Hash={digest};Cert="{escaped(certificate.pem)}";Subject="{subject}"{bare}{more}'


def leaf(text: str, hops: int | None = None) -> bytes | None:
    found = client_certificate(text, hops)
    return None if found is None else found[0]


# ---- what Envoy, Keycloak and Play expect


@pytest.mark.shared
def test_all_vectors_are_there() -> None:
    assert (len(EMITTED), len(KEYCLOAK), len(PLAY)) == (9, 8, 40)


# Envoy's own tests put placeholders where certificates stand; each value is refused for them, or names no certificate.
PLACEHOLDERS = {
    "By=test://foo.com/fe;URI=test://bar.com/be;DNS=example.com": None,
    "By=test://foo.com/fe;URI=test://bar.com/be": None,
}


@pytest.mark.shared
@pytest.mark.case("056")
@pytest.mark.parametrize("value", sorted({each["out"] for each in EMITTED if each["out"]}), ids=count())
def test_envoys_placeholders_are_never_a_certificate(value: str) -> None:
    if value in PLACEHOLDERS:
        assert client_certificate(value, None) is None
    else:
        with pytest.raises(MalformedCertificate, match=r"64 hexadecimal digits|2 XFCC elements"):
            client_certificate(value, None)


@pytest.mark.shared
@pytest.mark.case("049")
@pytest.mark.parametrize("vector", KEYCLOAK, ids=count())
def test_values_of_keycloak_are_read_as_it_reads_them(
    vector: Mapping[str, Any], through: Callable[..., Outcome]
) -> None:
    """Diverges in one: `foobar` is none there, and here a field that a trusted proxy cannot have written: 400."""
    outcome = through(Envoy(**TRUST), [("X-Forwarded-Client-Cert", vector["in"])])
    if not vector.get("certs"):
        assert (outcome.status, outcome.error) == (400, "invalid_client_certificate")
        return
    assert outcome.certificate is not None
    subjects = [x509.load_der_x509_certificate(der).subject.rfc4514_string() for der in outcome.certificate.chain]
    assert [outcome.certificate.subject, *subjects] == vector["certs"]


RFC9440 = shared.read_json("vectors/rfc9440.json")
LEAF, INT = (RFC9440.get("certificates_pem") or ["", ""])[:2]


def play_value(text: str) -> str:
    """The value that a note of the vectors stands for."""
    digest = hashlib.sha256(x509.load_pem_x509_certificate(LEAF.encode()).public_bytes(Encoding.DER)).hexdigest()
    replaced = {
        "<sha256 of LEAF>": digest,
        "<h>": digest,
        "<LEAF with only LF escaped as %0A, + literal>": LEAF.replace("\n", "%0A"),
        "<LEAF+INT pct>": escaped(LEAF + "\n", INT),
        "<LEAF+INT+LEAF>": escaped(LEAF + "\n", INT + "\n", LEAF),
        "<LEAF+INT>": escaped(LEAF + "\n", INT),
        '<LEAF + "garbage">': escaped(LEAF, "garbage"),
        "<PEM of 3 bytes 01 02 03>": escaped("-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"),
        "<LEAF>": escaped(LEAF),
        "<INT>": escaped(INT),
        "000..0(64)": "0" * 64,
        "ggg..(64)": "g" * 64,
    }
    for note, value in replaced.items():
        text = text.replace(note, value)
    return text


# Where we and Play differ, and why. Ours first.
PLAY_DIVERGES = {
    # An empty field is what a proxy sends that has nothing to say, and so no certificate; Play refuses it.
    "": True,
    # A copy of the leaf in the chain is dropped (RFC 8446 4.4.2); Play refuses it.
    "Chain=<LEAF+INT+LEAF>": True,
}


@pytest.mark.shared
@pytest.mark.case("050", "052", "053")
@pytest.mark.parametrize("vector", PLAY, ids=count())
def test_values_of_play_are_accepted_or_refused_as_there(
    vector: Mapping[str, Any], through: Callable[..., Outcome]
) -> None:
    values = [play_value(each) for each in vector.get("headers") or [vector["in"]]]
    outcome = through(Envoy(**TRUST), [("X-Forwarded-Client-Cert", value) for value in values])
    accepted = PLAY_DIVERGES.get(vector.get("in"), vector["ok"])
    assert outcome.status == (200 if accepted else 400)
    if accepted:
        expected = RFC9440["x5t#S256"][0] if "Cert=" in values[0] or "Chain=" in values[0] else None
        assert outcome.thumbprint == expected


# ---- which certificate


@pytest.mark.case("049")
def test_hash_and_cert_that_agree_are_the_certificate(mtls_client: IssuedCertificate) -> None:
    assert leaf(element(mtls_client)) == mtls_client.der


@pytest.mark.case("050")
def test_the_hash_of_another_certificate_is_refused(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    text = element(mtls_client).replace(
        hashlib.sha256(mtls_client.der).hexdigest(), hashlib.sha256(mtls_other_client.der).hexdigest()
    )
    with pytest.raises(MalformedCertificate, match="Hash in XFCC does not match"):
        client_certificate(text, None)


def test_the_chain_begins_with_the_leaf(mtls_chained: IssuedCertificate) -> None:
    expected = (mtls_chained.der, mtls_chained.client_certificate().chain)
    chain = f'Chain="{escaped(mtls_chained.chain_pem)}"'
    assert client_certificate(chain, None) == client_certificate(f"{element(mtls_chained)};{chain}", None) == expected
    with pytest.raises(MalformedCertificate, match="different leaf certificates"):
        client_certificate(f'{chain};Cert="{escaped(self_signed().pem)}"', None)


@pytest.mark.case("056")
def test_names_without_a_certificate_attach_no_certificate(through: Callable[..., Outcome]) -> None:
    """Istio's sidecars send no Cert unless they are told to."""
    headers = [("X-Forwarded-Client-Cert", "By=spiffe://td/me;URI=spiffe://td/admin;DNS=admin.example")]
    source = Envoy(verified_by_proxy=True, **TRUST)
    assert through(source, headers).certificate is None
    refused = through(source, headers, required=True)
    assert (refused.status, refused.error) == (403, "client_certificate_required")


@pytest.mark.case("051")
def test_which_of_several_elements_is_only_what_is_configured(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, through: Callable[..., Outcome]
) -> None:
    """The client sent the first element, and Envoy's APPEND_FORWARD the second."""
    both = f"{element(mtls_other_client)},{element(mtls_client)}"
    expected = {None: None, 0: mtls_client.thumbprint, 1: mtls_other_client.thumbprint, 2: None}
    for hops, thumbprint in expected.items():
        outcome = through(Envoy(hops=hops, **TRUST), [("X-Forwarded-Client-Cert", both)])
        assert (outcome.status, outcome.thumbprint) == (200 if thumbprint else 400, thumbprint)
    # Two lines are two lines under ASGI; a WSGI server makes them one value.
    lines = [("X-Forwarded-Client-Cert", each) for each in both.split(",")]
    assert through(Envoy(**TRUST), lines).status == 400


def test_the_element_in_front_of_a_sidecar_is_the_clients(mtls_client: IssuedCertificate) -> None:
    text = f"{element(mtls_client)},By=spiffe://td/app;Hash={'0' * 64};URI=spiffe://td/gateway"
    assert leaf(text, hops=1) == mtls_client.der
    assert leaf(text, hops=0) is None


# ---- the proxy's own URIs


OWN_URIS = [
    "urn:abc:servicePrincipal(grpc;None;i001)",
    "urn:abc:x,y",
    "urn:abc:x;y=z",
    "urn:abc?x=y",
    "urn:abc;",
    "urn:abc,",
    ";,",
    'urn:"abc"',
    "urn:abc;Foo=bar;,=",
]


@pytest.mark.parametrize("uri", OWN_URIS)
def test_the_proxys_own_uri_may_contain_delimiters(uri: str, mtls_client: IssuedCertificate) -> None:
    """envoyproxy/envoy#32945: any client was rejected."""
    cert = f'Cert="{escaped(mtls_client.pem)}"'
    for own in (f"By={uri}", f"By=spiffe://td/me;By={uri}", f"By={uri};By={uri};By=spiffe://td/me"):
        for rest in (element(mtls_client), cert, f'Subject="";{cert}', f'Chain="{escaped(mtls_client.pem)}"'):
            assert leaf(f"{own};{rest}") == leaf(f"{own};{rest}", hops=0) == mtls_client.der
        second = f"{own};Hash={'0' * 64};URI=spiffe://td/gateway"
        assert leaf(f"{element(mtls_client)},{second}", hops=1) == mtls_client.der
        assert leaf(f"{element(mtls_client)},{second}", hops=0) is None
        with pytest.raises(MalformedCertificate, match="2 XFCC elements"):
            leaf(f"{element(mtls_client)},{second}")


def test_a_uri_of_the_client_is_not_read_as_the_proxys(mtls_client: IssuedCertificate) -> None:
    """By after another key of its element ends at its first delimiter."""
    for text in ("URI=x;By=a;b;", "DNS=x;By=a,b;", 'Subject="";By=a;b;'):
        with pytest.raises(MalformedCertificate):
            leaf(f'{text}Cert="{escaped(mtls_client.pem)}"')


def test_the_time_to_read_own_uris_grows_with_the_field() -> None:
    def prepare(size: int) -> Callable[[], object]:
        def read() -> None:
            for part in ("By=a;b;", "By=a;Foo=b;", "By=a,b;", "By=a;Hash=0;", "By=a,By=b;"):
                for end in ("", f";Hash={'0' * 64}", ";Hash=00"):
                    with contextlib.suppress(MalformedCertificate):
                        leaf(part * size + "By=a" + end, 0)

        return read

    assert_grows_with_size(prepare, 8_000)


# ---- what cannot be forged


@pytest.mark.case("052")
@pytest.mark.parametrize(
    "subject", ['CN=a\\",URI=spiffe://td/admin;X=\\"', "CN=a,b;c=d", 'CN=\\\\\\"x', "CN=Doe\\, John"]
)
def test_a_quoted_value_is_one_value(subject: str, mtls_other_client: IssuedCertificate) -> None:
    text = f'Cert="{escaped(mtls_other_client.pem)}";Subject="{subject}"'
    assert leaf(text) == leaf(text, hops=0) == mtls_other_client.der


@pytest.mark.case("053")
@pytest.mark.parametrize(
    "text",
    ['Subject="CN=x,Hash=..,URI=spiffe://td/admin', 'Subject="CN=x\\"', 'Cert="', 'URI="a"b', 'URI=a"b"', 'DNS=a;"b"',
     "URI", "=a", ";URI=a", "URI=a;", "URI=a,", ",URI=a", "URI=a;;URI=b", "URI=a,,URI=b", " URI=a", "URI =a",
     "U-RI=a", "URI=a; URI=b", "Unknown=a", "A" * 33 + "=a;URI=b"],
)  # fmt: skip
@pytest.mark.parametrize("hops", [None, 0])
def test_what_is_no_row_of_pairs_is_refused(text: str, hops: int | None) -> None:
    with pytest.raises(MalformedCertificate):
        client_certificate(text, hops)


FORGERIES = {
    "an element of its own": 'spiffe://x/a,Hash=00;Subject="CN=admin";URI=spiffe://x/admin',
    "an element with a whole hash": f"spiffe://x/a,Hash={'0' * 64};URI=spiffe://x/admin",
    "a victim's element": "spiffe://x/a,{victim}",
    "a victim's Cert": 'spiffe://x/a;Cert="{cert}"',
    "a victim's Chain": 'spiffe://x/a;Chain="{cert}"',
    "an open quote": 'spiffe://x/a,By="',
    "a quote that is closed": 'spiffe://x/a;Subject="b"',
}


@pytest.mark.case("050", "051", "052")
@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("kind", ["URI", "DNS"])
def test_a_name_that_plays_an_element_never_names_another_certificate(
    forgery: str, kind: str, mtls_client: IssuedCertificate
) -> None:
    """Envoy copies both bare (surprise 2), so any client can write text into the field by its own certificate."""
    name = forgery.format(victim=element(mtls_client), cert=escaped(mtls_client.pem))
    evil = self_signed("CN=evil", **{"uris" if kind == "URI" else "dns": [name]})
    text = element(evil)
    assert name in text
    found = set()
    for each, hops in ((text, None), (text, 0), (text, 1), (f"{element(mtls_client)},{text}", 0)):
        try:
            found.add(leaf(each, hops))
        except MalformedCertificate:
            continue
    assert found <= {evil.der}


@pytest.mark.case("050", "051")
@pytest.mark.parametrize("kind", ["URI", "DNS"])
def test_names_without_their_certificate_forge_no_element(kind: str, mtls_client: IssuedCertificate) -> None:
    """A gateway that sends no Cert: the client's name plays the element that the gateway in front appends."""
    real = f"By=spiffe://td/gateway;Hash={'1' * 64};{kind}="
    second = f"By=spiffe://td/app;Hash={'0' * 64};URI=spiffe://td/gateway"
    assert leaf(f"{real}spiffe://td/client,{second}", hops=1) is None
    for hops in (0, 1, 2):
        for forged in (
            f"x,{element(mtls_client)}",
            f"x,By=y,{element(mtls_client)}",
            f"x,By=a;b;{element(mtls_client)}",
        ):
            for text in (f"{real}{forged}", f"{real}{forged},{second}"):
                with contextlib.suppress(MalformedCertificate):
                    assert leaf(text, hops) is None


@pytest.mark.case("051")
def test_a_name_that_is_the_proxys_own_element_does_not_hide_it(mtls_client: IssuedCertificate) -> None:
    """The client wrote the first element, with a certificate of its own making that names all that Envoy appends."""
    appended = f"x,{element(mtls_client)}"
    evil = self_signed("CN=victim", uris=[appended])
    text = f'Cert="{escaped(evil.pem)}";URI={appended}'
    for hops in (None, 0, 1):
        with pytest.raises(MalformedCertificate):
            client_certificate(text, hops)


def test_names_with_delimiters_are_read_whole(mtls_ca: CertificateAuthority) -> None:
    """`urn:example:a,b;c="d"` in a capture: harmless, as long as it holds no pair of an element."""
    client = mtls_ca.issue("CN=d", uris=['urn:example:a,b;c="d"', "urn:example:a"], dns=["d1.example"])
    assert leaf(element(client)) == client.der
    with pytest.raises(MalformedCertificate):
        client_certificate(element(client), 0)


@pytest.mark.case("051")
def test_elements_are_not_counted_beside_a_name_that_could_be_one(mtls_ca: CertificateAuthority) -> None:
    """Without that the last element would be the text behind the name's comma."""
    client = mtls_ca.issue("CN=d", uris=["spiffe://x/a,URI=spiffe://x/admin"])
    assert leaf(element(client)) == client.der
    for hops in (0, 1):
        with pytest.raises(MalformedCertificate, match="ambiguous"):
            client_certificate(element(client), hops)


@pytest.mark.parametrize("key", ["By", "Hash", "Cert", "Chain"])
@pytest.mark.parametrize("before", ["", "x,", "x;", "x, "])
def test_a_quoted_value_that_holds_an_elements_pair_is_refused(
    key: str, before: str, mtls_client: IssuedCertificate
) -> None:
    """A forged open quote would close inside the genuine element, and hide it as its own text."""
    with pytest.raises(MalformedCertificate, match="contains a pair such as"):
        client_certificate(f'Cert="{escaped(mtls_client.pem)}";Subject="{before}{key}=x"', 0)


@pytest.mark.parametrize("key", ["Hash", "Cert", "Chain", "Subject"])
def test_a_single_key_twice_is_refused(key: str, mtls_client: IssuedCertificate) -> None:
    values = {"Hash": "0" * 64, "Subject": '"CN=a"'}
    pair = f"={values.get(key) or escaped(mtls_client.pem)}"
    with pytest.raises(MalformedCertificate, match="twice"):
        client_certificate(f"{key}{pair};{key.lower()}{pair}", None)


# ---- cost


@pytest.mark.case("062")
def test_a_certificate_with_thousands_of_names_costs_little() -> None:
    """Any client may bring one; the names used to be read anew at each of them (11 s for 2,000)."""

    def prepare(size: int, hops: int | None) -> Callable[[], object]:
        client = self_signed("CN=many", dns=[f"h{number}.b" for number in range(size)])
        text = element(client)
        assert leaf(text, hops) == client.der
        return lambda: leaf(text, hops)

    for hops in (None, 0):
        assert_grows_with_size(partial(prepare, hops=hops), 2_000)
    delimited = self_signed("CN=many", uris=[f"u:,{number}" for number in range(2_000)])
    with pytest.raises(MalformedCertificate, match="more than 64 names"):
        client_certificate(element(delimited), None)


@pytest.mark.case("062")
def test_more_elements_than_any_mesh_has_are_refused() -> None:
    assert client_certificate(",".join(["By=a"] * 32), 31) is None
    for hops in (None, 0):
        with pytest.raises(MalformedCertificate, match="more than 32"):
            client_certificate(",".join(["By=a"] * 20_000), hops)


# ---- the source


@pytest.mark.case("002", "003")
def test_a_strangers_element_is_ignored_and_removed(
    mtls_client: IssuedCertificate, through: Callable[..., Outcome]
) -> None:
    outcome = through(Envoy(**TRUST), [("X-Forwarded-Client-Cert", element(mtls_client))], peer=STRANGER)
    assert (outcome.status, outcome.certificate, outcome.names) == (200, None, frozenset())


@pytest.mark.case("026")
def test_the_word_of_success_beside_names_alone_is_refused(through: Callable[..., Outcome]) -> None:
    """A Lua filter's word, and an Envoy that was not told to send Cert."""
    source = Envoy(verify_header="X-SSL-Client-Verify", **TRUST)
    for word, status in (("SUCCESS", 400), ("FAILED", 200)):
        headers = [("X-Forwarded-Client-Cert", "URI=spiffe://td/admin"), ("X-SSL-Client-Verify", word)]
        outcome = through(source, headers)
        assert (outcome.status, outcome.certificate) == (status, None)


@pytest.mark.parametrize("hops", [-1, True, "1", 1.0, [0]])
def test_hops_is_a_number_of_elements(hops: Any) -> None:
    with pytest.raises(ConfigurationError, match="hops="):
        Envoy(hops=hops, **TRUST)


def test_hops_counts_elements_and_a_formatters_field_has_none() -> None:
    with pytest.raises(ConfigurationError, match="hops=0"):
        Envoy(hops=0, certificate_header="X-Peer-Cert", **TRUST)
    assert Envoy(hops=0, certificate_header="X-Forwarded-Client-Cert", **TRUST).vary == "x-forwarded-client-cert"
