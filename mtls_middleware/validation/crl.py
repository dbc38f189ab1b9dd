"""`RevocationList`: parses a complete CRL strictly into a set of serial numbers (RFC 5280 section 5).

Pure: no I/O, no clock. Delta CRLs, indirect CRLs, CRLs for some reasons only and CRLs with unknown critical extensions
are rejected.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from mtls_middleware.parser_errors import UNREADABLE
from mtls_middleware.validation.profile import extension

_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_PROCESSED = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT})
_COMPARABLE = (x509.UniformResourceIdentifier, x509.DirectoryName)
_CRITICAL = b"\x01\x01\xff"  # the DER of `critical TRUE`, which every critical extension contains


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class RevocationList:
    """The contents of a CRL. The CRL object of `cryptography` is not stored, because it needs much more memory.

    Attributes:
        issuer: the DER of the issuer's name.
        this_update, next_update: the times of thisUpdate and nextUpdate, in seconds since the epoch.
        serials: the serial numbers of all revoked certificates, including certificates on hold.
        distribution_points: if not empty, the list covers only certificates that name one of these distribution points.
        only_clients, only_authorities: whether the list covers only end-entity certificates, or only CA certificates.
        digest, signature, scheme, algorithm: the signature of the list, and the digest of the signed data.
    """

    issuer: bytes
    this_update: float
    next_update: float
    serials: frozenset[int]
    distribution_points: frozenset[x509.GeneralName]
    only_clients: bool
    only_authorities: bool
    digest: bytes
    signature: bytes
    scheme: padding.PKCS1v15 | padding.PSS | ec.ECDSA
    algorithm: hashes.HashAlgorithm
    _signature_checks: dict[bytes, bool] = field(default_factory=dict, repr=False)

    def is_signed_by_issuer(self, request: "StatusRequest") -> bool:
        """Return whether the issuer of the certificate in `request` signed this list (RFC 5280 6.3.3 f, g).

        If the issuer's certificate has keyUsage, keyUsage must include cRLSign.
        """
        result = self._signature_checks.get(request.issuer_der)
        if result is None:
            result = self._is_signed_by(request.issuer)
            if len(self._signature_checks) < 64:  # usually only a few CAs have the name of the issuer
                self._signature_checks[request.issuer_der] = result
        return result

    def _is_signed_by(self, issuer: x509.Certificate) -> bool:
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
    """

    def __init__(self, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
        basic = extension(certificate, x509.BasicConstraints)
        points = extension(certificate, x509.CRLDistributionPoints)
        self.serial: int = certificate.serial_number
        self.is_authority: bool = basic is not None and basic.value.ca
        self.distribution_points: frozenset[x509.GeneralName] = frozenset().union(
            *(
                _comparable(point.full_name)
                for point in (points.value if points is not None else ())
                if point.reasons is None and point.crl_issuer is None
            )
        )
        self.issuer = issuer
        self.issuer_name: bytes = issuer.subject.public_bytes()
        self.issuer_der: bytes = issuer.public_bytes(Encoding.DER)


def parse(octets: bytes) -> RevocationList:
    """Parse one CRL in DER or PEM. Raises `ValueError` with the reason if the CRL is unusable."""
    try:
        if b"-----BEGIN" in octets:
            if octets.count(b"-----BEGIN ") != 1 or octets.count(b"-----END ") != 1:
                raise ValueError("expected exactly one revocation list in a PEM file")
            return _read(x509.load_pem_x509_crl(octets))
        return _read(x509.load_der_x509_crl(octets))
    except ValueError:
        raise
    except UNREADABLE as error:
        raise ValueError(f"not a readable revocation list ({type(error).__name__})") from error


def _read(found: x509.CertificateRevocationList) -> RevocationList:
    algorithm, scheme = found.signature_hash_algorithm, found.signature_algorithm_parameters
    if not isinstance(algorithm, _HASHES) or not isinstance(scheme, (padding.PKCS1v15, padding.PSS, ec.ECDSA)):
        raise ValueError("an unsupported signature; expected RSA or ECDSA with SHA-256, SHA-384 or SHA-512")
    if found.next_update_utc is None:
        raise ValueError("no nextUpdate (RFC 5280 5.1.2.5)")
    points, only_clients, only_authorities = _scope(found)
    body = found.tbs_certlist_bytes
    if _CRITICAL in body:
        _refuse_critical_entries(found)
    digest = hashes.Hash(algorithm)
    digest.update(body)
    return RevocationList(
        issuer=found.issuer.public_bytes(),
        this_update=found.last_update_utc.timestamp(),
        next_update=found.next_update_utc.timestamp(),
        serials=frozenset([each.serial_number for each in found]),
        distribution_points=points,
        only_clients=only_clients,
        only_authorities=only_authorities,
        digest=digest.finalize(),
        signature=found.signature,
        scheme=scheme,
        algorithm=algorithm,
    )


def _scope(found: x509.CertificateRevocationList) -> tuple[frozenset[x509.GeneralName], bool, bool]:
    """Read from the extensions which certificates the list covers. Raises `ValueError` for an unsupported list."""
    kinds = {each.oid: each for each in found.extensions}
    if ExtensionOID.DELTA_CRL_INDICATOR in kinds:
        raise ValueError("a delta CRL, which is not supported; expected a complete CRL")
    if ExtensionOID.CRL_NUMBER not in kinds:
        raise ValueError(
            "no cRLNumber (RFC 5280 5.2.3); with openssl, set crl_extensions and crlnumber in the configuration"
        )
    for each in kinds.values():
        if each.critical and each.oid not in _PROCESSED:
            raise ValueError(f"a critical extension that is not supported: {each.oid.dotted_string}")
    if ExtensionOID.ISSUING_DISTRIBUTION_POINT not in kinds:
        return frozenset(), False, False
    extent = kinds[ExtensionOID.ISSUING_DISTRIBUTION_POINT].value
    if not isinstance(extent, x509.IssuingDistributionPoint):
        raise ValueError("an unreadable issuingDistributionPoint")
    if extent.indirect_crl:
        raise ValueError("an indirect CRL, which is not supported; expected a CRL of the certificates' own issuer")
    if extent.only_some_reasons or extent.only_contains_attribute_certs or extent.relative_name is not None:
        raise ValueError(
            "a CRL for some reasons only, for attribute certificates, or with a relative name, which is not supported"
        )
    points = _comparable(extent.full_name)
    if extent.full_name is not None and not points:
        raise ValueError("an unsupported distribution point; expected a URI or a directory name")
    return points, extent.only_contains_user_certs, extent.only_contains_ca_certs


def _refuse_critical_entries(found: x509.CertificateRevocationList) -> None:
    for entry in found:
        for each in entry.extensions:
            if each.critical or each.oid == CRLEntryExtensionOID.CERTIFICATE_ISSUER:
                raise ValueError(f"an entry with a critical extension: {each.oid.dotted_string} (RFC 5280 5.3)")


def _comparable(names: Sequence[x509.GeneralName] | None) -> frozenset[x509.GeneralName]:
    """Return the URIs and directory names of a distribution point. They are only compared, and never fetched."""
    return frozenset(each for each in names or () if isinstance(each, _COMPARABLE))


def fingerprint(octets: bytes) -> bytes:
    """Return a hash of the bytes of a CRL, by which an unchanged CRL is recognised."""
    return hashlib.sha256(octets).digest()
