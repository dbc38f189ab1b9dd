"""`ClientCertificate`: an immutable client certificate. Its names are parsed when they are first read."""

import base64
import enum
import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.names import alternative, distinguished, spiffe
from mtls_middleware.parser_errors import UNREADABLE

T = TypeVar("T")

# Size in bytes of a usual certificate, with an RSA key of 4096 bits and a few names.
_USUAL_DER = 2_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# `cryptography` warns about each attribute of a name that is too short or too long, and gives this package as the
# source of the warning. A client can cause hundreds of warnings (335 with 83 kB), so they must not reach the log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"mtls_middleware\.")


class Verification(enum.Enum):
    """Who verified the certificate's chain.

    `PRESENTED` means that the chain is not verified. The client has only proved possession of the private key.
    """

    PRESENTED = "presented"
    BY_PROXY = "by proxy"
    BY_SERVER = "by server"
    BY_TRUST_STORE = "by trust store"


def _readable(read: Callable[[Any], T]) -> cached_property[T]:
    """Convert `read` to a cached property that raises `MalformedCertificate` for any parser error.

    Errors can occur late, because `cryptography` parses a certificate lazily.
    """

    def checked(self: "ClientCertificate") -> T:
        try:
            return read(self)
        except UNREADABLE as error:
            raise MalformedCertificate(f"{read.__name__} of the certificate cannot be read") from error

    checked.__doc__ = read.__doc__
    return cached_property(checked)


@dataclass(frozen=True, eq=False, repr=False)
class ClientCertificate:
    """An immutable TLS client certificate. Two certificates are equal if their DER is equal.

    Attributes:
        der: the DER bytes of the certificate as received, never encoded again.
        chain: the other certificates that the client presented, as DER, in order, without the leaf. They are not
            validated.
        verification: who verified the chain.
        digest: the SHA-256 digest of `der`, 32 bytes.
        thumbprint: the digest in unpadded base64url, which is the `x5t#S256` value (RFC 8705 3.1).
        path: the certification path that a trust store validated, as DER, from this certificate to the root; empty if
            no trust store validated a path.
        path_period: the validity period of this path, in seconds since the epoch; `None` if there is no path.

    A property raises `MalformedCertificate` if its part of the certificate cannot be read.

    Example: `ClientCertificate.from_pem(text).thumbprint`
    """

    der: bytes
    chain: tuple[bytes, ...] = ()
    verification: Verification = Verification.PRESENTED
    digest: bytes = b""
    thumbprint: str = ""
    path_period: tuple[float, float] | None = None
    path: tuple[bytes, ...] = ()

    @classmethod
    def from_der(
        cls, der: bytes, *, chain: tuple[bytes, ...] = (), verification: Verification = Verification.PRESENTED
    ) -> Self:
        """Load one certificate. Raises `MalformedCertificate` unless `der` is exactly one certificate."""
        try:
            x509.load_der_x509_certificate(der)
        except UNREADABLE as error:
            raise MalformedCertificate("invalid DER; expected exactly one certificate") from error
        digest = hashlib.sha256(der).digest()
        thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        return cls(der, chain, verification, digest, thumbprint)

    def with_verification(
        self,
        verification: Verification,
        path_period: tuple[float, float] | None = None,
        path: tuple[bytes, ...] = (),
    ) -> Self:
        """Return a copy with another `verification`, `path_period` and `path`."""
        return type(self)(self.der, self.chain, verification, self.digest, self.thumbprint, path_period, path)

    @classmethod
    def from_pem(cls, pem: str | bytes, *, verification: Verification = Verification.PRESENTED) -> Self:
        """Load the leaf, and then its chain, from PEM. Other text around the PEM blocks is allowed.

        Use this method for files and tests. Certificates in requests are read by stricter rules: see
        `mtls_middleware.sources`. Raises `MalformedCertificate`.
        """
        text = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
        try:
            leaf, *chain = (each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(text))
        except UNREADABLE as error:
            raise MalformedCertificate("invalid PEM; expected one or more certificates") from error
        return cls.from_der(leaf, chain=tuple(chain), verification=verification)

    @property
    def identity(self) -> tuple[object, ...]:
        """All values of this object, as a cache key. Unlike `==`, this includes the verification."""
        return self.der, self.chain, self.verification, self.path_period, self.path

    @property
    def cost(self) -> int:
        """The bytes of memory by which this certificate exceeds a certificate of usual size.

        The memory includes the parsed names. In a certificate with very many names, they need about fifty times as much
        memory as their DER.
        """
        return 50 * max(0, len(self.der) - _USUAL_DER)

    @property
    def verified(self) -> bool:
        """Whether the chain is verified, that is, whether `verification` is not `PRESENTED`."""
        return self.verification is not Verification.PRESENTED

    @property
    def x509(self) -> x509.Certificate:
        """The certificate as an object of `cryptography`, which gives access to all its parts.

        Each access parses the DER again. The object is not cached, because it needs several times as much memory as
        the DER once its extensions are read.
        """
        return x509.load_der_x509_certificate(self.der)

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
        """The subject in the form that rules compare."""
        return distinguished.from_x509(self.x509.subject)

    @_readable
    def issuer_name(self) -> distinguished.DistinguishedName:
        """The issuer in the form that rules compare."""
        return distinguished.from_x509(self.x509.issuer)

    @_readable
    def serial_number(self) -> int:
        return self.x509.serial_number

    @property
    def not_valid_before(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.validity_period[0])

    @property
    def not_valid_after(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.validity_period[1])

    @_readable
    def validity_period(self) -> tuple[float, float]:
        """The dates notBefore and notAfter (RFC 5280 4.1.2.5), in seconds since the epoch."""
        loaded = self.x509
        return loaded.not_valid_before_utc.timestamp(), loaded.not_valid_after_utc.timestamp()

    @property
    def period(self) -> tuple[float, float]:
        """The time in which the certificate and its validated path are both valid, in seconds since the epoch."""
        begins, ends = self.validity_period
        if self.path_period is None:
            return begins, ends
        # The leaf's own period is included, because a trust store may give only the period of the CAs.
        return max(begins, self.path_period[0]), min(ends, self.path_period[1])

    @_readable
    def is_authority(self) -> bool:
        """Whether the basic constraints mark this certificate as a CA certificate (RFC 5280 4.2.1.9)."""
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
        """The certificate's only URI, if it is a SPIFFE ID (X509-SVID 2). `None` for any other certificate."""
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
