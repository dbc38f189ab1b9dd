"""Distinguished names: RFC 4514 strings, X.509 names, and whether two of them match (RFC 5280 7.1, RFC 4517 4.2.15).

Names are compared as parsed, never as strings, and never by `cryptography`'s own `==` or string parser: they treat case
and `#hex` in another way. All work is linear in the length of a name, which is at most 8,192 octets.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names.invisible import INVISIBLE
from mtls_middleware.names.preparation import prepared

# Short names that a reader must know (RFC 4514 3), then others that IANA registers (RFC 4519, RFC 4520).
_SHORT_NAMES: Mapping[str, str] = {
    "CN": "2.5.4.3",
    "L": "2.5.4.7",
    "ST": "2.5.4.8",
    "O": "2.5.4.10",
    "OU": "2.5.4.11",
    "C": "2.5.4.6",
    "STREET": "2.5.4.9",
    "DC": "0.9.2342.19200300.100.1.25",
    "UID": "0.9.2342.19200300.100.1.1",
    "sn": "2.5.4.4",
    "serialNumber": "2.5.4.5",
    "title": "2.5.4.12",
    "description": "2.5.4.13",
    "businessCategory": "2.5.4.15",
    "postalCode": "2.5.4.17",
    "name": "2.5.4.41",
    "givenName": "2.5.4.42",
    "initials": "2.5.4.43",
    "generationQualifier": "2.5.4.44",
    "dnQualifier": "2.5.4.46",
    "emailAddress": "1.2.840.113549.1.9.1",
}
# Read, and never written: they are not registered, but people have them from OpenSSL and Java.
_OTHER_NAMES: Mapping[str, str] = {
    "E": "1.2.840.113549.1.9.1",
    "email": "1.2.840.113549.1.9.1",
    "GN": "2.5.4.42",
    "S": "2.5.4.8",
    "T": "2.5.4.12",
    "surname": "2.5.4.4",
    "pseudonym": "2.5.4.65",
    "organizationIdentifier": "2.5.4.97",
    "commonName": "2.5.4.3",
    "localityName": "2.5.4.7",
    "stateOrProvinceName": "2.5.4.8",
    "organizationName": "2.5.4.10",
    "organizationalUnitName": "2.5.4.11",
    "countryName": "2.5.4.6",
    "streetAddress": "2.5.4.9",
    "domainComponent": "0.9.2342.19200300.100.1.25",
    "userId": "0.9.2342.19200300.100.1.1",
}
_OID_OF = {name.lower(): oid for table in (_OTHER_NAMES, _SHORT_NAMES) for name, oid in table.items()}
_NAME_OF = {oid: name for name, oid in _SHORT_NAMES.items()}
_DOMAIN_COMPONENT = _SHORT_NAMES["DC"]

# X.680 string types by universal tag. TeletexString is read as Latin-1, as everybody does.
_ENCODINGS: Mapping[int, str] = {
    12: "utf-8",
    18: "ascii",
    19: "ascii",
    20: "latin-1",
    22: "ascii",
    26: "ascii",
    28: "utf-32-be",
    30: "utf-16-be",
}
_UTF8_STRING, _SEQUENCE, _SET, _OID = 12, 0x30, 0x31, 6


@dataclass(frozen=True)
class Attribute:
    """One type and value: the type as a dotted OID, the value by its ASN.1 tag and content."""

    oid: str
    tag: int
    content: bytes

    @cached_property
    def text(self) -> str | None:
        """The value as text, `None` where its type is not a string. Raises `ValueError` for broken octets."""
        encoding = _ENCODINGS.get(self.tag)
        return None if encoding is None else self.content.decode(encoding)

    @cached_property
    def comparable(self) -> str | tuple[int, bytes] | None:
        """What equal values have in common; `None` where the comparison is Undefined."""
        if self.text is None:
            return (self.tag, self.content)
        return prepared(self.text, domain=self.oid == _DOMAIN_COMPONENT)

    def __str__(self) -> str:
        name = _NAME_OF.get(self.oid)
        try:
            text = self.text
        except ValueError:
            text = None  # broken octets can be shown, and never match
        if name is None or text is None:  # RFC 4514 2.4
            return f"{self.oid}=#{_tlv(self.tag, self.content).hex()}"
        return f"{name}={_escaped(text)}"


@dataclass(frozen=True)
class DistinguishedName:
    """Relative distinguished names in the order of the text, the most specific first (the reverse of DER)."""

    rdns: tuple[tuple[Attribute, ...], ...]

    @cached_property
    def comparable(self) -> tuple[Mapping[str, str | tuple[int, bytes]], ...] | None:
        """One mapping of type to value for each RDN; `None` where nothing can equal this name."""
        rows = []
        for rdn in self.rdns:
            row = {each.oid: each.comparable for each in rdn}
            if len(row) < len(rdn):  # a type twice in one RDN is not allowed by X.501
                return None
            defined = {oid: value for oid, value in row.items() if value is not None}
            if len(defined) < len(row):
                return None
            rows.append(defined)
        return tuple(rows) or None  # the empty name identifies no client


def parse(text: str) -> DistinguishedName:
    """Read an RFC 4514 string by its grammar alone: no blank after a comma, no `;`, no quotes.

    Raises `ValueError` with the position, or if the string has more than 8,192 octets.
    Example: `parse("CN=billing,O=Acme\\\\, Inc")`
    """
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} is not a string, expected for example 'CN=billing,O=Acme'")
    _check_length(len(text.encode("utf-8", "surrogatepass")))
    return DistinguishedName(tuple(_rdns(text)))


def expected(text: str) -> DistinguishedName:
    """`parse` for a name that somebody is to be recognised by: it must be able to match, and match one subject.

    Raises `ValueError` for the empty name, control characters, and characters that never compare equal.
    """
    name = parse(text)
    if not name.rdns:
        raise ValueError("the empty name, which every certificate without a subject bears")
    if _has_controls(name):
        raise ValueError("a control character, which no certificate is accepted with")
    if name.comparable is None:
        raise ValueError("a character that RFC 4518 lets nothing be equal to (such as one newer than Unicode 3.2)")
    return name


def from_x509(name: x509.Name) -> DistinguishedName:
    """The name of a certificate. Raises `MalformedCertificate` where it holds NUL or another control character.

    RFC 4518 maps those to nothing, so that "Foo\\0bar" would equal "Foobar" (RFC 8705 7.5).
    """
    try:
        parsed = _from_der(name.public_bytes())
        unfit = _has_controls(parsed)
    except _TooLong as error:
        raise MalformedCertificate(str(error)) from error
    except ValueError as error:
        raise MalformedCertificate("a name with broken octets") from error
    if unfit:
        raise MalformedCertificate("a name with a control character")
    return parsed


def matches(one: DistinguishedName, other: DistinguishedName) -> bool:
    """distinguishedNameMatch (RFC 4517 4.2.15) with caseIgnoreMatch on strings. Undefined does not match."""
    return one.comparable is not None and one.comparable == other.comparable


def is_within(name: DistinguishedName, subtree: DistinguishedName) -> bool | None:
    """Whether `name` begins, from the root, with all of `subtree` (RFC 5280 4.2.1.10); `None` where it is Undefined."""
    if not subtree.rdns:
        return True
    whole, part = name.comparable, subtree.comparable
    if whole is None or part is None:
        return None
    return whole[-len(part) :] == part


def to_string(name: x509.Name) -> str:
    """The RFC 4514 text of a certificate's name; `parse` reads it back to an equal name. Raises `ValueError`."""
    return ",".join("+".join(map(str, rdn)) for rdn in _from_der(name.public_bytes()).rdns)


# RFC 4514 section 3, regular expressions in its words; a number has no leading zero (RFC 4512 1.4).
_TYPE = re.compile(r"([A-Za-z][A-Za-z0-9-]*|(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+)=")
_HEXSTRING = re.compile(r"#((?:[0-9A-Fa-f]{2})+)(?=[,+]|\Z)")
_PAIR = r'\\(?:[\\"+,;<> #=]|[0-9A-Fa-f]{2})'
_STRING = re.compile(
    rf'(?:(?:[^\0 #"+,;<>\\]|{_PAIR})(?:(?:[^\0"+,;<>\\]|{_PAIR})*(?:[^\0 "+,;<>\\]|{_PAIR}))?)?(?=[,+]|\Z)'
)
_UNPAIR = re.compile(rb"\\([0-9A-Fa-f]{2})|\\(.)", re.DOTALL)


def _rdns(text: str) -> Iterator[tuple[Attribute, ...]]:
    position = 0
    rdn: dict[str, Attribute] = {}
    while text:
        attribute, position = _attribute(text, position)
        if attribute.oid in rdn:
            raise ValueError(f"{attribute.oid} twice in one RDN, before position {position}")
        rdn[attribute.oid] = attribute
        if text[position : position + 1] != "+":
            yield tuple(rdn.values())
            rdn = {}
            if position == len(text):
                return
        position += 1


def _attribute(text: str, position: int) -> tuple[Attribute, int]:
    match = _TYPE.match(text, position)
    if match is None:
        raise ValueError(f"no attribute type at position {position}; RFC 4514 text, for example 'CN=billing,O=Acme'")
    oid = match[1] if match[1][0].isdigit() else _OID_OF.get(match[1].lower())
    if oid is None:
        raise ValueError(f"unknown attribute type {match[1]!r}: write its dotted OID")
    position = match.end()
    hexstring = _HEXSTRING.match(text, position)
    if hexstring is not None:
        value = bytes.fromhex(hexstring[1])
        tag, content, end = _read_tlv(value, 0)
        if end != len(value):
            raise ValueError(f"more than one BER value at position {position}")
        attribute = Attribute(oid, tag, content)
        _ = attribute.text  # broken octets come out here
        return attribute, hexstring.end()
    string = _STRING.match(text, position)
    if string is None:
        raise ValueError(f"no RFC 4514 value at position {position}: a blank or special character needs a backslash")
    octets = _UNPAIR.sub(lambda pair: bytes.fromhex(pair[1].decode()) if pair[1] else pair[2], string[0].encode())
    octets.decode("utf-8")
    return Attribute(oid, _UTF8_STRING, octets), string.end()


def _escaped(text: str) -> str:
    """RFC 4514 2.4. Invisible characters are written as hex pairs, too: a name must not change a log or a terminal."""
    out = [f"\\{char}" if char in '"+,;<>\\' else char for char in text]
    if out and out[0] in (" ", "#"):
        out[0] = "\\" + out[0]
    if len(out) > 1 and out[-1] == " ":
        out[-1] = "\\ "
    return INVISIBLE.sub(_hex_pairs, "".join(out))


def _hex_pairs(char: re.Match[str]) -> str:
    return "".join(f"\\{octet:02x}" for octet in char[0].encode())


def _control(char: str) -> bool:
    """C0, C1, and what turns the direction of writing: RFC 4518 drops them, so two names would look or be alike."""
    return char < " " or "\x7f" <= char < "\xa0" or char in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e"


def _has_controls(name: DistinguishedName) -> bool:
    return any(_control(char) for rdn in name.rdns for each in rdn for char in each.text or "")


# Octets of one name. Real names have a few hundred.
_LONGEST = 8_192
# Octets of one arc of an OBJECT IDENTIFIER. The longest in use are UUIDs of 128 bits (X.667), which take 19.
_LONGEST_ARC = 20


class _TooLong(ValueError):  # noqa: N818 (an outcome, handled at once)
    """A name with more octets than are read."""


def _check_length(octets: int) -> None:
    if octets > _LONGEST:
        raise _TooLong(f"a name of {octets} octets, expected at most {_LONGEST}, for example 'CN=billing,O=Acme'")


def _from_der(der: bytes) -> DistinguishedName:
    """X.501 Name: SEQUENCE OF SET OF SEQUENCE { type, value }."""
    _check_length(len(der))
    rdns = [
        tuple(
            Attribute(_dotted(oid[1]), value[0], value[1])
            for each in _values(rdn[1])
            for oid, value in [tuple(_values(each[1]))]
        )
        for rdn in _values(next(_values(der))[1])
    ]
    return DistinguishedName(tuple(reversed(rdns)))


def _values(der: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(der):
        tag, content, position = _read_tlv(der, position)
        yield tag, content


def _read_tlv(der: bytes, position: int) -> tuple[int, bytes, int]:
    """Tag, content and end of the value at `position` (X.690 8.1, definite lengths, single-octet tags)."""
    if len(der) < position + 2 or der[position] & 0x1F == 0x1F:
        raise ValueError("not a BER value")
    start, size = position + 2, der[position + 1]
    if size >= 0x80:
        octets = size & 0x7F
        size = int.from_bytes(der[start : start + octets], "big")
        if not 0 < octets <= 4 or start + octets > len(der):
            raise ValueError("not a BER value of definite length")
        start += octets
    if start + size > len(der):
        raise ValueError("a BER value that is cut short")
    return der[position], der[start : start + size], start + size


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 0x80 else bytes([0x80 | len(octets)]) + octets) + content


def _dotted(content: bytes) -> str:
    """The arcs of an OBJECT IDENTIFIER (X.690 8.19)."""
    numbers = []
    number = octets = 0
    for octet in content:
        number = number << 7 | octet & 0x7F
        octets += 1
        if octets > _LONGEST_ARC:
            raise ValueError(f"an OBJECT IDENTIFIER with an arc of more than {_LONGEST_ARC} octets")
        if octet < 0x80:
            numbers.append(number)
            number = octets = 0
    first = min(numbers[0] // 40, 2) if numbers else 0
    return ".".join(map(str, [first, *(numbers[:1] and [numbers[0] - 40 * first]), *numbers[1:]]))
