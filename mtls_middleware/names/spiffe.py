"""SPIFFE IDs: their grammar (SPIFFE-ID section 2), and the ID of an X.509-SVID (X509-SVID sections 2 and 5.2).

Upper case in the scheme or the trust domain is rejected, not converted to lower case (SPIFFE-ID section 2.1).
"""

import re
from dataclasses import dataclass

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names.alternative import AlternativeNames

_ID = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)*)")
_MOST_OCTETS = 2048  # the maximum length of an ID (SPIFFE-ID section 2.3)


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """The two parts of a SPIFFE ID. `path` begins with a slash. It is empty for the ID of a trust domain."""

    trust_domain: str
    path: str


def check(text: str) -> SpiffeId:
    """Split a SPIFFE ID into its parts. Raises `ValueError` unless the whole string is a SPIFFE ID."""
    match = _ID.fullmatch(text)
    if match is None or len(text) > _MOST_OCTETS:
        raise ValueError("not a SPIFFE ID; expected a string such as 'spiffe://acme.internal/billing'")
    if {".", ".."} & set(match[2].split("/")):
        raise ValueError("a SPIFFE ID must not have the path segments '.' and '..'")
    return SpiffeId(match[1], match[2])


def spiffe_id(names: AlternativeNames) -> str | None:
    """Return the SPIFFE ID of a leaf certificate if its only URI is a SPIFFE ID with a path; otherwise `None`."""
    if len(names.uris) != 1:
        return None
    try:
        parsed = check(names.uris[0])
    except ValueError:
        return None
    return names.uris[0] if parsed.path else None


def readable_id(names: AlternativeNames) -> str | None:
    """Return the SPIFFE ID of a leaf certificate; `None` if no URI has the scheme `spiffe`.

    Raises `MalformedCertificate` if a URI has the scheme `spiffe`, but is not the only URI or not a SPIFFE ID with a
    path. Such a certificate is not an X509-SVID (X509-SVID 2), so its workload is unknown.
    """
    found = spiffe_id(names)
    if found is None and any(uri[:7].lower() == "spiffe:" for uri in names.uris):
        raise MalformedCertificate("a URI has the scheme spiffe: expected exactly one URI, a SPIFFE ID with a path")
    return found


def trust_domain(text: str) -> str:
    """Return the trust domain of a SPIFFE ID. Raises `ValueError` if `text` is not a SPIFFE ID.

    Example: `trust_domain("spiffe://acme.internal/billing")` is `"acme.internal"`.
    """
    return check(text).trust_domain
