"""SPIFFE IDs: the grammar of SPIFFE-ID section 2, and the one ID of an X.509-SVID (sections 2 and 5.2).

Must never know: trust bundles. Upper case is refused rather than folded: section 2.1 forbids it in an ID.
"""

import re
from dataclasses import dataclass

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names.alternative import AlternativeNames

_ID = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)*)")
_MOST_OCTETS = 2048  # SPIFFE-ID 2.3


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """The two parts of an ID; `path` is empty for a trust domain, else begins with a slash."""

    trust_domain: str
    path: str


def check(text: str) -> SpiffeId:
    """The parts of `text`. Raises `ValueError` unless it is a SPIFFE ID, character by character."""
    match = _ID.fullmatch(text)
    if match is None or len(text) > _MOST_OCTETS:
        raise ValueError("no SPIFFE ID; for example 'spiffe://acme.internal/billing'")
    if {".", ".."} & set(match[2].split("/")):
        raise ValueError("a SPIFFE ID with a dot segment")
    return SpiffeId(match[1], match[2])


def spiffe_id(names: AlternativeNames) -> str | None:
    """The ID of a leaf: it has exactly one URI, and that is a SPIFFE ID with a path; else `None`."""
    if len(names.uris) != 1:
        return None
    try:
        parsed = check(names.uris[0])
    except ValueError:
        return None
    return names.uris[0] if parsed.path else None


def readable_id(names: AlternativeNames) -> str | None:
    """The same ID, `None` without a URI of that scheme. Raises `MalformedCertificate` if it is not exactly one ID.

    Such a certificate is not an X509-SVID (X509-SVID 2), so its workload is unknown.
    """
    found = spiffe_id(names)
    if found is None and any(uri[:7].lower() == "spiffe:" for uri in names.uris):
        raise MalformedCertificate("a URI with the scheme spiffe, and not exactly one SPIFFE ID")
    return found


def trust_domain(text: str) -> str:
    """The trust domain of an ID. Raises `ValueError`. Example: `trust_domain("spiffe://acme.internal/billing")`"""
    return check(text).trust_domain
