"""A PKI as plain data that is easy to change, and the certificates and CRLs that are made of it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

NOW = int(time.time())  # `openssl ocsp` has no option for another time
WRONG_KEY = 99
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
Extension = tuple[x509.ExtensionType, bool]


@cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def at(days: float) -> datetime:
    return datetime.fromtimestamp(NOW, UTC) + timedelta(days=days)


@dataclass
class Draft:
    """A certificate. `issuer`: the CA that issues it; `None` for a root. Days are from now."""

    subject: str
    key: int
    serial: int
    issuer: "Draft | None" = None
    signer: int | None = None
    begins: float = -10
    ends: float = 10
    ca: bool | None = True
    path_length: int | None = None
    usage: tuple[str, ...] | None = ("key_cert_sign", "crl_sign")
    purposes: list[x509.ObjectIdentifier] | None = None
    has_subject_key: bool = True
    has_authority_key: bool = True
    more: list[Extension] = field(default_factory=list)

    def is_like(self, other: "Draft") -> bool:
        """Return whether both are certificates of one CA: they have the same name and the same key."""
        return (self.subject, self.key) == (other.subject, other.key)

    def build(self) -> x509.Certificate:
        above = self if self.issuer is None else self.issuer
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(self.subject))
            .issuer_name(x509.Name.from_rfc4514_string(above.subject))
            .public_key(key(self.key).public_key())
            .serial_number(self.serial)
            .not_valid_before(at(min(self.begins, self.ends - 1)))
            .not_valid_after(at(self.ends))
        )
        for extension, critical in self._extensions(above):
            builder = builder.add_extension(extension, critical)
        return builder.sign(key(above.key if self.signer is None else self.signer), hashes.SHA256())

    def _extensions(self, above: "Draft") -> list[Extension]:
        found: list[Extension] = []
        if self.ca is not None:
            found.append((x509.BasicConstraints(self.ca, self.path_length if self.ca else None), True))
        if self.has_subject_key:
            found.append((x509.SubjectKeyIdentifier.from_public_key(key(self.key).public_key()), False))
        if self.has_authority_key:
            found.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(key(above.key).public_key()), False))
        if self.usage is not None:
            found.append((x509.KeyUsage(**{each: each in self.usage for each in _USAGES}), True))
        if self.purposes is not None:
            found.append((x509.ExtendedKeyUsage(self.purposes), False))
        return [*found, *self.more]


@dataclass
class ListDraft:
    """A CRL of `issuer`. `revoked`: serial numbers. Days are from now."""

    issuer: Draft
    revoked: set[int] = field(default_factory=set)
    signer: int | None = None
    begins: float = -1
    ends: float = 1
    number: int | None = 5
    name: str | None = None
    more: list[Extension] = field(default_factory=list)
    entries: list[Extension] = field(default_factory=list)

    def build(self) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(x509.Name.from_rfc4514_string(self.name or self.issuer.subject))
            .last_update(at(min(self.begins, self.ends - 0.1)))
            .next_update(at(self.ends))
        )
        # RFC 5280 5.2.1 requires it, and OpenSSL needs it to find the list of one of two CAs with the same name.
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key(self.issuer.key).public_key())
        builder = builder.add_extension(identifier, critical=False)
        if self.number is not None:
            builder = builder.add_extension(x509.CRLNumber(self.number), critical=False)
        for extension, critical in self.more:
            builder = builder.add_extension(extension, critical)
        for serial in sorted(self.revoked):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at(-2))
            for extension, critical in self.entries:
                entry = entry.add_extension(extension, critical)
            builder = builder.add_revoked_certificate(entry.build())
        signer = key(self.issuer.key if self.signer is None else self.signer)
        return builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass
class PKI:
    """Roots, CAs between roots and leaves, leaves and lists. `changes`: the names of the changes to a sound PKI.

    `leaf_changes`: the same for each leaf.
    """

    roots: list[Draft]
    between: list[Draft]
    leaves: list[Draft]
    lists: list[ListDraft]
    changes: list[str] = field(default_factory=list)
    leaf_changes: list[list[str]] = field(default_factory=list)

    @property
    def authorities(self) -> Sequence[Draft]:
        return [*self.roots, *self.between]
