"""Envoy's `x-forwarded-client-cert`: elements joined by `,`, each `Key=value` pairs joined by `;`.

Must never know: identities. Only `Cert` and `Chain` are taken out, and `Hash` must agree with them: Envoy writes `URI`
and `DNS` without quotes or escapes, so a client's certificate can put any text there.
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
# Inside quotes a backslash takes the next character along, whatever it is: DNs come with RFC 2253 escapes in pairs.
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_BARE = re.compile(r'[^",;]*+')
_HASH = re.compile(r"[0-9A-Fa-f]{64}")

_SINGLE = frozenset({"hash", "cert", "chain", "subject"})
_REPEATED = frozenset({"by", "uri", "dns"})
# A name in a certificate that holds one of these could pass for an element of its own.
_FORGED = re.compile(r"(?:\A|[,;])\s*(?:by|hash|cert|chain)\s*=", re.IGNORECASE)
_DELIMITERS = re.compile('[,;="]')

# Meshes have two or three hops.
_MAX_ELEMENTS = 32
# One for each name in a certificate, and few others; a certificate of 16 kB holds some thousand names.
_MAX_PAIRS = 8_192
# A certificate may hold thousands of names; each of those with a delimiter is looked for at each URI and DNS.
_MAX_AMBIGUOUS = 64


@dataclass(slots=True)
class _Element:
    values: dict[str, str] = field(default_factory=dict)
    leaf: bytes | None = None
    chain: tuple[bytes, ...] = ()
    _ambiguous: tuple[str, ...] | None = None

    def put(self, key: str, value: str, *, quoted: bool) -> None:
        """Take one pair in; `key` is in lower case."""
        if key in _SINGLE:
            if key in self.values:
                raise MalformedCertificate(f"{key} twice in one XFCC element")
            self.values[key] = value
        elif key in _REPEATED:
            if not value and key != "uri":  # Envoy writes an empty URI= for a certificate without one
                raise MalformedCertificate(f"empty {key} in XFCC")
            self.values.setdefault(key, value)
        if quoted and key not in ("cert", "chain") and _FORGED.search(value):
            # An open quote of a forged element would close inside the genuine one, and hide it as its own text.
            raise MalformedCertificate("a quoted value in XFCC that holds a pair of another element")
        if key == "subject" and not quoted:
            raise MalformedCertificate("Subject without quotes in XFCC")
        if key == "hash" and not _HASH.fullmatch(value):
            raise MalformedCertificate("Hash in XFCC is not 64 hex digits")
        if key == "cert":
            self._claim(pem_der(value), ())
        if key == "chain":
            leaf, *chain = pem_ders(value)  # Envoy's Chain begins with the leaf
            self._claim(leaf, tuple(chain))

    def _claim(self, leaf: bytes, chain: tuple[bytes, ...]) -> None:
        if self.leaf is not None and self.leaf != leaf:
            raise MalformedCertificate("Cert and Chain in XFCC name two certificates")
        self.leaf = leaf
        self.chain = chain or self.chain

    def finish(self) -> None:
        if not self.values:
            raise MalformedCertificate("XFCC element without a known key")
        claimed = self.values.get("hash")
        if claimed is not None and self.leaf is not None and hashlib.sha256(self.leaf).hexdigest() != claimed.lower():
            raise MalformedCertificate("Hash in XFCC belongs to another certificate")

    def ambiguous_names(self) -> tuple[str, ...]:
        """The leaf's names that Envoy copied without quotes and that hold a delimiter, longest first; read once."""
        if self._ambiguous is None and self.leaf is not None:
            leaf = ClientCertificate.from_der(self.leaf)
            names = {name for name in (*leaf.uris, *leaf.dns_names) if _DELIMITERS.search(name)}
            if len(names) > _MAX_AMBIGUOUS:
                raise MalformedCertificate(f"more than {_MAX_AMBIGUOUS} names with , ; = or a quote beside XFCC")
            self._ambiguous = tuple(sorted(names, key=len, reverse=True))
        return self._ambiguous or ()


def client_certificate(text: str, hops: int | None) -> tuple[bytes, tuple[bytes, ...]] | None:
    """Leaf and chain (DER) that the XFCC value names, or `None` where its element names no certificate.

    `hops`: the element so many before the last one; `None` demands that there is exactly one element.
    """
    elements = list(islice(_elements(text, known_names=hops is None), _MAX_ELEMENTS + 1))
    if len(elements) > _MAX_ELEMENTS:
        raise MalformedCertificate(f"more than {_MAX_ELEMENTS} XFCC elements")
    if hops is None and len(elements) != 1:
        raise MalformedCertificate(f"{len(elements)} XFCC elements, and no hops= is configured")
    if hops is not None:
        if len(elements) <= hops:
            raise MalformedCertificate(f"{len(elements)} XFCC elements, hops={hops} needs {hops + 1}")
        # Counting is only safe where no certificate among them can have written elements of its own.
        if any(element.ambiguous_names() for element in elements):
            raise MalformedCertificate("a name with , ; = or a quote makes the XFCC elements ambiguous")
    chosen = elements[-1 - (hops or 0)]
    return None if chosen.leaf is None else (chosen.leaf, chosen.chain)


def _elements(text: str, *, known_names: bool) -> Iterator[_Element]:
    element = _Element()
    position = 0
    for _ in range(_MAX_PAIRS):
        key = _KEY.match(text, position)
        if key is None:
            raise MalformedCertificate("XFCC is not a row of Key=value pairs")
        position = key.end()
        quoted = _QUOTED.match(text, position)
        name = _name_at(text, position, element) if known_names and key[1].lower() in ("uri", "dns") else None
        if name is not None:
            value, position = name, position + len(name)
        elif quoted is not None:
            value, position = quoted[1], quoted.end()
        else:
            bare = _BARE.match(text, position)
            value, position = (bare[0], bare.end()) if bare else ("", position)
        element.put(key[1].lower(), value, quoted=quoted is not None)
        if position == len(text):
            element.finish()
            yield element
            return
        if text[position] not in ",;":
            raise MalformedCertificate("a stray quote in XFCC")
        if text[position] == ",":
            element.finish()
            yield element
            element = _Element()
        position += 1
    raise MalformedCertificate(f"more than {_MAX_PAIRS} pairs in XFCC")


def _name_at(text: str, position: int, element: _Element) -> str | None:
    """A name of the element's own leaf that stands bare at `position` and holds delimiters, or `None`.

    Without this a SAN such as `urn:example:a,b` (capture d) would look like two elements. A name in which anything
    looks like a genuine pair is left to be cut, and so refused: it could hide the element that the proxy really wrote.
    """
    for name in element.ambiguous_names():
        end = position + len(name)
        if text.startswith(name, position) and text[end : end + 1] in ("", ",", ";") and not _FORGED.search(name):
            return name
    return None
