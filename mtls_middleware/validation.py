"""`TrustStore`: is there a path from this client certificate to one of our roots? RFC 5280 section 6.

Must never know: requests, and addresses that a certificate names. `cryptography` builds and verifies the path
(row A20); here stands what it leaves to its callers: who may be a client, and what no certificate may ask for in vain.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.effects import Flow
from mtls_middleware.errors import ConfigurationError, MalformedCertificate, Refused
from mtls_middleware.names import distinguished

logger = logging.getLogger("mtls_middleware.validation")

# Certificates between leaf and root. Private PKIs have one or two; every one more costs a signature.
_DEPTH = 5
# Verdicts remembered, each some hundred octets beside the certificate itself.
_REMEMBERED = 4096

# What is processed, here or by the engine. Any other extension that is marked critical asks for something that nobody
# would do (RFC 5280 4.2), so the certificate is refused: certificatePolicies and policyConstraints among them.
_PROCESSED = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
    }
)
# Kinds of names that the engine holds against name constraints (row M4); directory names are ours.
_CONSTRAINED_BY_ENGINE = (x509.DNSName, x509.IPAddress, x509.RFC822Name)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A path that was found, and the seconds since the epoch between which its certificates are valid."""

    begins: float
    ends: float


class TrustStore:
    """The roots that client certificates may come from, and how strictly.

    Arguments:
        roots: `cryptography` certificates, PEM files, or directories of PEM files. Few, and your own: whoever else gets
            certificates from a root of yours can take any name (RFC 8705 7.4).
        intermediates: the same, for clients that do not send theirs.
        require_client_auth_eku: refuse a leaf without extended key usage; one that has it without clientAuth always is.
        max_depth: certificates that may stand between leaf and root.

    Raises `ConfigurationError`.

    Example: `TrustStore(["clients-ca.pem"])`
    """

    def __init__(
        self,
        roots: Collection[x509.Certificate | str | PathLike[str]],
        *,
        intermediates: Collection[x509.Certificate | str | PathLike[str]] = (),
        require_client_auth_eku: bool = False,
        max_depth: int = _DEPTH,
    ) -> None:
        self._roots = _certificates("roots", roots)
        if not self._roots:
            raise ConfigurationError("roots is empty: no client could ever be validated")
        if isinstance(max_depth, bool) or not isinstance(max_depth, int) or not 0 <= max_depth <= 16:
            raise ConfigurationError(f"max_depth={max_depth!r}: a number of intermediates, 0 to 16")
        self._intermediates = _certificates("intermediates", intermediates)
        self._anchors = frozenset(each.public_bytes(Encoding.DER) for each in self._roots)
        self._require_eku = require_client_auth_eku
        self._policy = (
            verification.PolicyBuilder()
            .store(verification.Store(self._roots))
            .max_chain_depth(max_depth)
            .extension_policies(ca_policy=_ca_policy(), ee_policy=_leaf_policy(require_client_auth_eku))
        )
        self._verdicts: Cache[tuple[bytes, ...], _Verdict] = Cache(_REMEMBERED)

    @classmethod
    def from_pem_file(cls, path: str | PathLike[str], **options: Any) -> Self:
        """The roots of one PEM file. Takes and raises what the constructor does."""
        return cls([path], **options)

    def validate(self, certificate: ClientCertificate, now: float) -> Flow[ClientCertificate]:
        """The certificate as `BY_TRUST_STORE`. Raises `Refused("client_certificate_refused")` with every reason.

        `now`: seconds since the epoch.
        """
        yield from ()
        key = (certificate.der, *certificate.chain)
        verdict = self._verdicts.get(key)
        if verdict is None or not verdict.begins <= now <= verdict.ends:
            path = self._path(certificate, now)
            verdict = _Verdict(
                max(each.not_valid_before_utc.timestamp() for each in path),
                min(each.not_valid_after_utc.timestamp() for each in path),
            )
            self._verdicts.put(key, verdict)
        return ClientCertificate.from_der(
            certificate.der, chain=certificate.chain, verification=Verification.BY_TRUST_STORE
        )

    def _path(self, certificate: ClientCertificate, now: float) -> Sequence[x509.Certificate]:
        """Leaf to root. Raises `Refused`."""
        if certificate.der in self._anchors:
            raise _refused(certificate, "a root is no client")
        try:
            presented = [x509.load_der_x509_certificate(der) for der in certificate.chain]
            verifier = self._policy.time(datetime.fromtimestamp(now, UTC)).build_client_verifier()
            path = verifier.verify(certificate.x509, [*presented, *self._intermediates]).chain
            unfit = [reason for each in path for reason in _unprocessed(each)] + list(_outside_of_subtrees(path))
        except verification.VerificationError as error:
            raise _refused(certificate, str(error)[:200]) from None
        except (
            ValueError,
            TypeError,
            x509.InvalidVersion,
            x509.DuplicateExtension,
            x509.UnsupportedGeneralNameType,
            MalformedCertificate,
        ) as error:
            raise _refused(certificate, f"a certificate of the path cannot be read ({type(error).__name__})") from None
        if unfit:
            raise _refused(certificate, *unfit)
        return path


def _refused(certificate: ClientCertificate, *reasons: str) -> Refused:
    return Refused("client_certificate_refused", f"{certificate.thumbprint} does not validate", *reasons)


def _certificates(name: str, given: Collection[x509.Certificate | str | PathLike[str]]) -> list[x509.Certificate]:
    if isinstance(given, (str, bytes, PathLike)) or not isinstance(given, Iterable):
        raise ConfigurationError(f"{name}={given!r}: a list, for example ['clients-ca.pem']")
    found: list[x509.Certificate] = []
    for each in given:
        if isinstance(each, x509.Certificate):
            found.append(each)
        elif isinstance(each, (str, PathLike)):
            found += _from_path(name, Path(each))
        else:
            raise ConfigurationError(f"{name}: {each!r} is no certificate and no path")
    return found


def _from_path(name: str, path: Path) -> list[x509.Certificate]:
    files = sorted(path.glob("*.pem")) + sorted(path.glob("*.crt")) if path.is_dir() else [path]
    found = []
    for file in files:
        try:
            found += x509.load_pem_x509_certificates(file.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{name}: {file}: no PEM certificates ({type(error).__name__})") from error
    if not found:
        raise ConfigurationError(f"{name}: {path} holds no *.pem and no *.crt file")
    return found


def _ca_policy() -> verification.ExtensionPolicy:
    return verification.ExtensionPolicy.webpki_defaults_ca()


def _leaf_policy(require_eku: bool) -> verification.ExtensionPolicy:
    """A leaf without alternative names will do, which private CAs issue; a CA, a server or a mailbox will not (A30)."""
    either = verification.Criticality.AGNOSTIC
    policy = (
        verification.ExtensionPolicy.permit_all()
        .may_be_present(x509.BasicConstraints, either, _no_ca)
        .may_be_present(x509.KeyUsage, either, _signs)
    )
    if require_eku:
        return policy.require_present(x509.ExtendedKeyUsage, either, _for_clients)
    return policy.may_be_present(x509.ExtendedKeyUsage, either, _for_clients)


def _no_ca(_policy: verification.Policy, _leaf: x509.Certificate, found: x509.BasicConstraints | None) -> None:
    if found is not None and found.ca:
        raise ValueError("a CA certificate is no client")


def _signs(_policy: verification.Policy, _leaf: x509.Certificate, found: x509.KeyUsage | None) -> None:
    """Row M7: in TLS a client signs, or agrees on a key; and row M8: whoever may certify others is no client."""
    if found is not None and not (found.digital_signature or found.key_agreement):
        raise ValueError("keyUsage without digitalSignature")
    if found is not None and (found.key_cert_sign or found.crl_sign):
        raise ValueError("keyUsage of a CA")


def _for_clients(_policy: verification.Policy, _leaf: x509.Certificate, found: x509.ExtendedKeyUsage | None) -> None:
    """Rows M5, M6: clientAuth itself; anyExtendedKeyUsage alone says nothing about clients."""
    if found is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in found:
        raise ValueError("extendedKeyUsage without clientAuth")


def _unprocessed(certificate: x509.Certificate) -> list[str]:
    return [
        f"a critical extension that is not processed: {each.oid.dotted_string}"
        for each in certificate.extensions
        if each.critical and each.oid not in _PROCESSED
    ]


def _outside_of_subtrees(path: Sequence[x509.Certificate]) -> Iterable[str]:
    """Directory-name constraints (RFC 5280 4.2.1.10), which the engine does not apply, and kinds that nobody does."""
    for position, authority in enumerate(path):
        try:
            constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            continue
        permitted, excluded = constraints.permitted_subtrees or (), constraints.excluded_subtrees or ()
        for subtree in (*permitted, *excluded):
            if not isinstance(subtree, (*_CONSTRAINED_BY_ENGINE, x509.DirectoryName)):
                yield f"a name constraint of a kind that is not processed: {type(subtree).__name__}"
        within = [distinguished.from_x509(each.value) for each in permitted if isinstance(each, x509.DirectoryName)]
        without = [distinguished.from_x509(each.value) for each in excluded if isinstance(each, x509.DirectoryName)]
        for below in path[:position]:
            for name in _directory_names(below):
                if within and not any(distinguished.is_within(name, subtree) for subtree in within):
                    yield "a name outside of the permitted directory names"
                if any(distinguished.is_within(name, subtree) is not False for subtree in without):
                    yield "a name within the excluded directory names"


def _directory_names(certificate: x509.Certificate) -> list[distinguished.DistinguishedName]:
    names = [certificate.subject] if certificate.subject.rdns else []
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += alternative.get_values_for_type(x509.DirectoryName)
    except x509.ExtensionNotFound:
        pass
    return [distinguished.from_x509(each) for each in names]
