"""Names take work in proportion to their length, and their length is bounded. Work is counted, not timed."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate, ConfigurationError, RegisteredClient, Verification
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names import distinguished
from mtls_middleware.names.preparation import prepare
from mtls_middleware.policy import (
    URI,
    CertificatePolicy,
    DNSName,
    Email,
    ExtendedKeyUsage,
    IPAddress,
    Issuer,
    Rule,
    Subject,
    SubjectAttribute,
    UserPrincipalName,
)
from mtls_middleware.rule import AnyOf
from mtls_middleware.testing import CertificateAuthority


def lines(once: Callable[[], object]) -> int:
    """How many lines of Python run."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        once()
    except ValueError:
        pass
    finally:
        sys.settrace(before)
    return count


def letters(count: int) -> str:
    return "".join(chr(0x4E00 + each) for each in range(count))


# Each makes a string of about as many octets as asked for.
STRINGS: dict[str, Callable[[int], str]] = {
    "domain component": lambda octets: f"DC={letters(octets // 3)}",
    "domain components": lambda octets: ",".join([f"DC={letters(59)}"] * (octets // 181)),
    "letters": lambda octets: f"CN={letters(octets // 3)}",
    "marks": lambda octets: "CN=a" + "\u0301\u0327" * (octets // 4),
    "marks that are starters": lambda octets: "CN=a" + "\u0f73" * (octets // 3),
    "marks on letters": lambda octets: "CN=" + ("a" + "\u0301\u0327" * 15) * (octets // 61),
    "ligatures": lambda octets: "CN=" + "\ufdfa" * (octets // 3),
    "invisible": lambda octets: "DC=\u00e9" + "\u00ad" * (octets // 2),
    "attributes in one RDN": lambda octets: "+".join(f"1.2.{each}=a" for each in range(octets // 10)),
    "RDNs": lambda octets: ",".join(["O=a"] * (octets // 4)),
    "arcs": lambda octets: "1" + ".2" * (octets // 2) + "=a",
    "escapes": lambda octets: "CN=" + "\\20" * (octets // 3),
    "hex": lambda octets: "CN=#0c820f00" + "61" * (octets // 2 - 8),
    "blanks": lambda octets: "CN=a" + " " * octets + "b",
}


@pytest.mark.parametrize("case", STRINGS)
def test_work_grows_no_faster_than_a_string(case: str) -> None:
    short, long = STRINGS[case](2_000), STRINGS[case](8_000)
    assert (
        lines(lambda: distinguished.parse_expected(long))
        <= 6 * lines(lambda: distinguished.parse_expected(short)) + 1_000
    )
    assert lines(lambda: distinguished.parse_expected(long)) < 200_000


@pytest.mark.parametrize("case", STRINGS)
def test_a_string_beyond_the_bound_is_rejected_unread(case: str) -> None:
    string = STRINGS[case](60_000)
    for make in (
        lambda: Subject(string),
        lambda: Issuer(string),
        lambda: RegisteredClient(
            client_id="a", token_endpoint_auth_method="tls_client_auth", tls_client_auth_subject_dn=string
        ),
    ):
        with pytest.raises(ConfigurationError, match="octets; expected at most 8192"):
            make()
    assert lines(lambda: distinguished.parse(string)) < 20


@pytest.mark.filterwarnings("ignore:Attribute's length:UserWarning")
def test_strings_and_certificates_have_the_same_bound() -> None:
    distinguished.parse("CN=" + "a" * 8_189)
    with pytest.raises(ValueError, match="8193 octets; expected at most 8192"):
        distinguished.parse("CN=" + "a" * 8_190)
    with pytest.raises(ValueError, match="8193 octets; expected at most 8192"):
        distinguished.parse("CN=" + "\u00e9" * 4_095)
    for length, readable in ((8_165, True), (8_190, False)):
        name = x509.Name([_attribute(NameOID.COMMON_NAME, "a" * length)])
        if readable:
            assert len(distinguished.from_x509(name).rdns[0][0].content) == length
        else:
            with pytest.raises(MalformedCertificate, match="octets; expected at most 8192"):
                distinguished.from_x509(name)


@pytest.mark.filterwarnings("ignore:Attribute's length:UserWarning")
@pytest.mark.parametrize(
    "attributes",
    [
        [(NameOID.DOMAIN_COMPONENT, letters(2_700))],
        [(NameOID.DOMAIN_COMPONENT, letters(59))] * 40,
        [(NameOID.COMMON_NAME, letters(2_700))],
        [(NameOID.COMMON_NAME, "\ufdfa" * 2_700)],
        [(NameOID.COMMON_NAME, "a")] * 600,
    ],
)
def test_no_name_of_a_certificate_takes_much_work(attributes: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    name = x509.Name([_attribute(oid, value) for oid, value in attributes])
    assert lines(lambda: distinguished.from_x509(name).comparable) < 200_000


def _attribute(oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute:
    return x509.NameAttribute(oid, value, _type=x509.name._ASN1Type.UTF8String, _validate=False)


@pytest.mark.parametrize("mark", ["\u0301", "\u0301\u0327", "\u0344", "\u0f73", "\u0301\u00ad", "\u0301\u200d"])
def test_more_than_thirty_marks_in_a_row_match_nothing(mark: str) -> None:
    assert prepare("a" + mark * 5 + "b") is not None
    assert prepare("a" + mark * 31 + "b") is None


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_thirty_marks_are_enough_for_any_short_string(text: str) -> None:
    """The bounds change nothing for a string of a few characters."""
    if text.isascii():
        return
    assert (prepare(text) is None) == (prepare(text + "\u4e00") is None)


def test_an_arc_of_a_uuid_is_read_and_no_longer_one() -> None:
    assert distinguished._dotted_oid(b"\x69" + b"\x83" + b"\xff" * 17 + b"\x7f") == f"2.25.{2**128 - 1}"
    with pytest.raises(ValueError, match="an arc of more than 20 octets"):
        distinguished._dotted_oid(b"\x69" + b"\xff" * 20 + b"\x7f")


# --- Rules over alternative names

AUTHORITY = CertificateAuthority()
KINDS: dict[str, tuple[str, Callable[[int], str], Callable[[str], Rule]]] = {
    "dns": ("dns", lambda number: f"{number}.test", DNSName),
    "uri": ("uris", lambda number: f"urn:{number}", URI),
    "address": ("ip_addresses", lambda number: f"10.0.{number // 256}.{number % 256}", IPAddress),
    "mailbox": ("emails", lambda number: f"{number}@a.test", Email),
    "principal": ("user_principal_names", lambda number: f"{number}@a.test", UserPrincipalName),
    "policy": ("policies", lambda number: f"1.2.{number}", CertificatePolicy),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_work_of_a_policy_is_not_its_rules_times_the_names(kind: str) -> None:
    option, name, rule = KINDS[kind]

    def work(count: int) -> int:
        der = AUTHORITY.issue(**{option: [name(number) for number in range(count)]}).der
        policy = AnyOf(tuple(rule(name(number)) for number in range(10_000, 10_000 + count)))
        verified = ClientCertificate.from_der(der, verification=Verification.BY_SERVER)
        return lines(lambda: policy.holds(verified))

    assert work(400) < 2.5 * work(200)


def test_the_work_of_a_policy_is_not_its_rules_times_the_attributes_and_usages() -> None:
    def work(count: int) -> int:
        name = x509.Name([_attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, str(each)) for each in range(count)])
        usages = x509.ExtendedKeyUsage([x509.ObjectIdentifier(f"1.2.{each}") for each in range(count)])
        found = AUTHORITY.issue(name, extensions=[(usages, False)]).client_certificate()
        attributes = tuple(SubjectAttribute("OU", str(each)) for each in range(10_000, 10_000 + count))
        listed = tuple(ExtendedKeyUsage(f"1.2.{each}") for each in range(10_000, 10_000 + count))
        return lines(lambda: AnyOf((*attributes, *listed)).holds(found))

    assert work(400) < 2.5 * work(200)


def test_names_that_cannot_be_read_are_read_once_for_all_rules() -> None:
    """The last entry has the wrong string type, so every entry is read before the failure."""

    def work(rules: int) -> int:
        wrong = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x16\x03a@b")
        names = x509.SubjectAlternativeName([*(x509.DNSName(f"{each}.test") for each in range(200)), wrong])
        found = AUTHORITY.issue(extensions=[(names, False)]).client_certificate()
        policy = AnyOf(tuple(UserPrincipalName(f"{each}@b") for each in range(rules)))
        return lines(lambda: policy.holds(found))

    assert work(100) - work(50) < 50 * 100


def test_twenty_thousand_names_take_work_in_proportion() -> None:
    def work(count: int) -> int:
        der = AUTHORITY.issue(user_principal_names=[f"{each}@a.test" for each in range(count)]).der
        found = ClientCertificate.from_der(der, verification=Verification.BY_SERVER)
        return lines(lambda: UserPrincipalName("x@a.test").holds(found))

    assert work(20_000) < 2.5 * work(10_000)
