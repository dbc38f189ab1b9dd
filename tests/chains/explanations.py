"""The differences from OpenSSL that are known. docs/validation.md explains each of them."""

from collections.abc import Mapping

# Patterns of the reasons for which only this library rejects a chain, and the explanation. The first match counts.
STRICTER: Mapping[str, str] = {
    "a delta CRL|an indirect CRL|for some reasons only|attribute certificates": "a kind of list that is not supported",
    r"\.crl: an entry with a critical extension": "a kind of list that is not supported",
    r"\.crl: a critical extension": "a list with an unknown critical extension, even if another list is valid",
    r"\.crl: no cRLNumber": "a list without cRLNumber",
    "none.crl": "no list at all",
    "a CA certificate cannot be a client certificate|keyUsage of a CA": "a leaf that is a CA",
    "keyUsage without digitalSignature": "a leaf whose key usage is not for signatures",
    "extendedKeyUsage (without|lacks) clientAuth": "extended key usage without clientAuth",
    "name constraints in a certificate that is not a CA": "name constraints in a leaf",
    "name constraints? matched SAN": "name constraints in a leaf",  # `cryptography` compares its own names with them
    "(no|without) authorityKeyIdentifier|without subjectKeyIdentifier": "no key identifier",
    "critical extension that is not supported|unaccounted-for critical": "a critical extension that is not processed",
    "(Constraints|AnyPolicy), which is not supported": "policyConstraints or inhibitAnyPolicy",
    "policyMappings of anyPolicy": "a mapping of anyPolicy",
    "unsupported directoryName": "a critical constraint on directory names",
    "is not a CA|has no basicConstraints": "a CA without basicConstraints",
    "is revoked": "on one list of several, or on a list outside of its scope, or as removeFromCRL",
    "no revocation list of its issuer covers": "a list by another key of the issuer, or no list for the path found",
    "the revocation list for serial .* has expired": "the newest list has expired, and an older one has not",
    "signature does not match|no interior errors": "a reason above, in a CA with the name of another CA",
    "path length constraint violated|exceeds max depth": "a self-issued CA that counts for the path length",
    "unsupported type|unsupported name constraint": "a constraint on URIs",
}
ABOUT_LISTS = frozenset({"unable to get certificate CRL", "different CRL scope"})
ROOT_IS_CHECKED = "OpenSSL also checks the root by its own list"
PLACE_FOR_SOME_REASONS = "a list without scope, for a certificate whose distribution point is for some reasons only"
OTHER_PATH = "OpenSSL tries another path or list"
ANY_PURPOSE = "a CA for any purpose"
HIGHER_NUMBER = "two lists with the same thisUpdate, of which the one with the higher cRLNumber counts"
