"""`ClientCertificate`: one client certificate, loaded and hashed at once, the rest on demand.

Must never know: where it came from. Who vouches for it is its `verification`, and nobody upgrades that in place.
"""

import base64
import enum
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names import alternative, distinguished, spiffe
from mtls_middleware.parser_errors import UNREADABLE

T = TypeVar("T")

# Bytes of a certificate with an RSA key of 4096 bits and a few names.
_USUAL_DER = 2_000

# `cryptography` warns of each attribute of a name that is too short or too long, as if the warning came from the module
# that reads the name. A client chooses how many there are (335 in 83 kB), so they must not reach the log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"mtls_middleware\.")


class Verification(enum.Enum):
    """Who checked the certificate's chain. Attached is not verified: `PRESENTED` proves possession of a key."""

    PRESENTED = "presented"
    BY_PROXY = "by proxy"
    BY_SERVER = "by server"
    BY_TRUST_STORE = "by trust store"


def _readable(read: Callable[[Any], T]) -> cached_property[T]:
    """A property read once, whose every failure is `MalformedCertificate`: X.509 is parsed lazily, so late."""

    def checked(self: "ClientCertificate") -> T:
        try:
            return read(self)
        except UNREADABLE as error:
            raise MalformedCertificate(f"{read.__name__} of the certificate cannot be read") from error

    checked.__doc__ = read.__doc__
    return cached_property(checked)


@dataclass(frozen=True, eq=False, repr=False)
class ClientCertificate:
    """A TLS client certificate as presented, immutable. Equality and hash are those of its DER (RFC 5280 4.1).

    Attributes:
        x509: the `cryptography` object, for what this class has no name for.
        der: the bytes as received, never re-encoded.
        chain: what was presented with it, DER, in order, without the leaf. Not validated.
        verification: who vouches for the chain.
        digest: SHA-256 over `der`, 32 octets.
        thumbprint: the same as base64url, unpadded: the `x5t#S256` value (RFC 8705 3.1).
        path_period: between which times the whole path that a trust store validated is valid; `None` without a path.

    Properties that read names raise `MalformedCertificate` where the certificate holds what cannot be a name.

    Example: `ClientCertificate.from_pem(text).thumbprint`
    """

    x509: x509.Certificate
    der: bytes
    chain: tuple[bytes, ...] = ()
    verification: Verification = Verification.PRESENTED
    digest: bytes = b""
    thumbprint: str = ""
    path_period: tuple[float, float] | None = None

    @classmethod
    def from_der(
        cls, der: bytes, *, chain: tuple[bytes, ...] = (), verification: Verification = Verification.PRESENTED
    ) -> Self:
        """Load one certificate. Raises `MalformedCertificate` unless `der` is exactly one certificate, no byte more."""
        try:
            loaded = x509.load_der_x509_certificate(der)
        except UNREADABLE as error:
            raise MalformedCertificate("not one DER certificate") from error
        digest = hashlib.sha256(der).digest()
        thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        return cls(loaded, der, chain, verification, digest, thumbprint)

    def vouched_for(self, verification: Verification, path_period: tuple[float, float] | None = None) -> Self:
        """The same certificate with another verification: a new object, of which nothing is read or hashed again."""
        return type(self)(self.x509, self.der, self.chain, verification, self.digest, self.thumbprint, path_period)

    @classmethod
    def from_pem(cls, pem: str | bytes, *, verification: Verification = Verification.PRESENTED) -> Self:
        """Load PEM text: the leaf first, further certificates become `chain`. Text around the blocks is allowed.

        For files and tests; what arrives in a request is read by the stricter rules of `mtls_middleware.sources`.
        Raises `MalformedCertificate`.
        """
        text = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
        try:
            leaf, *chain = (each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(text))
        except UNREADABLE as error:
            raise MalformedCertificate("no PEM certificate") from error
        return cls.from_der(leaf, chain=tuple(chain), verification=verification)

    @property
    def identity(self) -> tuple[object, ...]:
        """Everything that this object was made of. Objects with equal identities are the same in every respect."""
        return self.der, self.chain, self.verification, self.path_period

    @property
    def cost(self) -> int:
        """Bytes that it needs in memory beyond a certificate of usual size, once an application has read its names.

        Names that were made to be many need about fifty times as much memory as their DER.
        """
        return 50 * max(0, len(self.der) - _USUAL_DER)

    @property
    def verified(self) -> bool:
        """Whether somebody vouches for the chain: `verification` is stronger than `PRESENTED`."""
        return self.verification is not Verification.PRESENTED

    @_readable
    def pem(self) -> str:
        return self.x509.public_bytes(Encoding.PEM).decode("ascii")

    @_readable
    def subject(self) -> str:
        return distinguished.to_string(self.x509.subject)

    @_readable
    def issuer(self) -> str:
        return distinguished.to_string(self.x509.issuer)

    @_readable
    def subject_name(self) -> distinguished.DistinguishedName:
        """The subject as rules compare it."""
        return distinguished.from_x509(self.x509.subject)

    @_readable
    def issuer_name(self) -> distinguished.DistinguishedName:
        """The issuer as rules compare it."""
        return distinguished.from_x509(self.x509.issuer)

    @_readable
    def serial_number(self) -> int:
        return self.x509.serial_number

    @_readable
    def not_valid_before(self) -> datetime:
        return self.x509.not_valid_before_utc

    @_readable
    def not_valid_after(self) -> datetime:
        return self.x509.not_valid_after_utc

    @_readable
    def period(self) -> tuple[float, float]:
        """The first and the last second since the epoch at which the certificate, and its validated path, are valid."""
        begins, ends = self.not_valid_before.timestamp(), self.not_valid_after.timestamp()
        if self.path_period is None:
            return begins, ends
        return max(begins, self.path_period[0]), min(ends, self.path_period[1])  # a trust store may name the CAs alone

    @_readable
    def is_authority(self) -> bool:
        """Whether it may issue others (RFC 5280 4.2.1.9): so a CA says of itself, and no leaf does."""
        try:
            return self.x509.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            return False

    @_readable
    def alternative_names(self) -> alternative.AlternativeNames:
        return alternative.read(self.x509)

    @property
    def dns_names(self) -> tuple[str, ...]:
        return self.alternative_names.dns

    @property
    def uris(self) -> tuple[str, ...]:
        return self.alternative_names.uris

    @property
    def ip_addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        return self.alternative_names.ip_addresses

    @property
    def email_addresses(self) -> tuple[str, ...]:
        return self.alternative_names.emails

    @_readable
    def spiffe_id(self) -> str | None:
        """The SPIFFE ID where exactly one URI is there and is one (X509-SVID 2), else `None`."""
        return spiffe.spiffe_id(self.alternative_names)

    def __eq__(self, other: object) -> bool:
        return self.der == other.der if isinstance(other, ClientCertificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        try:
            subject = self.subject
        except MalformedCertificate:
            subject = "(unreadable)"
        return f"<ClientCertificate {subject!a} {self.thumbprint} {self.verification.name}>"
