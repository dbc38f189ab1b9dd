"""`RevocationList`: parses a complete CRL strictly into a set of serial numbers (RFC 5280 section 5).

No clock. The only I/O is in `read`, which reads an open file. Delta CRLs, indirect CRLs, CRLs for some reasons only and
CRLs with unknown critical extensions are rejected.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from mtls_middleware.names import distinguished
from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.validation.crl_reader import CRLReader
from mtls_middleware.validation.profile import CRITICAL, HASHES, UNSUPPORTED_SIGNATURE, extension
from mtls_middleware.validation.serial_numbers import SerialNumbers

_PROCESSED = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT})
# The usual size of an entry in bytes: a serial number of 16 bytes, a date, and sometimes a reason.
_ENTRY_SIZE = 40

Scope = tuple[frozenset[Hashable], bool, bool]


@dataclass(slots=True, weakref_slot=True, eq=False)
class RevocationList:
    """The contents of a CRL. The CRL object of `cryptography` is not stored, because it needs much more memory.

    Only the private cache of signature checks changes after construction. Any thread may use the list.

    Attributes:
        issuer: the key of the issuer's name, which is equal for matching names (RFC 5280 7.1).
        number: the cRLNumber (RFC 5280 5.2.3).
        this_update, next_update: the times of thisUpdate and nextUpdate, in seconds since the epoch.
        serials: the serial numbers of all revoked certificates, including certificates on hold.
        distribution_points: if not empty, the list covers only certificates that name one of these distribution points.
        only_clients, only_authorities: whether the list covers only end-entity certificates, or only CA certificates.
        digest, signature, scheme, algorithm: the signature of the list, and the digest of the signed data.
    """

    issuer: Hashable
    number: int
    this_update: float
    next_update: float
    serials: SerialNumbers
    distribution_points: frozenset[Hashable]
    only_clients: bool
    only_authorities: bool
    digest: bytes
    signature: bytes
    scheme: padding.PKCS1v15 | padding.PSS | ec.ECDSA
    algorithm: hashes.HashAlgorithm
    # A mapping of the DER of a CA certificate with the issuer's name to the certificate, or to `None` if it did not
    # sign the list.
    _signers: dict[bytes, x509.Certificate | None] = field(default_factory=dict, repr=False)

    @property
    def scope(self) -> Scope:
        """The scope of the list. The numbers of the lists of one issuer and one scope increase (RFC 5280 5.2.3)."""
        return self.distribution_points, self.only_clients, self.only_authorities

    @property
    def signer(self) -> x509.Certificate | None:
        """A CA certificate with the key that signed this list, or `None` if it is not known yet who signed the list."""
        return next((each for each in list(self._signers.values()) if each is not None), None)

    def supersedes(self, other: "RevocationList") -> bool:
        """Return whether this list is newer than `other`, and has the same scope and the same issuer's name.

        A list is newer if neither its thisUpdate nor its cRLNumber is lower, and they are not both equal.
        """
        own, others = (self.this_update, self.number), (other.this_update, other.number)
        return (
            own != others
            and self.this_update >= other.this_update
            and self.number >= other.number
            and self.issuer == other.issuer
            and self.scope == other.scope
        )

    def is_signed_by_issuer(self, request: "StatusRequest") -> bool:
        """Return whether the issuer of the certificate in `request` signed this list (RFC 5280 6.3.3 f, g).

        If the issuer's certificate has keyUsage, keyUsage must include cRLSign.
        """
        if request.issuer_der in self._signers:
            return self._signers[request.issuer_der] is not None
        result = self.is_signed_by(request.issuer)
        # Limited to 64 entries; usually only a few CA certificates have the name of the issuer.
        if len(self._signers) < 64:
            self._signers[request.issuer_der] = request.issuer if result else None
        return result

    def is_signed_by(self, issuer: x509.Certificate) -> bool:
        """Return whether the key of `issuer` signed this list. The result is not cached."""
        try:
            usage = extension(issuer, x509.KeyUsage)
            if usage is not None and not usage.value.crl_sign:
                return False
            key, hashed = issuer.public_key(), Prehashed(self.algorithm)
            if isinstance(key, rsa.RSAPublicKey) and isinstance(self.scheme, (padding.PKCS1v15, padding.PSS)):
                key.verify(self.signature, self.digest, self.scheme, hashed)
                return True
            if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(self.scheme, ec.ECDSA):
                key.verify(self.signature, self.digest, ec.ECDSA(hashed))
                return True
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
            return False
        return False

    def covers(self, request: "StatusRequest") -> bool:
        """Return whether the certificate in `request` is within the scope of this list (RFC 5280 6.3.3 b 2)."""
        if self.only_clients if request.is_authority else self.only_authorities:
            return False
        return not self.distribution_points or bool(self.distribution_points & request.distribution_points)


class StatusRequest:
    """The data of a certificate that are needed to check its revocation status.

    The data are read only once, when the path is validated, because the status is checked on every request.

    Attributes:
        serial: the serial number of the certificate.
        is_authority: whether the certificate is that of a CA.
        distribution_points: its CRL distribution points, in a form that can be compared.
        issuer: the certificate of its issuer.
        issuer_name: the name of the issuer, in a form that can be compared.
        issuer_der: the certificate of the issuer in DER.

    Example:
        >>> from mtls_middleware.testing import CertificateAuthority
        >>> ca = CertificateAuthority()
        >>> client = ca.issue("CN=billing")
        >>> StatusRequest(client.x509, ca.certificate).serial == client.x509.serial_number
        True
    """

    def __init__(self, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
        basic = extension(certificate, x509.BasicConstraints)
        points = extension(certificate, x509.CRLDistributionPoints)
        self.serial: int = certificate.serial_number
        self.is_authority: bool = basic is not None and basic.value.ca
        self.distribution_points: frozenset[Hashable] = frozenset().union(
            *(
                _comparable(point.full_name)
                for point in (points.value if points is not None else ())
                if point.reasons is None and point.crl_issuer is None
            )
        )
        self.issuer = issuer
        self.issuer_name: Hashable = distinguished.comparison_key(issuer.subject)
        self.issuer_der: bytes = issuer.public_bytes(Encoding.DER)


def _do_nothing() -> None:
    pass


def parse(octets: bytes) -> RevocationList:
    """Parse one CRL in DER or PEM. Raises `ValueError` with the reason if the CRL is unusable."""
    return read(BytesIO(octets))


def read(file: BinaryIO, pause: Callable[[], None] = _do_nothing) -> RevocationList:
    """Read one CRL in DER or PEM from a file. Raises `ValueError` with the reason if the CRL is unusable.

    `pause` is called about once in a millisecond. A thread can let other threads run there.
    """
    try:
        return _read(CRLReader(file), pause)
    except ValueError:
        raise
    except UNREADABLE as error:
        raise ValueError(f"not a readable revocation list ({type(error).__name__})") from error


def _read(reader: CRLReader, pause: Callable[[], None]) -> RevocationList:
    serials = SerialNumbers(_serials(reader, pause), reader.entries_size // _ENTRY_SIZE)
    without_entries, digests = reader.finish()
    found = x509.load_der_x509_crl(without_entries)
    algorithm, scheme = found.signature_hash_algorithm, found.signature_algorithm_parameters
    if not isinstance(algorithm, HASHES) or not isinstance(scheme, (padding.PKCS1v15, padding.PSS, ec.ECDSA)):
        raise ValueError(UNSUPPORTED_SIGNATURE)
    if found.next_update_utc is None:
        raise ValueError("the list has no nextUpdate (RFC 5280 5.1.2.5)")
    number, (points, only_clients, only_authorities) = _number_and_scope(found)
    return RevocationList(
        issuer=distinguished.comparison_key(found.issuer),
        number=number,
        this_update=found.last_update_utc.timestamp(),
        next_update=found.next_update_utc.timestamp(),
        serials=serials,
        distribution_points=points,
        only_clients=only_clients,
        only_authorities=only_authorities,
        digest=digests[algorithm.name],
        signature=found.signature,
        scheme=scheme,
        algorithm=algorithm,
    )


def _serials(reader: CRLReader, pause: Callable[[], None]) -> Iterator[int]:
    """Yield the serial numbers of all entries. Raises `ValueError` for an entry with a critical extension."""
    for der in reader.slices():
        found = x509.load_der_x509_crl(der)
        if CRITICAL in der:
            _refuse_critical_entries(found)
        yield from [each.serial_number for each in found]
        pause()


def _number_and_scope(found: x509.CertificateRevocationList) -> tuple[int, Scope]:
    """Read the number and the scope of the list from its extensions.

    Raises `ValueError` for an unsupported list.
    """
    kinds = {each.oid: each for each in found.extensions}
    if ExtensionOID.DELTA_CRL_INDICATOR in kinds:
        raise ValueError(
            "the list is a delta CRL, which is not supported; expected the complete CRL, which a CA with delta CRLs "
            "also publishes"
        )
    number = kinds[ExtensionOID.CRL_NUMBER].value if ExtensionOID.CRL_NUMBER in kinds else None
    if not isinstance(number, x509.CRLNumber):
        raise ValueError(
            "the list has no cRLNumber (RFC 5280 5.2.3); with openssl, set crl_extensions and crlnumber in the "
            "configuration"
        )
    for each in kinds.values():
        if each.critical and each.oid not in _PROCESSED:
            raise ValueError(f"the list has a critical extension that is not supported: {each.oid.dotted_string}")
    if ExtensionOID.ISSUING_DISTRIBUTION_POINT not in kinds:
        return number.crl_number, (frozenset(), False, False)
    return number.crl_number, _scope(kinds[ExtensionOID.ISSUING_DISTRIBUTION_POINT].value)


def _scope(extent: x509.ExtensionType) -> Scope:
    if not isinstance(extent, x509.IssuingDistributionPoint):
        raise ValueError("the list has an unreadable issuingDistributionPoint")
    if extent.indirect_crl:
        raise ValueError(
            "the list is an indirect CRL, which is not supported; expected a CRL of the certificates' own issuer"
        )
    if extent.only_some_reasons:
        raise ValueError(
            "the list is a CRL for some reasons only, which is not supported; expected a CRL for all reasons"
        )
    if extent.only_contains_attribute_certs:
        raise ValueError(
            "the list is a CRL for attribute certificates, which is not supported; expected a CRL for certificates"
        )
    if extent.relative_name is not None:
        raise ValueError(
            "the list has a distribution point with a relative name, which is not supported; expected a full name"
        )
    points = _comparable(extent.full_name)
    if extent.full_name is not None and not points:
        raise ValueError("the list has an unsupported distribution point; expected a URI or a directory name")
    return points, extent.only_contains_user_certs, extent.only_contains_ca_certs


def _refuse_critical_entries(found: x509.CertificateRevocationList) -> None:
    for entry in found:
        for each in entry.extensions:
            if each.critical or each.oid == CRLEntryExtensionOID.CERTIFICATE_ISSUER:
                raise ValueError(f"an entry has a critical extension: {each.oid.dotted_string} (RFC 5280 5.3)")


def _comparable(names: Sequence[x509.GeneralName] | None) -> frozenset[Hashable]:
    """Return the URIs and directory names of a distribution point in a form that can be compared.

    They are never fetched.
    """
    return frozenset(
        each.value if isinstance(each, x509.UniformResourceIdentifier) else distinguished.comparison_key(each.value)
        for each in names or ()
        if isinstance(each, (x509.UniformResourceIdentifier, x509.DirectoryName))
    )
