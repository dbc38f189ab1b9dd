"""Builds OCSP requests, and verifies OCSP responses (RFC 6960 3.2 and 4.2.2.2).

This module performs no I/O and reads no clock. `cryptography` parses the messages and verifies the signatures.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, SignatureAlgorithmOID

from mtls_middleware.parser_errors import UNREADABLE, reason
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.profile import CRITICAL, HASHES, UNSUPPORTED_SIGNATURE, extensions, key_defects

T = TypeVar("T")

# Maximum number of certificates and of single statuses in a response. Usually, there is one of each.
_MAX_CERTIFICATES, _MAX_STATUSES = 10, 100
_Scheme = padding.PKCS1v15 | padding.PSS
# `cryptography` does not read the parameters of RSASSA-PSS in an OCSP response, so each hash algorithm is tried. An
# attacker could change the parameters, because they are not signed. RFC 4055 3.1 recommends MGF1 with the same hash.
_PSS_SCHEMES: tuple[tuple[_Scheme, hashes.HashAlgorithm], ...] = tuple(
    (padding.PSS(padding.MGF1(each()), padding.PSS.AUTO), each()) for each in HASHES
)
# Critical extensions that a responder's certificate may have.
_PROCESSED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.OCSP_NO_CHECK,
    }
)


class UnusableOCSPResponse(ValueError):  # noqa: N818 (not an error: the caller logs it)
    """Raised with the reason why a response is unusable. The reason contains no data of a certificate."""


@dataclass(frozen=True, slots=True)
class OCSPRequest:
    """The request for the status of one certificate.

    Attributes:
        der: the request in DER.
        name_hash, key_hash, algorithm, serial: the CertID (RFC 6960 4.1.1).
        nonce: the nonce (RFC 9654), or `None`.
    """

    der: bytes
    name_hash: bytes
    key_hash: bytes
    algorithm: str
    serial: int
    nonce: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class OCSPStatus:
    """The verified status of one certificate.

    Attributes:
        status: good, revoked or unknown.
        this_update, next_update: in seconds since the epoch. `next_update` is `-inf` if the response has no nextUpdate.
        responder: the delegated responder's certificate, if its own revocation status must be checked.
    """

    status: ocsp.OCSPCertStatus
    this_update: float
    next_update: float
    responder: StatusRequest | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Requirements:
    """The requirements for a response, in addition to RFC 6960.

    Attributes:
        signed_by: the only certificate whose key may sign, or `None` for the issuing CA and its delegated responders.
        check_responder: accept a delegated responder's certificate without `id-pkix-ocsp-nocheck`. The caller then
            checks the status of this certificate.
        require_nonce: reject a response without a nonce.
        max_age: maximum age in seconds of the thisUpdate of a response with neither nextUpdate nor nonce.
        behind, ahead: the tolerance in seconds for times in the past and in the future.
    """

    signed_by: x509.Certificate | None = None
    check_responder: bool = False
    require_nonce: bool = False
    max_age: float = 3600.0
    behind: float = 60.0
    ahead: float = 60.0


def build_request(request: StatusRequest, algorithm: hashes.SHA1 | hashes.SHA256, nonce: bytes | None) -> OCSPRequest:
    """Build the request for the status of one certificate. `algorithm`: the hash of the CertID.

    Raises the exceptions of `parser_errors.UNREADABLE` if the issuer cannot be read.
    """
    digest = hashes.Hash(algorithm)
    digest.update(request.issuer.subject.public_bytes())
    name_hash, key_hash = digest.finalize(), _key_hash(request.issuer, algorithm)
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(name_hash, key_hash, request.serial, algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    der = builder.build().public_bytes(Encoding.DER)
    return OCSPRequest(der, name_hash, key_hash, algorithm.name, request.serial, nonce)


def _key_hash(certificate: x509.Certificate, algorithm: hashes.SHA1 | hashes.SHA256) -> bytes:
    # `cryptography` hashes the key of an issuer as RFC 6960 4.1.1 requires, so build a request with the certificate as
    # its own issuer.
    return ocsp.OCSPRequestBuilder().add_certificate(certificate, certificate, algorithm).build().issuer_key_hash


def verify(
    octets: bytes, request: OCSPRequest, issuer: x509.Certificate, now: float, required: Requirements
) -> OCSPStatus:
    """Return the status in the response `octets` to `request`.

    `issuer`: the CA that issued the certificate. `now`: seconds since the epoch. Raises `UnusableOCSPResponse`.
    """
    try:
        return _verify(octets, request, issuer, now, required)
    except UnusableOCSPResponse:
        raise
    except UNREADABLE as error:
        raise UnusableOCSPResponse(f"not a readable OCSP response: {reason(error)}") from error


def _verify(
    octets: bytes, request: OCSPRequest, issuer: x509.Certificate, now: float, required: Requirements
) -> OCSPStatus:
    response = ocsp.load_der_ocsp_response(octets)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise UnusableOCSPResponse(f"the responder's status is {response.response_status.name}")
    if not _schemes(response):
        raise UnusableOCSPResponse(UNSUPPORTED_SIGNATURE)
    delegated = _verify_signer(response, issuer, now, required)
    has_nonce = _check_nonce(response, request, required)
    single = _single(response, request)
    begins, ends = single.this_update_utc.timestamp(), -math.inf
    if single.next_update_utc is not None:
        ends = single.next_update_utc.timestamp()
        if ends < begins:
            raise UnusableOCSPResponse("nextUpdate is before thisUpdate, so the response was never valid")
        if ends + required.behind < now:
            raise UnusableOCSPResponse(
                f"the response has expired: nextUpdate was {now - ends:.0f} s ago; check the clocks"
            )
    elif not has_nonce and now - begins > required.max_age:
        raise UnusableOCSPResponse(
            "the response has no nextUpdate and no nonce, and its thisUpdate is older than max_age"
        )
    for name, time in (("thisUpdate", begins), ("producedAt", response.produced_at_utc.timestamp())):
        if time > now + required.ahead:
            raise UnusableOCSPResponse(f"{name} is {time - now:.0f} s in the future; check the clocks")
    return OCSPStatus(single.certificate_status, begins, ends, delegated)


def _check_nonce(response: ocsp.OCSPResponse, request: OCSPRequest, required: Requirements) -> bool:
    """Return whether the response has the nonce of the request. A responder may ignore the nonce (RFC 9654 2.1)."""
    nonce = None
    for each in response.extensions:
        if isinstance(each.value, x509.OCSPNonce):
            nonce = each.value.nonce
        elif each.critical:
            raise UnusableOCSPResponse(
                f"the response has a critical extension that is not supported: {each.oid.dotted_string}"
            )
    if nonce is not None and nonce != request.nonce:
        raise UnusableOCSPResponse("the nonce differs from that of the request, so the response may be a replay")
    if nonce is None and required.require_nonce:
        raise UnusableOCSPResponse("the response has no nonce, but nonce='required' demands one")
    return nonce is not None


def _single(response: ocsp.OCSPResponse, request: OCSPRequest) -> ocsp.OCSPSingleResponse:
    """Return the status of exactly the certificate in `request` (RFC 6960 3.2, step 1).

    The statuses of other certificates are ignored.
    """
    found = list(_bounded(response.responses, _MAX_STATUSES, "statuses"))
    # `cryptography` returns the extensions of a status only if the response contains exactly one status.
    if len(found) == 1:
        has_critical = any(each.critical for each in response.single_extensions)
    else:
        has_critical = CRITICAL in response.tbs_response_bytes
    if has_critical:
        raise UnusableOCSPResponse("the status has a critical extension, which is not supported")
    matching = [
        each
        for each in found
        if each.serial_number == request.serial
        and each.hash_algorithm.name == request.algorithm
        and each.issuer_name_hash == request.name_hash
        and each.issuer_key_hash == request.key_hash
    ]
    if len(matching) != 1:
        raise UnusableOCSPResponse(
            f"the response has {len(matching)} statuses for the certificate and its issuer; expected exactly one"
        )
    return matching[0]


def _verify_signer(
    response: ocsp.OCSPResponse, issuer: x509.Certificate, now: float, required: Requirements
) -> StatusRequest | None:
    """Verify the signature of the response.

    Returns the delegated responder's certificate if its status must be checked.
    """
    if required.signed_by is not None:
        if not _is_signed_by(response, required.signed_by):
            raise UnusableOCSPResponse("the response is not signed by the certificate of signed_by=")
        if not _is_valid(required.signed_by, now, required):
            raise UnusableOCSPResponse("the certificate of signed_by= is outside of its validity period")
        return None
    if _is_named(response, issuer) and _is_signed_by(response, issuer):
        return None
    failure = UnusableOCSPResponse("neither the issuing CA nor a certificate in the response is its signer")
    for each in _bounded(response.certificates, _MAX_CERTIFICATES, "certificates"):
        if _is_named(response, each):
            # First the certificate, then its key: with an attacker's RSA key, a verification takes up to 6 ms.
            try:
                delegated = _delegated(each, issuer, now, required)
            except UnusableOCSPResponse as unusable:
                failure = unusable
            else:
                if _is_signed_by(response, each):
                    return delegated
    raise failure


def _delegated(
    responder: x509.Certificate, issuer: x509.Certificate, now: float, required: Requirements
) -> StatusRequest | None:
    """Check that the issuing CA has delegated the signing of responses to this certificate (RFC 6960 4.2.2.2)."""
    if not isinstance(responder.signature_hash_algorithm, HASHES):
        raise UnusableOCSPResponse("the responder's certificate has an unsupported signature")
    try:
        responder.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE) as error:
        raise UnusableOCSPResponse(
            "the issuer of the certificate is not the issuer of the responder's certificate"
        ) from error
    found = extensions(responder)
    purposes = found.get(x509.ExtendedKeyUsage.oid)
    if purposes is None or ExtendedKeyUsageOID.OCSP_SIGNING not in purposes.value:
        raise UnusableOCSPResponse("the responder's certificate has no extendedKeyUsage OCSPSigning")
    usage = found.get(x509.KeyUsage.oid)
    if usage is not None and not (usage.value.digital_signature or usage.value.content_commitment):
        raise UnusableOCSPResponse("the keyUsage of the responder's certificate lacks digitalSignature")
    if not _is_valid(responder, now, required):
        raise UnusableOCSPResponse("the responder's certificate is outside of its validity period")
    for each in found.values():
        if each.critical and each.oid not in _PROCESSED:
            raise UnusableOCSPResponse(
                f"the responder's certificate has the critical extension {each.oid.dotted_string}"
            )
    for defect in key_defects(responder):
        raise UnusableOCSPResponse(f"the responder's certificate has {defect}")
    if x509.OCSPNoCheck.oid in found:
        return None
    if not required.check_responder:
        raise UnusableOCSPResponse(
            "the responder's certificate has no id-pkix-ocsp-nocheck; to check its status, give responder_lists="
        )
    return StatusRequest(responder, issuer)


def _bounded(items: Iterable[T], limit: int, what: str) -> Iterator[T]:
    for number, each in enumerate(items):
        if number >= limit:
            raise UnusableOCSPResponse(f"the response has more than {limit} {what}")
        yield each


def _is_named(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    """Return whether the responderID names this certificate (RFC 6960 4.2.2.3). Its key hash is always SHA-1."""
    if response.responder_name is not None:
        return response.responder_name == signer.subject
    return response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest


def _is_valid(certificate: x509.Certificate, now: float, required: Requirements) -> bool:
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    return begins - required.ahead <= now <= ends + required.behind


def _is_signed_by(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    return any(_has_signature(response, signer.public_key(), *scheme) for scheme in _schemes(response))


def _has_signature(response: ocsp.OCSPResponse, key: object, scheme: _Scheme, algorithm: hashes.HashAlgorithm) -> bool:
    """Return whether this key signed the response. `scheme`: used if it is an RSA key."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(response.signature, response.tbs_response_bytes, scheme, algorithm)
            return True
        if isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(scheme, padding.PSS):
            key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(algorithm))
            return True
    except (InvalidSignature, *UNREADABLE):
        return False
    return False


def _schemes(response: ocsp.OCSPResponse) -> Sequence[tuple[_Scheme, hashes.HashAlgorithm]]:
    """Return the RSA padding and the hash algorithm of the signature. The result is empty if it is unsupported."""
    if response.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS:
        return _PSS_SCHEMES
    try:
        algorithm = response.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return []
    return [(padding.PKCS1v15(), algorithm)] if algorithm is not None and isinstance(algorithm, HASHES) else []
