"""Parses strings of distinguished names: the grammar of RFC 4514 section 3, with the blanks of RFC 2253 section 4.

Pure. All work is linear in the length of the string.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from mtls_middleware.der import read_value
from mtls_middleware.names.attribute_types import OID, oid_of

# The encodings of the X.680 string types, by universal tag. `cryptography` rejects a TeletexString (20) with octets
# above 127, because they may be T.61 or Latin-1.
ENCODINGS = {
    12: "utf-8",
    18: "ascii",
    19: "ascii",
    20: "ascii",
    22: "ascii",
    26: "ascii",
    28: "utf-32-be",
    30: "utf-16-be",
}
UTF8_STRING = 12

_TYPE = re.compile(rf"([A-Za-z][A-Za-z0-9-]*|(?:[Oo][Ii][Dd]\.)?{OID}) *= *")
_END = r"(?: *(?=[,+])|\Z)"
_HEXSTRING = re.compile(rf"#((?:[0-9A-Fa-f]{{2}})+){_END}")
_PAIR = r'\\(?:[\\"+,;<> #=]|[0-9A-Fa-f]{2})'
_STRING = re.compile(
    rf'((?:(?:[^\0 #"+,;<>\\]|{_PAIR})(?:(?:[^\0"+,;<>\\]|{_PAIR})*(?:[^\0 "+,;<>\\]|{_PAIR}))?)?){_END}'
)
_UNPAIR = re.compile(rb"\\([0-9A-Fa-f]{2})|\\(.)", re.DOTALL)
_BLANKS = re.compile(" *")


class Value(NamedTuple):
    """One attribute: its type as a dotted OID, and its value as an ASN.1 tag and content octets."""

    oid: str
    tag: int
    content: bytes


def parse_rdns(text: str) -> Iterator[tuple[Value, ...]]:
    """Yield the attributes of each RDN, in the order of the string. Raises `ValueError` with the position.

    Example: `list(parse_rdns("CN=a, O=b"))`
    """
    position = 0
    rdn: dict[str, Value] = {}
    while text:
        value, position = _parse_attribute(text, position)
        if value.oid in rdn:
            raise ValueError(f"attribute type {value.oid} occurs twice in one RDN, before position {position}")
        rdn[value.oid] = value
        if text[position : position + 1] != "+":
            yield tuple(rdn.values())
            rdn = {}
            if position == len(text):
                return
        found = _BLANKS.match(text, position + 1)
        position = position + 1 if found is None else found.end()


def _parse_attribute(text: str, position: int) -> tuple[Value, int]:
    match = _TYPE.match(text, position)
    if match is None:
        within = "" if position == 0 else ", and a comma in a value as '\\,'"
        raise ValueError(
            f"no attribute type at position {position}; expected a name such as 'CN=billing,O=Acme'{within}"
        )
    oid = oid_of(match[1])
    if oid is None:
        raise ValueError(
            f"unknown attribute type {match[1]!r} at position {position}: write its dotted OID, for example "
            "'2.5.4.3=billing'"
        )
    position = match.end()
    hexstring = _HEXSTRING.match(text, position)
    if hexstring is not None:
        octets = bytes.fromhex(hexstring[1])
        tag, content, end = read_value(octets, 0)
        if end != len(octets):
            raise ValueError(f"the string has more than one BER value at position {position}")
        content.decode(ENCODINGS.get(tag, "latin-1"))  # this call raises ValueError for octets that cannot be decoded
        return Value(oid, tag, content), hexstring.end()
    string = _STRING.match(text, position)
    if string is None:
        raise ValueError(f"invalid value at position {position}: escape special characters and outer spaces with '\\'")
    octets = _UNPAIR.sub(lambda pair: bytes.fromhex(pair[1].decode()) if pair[1] else pair[2], string[1].encode())
    octets.decode("utf-8")
    return Value(oid, UTF8_STRING, octets), string.end()


# The forms that are rejected, and how to write the name instead. The message names the first form that matches.
_FORMS = (
    (
        re.compile(r"\s*(?:subject|issuer|owner)(?: DN| name)?\s*[=:]", re.IGNORECASE),
        "it begins with the label that `openssl x509 -subject` or keytool prints: remove the label",
    ),
    (
        re.compile(r"\s*/[^/=]+="),
        "it has the form '/C=.../CN=...' of old OpenSSL releases (`-nameopt compat`), which is ambiguous because "
        "it does not escape '/': write the most specific attribute first and separate by ',', for example "
        "'CN=billing,O=Acme,C=GB', as `openssl x509 -in certificate.pem -noout -subject -nameopt RFC2253` prints it",
    ),
    (
        re.compile(r"[^\r\n]*[\r\n]"),
        "it has several lines, as `openssl x509 -nameopt multiline` and certutil print it: write it in one line, "
        "separated by ',', the most specific attribute first",
    ),
    (
        re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL),
        "it has values in quotes, as OpenSSL, Java and .NET print them: remove the quotes, and write a backslash "
        "before each ',', '+', ';', '<', '>' and quote of the value, for example 'O=Acme\\\\, Inc'",
    ),
    (
        re.compile(r"(?:[^;\\]|\\.)*;", re.DOTALL),
        "it has ';', which separates attributes in RFC 1779 and .NET: write ',' to separate, or '\\\\;' in a value",
    ),
    (
        re.compile(r"[^=]*\Z|[^=,]*,"),
        "it is not a list of TYPE=value: write for example 'CN=billing,O=Acme'",
    ),
)
_INSPECT = "`mtls-middleware inspect certificate.pem` prints the names of a certificate in the right form"


def advice(text: str) -> str:
    """Return the form of a rejected string, if the form is known, and how to get the right form.

    Example: `advice("/C=GB/CN=billing")`
    """
    form = next((advice for pattern, advice in _FORMS if pattern.match(text)), None)
    return _INSPECT if form is None else f"{form}; {_INSPECT}"
