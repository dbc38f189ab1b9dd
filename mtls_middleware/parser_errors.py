"""How `cryptography` says that it cannot read a certificate, a revocation list, or a part of one."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,  # before cryptography 50: a string of an unknown ASN.1 type in a name
    OverflowError,
    # It warns of some certificates that break RFC 5280, such as those with a negative serial number. Where warnings are
    # errors, it cannot read them.
    Warning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,  # x400Address, ediPartyName
)
