"""Attribute types of distinguished names: their registered names and their OIDs."""

import re
from collections.abc import Mapping

from mtls_middleware.errors import ConfigurationError

# Short names that every implementation must accept (RFC 4514 3), then other registered names (RFC 4519, RFC 4520).
SHORT_NAMES: Mapping[str, str] = {
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
# Names that are accepted in strings but never written. They are not registered, but programs print them.
_OTHER_NAMES: Mapping[str, str] = {
    # Short and long names of OpenSSL (crypto/objects/objects.txt).
    "commonName": "2.5.4.3",
    "surname": "2.5.4.4",
    "countryName": "2.5.4.6",
    "localityName": "2.5.4.7",
    "stateOrProvinceName": "2.5.4.8",
    "streetAddress": "2.5.4.9",
    "organizationName": "2.5.4.10",
    "organizationalUnitName": "2.5.4.11",
    "postalAddress": "2.5.4.16",
    "postOfficeBox": "2.5.4.18",
    "telephoneNumber": "2.5.4.20",
    "GN": "2.5.4.42",
    "x500UniqueIdentifier": "2.5.4.45",
    "houseIdentifier": "2.5.4.51",
    "dmdName": "2.5.4.54",
    "pseudonym": "2.5.4.65",
    "role": "2.5.4.72",
    "organizationIdentifier": "2.5.4.97",
    "c3": "2.5.4.98",
    "countryCode3c": "2.5.4.98",
    "n3": "2.5.4.99",
    "countryCode3n": "2.5.4.99",
    "dnsName": "2.5.4.100",
    "userId": "0.9.2342.19200300.100.1.1",
    "mail": "0.9.2342.19200300.100.1.3",
    "rfc822Mailbox": "0.9.2342.19200300.100.1.3",
    "domainComponent": "0.9.2342.19200300.100.1.25",
    "unstructuredName": "1.2.840.113549.1.9.2",
    "unstructuredAddress": "1.2.840.113549.1.9.8",
    "jurisdictionL": "1.3.6.1.4.1.311.60.2.1.1",
    "jurisdictionLocalityName": "1.3.6.1.4.1.311.60.2.1.1",
    "jurisdictionST": "1.3.6.1.4.1.311.60.2.1.2",
    "jurisdictionStateOrProvinceName": "1.3.6.1.4.1.311.60.2.1.2",
    "jurisdictionC": "1.3.6.1.4.1.311.60.2.1.3",
    "jurisdictionCountryName": "1.3.6.1.4.1.311.60.2.1.3",
    # Names of Java (X500Principal, keytool) and Bouncy Castle.
    "E": "1.2.840.113549.1.9.1",
    "email": "1.2.840.113549.1.9.1",
    "S": "2.5.4.8",
    "T": "2.5.4.12",
    "generation": "2.5.4.44",
    "DNQ": "2.5.4.46",
    "uniqueIdentifier": "2.5.4.45",
    # .NET and Windows (CertNameToStr).
    "G": "2.5.4.42",
    "I": "2.5.4.43",
    "POBox": "2.5.4.18",
    "Phone": "2.5.4.20",
    # The names of attribute types that the CA/Browser Forum defined. GnuTLS and the policies of banks use them.
    "jurisdictionOfIncorporationLocalityName": "1.3.6.1.4.1.311.60.2.1.1",
    "jurisdictionOfIncorporationStateOrProvinceName": "1.3.6.1.4.1.311.60.2.1.2",
    "jurisdictionOfIncorporationCountryName": "1.3.6.1.4.1.311.60.2.1.3",
}
_OID_OF = {name.lower(): oid for table in (_OTHER_NAMES, SHORT_NAMES) for name, oid in table.items()}
NAME_OF = {oid: name for name, oid in SHORT_NAMES.items()}

# Matches a dotted OID. A number has no leading zero (RFC 4512 1.4).
OID = r"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+"
_PREFIX = "OID."
_WHOLE_OID = re.compile(OID)


def oid_of(name: str) -> str | None:
    """Return the dotted OID of an attribute type, given its name in any case or its dotted OID; `None` if unknown.

    A dotted OID may have the prefix `OID.` (RFC 2253 section 4), as Java and .NET write it.

    Example: `oid_of("ou") == oid_of("2.5.4.11") == "2.5.4.11"`
    """
    dotted = name[len(_PREFIX) :] if name.upper().startswith(_PREFIX) else name
    return dotted if is_oid(dotted) else _OID_OF.get(name.lower())


def is_oid(text: str) -> bool:
    """Return whether `text` is a dotted OID. Example: `is_oid("2.5.4.11")`"""
    return _WHOLE_OID.fullmatch(text) is not None


def known_oid(name: object) -> str:
    """Return the dotted OID of an attribute type, like `oid_of`. Raises `ConfigurationError` for an unknown name.

    Example: `known_oid("organizationIdentifier")`
    """
    oid = oid_of(name) if isinstance(name, str) else None
    if oid is None:
        raise ConfigurationError(
            f"{name!r} is not a known attribute type; expected a name such as 'OU', or a dotted OID such as '2.5.4.11'"
        )
    return oid
