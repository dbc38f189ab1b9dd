"""`Client-Cert` and `Client-Cert-Chain` (RFC 9440), over the RFC's own example and its malformed relatives."""

import base64
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources import ClientCertHeader
from mtls_middleware.sources.rfc9440 import client_cert, client_cert_chain
from mtls_middleware.testing import IssuedCertificate
from tests import shared
from tests.gateways import Outcome
from tests.sources.requests import STRANGER, TRUST, through_asgi, through_wsgi

VECTORS: Mapping[str, Any] = shared.read_json("vectors/rfc9440.json")
LEAF_CASES = VECTORS.get("client_cert_cases", [])
CHAIN_CASES = VECTORS.get("client_cert_chain_cases", [])

# Values of the vectors that are accepted; every other one is refused.
ACCEPTED = {
    "padding stripped",  # RFC 9651 4.2.7: a parser should not fail on it
    "leading/trailing spaces around the item",
    # Diverges from the vector's remark "strict: refuse", which it calls an interpretation: parameters are ignored, as
    # RFC 9651 1.1 wants it of fields that define none.
    "item with a parameter",
}
# HTTP strips a tab around a value before any server hands it over; inside a value it is no blank of RFC 9651.
CHAINS_ACCEPTED = {
    "split over two header lines", "empty list", "chain without Client-Cert", "leaf repeated as first member"
}  # fmt: skip

SOURCE = ClientCertHeader(**TRUST)


def vector_ders() -> tuple[bytes, ...]:
    return tuple(
        x509.load_pem_x509_certificate(pem.encode("ascii")).public_bytes(Encoding.DER)
        for pem in VECTORS["certificates_pem"]
    )


@pytest.mark.shared
@pytest.mark.case("042")
@pytest.mark.standard("I1", "I3")
def test_the_example_of_the_rfc_is_read(through: Callable[..., Outcome]) -> None:
    chain = VECTORS["client_cert_chain_header"]
    outcome = through(SOURCE, [("Client-Cert", VECTORS["client_cert_header"]), ("Client-Cert-Chain", chain)])
    assert outcome.thumbprint == VECTORS["x5t#S256"][0]
    assert outcome.certificate is not None
    assert (outcome.certificate.der, *outcome.certificate.chain) == vector_ders()


@pytest.mark.shared
def test_all_vectors_are_there() -> None:
    assert (len(LEAF_CASES), len(CHAIN_CASES)) == (19, 8)
    assert {each["case"] for each in LEAF_CASES} >= ACCEPTED
    assert {each["case"] for each in CHAIN_CASES} >= CHAINS_ACCEPTED


@pytest.mark.shared
@pytest.mark.case("040", "043", "044", "045")
@pytest.mark.standard("I2", "I18", "I19", "I20", "I21")
@pytest.mark.parametrize("vector", LEAF_CASES, ids=lambda each: each["case"].replace(" ", "-"))
def test_a_client_cert_is_one_byte_sequence_or_refused(
    vector: Mapping[str, str], through: Callable[..., Outcome]
) -> None:
    outcome = through(SOURCE, [("Client-Cert", vector["value"])])
    if vector["case"] in ACCEPTED:
        assert outcome.thumbprint == VECTORS["x5t#S256"][0]
    else:
        assert (outcome.status, outcome.error, outcome.reached) == (400, "invalid_client_certificate", False)


@pytest.mark.shared
@pytest.mark.case("046", "048")
@pytest.mark.standard("I3", "I4", "I5")
@pytest.mark.parametrize("vector", CHAIN_CASES, ids=lambda each: each["case"].replace(" ", "-"))
def test_a_client_cert_chain_is_a_list_of_byte_sequences_or_refused(
    vector: Mapping[str, str], through: Callable[..., Outcome]
) -> None:
    lines = vector["value"].split(", ") if vector["case"].startswith("split") else [vector["value"]]
    leaf = [("Client-Cert", VECTORS["client_cert_header"])]
    if vector["case"] == "chain without Client-Cert":
        leaf = []
    outcome = through(SOURCE, [*leaf, *(("Client-Cert-Chain", line) for line in lines)])
    if vector["case"] not in CHAINS_ACCEPTED:
        assert (outcome.status, outcome.error, outcome.reached) == (400, "invalid_client_certificate", False)
    elif outcome.certificate is None:
        assert not leaf
    else:
        chain = () if vector["case"] == "empty list" else vector_ders()[1:]
        assert (outcome.certificate.der, outcome.certificate.chain) == (vector_ders()[0], chain)


@pytest.mark.case("043")
@pytest.mark.standard("I1")
@pytest.mark.parametrize(
    "value",
    ["", " ", "::", ":", ":=:", "abc", "*a", '"text"', "1", "-1.5", "?1", "?0", "(:AAAA:)", "@1700000000", '%"text"',
     ":AAAA", "AAAA:", ":AA-_:", ":AA\nAA:", ":AA AA:", ":AAAA:;", ":AAAA:;A=1", ":AAAA: x", ":AAAA:,", "\t:AAAA:"],
)  # fmt: skip
def test_a_value_that_is_not_a_byte_sequence_is_rejected(value: str) -> None:
    with pytest.raises(MalformedCertificate):
        client_cert(value)


@pytest.mark.case("044")
@pytest.mark.parametrize("parameters", [";a=1", ';a=1;b="x"', ";a", "; a=?1;*b=:AAAA:", ';a="\\";,"'])
def test_parameters_are_ignored(
    parameters: str, mtls_client: IssuedCertificate, through: Callable[..., Outcome]
) -> None:
    value = mtls_client.as_client_cert()["Client-Cert"] + parameters
    assert through(SOURCE, [("Client-Cert", value)]).thumbprint == mtls_client.thumbprint


@pytest.mark.case("045", "009", "010")
@pytest.mark.standard("I2")
def test_client_cert_is_a_singleton(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate, through: Callable[..., Outcome]
) -> None:
    (own,), (other,) = (each.as_client_cert().items() for each in (mtls_client, mtls_other_client))
    for headers in ([own, other], [own, own], [("Client-Cert", f"{own[1]}, {other[1]}")]):
        outcome = through(SOURCE, headers)
        assert (outcome.status, outcome.error, outcome.reached) == (400, "invalid_client_certificate", False)


@pytest.mark.case("046")
@pytest.mark.standard("I4")
def test_a_chain_without_a_certificate_attaches_no_certificate(
    mtls_chained: IssuedCertificate, through: Callable[..., Outcome]
) -> None:
    chain = [("Client-Cert-Chain", mtls_chained.as_client_cert()["Client-Cert-Chain"])]
    assert through(SOURCE, chain).certificate is None
    refused = through(ClientCertHeader(verified_by_proxy=True, **TRUST), chain, required=True)
    assert (refused.status, refused.error) == (403, "client_certificate_required")


@pytest.mark.case("048")
@pytest.mark.standard("I5", "I15")
def test_a_chain_over_several_lines_is_joined_in_order_without_copies(
    mtls_client: IssuedCertificate, mtls_chained: IssuedCertificate, through: Callable[..., Outcome]
) -> None:
    (leaf,) = mtls_client.as_client_cert().items()
    member = mtls_chained.as_client_cert()["Client-Cert-Chain"]
    other = mtls_chained.as_client_cert()["Client-Cert"]
    outcome = through(SOURCE, [leaf, ("Client-Cert-Chain", member), ("Client-Cert-Chain", f"{other}, {member}")])
    assert outcome.certificate is not None
    assert outcome.certificate.chain == (*mtls_chained.client_certificate().chain, mtls_chained.der)


@pytest.mark.standard("I3")
@pytest.mark.parametrize(
    "value", ["(:AAAA:)", "abc", ":AAAA:,", ",:AAAA:", ":AAAA:, 1", '"a"', ":AAAA:, ::", "a=:AAAA:"]
)
def test_a_chain_of_anything_else_is_refused(value: str) -> None:
    with pytest.raises(MalformedCertificate):
        client_cert_chain(value)


@pytest.mark.standard("I15")
def test_a_byte_sequence_as_large_as_parsers_must_take_is_read() -> None:
    assert len(client_cert(f":{base64.b64encode(bytes([48]) * 16_384).decode('ascii')}:")) == 16_384


@pytest.mark.case("002")
@pytest.mark.standard("I9", "I10")
def test_a_strangers_fields_are_removed_and_ignored(
    mtls_chained: IssuedCertificate, through: Callable[..., Outcome]
) -> None:
    headers = list(mtls_chained.as_client_cert().items())
    ignored = through(SOURCE, headers, peer=STRANGER)
    assert (ignored.status, ignored.certificate, ignored.names) == (200, None, frozenset())
    source = ClientCertHeader(verified_by_proxy=True, **TRUST)
    refused = through(source, headers, peer=STRANGER, required=True)
    assert (refused.status, refused.error) == (403, "client_certificate_required")


@pytest.mark.case("007")
@pytest.mark.standard("I23")
def test_an_underscore_is_another_name_where_the_gateway_can_tell(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    (own,), ((_, evil),) = (each.as_client_cert().items() for each in (mtls_client, mtls_other_client))
    twin = ("Client_Cert", evil)
    for headers in ([own, twin], [twin, own]):
        outcome = through_asgi(SOURCE, headers)
        assert (outcome.thumbprint, outcome.names) == (mtls_client.thumbprint, frozenset())
        assert through_wsgi(SOURCE, headers).status == 400  # joined by the server: two claims, never a choice
    assert through_asgi(SOURCE, [twin]).certificate is None


@pytest.mark.standard("I12")
def test_answers_of_the_application_vary_by_the_field(through: Callable[..., Outcome]) -> None:
    assert through(SOURCE).header("Vary") == "client-cert"
    assert through(ClientCertHeader(certificate_header="X-Cert", **TRUST)).header("Vary") == "x-cert"


def test_the_parser_is_loaded_with_the_first_field_alone() -> None:
    """It is an extra: who reads other proxies must not need it."""
    program = "import sys, mtls_middleware.sources; print('http_sf' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"


@pytest.mark.parametrize("octets", [b"0", b"0\0", b"0\0\0", b"0\xfb\xff\xbf"])
def test_the_short_way_reads_what_the_library_reads(octets: bytes) -> None:
    value = f":{base64.b64encode(octets).decode('ascii')}:"
    assert client_cert(value) == client_cert(f"{value};parameter=1") == octets


@pytest.mark.parametrize("value", ["::", ":", "", ":AA:AA:", ":AAAA:, :AAAA:", ":A:", ":AA A:", ":AA==AA==:", ":AA-_:"])
def test_the_short_way_reads_nothing_else(value: str) -> None:
    with pytest.raises(MalformedCertificate):
        client_cert(value)
