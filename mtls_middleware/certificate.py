"""`ClientCertificate`: an immutable client certificate. Its names are parsed when they are first read."""

import base64
import enum
import hashlib
import ssl
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware import names, openssl_reader
from mtls_middleware.errors import MalformedCertificate
from mtls_middleware.parser_errors import UNREADABLE, reason

if TYPE_CHECKING:
    from mtls_middleware.names.alternative import AlternativeNames
    from mtls_middleware.names.distinguished import DistinguishedName

T = TypeVar("T")
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# `cryptography` issues a Python warning for each attribute of a name that is too short or too long, as if this package
# had issued it. A client can cause hundreds of warnings (335 with 83 kB), so they must not reach the log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"mtls_middleware\.")


class Verification(enum.Enum):
    """Who verified the certificate's chain.

    Attributes:
        PRESENTED: the chain is not verified. The client has only proved possession of the private key.
        BY_PROXY: the trusted proxy verified it.
        BY_SERVER: the server that ends TLS verified it.
        BY_TRUST_STORE: a `TrustStore` of this process verified it.

    Example: `certificate.verification is Verification.BY_PROXY`
    """

    PRESENTED = "presented"
    BY_PROXY = "by proxy"
    BY_SERVER = "by server"
    BY_TRUST_STORE = "by trust store"


def _readable(read: Callable[[Any], T]) -> cached_property[T]:
    """Convert `read` to a cached property that raises `MalformedCertificate` for any parser error.

    Errors can occur late, because `cryptography` parses a certificate lazily. A failure is cached like a value: a
    policy may have thousands of rules over one name.
    """
    name = read.__name__

    def checked(self: "ClientCertificate") -> T:
        if name not in self._failures:
            try:
                return read(self)
            except MalformedCertificate as error:
                self._failures[name] = error.evidence
            except UNREADABLE as error:
                self._failures[name] = (f"{name} of the certificate cannot be read: {reason(error)}",)
        raise MalformedCertificate(*self._failures[name])

    checked.__doc__ = read.__doc__
    return cached_property(checked)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Return an extension, or `None`. Raises the parser's exception if any extension cannot be parsed."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


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
        path_period: the validity period of this path, in seconds since the epoch; `None` without a path.
        unreadable: the parser's reason, if OpenSSL can read the certificate and `cryptography` cannot; otherwise empty.
            With a reason, only the attributes above, `pem` and `chain` have a value. `verification` is `PRESENTED`,
            because the validity period cannot be checked.

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
    unreadable: str = ""

    @classmethod
    def from_der(
        cls, der: bytes, *, chain: tuple[bytes, ...] = (), verification: Verification = Verification.PRESENTED
    ) -> Self:
        """Load one certificate. Raises `MalformedCertificate` unless `der` is exactly one certificate.

        If OpenSSL can read the certificate and `cryptography` cannot, the attribute `unreadable` has the reason.
        Example: `ClientCertificate.from_der(ssl_socket.getpeercert(binary_form=True))`
        """
        unreadable = ""
        try:
            x509.load_der_x509_certificate(der)
        except UNREADABLE as error:
            unreadable = reason(error)
            if isinstance(error, Warning) or not openssl_reader.is_certificate(der):
                raise MalformedCertificate("invalid DER; expected exactly one certificate", unreadable) from error
            verification = Verification.PRESENTED
        digest = hashlib.sha256(der).digest()
        thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
        return cls(der, chain, verification, digest, thumbprint, unreadable=unreadable)

    def with_verification(
        self,
        verification: Verification,
        path_period: tuple[float, float] | None = None,
        path: tuple[bytes, ...] = (),
    ) -> Self:
        """Return a copy with other values. Raises `MalformedCertificate` to verify an unreadable certificate."""
        if verification is not Verification.PRESENTED:
            self.require_readable()
        return replace(self, verification=verification, path_period=path_period, path=path)

    def require_readable(self) -> None:
        """Raises `MalformedCertificate` with the parser's reason if `cryptography` cannot read the certificate."""
        if self.unreadable:
            raise MalformedCertificate(f"the certificate cannot be read: {self.unreadable}")

    @property
    def unreadable_parts(self) -> tuple[str, ...]:
        """The reasons why the certificate, or the parts of it that were accessed, cannot be read, for the log."""
        whole = (f"the certificate cannot be read: {self.unreadable}",) if self.unreadable else ()
        return tuple(dict.fromkeys([*whole, *(each for reasons in self._failures.values() for each in reasons)]))

    @classmethod
    def from_pem(cls, pem: str | bytes, *, verification: Verification = Verification.PRESENTED) -> Self:
        """Load the leaf, and then its chain, from PEM. Other text around the PEM blocks is allowed.

        Use this method for files and tests. Certificates in requests are read by stricter rules: see
        `mtls_middleware.sources`. Raises `MalformedCertificate`. Example: `ClientCertificate.from_pem(pem).subject`
        """
        text = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
        try:
            leaf, *chain = (each.public_bytes(Encoding.DER) for each in x509.load_pem_x509_certificates(text))
        except UNREADABLE as error:
            raise MalformedCertificate("invalid PEM; expected one or more certificates", reason(error)) from error
        return cls.from_der(leaf, chain=tuple(chain), verification=verification)

    @property
    def identity(self) -> tuple[object, ...]:
        """All values of this object, as a cache key. Unlike `==`, this includes the verification."""
        return self.der, self.chain, self.verification, self.path_period, self.path

    @cached_property
    def verified(self) -> bool:
        """Whether the chain is verified, that is, whether `verification` is not `PRESENTED`."""
        return self.verification is not Verification.PRESENTED

    @property
    def x509(self) -> x509.Certificate:
        """The certificate as an object of `cryptography`, which gives access to all its parts.

        Each access parses the DER again. The object is not cached, because it needs several times as much memory as
        the DER once its extensions are read. Raises `MalformedCertificate` if the certificate is `unreadable`.
        """
        self.require_readable()
        return x509.load_der_x509_certificate(self.der)

    @cached_property
    def _failures(self) -> dict[str, tuple[str, ...]]:
        """The properties that cannot be read: a mapping of name to evidence."""
        return {}

    @cached_property
    def pem(self) -> str:
        """The certificate as PEM (RFC 7468)."""
        return ssl.DER_cert_to_PEM_cert(self.der)

    @_readable
    def subject(self) -> str:
        """The subject as a string (RFC 4514), for example `"CN=billing,O=Acme"`."""
        return names.distinguished.to_string(self.x509.subject)

    @_readable
    def issuer(self) -> str:
        """The issuer as a string (RFC 4514), for example `"CN=Acme Client CA,O=Acme"`."""
        return names.distinguished.to_string(self.x509.issuer)

    @_readable
    def subject_name(self) -> "DistinguishedName":
        """The subject in the form that rules compare."""
        return names.distinguished.from_x509(self.x509.subject)

    @_readable
    def issuer_name(self) -> "DistinguishedName":
        """The issuer in the form that rules compare."""
        return names.distinguished.from_x509(self.x509.issuer)

    @_readable
    def serial_number(self) -> int:
        """The serial number, which is unique per issuer (RFC 5280 4.1.2.2)."""
        return self.x509.serial_number

    @property
    def not_valid_before(self) -> datetime:
        """The beginning of the validity period, an aware datetime in UTC."""
        return _EPOCH + timedelta(seconds=self.validity_period[0])

    @property
    def not_valid_after(self) -> datetime:
        """The end of the validity period, an aware datetime in UTC."""
        return _EPOCH + timedelta(seconds=self.validity_period[1])

    @_readable
    def validity_period(self) -> tuple[float, float]:
        """The dates notBefore and notAfter (RFC 5280 4.1.2.5), in seconds since the epoch."""
        loaded = self.x509
        return loaded.not_valid_before_utc.timestamp(), loaded.not_valid_after_utc.timestamp()

    @cached_property
    def period(self) -> tuple[float, float]:
        """The Unix times between which the certificate and its validated path are both valid."""
        begins, ends = self.validity_period
        if self.path_period is None:
            return begins, ends
        # The leaf's own period is included, because a trust store may give only the period of the CAs.
        return max(begins, self.path_period[0]), min(ends, self.path_period[1])

    @_readable
    def is_authority(self) -> bool:
        """Whether the basic constraints mark this certificate as a CA certificate (RFC 5280 4.2.1.9)."""
        constraints = _extension(self.x509, x509.BasicConstraints)
        return constraints is not None and constraints.ca

    @_readable
    def alternative_names(self) -> "AlternativeNames":
        """The subject alternative names, by type (RFC 5280 4.2.1.6)."""
        return names.alternative.read(self.x509)

    @property
    def dns_names(self) -> tuple[str, ...]:
        """The DNS names among the subject alternative names."""
        return self.alternative_names.dns

    @property
    def uris(self) -> tuple[str, ...]:
        """The URIs among the subject alternative names."""
        return self.alternative_names.uris

    @property
    def ip_addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The IP addresses among the subject alternative names."""
        return self.alternative_names.ip_addresses

    @property
    def email_addresses(self) -> tuple[str, ...]:
        """The email addresses among the subject alternative names."""
        return self.alternative_names.emails

    @property
    def user_principal_names(self) -> tuple[str, ...]:
        """The user principal names (UPN) of Active Directory: otherName entries of type 1.3.6.1.4.1.311.20.2.3."""
        return self.alternative_names.user_principal_names

    @property
    def other_names(self) -> tuple[tuple[str, bytes], ...]:
        """The otherName entries. Each entry is a pair of its dotted OID and the DER of its value.

        For example, a PIV card has its FASC-N here: `2.16.840.1.101.3.6.6` and an OCTET STRING of 25 bytes (FIPS 201).
        """
        return self.alternative_names.other_names

    @_readable
    def policies(self) -> tuple[str, ...]:
        """The dotted OIDs of the certificate policies (RFC 5280 4.2.1.4), as this certificate lists them."""
        found = _extension(self.x509, x509.CertificatePolicies)
        return tuple(each.policy_identifier.dotted_string for each in found or ())

    @_readable
    def policy_set(self) -> frozenset[str]:
        """The policies in the form that rules compare."""
        return frozenset(self.policies)

    @_readable
    def extended_key_usages(self) -> tuple[str, ...]:
        """The dotted OIDs of the extended key usages (RFC 5280 4.2.1.12); empty if the extension is missing."""
        found = _extension(self.x509, x509.ExtendedKeyUsage)
        return tuple(each.dotted_string for each in found or ())

    @_readable
    def extended_key_usage_set(self) -> frozenset[str]:
        """The extended key usages in the form that rules compare."""
        return frozenset(self.extended_key_usages)

    def subject_attributes(self, name: str) -> tuple[str, ...]:
        """Return the values of all attributes of one type in the subject, in the order of the certificate.

        `name`: the type, as in an RFC 4514 string (for example `"OU"`), or as a dotted OID. Raises `ConfigurationError`
        for an unknown name, and `MalformedCertificate` if the subject cannot be read or a value is not a string.

        Example: `certificate.subject_attributes("OU")`, `certificate.subject_attributes("organizationIdentifier")`
        """
        found = self.subject_name.by_type.get(names.attribute_types.known_oid(name), ())
        values = tuple(each.text for each in found if each.text is not None)
        if len(values) < len(found):
            raise MalformedCertificate("an attribute of the subject is not a string")
        return values

    @_readable
    def spiffe_id(self) -> str | None:
        """The certificate's only URI, if it is a SPIFFE ID (X509-SVID 2). `None` for any other certificate."""
        return names.spiffe.spiffe_id(self.alternative_names)

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
