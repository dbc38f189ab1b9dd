"""Lists the exceptions that `cryptography` raises for a certificate or revocation list that it cannot read."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,  # raised before cryptography 50 for a string of an unknown ASN.1 type in a name
    OverflowError,
    # `cryptography` warns about some certificates that violate RFC 5280, for example with a negative serial number. A
    # warning is raised as an exception if the application turns warnings into errors.
    Warning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,  # raised for x400Address and ediPartyName
)
