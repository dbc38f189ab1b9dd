"""Rules without their value: kinds of names for `CertificateUser`, and never rules."""

import copy
import pickle
from typing import Any

import pytest

from mtls_middleware import ConfigurationError, wsgi
from mtls_middleware.identifier import Identifier
from mtls_middleware.policy import (
    URI,
    DNSName,
    Email,
    IssuerAndSerialNumber,
    Presented,
    Rule,
    SpiffeID,
    Subject,
    SubjectAttribute,
    Thumbprint,
    UserPrincipalName,
)
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority
from tests.integrations.route_requests import wsgi_never
from tests.policy.rules import ISSUED, certificate

KINDS: list[Any] = [
    DNSName(),
    Email(),
    IssuerAndSerialNumber(),
    SpiffeID(),
    Subject(),
    SubjectAttribute("O"),
    Thumbprint(),
    URI(),
    UserPrincipalName(),
]
by_kind = pytest.mark.parametrize("kind", KINDS, ids=repr)


@by_kind
def test_a_kind_is_not_a_rule(kind: Rule) -> None:
    other = DNSName("billing.internal")
    wrong: list[Any] = [
        lambda: kind & other,
        lambda: other | kind,
        lambda: ~kind,
        lambda: Presented(kind),  # type: ignore[arg-type]  # wrong on purpose
        lambda: wsgi.protect(wsgi_never, source=ServerTLS(), allow=kind),
        lambda: wsgi.protect(wsgi_never, source=ServerTLS(), allow={"/": kind}),
    ]
    for use in wrong:
        with pytest.raises(ConfigurationError, match="without a value is not a rule"):
            use()


@by_kind
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda kind: pickle.loads(pickle.dumps(kind))])
def test_a_copy_of_a_kind_is_a_kind(kind: Any, copied: Any) -> None:
    assert copied(kind).lacks_value
    assert copied(kind) == kind


@pytest.mark.parametrize("empty", ["", None])
@pytest.mark.parametrize("rule", [DNSName, Email, SpiffeID, Subject, Thumbprint, URI, UserPrincipalName])
def test_an_empty_value_is_not_an_omitted_value(rule: Any, empty: Any) -> None:
    with pytest.raises(ConfigurationError):
        rule(empty)


VALUES = [
    (Email(), [("Ops@acme.example", "Ops@Acme.example")]),
    (URI(), [("spiffe://acme.internal/billing",) * 2]),
    (SpiffeID(), [("spiffe://acme.internal/billing",) * 2]),
    (Subject(), [("CN=billing,O=acme", "CN=billing,O=Acme")]),
    (SubjectAttribute("O"), [("acme", "Acme")]),
    (SubjectAttribute("OU"), []),
    (Thumbprint(), [(ISSUED.thumbprint,) * 2]),
    (DNSName(), [("billing.internal",) * 2, (None, "*.wild.internal")]),
    (UserPrincipalName(), [("Alice@corp.example", "Alice@Corp.example"), ("m\u00fcller@corp.example",) * 2]),
    (
        IssuerAndSerialNumber(),
        [
            (
                f"{ISSUED.x509.serial_number} CN=acme client ca,O=acme",
                f"{ISSUED.x509.serial_number} CN=Acme Client CA,O=Acme",
            )
        ],
    ),
]


@pytest.mark.parametrize(("kind", "expected"), VALUES, ids=[repr(kind) for kind, _ in VALUES])
def test_values_are_read_in_the_form_in_which_they_are_compared(kind: Identifier, expected: Any) -> None:
    found = [*kind.values(certificate())]
    assert found == expected
    for canonical, spelling in found:
        assert kind.canonical_form(spelling) == canonical
        if canonical is not None:
            assert kind.canonical_form(canonical) == canonical


@pytest.mark.parametrize("kind", [each for each, values in VALUES if values and values[0][0]], ids=repr)
def test_a_rule_with_the_canonical_value_matches_the_certificate(kind: Any) -> None:
    value = next(iter(kind.values(certificate()))).canonical_form
    arguments: tuple[Any, ...] = (value,)
    if isinstance(kind, SubjectAttribute):
        arguments = (kind.attribute, value)
    elif isinstance(kind, IssuerAndSerialNumber):
        serial, _, issuer = value.partition(" ")
        arguments = (issuer, int(serial))
    assert type(kind)(*arguments).holds(certificate())


def test_names_that_differ_stay_different_in_the_canonical_form() -> None:
    ca = CertificateAuthority()
    subjects = ["CN=a,O=b", "CN=a\\,O=b", "CN=a+O=b", "O=b,CN=a", "CN=a", "CN=a\\+O=b", "CN=\\#0c0161", "OU=a"]
    found = {next(iter(Subject().values(ca.issue(each).client_certificate()))).canonical_form for each in subjects}
    assert len(found) == len(subjects)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (UserPrincipalName(), "alice"),
        (UserPrincipalName(), "alice\u200b@corp.example"),
        (Email(), "ops"),
        (DNSName(), "*.acme.example"),
        (DNSName(), ""),
        (Subject(), "alice"),
        (SubjectAttribute("serialNumber"), " "),
        (IssuerAndSerialNumber(), "CN=acme"),
        (IssuerAndSerialNumber(), "04711 CN=acme"),
    ],
    ids=repr,
)
def test_a_stored_value_that_no_certificate_has_equals_nothing(rule: Identifier, value: str) -> None:
    assert rule.canonical_form(value) is None


def test_only_ascii_letters_of_a_stored_dns_name_have_another_case() -> None:
    assert DNSName().canonical_form("KING.example") == "king.example"
    assert DNSName().canonical_form("\u212aing.example") != "king.example"  # KELVIN SIGN


SERIAL = ISSUED.x509.serial_number


@pytest.mark.parametrize(
    ("issuer", "serial", "expected"),
    [
        ("CN=Acme Client CA,O=Acme", SERIAL, True),
        ("cn=acme client CA,o=ACME", SERIAL, True),
        ("CN=Acme Client CA,O=Acme", SERIAL + 1, False),
        ("CN=Other CA,O=Acme", SERIAL, False),
    ],
    ids=["equal", "in another case", "another number", "another issuer"],
)
def test_issuer_and_serial_number_both_decide(issuer: str, serial: int, expected: bool) -> None:
    assert IssuerAndSerialNumber(issuer, serial).holds(certificate()) is expected


@pytest.mark.parametrize("arguments", [("CN=a",), ("CN=a", "4711"), ("CN=a", True), ("", 4711), ("nonsense", 4711)])
def test_issuer_and_serial_number_need_each_other(arguments: Any) -> None:
    with pytest.raises(ConfigurationError, match="IssuerAndSerialNumber"):
        IssuerAndSerialNumber(*arguments)
    with pytest.raises(ConfigurationError, match="expected an issuer and a number"):
        IssuerAndSerialNumber(serial_number=4711)
