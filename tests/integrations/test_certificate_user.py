"""`CertificateUser`: which certificate identifies which user, and which certificate identifies none."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from mtls_middleware import ClientCertificate, ConfigurationError, Verification
from mtls_middleware.effects import BlockingDriver
from mtls_middleware.integrations import CertificateIdentity, CertificateUser
from mtls_middleware.policy import (
    DNSName,
    Email,
    IPAddress,
    IssuedBy,
    Issuer,
    IssuerAndSerialNumber,
    Subject,
    SubjectAttribute,
    Thumbprint,
    UserPrincipalName,
)
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from mtls_middleware.validation import TrustStore
from tests.gateways import MODULES, Request, both_gateways, send

NAME = "CN=Staff CA,O=Acme"
STAFF, NAMESAKE = CertificateAuthority(NAME), CertificateAuthority(NAME)
PARTNER = CertificateAuthority("CN=Partner CA,O=Partner")
STORE = TrustStore([STAFF.certificate, NAMESAKE.certificate, PARTNER.certificate])
ALICE = "alice@corp.example"
USERS = CertificateUser(by=UserPrincipalName(), issued_by=STAFF.certificate)


def upn(*names: str, ca: CertificateAuthority = STAFF, **options: Any) -> IssuedCertificate:
    return ca.issue("CN=card", user_principal_names=names, **options)


def validated(issued: IssuedCertificate) -> ClientCertificate:
    """The certificate as a trust store attaches it."""
    now = datetime.now(UTC).timestamp()
    found: ClientCertificate = BlockingDriver().run(STORE.validate(issued.client_certificate(), now))
    return found


def name_of(users: CertificateUser[Any], issued: IssuedCertificate) -> str | None:
    found = users.identify(validated(issued))
    return None if found is None else found.name


UPN_OID = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def with_other_name(*values: bytes) -> IssuedCertificate:
    return with_names(*(x509.OtherName(UPN_OID, each) for each in values))


def with_names(*names: x509.GeneralName) -> IssuedCertificate:
    return STAFF.issue("CN=card", extensions=[(x509.SubjectAlternativeName(names), False)])


def utf8(text: str) -> bytes:
    octets = text.encode()
    return bytes([12, len(octets)]) + octets


CARDS = {
    "the name": (upn(ALICE), ALICE),
    "an intermediate of the authority": (upn(ALICE, ca=STAFF.intermediate()), ALICE),
    "the case of the domain": (upn("alice@CORP.Example"), ALICE),
    "the case of the user": (upn("Alice@corp.example"), "Alice@corp.example"),
    "the same name twice": (upn(ALICE, "alice@CORP.example"), ALICE),
    "names of other kinds beside it": (upn(ALICE, emails=["bob@corp.example"], dns=["bob.example"]), ALICE),
    "a Cyrillic look-alike": (upn("\u0430lice@corp.example"), "\u0430lice@corp.example"),
    "a full-width look-alike": (upn("\uff41lice@corp.example"), "\uff41lice@corp.example"),
    "an unnormalized letter": (upn("mu\u0308ller@corp.example"), "mu\u0308ller@corp.example"),
    "a Kelvin sign in the domain": (upn("alice@\u212aorp.example"), "alice@\u212aorp.example"),
    "two users": (upn(ALICE, "bob@corp.example"), None),
    "two cases of the user": (upn(ALICE, "Alice@corp.example"), None),
    "two normalizations": (upn("m\u00fcller@corp.example", "mu\u0308ller@corp.example"), None),
    "a name without a domain": (upn("alice"), None),
    "a name without a domain beside it": (upn(ALICE, "alice"), None),
    "no name of this kind": (STAFF.issue("CN=alice@corp.example", emails=[ALICE]), None),
    "another authority": (upn(ALICE, ca=PARTNER), None),
    "another authority with the same name": (upn(ALICE, ca=NAMESAKE), None),
    "an intermediate of the other authority": (upn(ALICE, ca=NAMESAKE.intermediate(NAME)), None),
    "a NUL": (with_other_name(utf8("alice@corp.example\0.evil.example")), None),
    "an invisible character": (with_other_name(utf8("alice\u200b@corp.example")), None),
    "another string type": (with_other_name(b"\x16" + utf8(ALICE)[1:]), None),
    "an unreadable value beside it": (with_other_name(utf8(ALICE), b"\x0c\x02\xff\xfe"), None),
    "an unreadable name of another kind": (
        with_names(x509.OtherName(UPN_OID, utf8(ALICE)), x509.UniformResourceIdentifier("urn:a\x7fb")),
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("card", "expected"), CARDS.values(), ids=CARDS)
def test_one_readable_name_of_the_authority_identifies_the_user(card: IssuedCertificate, expected: str | None) -> None:
    assert name_of(USERS, card) == expected


@pytest.mark.parametrize("verification", Verification)
def test_only_a_validated_path_shows_the_authority(verification: Verification) -> None:
    assert USERS.identify(upn(ALICE).client_certificate(verification)) is None


@pytest.mark.parametrize("kind", [Thumbprint(), IssuerAndSerialNumber()], ids=repr)
def test_a_certificate_that_is_not_verified_identifies_no_user(kind: Any) -> None:
    users = CertificateUser(by=kind)
    card = upn(ALICE)
    assert users.identify(card.client_certificate(Verification.PRESENTED)) is None
    for verification in (Verification.BY_PROXY, Verification.BY_SERVER, Verification.BY_TRUST_STORE):
        assert users.identify(card.client_certificate(verification)) is not None


def test_no_certificate_identifies_no_user() -> None:
    assert USERS.identify(None) is None


def test_no_other_name_is_tried() -> None:
    card = STAFF.issue("CN=alice,2.5.4.5=PNOEE-38001085718", emails=["alice@corp.example"])
    assert name_of(USERS, card) is None
    assert name_of(CertificateUser(by=Email(), issued_by=STAFF.certificate), card) == ALICE
    assert name_of(CertificateUser(by=DNSName(), issued_by=STAFF.certificate), card) is None
    serial = CertificateUser(by=SubjectAttribute("serialNumber"), issued_by=STAFF.certificate)
    assert name_of(serial, card) == "pnoee-38001085718"


def test_two_values_of_one_attribute_identify_no_user() -> None:
    users = CertificateUser(by=SubjectAttribute("OU"), issued_by=STAFF.certificate)
    assert name_of(users, STAFF.issue("CN=a,OU=one,OU=ONE")) == "one"
    assert name_of(users, STAFF.issue("CN=a,OU=one,OU=two")) is None


def test_the_case_of_a_subject_is_ignored() -> None:
    users = CertificateUser(by=Subject(), issued_by=STAFF.certificate)
    assert name_of(users, STAFF.issue("CN=Alice,O=Acme")) == name_of(users, STAFF.issue("CN=ALICE,O=acme"))
    assert name_of(users, STAFF.issue("O=Acme,CN=Alice")) != name_of(users, STAFF.issue("CN=ALICE,O=acme"))


def test_a_renewed_certificate_has_the_same_name_and_another_thumbprint() -> None:
    old, new = upn(ALICE), upn(ALICE)
    assert name_of(USERS, old) == name_of(USERS, new) == ALICE
    for kind in (Thumbprint(), IssuerAndSerialNumber()):
        users = CertificateUser(by=kind)
        assert name_of(users, old) == name_of(users, old)
        assert name_of(users, old) != name_of(users, new)


def test_several_authorities_may_assert_the_name() -> None:
    users = CertificateUser(by=UserPrincipalName(), issued_by=[STAFF.certificate, PARTNER.certificate])
    assert name_of(users, upn(ALICE)) == name_of(users, upn(ALICE, ca=PARTNER)) == ALICE
    assert name_of(users, upn(ALICE, ca=NAMESAKE)) is None


def test_the_authority_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "staff-ca.pem"
    path.write_text(STAFF.pem)
    for given in (path, str(path), [path], IssuedBy(path), [IssuedBy(path)]):
        users = CertificateUser(by=UserPrincipalName(), issued_by=given)
        assert name_of(users, upn(ALICE)) == ALICE
        assert name_of(users, upn(ALICE, ca=NAMESAKE)) is None


def test_an_identifier_with_its_issuer_may_also_have_an_authority() -> None:
    users = CertificateUser(by=IssuerAndSerialNumber(), issued_by=STAFF.certificate)
    assert name_of(users, upn(ALICE)) is not None
    assert name_of(users, upn(ALICE, ca=NAMESAKE)) is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"by": UserPrincipalName()}, "any trusted CA could issue this name"),
    ({"by": Email(), "issued_by": None}, "any trusted CA could issue this name"),
    ({"by": UserPrincipalName(ALICE), "issued_by": STAFF.certificate}, "the rule has a value: omit it"),
    ({"by": UserPrincipalName, "issued_by": STAFF.certificate}, "expected a kind of name"),
    ({"by": "upn", "issued_by": STAFF.certificate}, "expected a kind of name"),
    ({"by": IPAddress("192.0.2.1"), "issued_by": STAFF.certificate}, "expected a kind of name"),
    ({"by": Issuer(NAME), "issued_by": STAFF.certificate}, "expected a kind of name"),
    ({"by": UserPrincipalName(), "issued_by": []}, "expected a PEM file"),
    ({"by": UserPrincipalName(), "issued_by": 5}, "expected a PEM file"),
    ({"by": UserPrincipalName(), "issued_by": ""}, "expected a PEM file"),
    ({"by": UserPrincipalName(), "issued_by": "absent.pem"}, "cannot be read"),
    ({"by": Thumbprint(), "look_up": "users.find"}, "expected a function"),
    ({"by": Thumbprint(), "look_up": dict}, "expected a function"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda each: str(each)[:60])
def test_wrong_arguments_are_named(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CertificateUser(**arguments)


def found_by(gateway: str, users: CertificateUser[Any], card: IssuedCertificate | None, store: Any = STORE) -> Any:
    """The user of one request through real layers: `find` under WSGI, `afind` under ASGI."""
    found: list[Any] = []

    def wrap(module: Any, app: Any) -> Any:
        if gateway == "wsgi":

            def wsgi_application(environ: Any, start_response: Any) -> Any:
                found.append(users.find(environ))
                return app(environ, start_response)

            inner: Any = wsgi_application
        else:

            async def asgi_application(scope: Any, receive: Any, send: Any) -> None:
                found.append(await users.afind(scope))
                await app(scope, receive, send)

            inner = asgi_application
        return module.protect(inner, source=ServerTLS(), trust_store=store, required=False)

    outcome = send(gateway, wrap, Request(tls=card))
    assert outcome.status == 200
    (user,) = found
    return user


@both_gateways
def test_without_a_hook_the_identity_is_the_user(gateway: str) -> None:
    user = found_by(gateway, USERS, upn("alice@CORP.example"))
    assert isinstance(user, CertificateIdentity)
    assert (user.name, user.identity, user.display_name) == (ALICE, ALICE, "alice@CORP.example")
    assert user.is_authenticated
    assert user == found_by(gateway, USERS, upn(ALICE))
    assert found_by(gateway, USERS, None) is None
    assert found_by(gateway, USERS, upn(ALICE, ca=PARTNER)) is None


@both_gateways
def test_the_hook_gets_the_identity_and_returns_the_user(gateway: str) -> None:
    asked: list[CertificateIdentity] = []

    def look_up(identity: CertificateIdentity) -> dict[str, str] | None:
        asked.append(identity)
        return {"name": "Alice"} if identity.name == ALICE else None

    card = upn("alice@CORP.example")
    users = CertificateUser(by=UserPrincipalName(), issued_by=STAFF.certificate, look_up=look_up)
    assert found_by(gateway, users, card) == {"name": "Alice"}
    assert [each.certificate.thumbprint for each in asked] == [card.thumbprint]
    assert found_by(gateway, users, upn("bob@corp.example")) is None
    assert found_by(gateway, users, upn(ALICE, ca=NAMESAKE)) is None
    assert found_by(gateway, users, None) is None
    assert len(asked) == 2


async def later(identity: CertificateIdentity) -> str | None:
    await asyncio.sleep(0)
    return identity.name.upper() if identity.name == ALICE else None


class Later:
    async def __call__(self, identity: CertificateIdentity) -> str | None:
        return await later(identity)


@pytest.mark.parametrize("hook", [later, Later()], ids=["function", "object"])
def test_the_hook_may_be_async(hook: Any) -> None:
    users = CertificateUser(by=UserPrincipalName(), issued_by=STAFF.certificate, look_up=hook)
    assert users.is_async
    assert found_by("asgi", users, upn(ALICE)) == ALICE.upper()
    assert found_by("asgi", users, upn("bob@corp.example")) is None
    identity = users.identify(validated(upn(ALICE)))
    assert identity is not None
    with pytest.raises(ConfigurationError, match="is async"):
        users.user_of(identity)


@both_gateways
def test_an_exception_of_the_hook_is_not_an_unknown_user(gateway: str) -> None:
    def look_up(identity: CertificateIdentity) -> str | None:
        raise ConnectionError("the database is away")

    users = CertificateUser(by=UserPrincipalName(), issued_by=STAFF.certificate, look_up=look_up)
    with pytest.raises(ConnectionError):
        found_by(gateway, users, upn(ALICE))


@pytest.mark.parametrize("carrier", [{}, {"mtls_middleware.certificate": validated(upn(ALICE))}], ids=["bare", "key"])
def test_a_request_without_layers_is_a_configuration_error(carrier: Any) -> None:
    with pytest.raises(ConfigurationError, match="did not pass through a certificate layer"):
        USERS.find(carrier)
    with pytest.raises(ConfigurationError, match="did not pass through a certificate layer"):
        asyncio.run(USERS.afind(carrier))


REASONS = {
    "no trust store": (upn(ALICE).client_certificate(), "give the layer trust_store="),
    "not verified": (upn(ALICE).client_certificate(Verification.PRESENTED), "only presented, not verified"),
    "another authority": (validated(upn(ALICE, ca=NAMESAKE)), "add its certificate to issued_by="),
    "two values": (validated(upn(ALICE, "bob@corp.example")), "2 different values"),
    "no value": (validated(upn()), "no value of UserPrincipalName(name=...)"),
    "unreadable": (validated(with_other_name(b"\x0c\x02\xff\xfe")), "cannot be decoded"),
}


@pytest.mark.parametrize(("certificate", "reason"), REASONS.values(), ids=REASONS)
def test_the_log_says_why_a_certificate_identifies_no_user(
    certificate: ClientCertificate, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mtls_middleware.user")
    for _ in range(2):
        assert USERS.identify(certificate) is None
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]
    for record in caplog.records:
        assert reason in record.getMessage()
        assert certificate.thumbprint in record.getMessage()
        assert "alice" not in record.getMessage()


def test_a_client_cannot_fill_the_log_with_warnings_by_other_reasons(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mtls_middleware.user")
    for number in range(2, 40):
        assert USERS.identify(validated(upn(*(f"{each}@corp.example" for each in range(number))))) is None
    assert [each.levelname for each in caplog.records].count("WARNING") == 1


def test_stored_names_can_be_compared() -> None:
    assert USERS.canonical_form("alice@CORP.example") == ALICE
    assert USERS.canonical_form("alice") is None


@pytest.mark.parametrize("gateway", MODULES)
def test_a_revoked_or_expired_certificate_never_gets_this_far(gateway: str) -> None:
    expired = upn(ALICE, not_after=datetime(2026, 1, 1, tzinfo=UTC))
    outcome = send(
        gateway,
        lambda module, app: module.protect(app, source=ServerTLS(), trust_store=STORE, required=False),
        Request(tls=expired),
    )
    assert (outcome.status, outcome.reached) == (403, False)
