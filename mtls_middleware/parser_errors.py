"""The exceptions that `cryptography` raises for a certificate or revocation list that it cannot read."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,  # before cryptography 50: a string of an unknown ASN.1 type in a name
    OverflowError,
    # It warns about some certificates that violate RFC 5280, for example by a negative serial number. The warning is an
    # exception if the application turns warnings into errors.
    Warning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,  # x400Address, ediPartyName
)
