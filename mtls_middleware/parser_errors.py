"""Lists the exceptions that `cryptography` raises for unreadable certificates and CRLs, and finds the reasons."""

import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,  # releases before cryptography 50 raise it for a string of an unknown ASN.1 type in a name
    OverflowError,
    # `cryptography` warns about some certificates that violate RFC 5280, for example with a negative serial number. A
    # warning is raised as an exception if the application turns warnings into errors.
    Warning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,  # raised for x400Address and ediPartyName
)

# Maximum number of characters that a log line quotes of a parser's reason.
_LONGEST = 300
# Matches the repr of a `bytes` object. `ipaddress` quotes octets that a client chose.
_OCTETS = re.compile(r"b'.*'|b\".*\"", re.DOTALL)
_PREFIX = "error parsing asn1 value: "


def reason(error: BaseException) -> str:
    """Return the parser's own reason for the log, with visible ASCII characters and without octets of the certificate.

    Example: `reason(ValueError("invalid length"))` is `"invalid length"`
    """
    evidence = getattr(error, "evidence", ())  # `MalformedCertificate` stores the parser's reason in this attribute
    text = "; ".join(evidence) or str(error).removeprefix(_PREFIX) or type(error).__name__
    return _OCTETS.sub("(octets)", text).encode("unicode_escape").decode("ascii")[:_LONGEST]
