"""What this library says about the chains of a PKI."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.chains.drafts import NOW, PKI


@dataclass
class Built:
    """The certificates and lists of a `PKI`."""

    roots: list[x509.Certificate]
    between: list[x509.Certificate]
    leaves: list[x509.Certificate]
    lists: list[bytes]

    @classmethod
    def of(cls, pki: PKI) -> "Built":
        roots, between, leaves = ([each.build() for each in drafts] for drafts in (pki.roots, pki.between, pki.leaves))
        return cls(roots, between, leaves, [each.build() for each in pki.lists])


@dataclass
class Result:
    """The result for one leaf: why it is rejected, or the path with which it is accepted, leaf first."""

    reasons: Sequence[str] = ()
    path: Sequence[x509.Certificate] = ()


def our_results(built: Built, directory: Path, *, presents_chain: bool) -> list[Result]:
    """Return the result for each leaf. `presents_chain`: otherwise, the store has the CAs."""
    files = []
    for number, octets in enumerate(built.lists):
        files.append(directory / f"{number}.crl")
        files[-1].write_bytes(octets)
    try:
        lists = RevocationLists(files or [directory / "none.crl"])
    except ConfigurationError as error:
        return [Result((str(error),))] * len(built.leaves)
    roots, unusable = [], ""
    for each in built.roots:  # a root that can never validate is an error at construction
        try:
            TrustStore([each])
        except ConfigurationError as error:
            unusable = str(error)
        else:
            roots.append(each)
    if not roots:
        return [Result((unusable,))] * len(built.leaves)
    store = TrustStore(roots, intermediates=() if presents_chain else built.between, revocation=lists)
    chain = tuple(each.public_bytes(Encoding.DER) for each in built.between) if presents_chain else ()
    return [_our_result(store, each.public_bytes(Encoding.DER), chain) for each in built.leaves]


def _our_result(store: TrustStore, der: bytes, chain: tuple[bytes, ...]) -> Result:
    try:
        certificate = ClientCertificate.from_der(der, chain=chain)
        validated = BlockingDriver().run(store.validate(certificate, NOW))
    except MalformedCertificate as error:
        return Result(error.evidence)
    except Refused as error:
        return Result(error.evidence[1:])  # the first one is the thumbprint
    return Result((), [x509.load_der_x509_certificate(each) for each in validated.path])


def lists_of(own: Result, built: Built) -> list[bytes]:
    """Return the lists that CAs of the accepted path have signed."""
    return [each for each in built.lists if _is_signed(each, own)]


def _is_signed(octets: bytes, own: Result) -> bool:
    found = x509.load_der_x509_crl(octets)
    keys = [each.public_key() for each in own.path[1:]]
    return any(found.is_signature_valid(each) for each in keys if isinstance(each, ec.EllipticCurvePublicKey))
