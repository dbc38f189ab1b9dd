"""Distinguished names against RFC 4514's own examples, other libraries' vectors, and themselves."""

import unicodedata

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mtls_middleware import ClientCertificate
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names import distinguished
from tests import shared

DN = shared.read_json("vectors/dn.json")
GO_LDAP = shared.read_json("vectors/dn/go-ldap-dn-cases.json")
OPENLDAP = shared.read_json("vectors/dn/openldap-test-dn.json")
CRYPTOGRAPHY = shared.read_json("vectors/dn/cryptography-name-cases.json")
EXAMPLES = shared.read_json("vectors/dn/rfc4514-examples.json")

# Where another library's vectors differ from RFC 4514's grammar, which is ours.
LEGACY = {
    "cn=admin\\\\ ",  # a trailing blank without backslash
    "cn=admin\\\\\\\\ ",
    "1=#04024869",  # one arc is no OID: it has no DER
    "CN=#616263",  # read as text there, as BER by the RFC
}


def matches(one: str, other: str) -> bool:
    return distinguished.matches(distinguished.parse(one), distinguished.parse(other))


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


@pytest.mark.shared
@pytest.mark.standard("L1", "L4")
@pytest.mark.parametrize("example", DN.get("section4", ()), ids=lambda each: each["dn"])
def test_the_strings_of_rfc_4514_section_4_are_read(example):
    parsed = distinguished.parse(example["dn"])
    in_der_order = [[(each.oid, each.text) for each in rdn] for rdn in reversed(parsed.rdns)]
    assert in_der_order == [
        [(each["oid"], each.get("value")) for each in rdn] for rdn in example["rdn_sequence_in_asn1_order"]
    ]


@pytest.mark.shared
@pytest.mark.standard("L2", "L7", "L8", "L10", "L11")
@pytest.mark.parametrize("pair", DN.get("match_pairs", ()), ids=lambda each: each["case"])
def test_pairs_match_by_rfc_4517_and_nothing_else(pair):
    if pair["case"] == "space after comma is not RFC 4514":  # but RFC 2253 section 4 allows it
        assert matches(pair["registered"], pair["certificate"])
    elif pair["result"].startswith("unparsable"):
        with pytest.raises(ValueError, match="position"):
            distinguished.parse(pair["certificate"])
    else:  # the empty name is the one policy of ours that differs: it matches nothing
        assert matches(pair["registered"], pair["certificate"]) is (
            pair["result"] == "match" and pair["registered"] != ""
        )


@pytest.mark.shared
@pytest.mark.standard("L3", "L5", "L13")
@pytest.mark.parametrize(
    "spelling", DN.get("same_subject_other_spellings", {}).get("spellings", ()), ids=lambda s: s["form"][:20]
)
def test_each_spelling_of_a_subject_is_that_subject(spelling):
    certificate = ClientCertificate.from_pem(DN["same_subject_other_spellings"]["certificate_pem"])
    subject = distinguished.from_x509(certificate.x509.subject)
    assert distinguished.matches(distinguished.parse_expected(spelling["dn"]), subject)


@pytest.mark.shared
@pytest.mark.parametrize("text", GO_LDAP.get("parse_errors", ()) + OPENLDAP.get("must_fail", ()) if DN else ())
def test_what_ldap_libraries_refuse_is_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        distinguished.parse(text)


@pytest.mark.shared
@pytest.mark.parametrize("text", OPENLDAP.get("may_succeed_rfc2253_or_1779_only", ()))
@pytest.mark.standard("L6")
def test_forms_older_than_rfc_4514_are_refused(text):
    if ";" in text or '"' in text:
        with pytest.raises(ValueError, match="position"):
            distinguished.parse(text)
    else:
        assert matches(text, text.replace(" ", ""))  # blanks around separators (RFC 2253 section 4)


@pytest.mark.shared
@pytest.mark.parametrize("text", OPENLDAP.get("must_succeed", []) + OPENLDAP.get("should_succeed", []) if DN else ())
def test_what_openldap_reads_is_read(text):
    distinguished.parse(text)


@pytest.mark.shared
@pytest.mark.parametrize(("one", "other"), OPENLDAP.get("equivalent_pairs", ()))
def test_two_ways_to_escape_are_one_name(one, other):
    assert matches(one, other)


@pytest.mark.shared
@pytest.mark.parametrize(("text", "value"), GO_LDAP.get("decode", ()))
def test_escapes_are_undone(text, value):
    if text in LEGACY:
        with pytest.raises(ValueError, match="position"):
            distinguished.parse(text)
    else:
        assert distinguished.parse(text).rdns[0][0].text == value


@pytest.mark.shared
@pytest.mark.parametrize(("text", "attributes"), CRYPTOGRAPHY.get("valid", ()))
def test_values_are_those_that_cryptography_reads(text, attributes):
    if text in LEGACY:
        with pytest.raises(ValueError, match="DER"):
            distinguished.parse(text)
    elif attributes is not None:
        assert [each.text for rdn in distinguished.parse(text).rdns for each in rdn] == [
            value for _, value in attributes
        ]


@pytest.mark.case("088", "089")
def test_order_counts_between_rdns_and_not_inside_one():
    assert matches("CN=a+OU=b", "OU=b+CN=a")
    assert not matches("CN=a+OU=b", "CN=a,OU=b")
    assert not matches("CN=a,OU=b", "OU=b,CN=a")


@pytest.mark.case("091")
@pytest.mark.parametrize("longer", ["CN=client1,O=Org,C=US", "OU=x,CN=client1,O=Org"])
def test_a_name_with_an_additional_rdn_does_not_match(longer):
    assert not matches("CN=client1,O=Org", longer)


@pytest.mark.case("085", "086")
def test_a_comma_inside_a_value_is_not_a_second_rdn():
    registered = distinguished.parse_expected("CN=client1,O=Org")
    in_order = name((NameOID.ORGANIZATION_NAME, "Org"), (NameOID.COMMON_NAME, "client1"))
    assert distinguished.matches(registered, distinguished.from_x509(in_order))
    assert not distinguished.matches(registered, distinguished.from_x509(name((NameOID.COMMON_NAME, "client1,O=Org"))))


@pytest.mark.case("087")
@pytest.mark.standard("L9")
@pytest.mark.parametrize("value", ["good\0.evil", "good\0", "go\rod", "good\x7f", "go\x85od"])
def test_a_certificate_with_a_control_character_in_its_name_is_refused(value):
    with pytest.raises(MalformedCertificate):
        distinguished.from_x509(name((NameOID.COMMON_NAME, value)))


@pytest.mark.case("093")
def test_lookalikes_differ_and_composed_letters_do_not():
    assert not matches("CN=admin", "CN=\u0430dmin")
    assert not matches("CN=admin", "CN=adm\u0131n")
    assert matches("CN=\u00fcber", "CN=u\u0308ber")


@pytest.mark.case("094")
def test_an_unknown_attribute_matches_on_oid_and_value():
    assert matches("2.5.4.97=#0c026869", "organizationIdentifier=hi")
    assert not matches("2.5.4.97=#0c026869", "2.5.4.98=#0c026869")
    assert not matches("1.3.6.1.4.1.1466.0=#04024869", "1.3.6.1.4.1.1466.0=#04024868")


@pytest.mark.standard("L14")
def test_the_empty_name_matches_nothing():
    empty = distinguished.from_x509(x509.Name([]))
    assert not distinguished.matches(empty, empty)


@pytest.mark.standard("L12")
@pytest.mark.parametrize(
    "tag", ["0c03466f6f", "1303466f6f", "1403466f6f", "1e060046006f006f", "1c0c000000460000006f0000006f"]
)
def test_every_string_type_of_asn1_holds_the_same_text(tag):
    assert matches("CN=foo", f"CN=#{tag}")


@pytest.mark.parametrize("text", ["", "CN=a\\00b", "CN=a\\0ab", "CN=\U0001f600", "CN=a,CN=\ufffd"])
def test_an_expected_name_that_is_empty_or_ambiguous_is_rejected(text):
    with pytest.raises(ValueError, match=r"\S"):
        distinguished.parse_expected(text)


@pytest.mark.parametrize(
    "value", ["#0c", "#0c05466f6f", "#0c80", "#1f8103466f6f", "#0c03466f6f00", "#0c02c328", "#1e0141"]
)
def test_broken_ber_is_refused(value):
    with pytest.raises(ValueError, match=r"\S"):
        distinguished.parse(f"2.5.4.3={value}")


def test_a_value_with_octets_invalid_for_its_type_never_matches():
    broken = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "\u00fc@example", _validate=False)])
    assert distinguished.to_string(broken) == "1.2.840.113549.1.9.1=#160ac3bc406578616d706c65"
    with pytest.raises(MalformedCertificate):
        distinguished.from_x509(broken)


def test_a_space_that_carries_a_mark_is_a_letter():
    assert not matches("CN=a \u0301b", "CN=a\u0301b")
    assert matches("CN=a  \u0301b", "CN=a  \u0301b")
    assert not matches("CN=a  \u0301b", "CN=a \u0301b")


def test_a_type_twice_in_one_rdn_matches_nothing():
    twice = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(NameOID.COMMON_NAME, "a"), x509.NameAttribute(NameOID.COMMON_NAME, "b")]
            )
        ]
    )
    parsed = distinguished.from_x509(twice)
    assert not distinguished.matches(parsed, parsed)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.PSEUDONYM, NameOID.TITLE]),
            st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Z", "S"]), min_size=1, max_size=12),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_back(attributes):
    try:
        original = x509.Name([x509.NameAttribute(oid, value, _validate=False) for oid, value in attributes])
        der = original.public_bytes()
    except (ValueError, UnicodeEncodeError):
        return  # cryptography will not write it
    written = distinguished.to_string(original)
    parsed = distinguished.parse(written)
    again = [[(each.oid, each.text) for each in rdn] for rdn in reversed(parsed.rdns)]
    assert again == [[(each.oid.dotted_string, each.value) for each in rdn] for rdn in x509.Name(original.rdns).rdns], (
        der.hex()
    )


@given(st.text())
def test_arbitrary_text_is_a_name_or_a_value_error(text):
    try:
        parsed = distinguished.parse(text)
    except ValueError:
        return
    assert distinguished.matches(parsed, parsed) is (parsed.comparable is not None)


@given(st.text(alphabet='CNOU=+,\\#"; 0a2.', max_size=24))
def test_text_made_of_delimiters_is_a_name_or_a_value_error(text):
    try:
        distinguished.parse(text)
    except ValueError:
        return


INVISIBLE = (
    "\x00\x1b\x7f\x85\xad\u061c\u180e\u200b\u200d\u200e\u2028\u2029\u202a\u202e\u2060\u2066\u2069\ufeff\U000e0001"
    "\u034f\u115f\u1160\u17b4\u180b\u2065\u2800\u3164\ufe0f\uffa0\ufff0\ufff9\U000e0000\U000e0041\U000e0100\U000e01ef\ue000"
)


@pytest.mark.parametrize("char", INVISIBLE, ids=ascii)
def test_an_invisible_character_is_written_as_hex_pairs(char):
    value = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"a{char}b", _validate=False)])
    written = distinguished.to_string(value)
    assert written == "CN=a" + "".join(f"\\{octet:02x}" for octet in char.encode()) + "b"
    assert written.isascii()
    assert distinguished.parse(written).rdns[0][0].text == f"a{char}b"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12))
def test_a_written_name_is_one_line_that_keeps_its_direction(text):
    value = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text, _validate=False)])
    written = distinguished.to_string(value)
    assert len(written.splitlines()) == 1
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Co", "Zl", "Zp") for char in written)
    assert distinguished.parse(written).rdns[0][0].text == text
