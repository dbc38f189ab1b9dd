"""Parses Envoy's `x-forwarded-client-cert` (XFCC): elements separated by `,`, with `Key=value` pairs separated by `;`.

Only `Cert` and `Chain` are used, and `Hash` must match them. Envoy writes `URI` and `DNS` without quotes or escapes, so
a name in a client's certificate can look like other pairs.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.sources.encoding import pem_der, pem_ders

_KEY = re.compile(r"([A-Za-z]{1,32})=")
# Inside quotes, a backslash escapes the next character, whichever it is. DNs contain the escapes of RFC 2253 as pairs
# of backslashes.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_BARE = re.compile(r'[^",;]*+')
_HASH = re.compile(r"[0-9A-Fa-f]{64}")
# Envoy writes the URIs of the proxy's own certificate first, as By= without quotes or escapes (envoyproxy/envoy#32945).
# A URI can contain delimiters: if no known pair follows a delimiter, the value ends before the next pair about the
# client's certificate.
_NEXT_PAIR = re.compile(r"[;,](?:By|Hash|Cert|Chain|Subject|URI|DNS)=|\Z", re.IGNORECASE)
_CLIENT_PAIR = re.compile(r';(?:Hash=[0-9A-F]{64}(?=[;,]|\Z)|(?:Cert|Chain|Subject)=")', re.IGNORECASE)

_SINGLE = frozenset({"hash", "cert", "chain", "subject"})
_REPEATED = frozenset({"by", "uri", "dns"})
# A name in a certificate that contains such a pair can look like another XFCC element.
_FORGED_PAIR = re.compile(r"(?:\A|[,;])\s*(?:by|hash|cert|chain)\s*=", re.IGNORECASE)
_DELIMITERS = re.compile('[,;="]')

# Maximum number of elements. Service meshes have two or three hops, with one element for each hop.
_MAX_ELEMENTS = 32
# Maximum number of pairs. There is one pair for each name in a certificate. A certificate of 16 kB has at most a few
# thousand names.
_MAX_PAIRS = 8_192
# Maximum number of names with a delimiter. Each of them is compared at each URI and DNS pair, so the cost is limited.
_MAX_AMBIGUOUS = 64


@dataclass(slots=True)
class _Element:
    values: dict[str, str] = field(default_factory=dict)
    leaf: bytes | None = None
    chain: tuple[bytes, ...] = ()
    _ambiguous: tuple[str, ...] | None = None
    _reason: tuple[str, ...] = ()  # the reasons why the names of the leaf cannot be read

    def add(self, key: str, value: str, *, quoted: bool) -> None:
        """Add one pair; `key` is in lower case. Raises `MalformedCertificate`."""
        if key in _SINGLE:
            if key in self.values:
                raise MalformedCertificate(f"{key} appears twice in one XFCC element")
            self.values[key] = value
        elif key in _REPEATED:
            # An empty URI= is allowed, because Envoy writes it for a certificate without a URI.
            if not value and key != "uri":
                raise MalformedCertificate(f"{key} is empty in XFCC")
            self.values.setdefault(key, value)
        if quoted and key not in ("cert", "chain") and _FORGED_PAIR.search(value):
            # A client's name can contain an opening quote, so that the element of the proxy is inside the quotes.
            raise MalformedCertificate("a quoted value in XFCC contains a pair such as Cert=")
        if key == "subject" and not quoted:
            raise MalformedCertificate("Subject in XFCC has no quotes")
        if key == "hash" and not _HASH.fullmatch(value):
            raise MalformedCertificate("Hash in XFCC does not have 64 hexadecimal digits")
        if key == "cert":
            self._set_certificate(pem_der(value), ())
        if key == "chain":
            leaf, *chain = pem_ders(value)  # the first certificate in Envoy's Chain is the leaf
            self._set_certificate(leaf, tuple(chain))

    def _set_certificate(self, leaf: bytes, chain: tuple[bytes, ...]) -> None:
        if self.leaf is not None and self.leaf != leaf:
            raise MalformedCertificate("Cert and Chain in XFCC have different leaf certificates")
        self.leaf = leaf
        self.chain = chain or self.chain

    def check(self) -> None:
        """Check the complete element. Raises `MalformedCertificate`."""
        if not self.values:
            raise MalformedCertificate("an XFCC element has no known key; expected a key such as Cert or Hash")
        digest = self.values.get("hash")
        if digest is not None and self.leaf is not None and hashlib.sha256(self.leaf).hexdigest() != digest.lower():
            raise MalformedCertificate("Hash in XFCC does not match the certificate")

    @property
    def has_unknown_names(self) -> bool:
        """Whether the element contains names from a certificate, but not the certificate."""
        return self.leaf is None and not self.values.keys().isdisjoint(("uri", "dns"))

    def ambiguous_names(self) -> tuple[str, ...]:
        """Return the URIs and DNS names of the leaf that contain a delimiter, the longest first.

        Envoy writes these names without quotes. If the names cannot be read, no name is returned, and a delimiter in a
        name ends its value. Raises `MalformedCertificate` if there are more than 64.
        """
        if self._ambiguous is None and self.leaf is not None:
            leaf = ClientCertificate.from_der(self.leaf)
            try:
                names = {name for name in (*leaf.uris, *leaf.dns_names) if _DELIMITERS.search(name)}
            except MalformedCertificate as error:
                names, self._reason = set(), error.evidence
            if len(names) > _MAX_AMBIGUOUS:
                raise MalformedCertificate(
                    f"more than {_MAX_AMBIGUOUS} names in the certificate contain , ; = or a quote"
                )
            self._ambiguous = tuple(sorted(names, key=len, reverse=True))
        return self._ambiguous or ()

    def require_no_ambiguous_name(self) -> None:
        """Raises `MalformedCertificate` if a name of the leaf has a delimiter, or cannot be read."""
        if self.ambiguous_names():
            raise MalformedCertificate("a name with , ; = or a quote makes the XFCC elements ambiguous")
        if self._reason:
            raise MalformedCertificate(*self._reason, "so the XFCC elements are ambiguous")


def client_certificate(text: str, hops: int | None) -> tuple[bytes, tuple[bytes, ...]] | None:
    """Return the leaf and the chain (DER) of one XFCC element, or `None` if it has neither `Cert` nor `Chain`.

    `hops`: the number of elements after the chosen element, or `None` if the field must have exactly one element.
    Raises `MalformedCertificate`.
    """
    elements = list(islice(_elements(text, known_names=hops is None), _MAX_ELEMENTS + 1))
    if len(elements) > _MAX_ELEMENTS:
        raise MalformedCertificate(f"the field has more than {_MAX_ELEMENTS} XFCC elements")
    if hops is None and len(elements) != 1:
        raise MalformedCertificate(
            f"the field has {len(elements)} XFCC elements; expected one, because hops= is not given"
        )
    if hops is not None:
        if len(elements) <= hops:
            raise MalformedCertificate(
                f"the field has {len(elements)} XFCC elements; hops={hops} needs at least {hops + 1}"
            )
        # A name that looks like an element would change the positions of the elements, so such names are rejected.
        for element in elements:
            element.require_no_ambiguous_name()
        # Without Cert, the names in an element cannot be checked: they could contain the beginning of a forged element.
        if any(element.has_unknown_names for element in elements[: -1 - hops]):
            raise MalformedCertificate(
                "an XFCC element before the chosen element has URI or DNS, but no Cert",
                advice="set `cert: true` in set_current_client_cert_details on every proxy that adds an element, or "
                "use SANITIZE_SET",
            )
    element = elements[-1 - (hops or 0)]
    return None if element.leaf is None else (element.leaf, element.chain)


def _elements(text: str, *, known_names: bool) -> Iterator[_Element]:
    element = _Element()
    position = 0
    last_client_pair = max((each.start() for each in _CLIENT_PAIR.finditer(text)), default=-1)
    for _ in range(_MAX_PAIRS):
        key = _KEY.match(text, position)
        if key is None:
            raise MalformedCertificate("XFCC does not consist of Key=value pairs")
        position = key.end()
        quoted = _QUOTED.match(text, position)
        name = _name_at(text, position, element) if known_names and key[1].lower() in ("uri", "dns") else None
        if name is not None:
            value, position = name, position + len(name)
        elif quoted is not None:
            value, position = quoted[1], quoted.end()
        else:
            is_own = key[1].lower() == "by" and element.values.keys() <= {"by"} and position < last_client_pair
            value = _bare_value(text, position, is_own=is_own)
            position += len(value)
        element.add(key[1].lower(), value, quoted=quoted is not None)
        if position == len(text):
            element.check()
            yield element
            return
        if text[position] not in ",;":
            raise MalformedCertificate("XFCC has an unexpected quote")
        if text[position] == ",":
            element.check()
            yield element
            element = _Element()
        position += 1
    raise MalformedCertificate(f"XFCC has more than {_MAX_PAIRS} pairs")


def _bare_value(text: str, position: int, *, is_own: bool) -> str:
    """Return the value without quotes at `position`.

    `is_own`: whether the value is a URI of the proxy's own certificate. This is a By that comes before all other keys
    of its element, if a pair about the client follows.
    """
    bare = _BARE.match(text, position)
    end = bare.end() if bare else position
    if is_own and not _NEXT_PAIR.match(text, end):
        following = _CLIENT_PAIR.search(text, end)
        end = following.start() if following else end
    return text[position:end]


def _name_at(text: str, position: int, element: _Element) -> str | None:
    """Return the name of the element's leaf that begins at `position` and contains delimiters, or `None`.

    If such names were not recognised, a SAN such as `urn:example:a,b` would look like two elements. A name that
    contains a pair such as `Cert=` is not returned, so that the field is rejected, because the name could imitate an
    element of the proxy.
    """
    for name in element.ambiguous_names():
        end = position + len(name)
        if text.startswith(name, position) and text[end : end + 1] in ("", ",", ";") and not _FORGED_PAIR.search(name):
            return name
    return None
