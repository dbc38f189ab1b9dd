"""What a test asks a certificate to hold is what it holds, and what cannot be is refused in words."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mtls_middleware import ConfigurationError
from mtls_middleware.testing import CertificateAuthority, self_signed

PAST, FUTURE = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC), datetime(2048, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_alternative_names_are_those_given(mtls_ca: CertificateAuthority) -> None:
    issued = mtls_ca.issue(
        dns=["a.test", "b.test"], uris=["spiffe://a.test/b"], ip_addresses=["192.0.2.1", "::1"], emails=["a@b.test"]
    )
    seen = issued.client_certificate()
    assert seen.dns_names == ("a.test", "b.test")
    assert seen.uris == ("spiffe://a.test/b",)
    assert [str(each) for each in seen.ip_addresses] == ["192.0.2.1", "::1"]
    assert seen.email_addresses == ("a@b.test",)
    assert not issued.x509.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_user_principal_names_and_policies_are_those_given(mtls_ca: CertificateAuthority) -> None:
    seen = mtls_ca.issue(user_principal_names=["alice@corp.test"], policies=["1.2.3", "1.2.4"]).client_certificate()
    assert seen.user_principal_names == ("alice@corp.test",)
    assert seen.policies == ("1.2.3", "1.2.4")
    long = ["\u00fc" * 200 + "@corp.test", "a" * 40_000]
    assert mtls_ca.issue(user_principal_names=long).client_certificate().user_principal_names == tuple(long)
    with pytest.raises(ConfigurationError, match="expected a list of strings"):
        mtls_ca.issue(policies="1.2.3")


def test_alternative_names_are_critical_where_there_is_no_subject(mtls_ca: CertificateAuthority) -> None:
    issued = mtls_ca.issue("", dns=["a.test"]).x509
    assert issued.subject == x509.Name([])
    assert issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_subject_may_be_a_name_object() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.COMMON_NAME, "b")])
    assert self_signed(name).x509.subject == name


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ({"not_before": PAST, "not_after": FUTURE}, PAST, FUTURE),
        ({"not_after": PAST}, PAST - timedelta(days=1), PAST),
        ({"not_before": FUTURE}, FUTURE, FUTURE + timedelta(days=90)),
    ],
)
def test_validity_is_the_one_given(options: Any, before: datetime, after: datetime) -> None:
    issued = self_signed(**options).x509
    assert (issued.not_valid_before_utc, issued.not_valid_after_utc) == (before, after)


def test_validity_covers_the_present_by_default(mtls_ca: CertificateAuthority) -> None:
    now = datetime.now(UTC)
    for each in (mtls_ca.issue().x509, self_signed().x509, mtls_ca.certificate, mtls_ca.intermediate().certificate):
        assert each.not_valid_before_utc < now < each.not_valid_after_utc


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (None, ec.EllipticCurvePrivateKey),
        ("ec", ec.EllipticCurvePrivateKey),
        ("rsa", rsa.RSAPrivateKey),
        ("ed25519", ed25519.Ed25519PrivateKey),
    ],
)
def test_key_is_of_the_kind_asked_for(mtls_ca: CertificateAuthority, kind: Any, expected: type) -> None:
    own = self_signed(key=kind)
    assert isinstance(own.key, expected)
    own.x509.verify_directly_issued_by(own.x509)
    mtls_ca.issue(key=kind).x509.verify_directly_issued_by(mtls_ca.certificate)


def test_a_key_can_be_certified_again(mtls_ca: CertificateAuthority) -> None:
    first = mtls_ca.issue()
    renewed = mtls_ca.issue(key=first.key)
    assert renewed.x509.public_key() == first.x509.public_key()
    assert renewed.thumbprint != first.thumbprint


@pytest.mark.parametrize(
    ("purposes", "expected"),
    [
        (("client",), [ExtendedKeyUsageOID.CLIENT_AUTH]),
        (("client", "server"), [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
    ],
)
def test_extended_key_usage_is_the_one_given(purposes: Any, expected: Any) -> None:
    extension = self_signed(extended_key_usage=purposes).x509.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(extension.value) == expected


def test_extended_key_usage_can_be_left_out() -> None:
    with pytest.raises(x509.ExtensionNotFound):
        self_signed(extended_key_usage=()).x509.extensions.get_extension_for_class(x509.ExtendedKeyUsage)


@pytest.mark.parametrize("ca", [True, False])
def test_only_a_ca_may_sign(ca: bool) -> None:
    extensions = self_signed(ca=ca).x509.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, usage.critical) == (True, True)
    assert (constraints.value.ca, usage.value.key_cert_sign, usage.value.digital_signature) == (ca, ca, not ca)


def test_given_extensions_come_beside_the_usual_ones_or_in_their_place(mtls_ca: CertificateAuthority) -> None:
    strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    extensions = mtls_ca.issue(extensions=[(strange, True), (constraints, False)]).x509.extensions
    assert extensions.get_extension_for_oid(strange.oid).critical
    assert extensions.get_extension_for_class(x509.BasicConstraints).value == constraints
    assert len(extensions) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subject": "billing"}, "'billing' is not an RFC 4514 name"),
        ({"dns": "a.test"}, "dns='a.test' is a string"),
        ({"extended_key_usage": "client"}, "extended_key_usage='client' is a string"),
        ({"extended_key_usage": ("code",)}, "extended_key_usage=['code']"),
        ({"key": "dsa"}, "key=str"),
        ({"not_before": datetime(2030, 1, 1)}, "not_before="),  # noqa: DTZ001 (wrong on purpose)
        ({"not_after": datetime(2030, 1, 1)}, "not_after="),  # noqa: DTZ001 (wrong on purpose)
    ],
)
def test_what_cannot_be_is_refused(mtls_ca: CertificateAuthority, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        mtls_ca.issue(**options)
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        self_signed(**options)
