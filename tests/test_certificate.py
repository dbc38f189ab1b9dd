"""`ClientCertificate`: what it says, what it never does, and that it cannot be changed."""

import base64
import dataclasses
import gc
import hashlib
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from mtls_middleware import ClientCertificate, Refused, Verification
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests import shared


@pytest.fixture(scope="module")
def issued() -> IssuedCertificate:
    return (
        CertificateAuthority("CN=Root,O=Acme")
        .intermediate("CN=Clients,O=Acme")
        .issue(
            "CN=billing\\, west,O=Acme",
            dns=["billing.internal", "b.internal"],
            uris=["spiffe://acme.internal/billing"],
            ip_addresses=["192.0.2.7", "2001:db8::1"],
            emails=["ops@acme.example"],
            not_before=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            not_after=datetime(2036, 1, 2, 3, 4, 5, tzinfo=UTC),
        )
    )


def test_attributes_are_those_of_the_certificate(issued: IssuedCertificate) -> None:
    certificate = issued.client_certificate(Verification.BY_PROXY)
    assert certificate.der == issued.der
    assert certificate.pem == issued.pem
    assert certificate.x509 == issued.x509
    assert certificate.subject == "CN=billing\\, west,O=Acme"
    assert certificate.issuer == "CN=Clients,O=Acme"
    assert certificate.serial_number == issued.x509.serial_number
    assert certificate.not_valid_before == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert certificate.not_valid_after == datetime(2036, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert certificate.dns_names == ("billing.internal", "b.internal")
    assert certificate.uris == ("spiffe://acme.internal/billing",)
    assert certificate.ip_addresses == (ip_address("192.0.2.7"), ip_address("2001:db8::1"))
    assert certificate.email_addresses == ("ops@acme.example",)
    assert certificate.spiffe_id == "spiffe://acme.internal/billing"
    assert certificate.verification is Verification.BY_PROXY
    assert len(certificate.chain) == 1
    assert certificate.der not in certificate.chain


def test_certificate_without_names_has_none(mtls_ca: CertificateAuthority) -> None:
    certificate = mtls_ca.issue("CN=plain").client_certificate()
    assert certificate.dns_names == certificate.uris == certificate.ip_addresses == certificate.email_addresses == ()
    assert certificate.spiffe_id is None
    assert certificate.chain == ()


def test_thumbprint_is_x5t_s256_of_the_der(issued: IssuedCertificate) -> None:
    thumbprint = issued.client_certificate().thumbprint
    assert len(thumbprint) == 43
    assert base64.urlsafe_b64decode(thumbprint + "=") == hashlib.sha256(issued.der).digest()


@pytest.mark.shared
def test_thumbprint_of_the_rfc() -> None:
    """RFC 8705 Appendix A. Its text of the thumbprint has pad bits set; ours is canonical."""
    appendix = shared.read_json("vectors/rfc8705.json")
    pem = next(value for value in _texts(appendix) if value.startswith("-----BEGIN CERTIFICATE"))
    assert ClientCertificate.from_pem(pem).thumbprint[:42] == "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"[:42]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in members for text in _texts(each)]


def test_it_cannot_be_changed(issued: IssuedCertificate) -> None:
    certificate = issued.client_certificate(Verification.PRESENTED)
    for name in ("verification", "der", "thumbprint", "subject", "anything"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(certificate, name, Verification.BY_SERVER)
    assert not certificate.verified


def test_equality_is_that_of_the_der(issued: IssuedCertificate, mtls_client: IssuedCertificate) -> None:
    one = issued.client_certificate(Verification.PRESENTED)
    same = ClientCertificate.from_pem(issued.pem, verification=Verification.BY_SERVER)
    assert one == same
    assert hash(one) == hash(same)
    assert len({one, same, mtls_client.client_certificate()}) == 2
    assert one != issued.der
    assert one != issued.x509


@pytest.mark.parametrize("verification", Verification)
def test_only_presented_is_not_verified(issued: IssuedCertificate, verification: Verification) -> None:
    assert issued.client_certificate(verification).verified is (verification is not Verification.PRESENTED)


def test_a_ca_is_an_authority_and_no_leaf_is(mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate) -> None:
    assert ClientCertificate.from_pem(mtls_ca.pem).is_authority
    assert not ClientCertificate.from_pem(mtls_client.pem).is_authority


def test_a_certificate_is_unverified_by_default(issued: IssuedCertificate) -> None:
    assert ClientCertificate.from_der(issued.der).verification is Verification.PRESENTED
    assert ClientCertificate.from_pem(issued.pem).verification is Verification.PRESENTED


def test_pem_text_gives_leaf_and_chain(issued: IssuedCertificate) -> None:
    certificate = ClientCertificate.from_pem(f"a comment\n{issued.chain_pem}\n")
    assert certificate == issued.client_certificate()
    assert certificate.chain == issued.client_certificate().chain
    assert ClientCertificate.from_pem(issued.chain_pem.encode()) == certificate


@pytest.mark.parametrize("kind", ["empty", "text", "short", "one byte more", "twice", "key", "not bytes"])
@pytest.mark.case("039")
def test_der_is_one_certificate_and_no_byte_more(issued: IssuedCertificate, kind: str) -> None:
    der: Any = {
        "empty": b"",
        "text": b"certificate",
        "short": issued.der[:-1],
        "one byte more": issued.der + b"\0",
        "twice": issued.der * 2,
        "key": issued.key_pem.encode(),
        "not bytes": issued.pem,
    }[kind]
    with pytest.raises(MalformedCertificate):
        ClientCertificate.from_der(der)


@pytest.mark.parametrize(
    "pem", ["", "rubbish", b"\xff", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_pem_that_is_none(pem: str | bytes) -> None:
    with pytest.raises(MalformedCertificate):
        ClientCertificate.from_pem(pem)


@pytest.mark.parametrize("names", ["3002a300", "3002a500", "300581036101 0a", "30", "30098207612e6578000061"])
def test_names_that_cannot_be_read_are_malformed(mtls_ca: CertificateAuthority, names: str) -> None:
    """x400Address, ediPartyName, a control character, broken DER, NUL: each refused, none half read."""
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex(names))
    certificate = mtls_ca.issue("CN=x", extensions=[(extension, False)]).client_certificate()
    for name in ("dns_names", "uris", "ip_addresses", "email_addresses", "spiffe_id"):
        with pytest.raises(MalformedCertificate) as caught:
            getattr(certificate, name)
        assert isinstance(caught.value, Refused)
    assert certificate.thumbprint
    assert certificate.subject == "CN=x"


@pytest.mark.case("155")
def test_repr_shows_three_things_in_plain_ascii(mtls_ca: CertificateAuthority) -> None:
    certificate = mtls_ca.issue("CN=evil\\0D\\0A\\1B[2J,O=Größe", dns=["hidden.internal"]).client_certificate()
    text = repr(certificate)
    assert text.isascii()
    assert text.isprintable()
    assert certificate.thumbprint in text
    assert "BY_SERVER" in text
    assert "hidden" not in text
    assert str(certificate.serial_number) not in text


def test_repr_survives_a_subject_that_cannot_be_read(mtls_ca: CertificateAuthority) -> None:
    certificate = mtls_ca.issue("CN=a\\00b").client_certificate()
    assert certificate.thumbprint in repr(certificate)


def test_no_parsed_object_stays_in_memory(mtls_ca: CertificateAuthority) -> None:
    """An object of `cryptography` needs several times as much memory as the DER once its extensions are read."""
    issued = mtls_ca.issue("CN=client", dns=["a.example"], uris=["spiffe://acme.internal/a"])
    found = ClientCertificate.from_der(issued.der)
    for name in (
        "subject",
        "issuer",
        "dns_names",
        "uris",
        "spiffe_id",
        "period",
        "serial_number",
        "is_authority",
        "pem",
    ):
        getattr(found, name)
    assert found.x509 == found.x509 == issued.x509
    held = [each for each in gc.get_referents(found, vars(found)) if isinstance(each, (x509.Certificate, x509.Name))]
    assert held == []
