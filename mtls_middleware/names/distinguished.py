"""Distinguished names: reads RFC 4514 strings and X.509 names, and compares them (RFC 5280 7.1, RFC 4517 4.2.15).

The comparison uses parsed names, never strings. The `==` and the string parser of `cryptography` are not used, because
they treat case and `#hex` differently. All work is linear in the length of a name, which is at most 8,192 octets.
"""

import itertools
import re
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509

from mtls_middleware.der import header, read_values
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names import dn_strings
from mtls_middleware.names.attribute_types import NAME_OF, SHORT_NAMES
from mtls_middleware.names.invisible import INVISIBLE
from mtls_middleware.names.preparation import prepare

_DOMAIN_COMPONENT = SHORT_NAMES["DC"]


@dataclass(frozen=True)
class Attribute:
    """One attribute of a name: its type as a dotted OID, and its value as an ASN.1 tag and content octets."""

    oid: str
    tag: int
    content: bytes

    @cached_property
    def text(self) -> str | None:
        """The value as a string; `None` if it has no string type. Raises `ValueError` if it cannot be decoded."""
        encoding = dn_strings.ENCODINGS.get(self.tag)
        return None if encoding is None else self.content.decode(encoding)

    @cached_property
    def comparable(self) -> str | tuple[int, bytes] | None:
        """The value in the form in which values are compared; `None` if no value equals this value (Undefined)."""
        if self.text is None:
            return (self.tag, self.content)
        return prepare(self.text, domain=self.oid == _DOMAIN_COMPONENT)

    def __str__(self) -> str:
        name = NAME_OF.get(self.oid)
        try:
            text = self.text
        except ValueError:
            text = None  # octets that cannot be decoded are written in hex, and never match
        if name is None or text is None:  # write the value in hex, as RFC 4514 2.4 requires
            return f"{self.oid}=#{(header(self.tag, len(self.content)) + self.content).hex()}"
        return f"{name}={_escaped(text)}"


@dataclass(frozen=True)
class DistinguishedName:
    """A distinguished name. `rdns` has the order of the string: the most specific RDN first, the reverse of DER."""

    rdns: tuple[tuple[Attribute, ...], ...]

    @cached_property
    def comparable(self) -> tuple[Mapping[str, str | tuple[int, bytes]], ...] | None:
        """For each RDN, a mapping of attribute type to comparable value; `None` if no name can equal this name."""
        rows = []
        for rdn in self.rdns:
            row = {each.oid: each.comparable for each in rdn}
            if len(row) < len(rdn):  # this name equals no name, because X.501 does not allow a type twice in one RDN
                return None
            defined = {oid: value for oid, value in row.items() if value is not None}
            if len(defined) < len(row):
                return None
            rows.append(defined)
        return tuple(rows) or None  # `None` for the empty name, because it identifies no client

    @property
    def comparison_key(self) -> Hashable | None:
        """A key for sets and mappings, equal for names that match; `None` if no name can equal this name."""
        return None if self.comparable is None else tuple(frozenset(row.items()) for row in self.comparable)

    @cached_property
    def canonical_form(self) -> str | None:
        """A string in the form of RFC 4514, equal for names that match; `None` if no name can equal this name."""
        if self.comparable is None:
            return None
        rows = [
            {oid: (dn_strings.UTF8_STRING, it.encode()) if isinstance(it, str) else it for oid, it in row.items()}
            for row in self.comparable
        ]
        return ",".join("+".join(str(Attribute(oid, *row[oid])) for oid in sorted(row)) for row in rows)

    @cached_property
    def by_type(self) -> Mapping[str, tuple[Attribute, ...]]:
        """A mapping of the dotted OID of a type to its attributes, in the order of the certificate."""
        found: dict[str, list[Attribute]] = {}
        for rdn in reversed(self.rdns):
            for each in rdn:
                found.setdefault(each.oid, []).append(each)
        return {oid: tuple(attributes) for oid, attributes in found.items()}

    @cached_property
    def comparable_by_type(self) -> Mapping[str, frozenset[object]]:
        """A mapping of the dotted OID of a type to its comparable values.

        `None` stands for a value that is not a string or that equals no string.
        """
        return {
            oid: frozenset(each.comparable if each.text is not None else None for each in attributes)
            for oid, attributes in self.by_type.items()
        }


def parse(text: str) -> DistinguishedName:
    """Parse a string by the grammar of RFC 4514, with blanks around `,`, `=` and `+` (RFC 2253 section 4).

    Attribute types may have the names that OpenSSL, Java and .NET print, or the prefix `OID.`. `;` as a separator and
    quotes are rejected.

    Raises `ValueError` if `text` is invalid or has more than 8,192 octets, and `TypeError` if `text` is not a string.
    Example: `parse("CN=billing,O=Acme\\\\, Inc")`
    """
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} is not a string; expected a string, for example 'CN=billing,O=Acme'")
    _check_length(len(text.encode("utf-8", "surrogatepass")))
    try:
        rdns = tuple(dn_strings.parse_rdns(text))
    except ValueError as error:
        raise ValueError(f"{error}; {dn_strings.advice(text)}") from error
    return DistinguishedName(tuple(tuple(itertools.starmap(Attribute, rdn)) for rdn in rdns))


def parse_expected(text: str) -> DistinguishedName:
    """Parse the name that a rule expects in a certificate. The grammar is that of `parse`.

    Raises `ValueError` if `parse` does. Also raises `ValueError` for the empty name, and for a name with control
    characters or with characters that never compare equal.
    """
    name = parse(text)
    problem = ""
    if not name.rdns:
        problem = "the name is empty, and every certificate without a subject has the empty name"
    elif _has_controls(name):
        problem = "the name has a control character, and certificates with control characters are rejected"
    elif name.comparable is None:
        problem = "the name has a character that never matches by RFC 4518, such as one newer than Unicode 3.2"
    if problem:
        raise ValueError(f"{problem}; {dn_strings.advice(text)}")
    return name


def expected_attribute(oid: str, value: object) -> Attribute:
    """Return the attribute that a rule expects in a certificate.

    Raises `ValueError` unless `value` is a string of at most 8,192 octets that is not blank, has no control character,
    and can compare equal to another string.
    """
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} is not a string; expected a string, for example 'infra'")
    octets = value.encode("utf-8", "replace")
    _check_length(len(octets))
    attribute = Attribute(oid, dn_strings.UTF8_STRING, octets)
    if any(map(_is_control, value)) or not attribute.comparable or attribute.text != value:
        raise ValueError("the value is blank, or has a control character or a character that never matches by RFC 4518")
    return attribute


def from_x509(name: x509.Name) -> DistinguishedName:
    """Read a name of a certificate.

    Raises `MalformedCertificate` if the name is too long, cannot be decoded, or has NUL or another control character.
    RFC 4518 maps most control characters to nothing, so "Foo\\0bar" would equal "Foobar" (RFC 8705 7.5).
    """
    try:
        parsed = _from_der(name.public_bytes())
        unfit = _has_controls(parsed)
    except _NameTooLong as error:
        raise MalformedCertificate(str(error)) from error
    except ValueError as error:
        raise MalformedCertificate("a distinguished name cannot be decoded") from error
    if unfit:
        raise MalformedCertificate("a distinguished name has a control character")
    return parsed


def comparison_key(name: x509.Name) -> Hashable:
    """Return a value that is equal for names that match. A name that never matches is equal to its own DER only."""
    try:
        key = from_x509(name).comparison_key
    except MalformedCertificate:
        key = None
    return name.public_bytes() if key is None else key


def matches(one: DistinguishedName, other: DistinguishedName) -> bool:
    """Return whether two names match by distinguishedNameMatch (RFC 4517 4.2.15), with caseIgnoreMatch for strings.

    Returns `False` if the comparison is Undefined.
    """
    return one.comparable is not None and one.comparable == other.comparable


def is_reversed(one: DistinguishedName, other: DistinguishedName) -> bool:
    """Return whether the names match if the RDNs of one name are reversed."""
    return matches(DistinguishedName(one.rdns[::-1]), other)


def has_same_attributes(one: DistinguishedName, other: DistinguishedName) -> bool:
    """Return whether two names have the same attributes, in any order and grouping. Used only to explain a rejection.

    Example: `has_same_attributes(parse("CN=a,O=B"), parse("O=B,CN=a"))`
    """
    if one.comparable is None or other.comparable is None:
        return False
    attributes = [Counter(item for row in name for item in row.items()) for name in (one.comparable, other.comparable)]
    return attributes[0] == attributes[1]


def is_within(name: DistinguishedName, subtree: DistinguishedName) -> bool | None:
    """Return whether `name` is in `subtree` (RFC 5280 4.2.1.10): its RDNs nearest the root equal those of `subtree`.

    Returns `None` if the comparison is Undefined.
    """
    if not subtree.rdns:
        return True
    whole, part = name.comparable, subtree.comparable
    if whole is None or part is None:
        return None
    return whole[-len(part) :] == part


def to_string(name: x509.Name) -> str:
    """Return the RFC 4514 string of a certificate's name, which `parse` can read.

    Raises `ValueError` for an unreadable name.
    """
    return ",".join("+".join(map(str, rdn)) for rdn in _from_der(name.public_bytes()).rdns)


def _escaped(text: str) -> str:
    """Escape a value by RFC 4514 2.4. Invisible characters become hex pairs, which cannot disrupt a log or terminal."""
    out = [f"\\{char}" if char in '"+,;<>\\' else char for char in text]
    if out and out[0] in (" ", "#"):
        out[0] = "\\" + out[0]
    if len(out) > 1 and out[-1] == " ":
        out[-1] = "\\ "
    return INVISIBLE.sub(_hex_pairs, "".join(out))


def _hex_pairs(char: re.Match[str]) -> str:
    return "".join(f"\\{octet:02x}" for octet in char[0].encode())


def _is_control(char: str) -> bool:
    """Return whether `char` is a control character: C0, C1, or a character that controls the direction of text.

    RFC 4518 maps most of these characters to nothing. With them, two different names could look or compare equal.
    """
    return char < " " or "\x7f" <= char < "\xa0" or char in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e"


def _has_controls(name: DistinguishedName) -> bool:
    return any(_is_control(char) for rdn in name.rdns for each in rdn for char in each.text or "")


# The maximum number of octets of one name. Real names have at most a few hundred octets.
_LONGEST = 8_192
# The maximum number of octets of one arc of an OBJECT IDENTIFIER. The longest arcs in use are UUIDs (X.667): 19 octets.
_LONGEST_ARC = 20


class _NameTooLong(ValueError):  # noqa: N818 (callers see a ValueError)
    """Raised if a name has more than 8,192 octets."""


def _check_length(octets: int) -> None:
    if octets > _LONGEST:
        raise _NameTooLong(
            f"the name has {octets} octets; expected at most {_LONGEST}, for example 'CN=billing,O=Acme'"
        )


def _from_der(der: bytes) -> DistinguishedName:
    """Parse the DER of an X.501 Name: SEQUENCE OF SET OF SEQUENCE { type, value }."""
    _check_length(len(der))
    rdns = [
        tuple(
            Attribute(_dotted_oid(oid[1]), value[0], value[1])
            for each in read_values(rdn[1])
            for oid, value in [tuple(read_values(each[1]))]
        )
        for rdn in read_values(next(read_values(der))[1])
    ]
    return DistinguishedName(tuple(reversed(rdns)))


def _dotted_oid(content: bytes) -> str:
    """Return the dotted form of an OBJECT IDENTIFIER, given its content octets (X.690 8.19)."""
    numbers = []
    number = octets = 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        octets += 1
        if octets > _LONGEST_ARC:
            raise ValueError(f"an OBJECT IDENTIFIER has an arc of more than {_LONGEST_ARC} octets")
        if octet < 0x80:
            numbers.append(number)
            number = octets = 0
    first = min(numbers[0] // 40, 2) if numbers else 0
    return ".".join(map(str, [first, *(numbers[:1] and [numbers[0] - 40 * first]), *numbers[1:]]))
