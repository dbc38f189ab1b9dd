"""One canonical form of each encoding, and nothing beside it."""

import base64
import tracemalloc
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources import Apache, HAProxy, Nginx, Traefik
from mtls_middleware.sources.encoding import MAX_FIELD, base64_der, joined_ders, pem_der, pem_ders
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.ids import shown
from tests.sources.requests import TRUST, view

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def body(certificate: IssuedCertificate) -> str:
    return base64.b64encode(certificate.der).decode("ascii")


@pytest.fixture(scope="module")
def plus(mtls_ca: CertificateAuthority) -> IssuedCertificate:
    """A certificate whose base64 holds `+` and `/`, which careless decoders turn into blanks."""
    return next(each for each in (mtls_ca.issue() for _ in range(100)) if {"+", "/"} <= set(body(each)))


@pytest.mark.case("031")
def test_escaped_pem_gives_the_same_der(plus: IssuedCertificate) -> None:
    assert pem_der(quote(plus.pem, safe="")) == plus.der


@pytest.mark.case("035")
@pytest.mark.parametrize("safe", ["", "+", "+=/", "/", "-+/="])
def test_a_literal_plus_stays_a_plus(plus: IssuedCertificate, safe: str) -> None:
    """AWS and Apache leave `+ / =` bare, Envoy and nginx escape them."""
    assert pem_der(quote(plus.pem, safe=safe)) == plus.der


@pytest.mark.parametrize("hexadecimal", [str.upper, str.lower])
def test_percent_escapes_are_read_in_both_cases(plus: IssuedCertificate, hexadecimal: Callable[[str], str]) -> None:
    """Apache writes `%0a`, all others `%0A`."""
    text = quote(plus.pem, safe="")
    escapes = {each for each in ("%0A", "%2B", "%2F", "%3D", "%20") if each in text}
    for each in escapes:
        text = text.replace(each, hexadecimal(each))
    assert pem_der(text) == plus.der


@pytest.mark.case("032")
def test_two_certificates_are_never_the_first_of_them(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    two = mtls_client.pem + mtls_other_client.pem
    assert pem_ders(two) == (mtls_client.der, mtls_other_client.der)
    for text in (two, quote(two, safe="")):
        with pytest.raises(MalformedCertificate, match="expected exactly one"):
            pem_der(text)


@pytest.mark.case("033", "034", "036")
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda pem: "Subject: CN=admin\n" + pem, id="text before"),
        pytest.param(lambda pem: pem + "CN=admin", id="text after"),
        pytest.param(lambda pem: "\n" + pem, id="line before"),
        pytest.param(lambda pem: pem.replace(BEGIN, BEGIN + "\nProc-Type: 4,ENCRYPTED\n"), id="header inside"),
        pytest.param(lambda pem: pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"), id="TRUSTED CERTIFICATE"),
        pytest.param(lambda pem: pem.replace("CERTIFICATE", "X509 CERTIFICATE"), id="X509 CERTIFICATE"),
        pytest.param(lambda pem: pem.replace("CERTIFICATE", "PRIVATE KEY"), id="PRIVATE KEY"),
        pytest.param(lambda pem: pem.replace("CERTIFICATE", "certificate"), id="label in lower case"),
        pytest.param(lambda pem: pem.replace("BEGIN CERT", "BEGIN+CERT"), id="plus for blank"),
        pytest.param(lambda pem: pem.replace(END, ""), id="no end"),
        pytest.param(lambda pem: pem.replace("-----BEGIN", "----BEGIN"), id="four dashes"),
        pytest.param(lambda pem: BEGIN + "\n" + END, id="nothing inside"),
        pytest.param(lambda pem: BEGIN + pem.removeprefix(BEGIN + "\n"), id="no break after the label"),
        pytest.param(lambda pem: pem.replace("M", "\u216f", 1), id="outside ASCII"),
        pytest.param(lambda pem: pem[:60] + "\0" + pem[60:], id="NUL"),
        pytest.param(lambda pem: pem[:60] + "\x0b" + pem[60:], id="vertical tab"),
        pytest.param(lambda pem: "", id="empty"),
    ],
)
def test_pem_with_anything_else_is_refused(spoil: Callable[[str], str], mtls_client: IssuedCertificate) -> None:
    text = spoil(mtls_client.pem)
    for each in (text, quote(text, safe="")) if text.isascii() else (text,):
        with pytest.raises(MalformedCertificate):
            pem_der(each)


@pytest.mark.case("034")
def test_key_material_is_refused_and_not_repeated(mtls_client: IssuedCertificate) -> None:
    for text in (mtls_client.key_pem, mtls_client.key_pem + mtls_client.pem, mtls_client.pem + mtls_client.key_pem):
        with pytest.raises(MalformedCertificate) as refused:
            pem_der(text)
        assert mtls_client.key_pem.splitlines()[1][:10] not in repr(refused.value)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(quote, id="twice"),
        pytest.param(lambda text: text.replace("%0A", "%0", 1), id="cut escape"),
        pytest.param(lambda text: text.replace("%0A", "%ZZ", 1), id="no hexadecimal"),
        pytest.param(lambda text: text + "%00", id="NUL"),
        pytest.param(lambda text: text + "%C3%28", id="bad UTF-8"),
        pytest.param(lambda text: text + "%", id="a stray percent"),
        pytest.param(lambda text: text.replace("%0A", "%250A"), id="escaped escape"),
    ],
)
def test_escapes_are_decoded_once_and_strictly(spoil: Callable[[str], str], mtls_client: IssuedCertificate) -> None:
    with pytest.raises(MalformedCertificate):
        pem_der(spoil(quote(mtls_client.pem, safe="")))


@pytest.mark.parametrize(
    "escape", ["\\x4D", "\\115", "\\u004D", "\\N{LATIN CAPITAL LETTER M}", "\\\n", "%5Cx4D", "%u004D", "%\n4D"]
)
def test_no_other_escapes_are_decoded(escape: str, mtls_client: IssuedCertificate) -> None:
    """Those of Python's own texts, and of scripts in browsers. Each would stand for the first letter of the base64."""
    assert mtls_client.pem.splitlines()[1].startswith("M")
    for text in (mtls_client.pem, quote(mtls_client.pem, safe="")):
        with pytest.raises(MalformedCertificate):
            pem_der(text.replace("M", escape, 1))


@pytest.mark.case("038")
@pytest.mark.parametrize("fold", ["\n\t", "\t", "\r\n\t", " ", "\r\n ", "\r\n"])
@pytest.mark.parametrize("source", [Nginx(**TRUST), Apache(**TRUST)], ids=shown)
def test_what_servers_make_of_folded_pem_is_the_same_certificate(
    source: Nginx, fold: str, mtls_client: IssuedCertificate
) -> None:
    value = mtls_client.pem.strip().replace("\n", fold)
    assert source.find(view([("X-SSL-Client-Cert", value), ("X-SSL-Client-Verify", "SUCCESS")])) == (
        mtls_client.client_certificate()
    )


@pytest.mark.case("039")
@pytest.mark.parametrize("more", [b"\0", b"\0\0\0", b"0\0"], ids=["one byte", "three bytes", "a SEQUENCE"])
@pytest.mark.parametrize("source", [HAProxy(**TRUST), Traefik(**TRUST)], ids=shown)
def test_der_with_more_behind_it_is_refused(
    source: HAProxy, more: bytes, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    for der in (mtls_client.der + more, mtls_client.der + mtls_other_client.der, mtls_client.der[:-1]):
        headers = [(source.vary, base64.b64encode(der).decode("ascii")), ("X-SSL-Client-Verify", "0")]
        with pytest.raises(MalformedCertificate, match="expected exactly one certificate"):
            source.find(view(headers))


@pytest.mark.case("040")
@pytest.mark.parametrize(
    "text",
    ["", "!AAA", "AA@A", "AA\nAA", "AA AA", " AAAA", "AAAA ", "AA-_", "AAA", "AA=", "A===", "AA==AA==", "=", "AAAA====",
     "AB==", "AAB=", "\u0410AAA", "AAAA\0", "AAAA,AAAA", ":AAAA:", "%41%41%41%41"],
)  # fmt: skip
def test_base64_but_for_the_one_spelling_is_refused(text: str) -> None:
    """Junk, breaks, the URL alphabet, missing or excess padding, data behind it, pad bits that are not zero."""
    with pytest.raises(MalformedCertificate, match="base64"):
        base64_der(text)


@given(st.text("AQgw8B+/=\n-", max_size=12))
def test_base64_is_read_where_it_is_what_one_would_write(text: str) -> None:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    if data and base64.b64encode(data).decode("ascii") == text:
        assert base64_der(text) == data
    else:
        with pytest.raises(MalformedCertificate):
            base64_der(text)


def test_base64_is_read() -> None:
    assert [base64_der(text) for text in ("AAAA", "AAA=", "AA==", "+/+/")] == [
        b"\0\0\0",
        b"\0\0",
        b"\0",
        b"\xfb\xff\xbf",
    ]


def test_joined_ders_are_cut_by_their_lengths(mtls_chained: IssuedCertificate, mtls_client: IssuedCertificate) -> None:
    ders = (mtls_chained.der, mtls_client.der, b"0\x03abc", b"0\x82\x00\x01a")
    assert joined_ders(base64.b64encode(b"".join(ders)).decode("ascii")) == ders


@pytest.mark.case("039")
@pytest.mark.parametrize("data", [b"0", b"0\x05abc", b"1\x00", b"0\x80\0\0", b"0\x85\0\0\0\0\0", b"0\x82\xff\xff"])
def test_joined_der_that_does_not_add_up_is_one_last_part(data: bytes) -> None:
    """Cut short, no SEQUENCE, an indefinite or five-octet length."""
    assert joined_ders(base64.b64encode(b"0\x03abc" + data).decode("ascii")) == (b"0\x03abc", data)


@pytest.mark.case("062")
def test_fields_past_the_limit_are_refused_before_they_are_read(mtls_client: IssuedCertificate) -> None:
    headers = {"a header of 1 MB": "A" * 1_000_000, "10,000 certificates": mtls_client.pem * 10_000}
    for value in headers.values():
        seen = view([("X-SSL-Client-Cert", value), ("X-SSL-Client-Verify", "SUCCESS")])
        tracemalloc.start()
        try:
            with pytest.raises(MalformedCertificate, match=f"{len(value)} characters; expected at most {MAX_FIELD}"):
                Nginx(**TRUST).find(seen)
            assert tracemalloc.get_traced_memory()[1] < len(value) / 10  # to read it makes strings of its size
        finally:
            tracemalloc.stop()
