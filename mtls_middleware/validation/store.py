"""`TrustStore`: validates a client certificate: first its path to a trusted root, then the revocation status."""

import copy
import itertools
import weakref
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Self

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.certificate_memory import extra_bytes
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.reusable import Reusable
from mtls_middleware.validation import chain, root_check, trust_files
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.files import Contents, FileCache, split
from mtls_middleware.validation.revocation import Revocation, RevocationSources, status_requests
from mtls_middleware.validity import RENEW, check_clock_skew

# Default maximum number of certificates between leaf and root. Private PKIs have one or two. Each further certificate
# costs one more signature check.
_DEPTH = 5
# Maximum bytes of all leaves and chains whose paths are cached, and of one leaf with its chain. Without a limit, a
# client with a valid certificate could fill the memory by presenting different chains with it.
_CACHED, _LARGEST = 16 * 1024 * 1024, 16_384
# The memory that a cached certificate and its path need in addition to their DER, in bytes.
_OBJECTS = 2_000
# The extended key usage that clients need.
_PURPOSE = ExtendedKeyUsageOID.CLIENT_AUTH

Given = x509.Certificate | str | PathLike[str]


@dataclass(frozen=True, slots=True)
class _Validation:
    """A validated certificate.

    Attributes:
        begins, ends: the validity period of its path, in seconds since the epoch.
        requests: a status request for each certificate whose revocation status is checked.
    """

    certificate: ClientCertificate
    begins: float
    ends: float
    requests: tuple[StatusRequest, ...]


_snapshots = itertools.count()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Snapshot:
    """The contents of the trust store's files at one time. `number` identifies the snapshot in the cache of paths."""

    roots: chain.Roots
    number: int = field(default_factory=lambda: next(_snapshots))


class TrustStore:
    """Validates client certificates against the trusted roots of your own CAs.

    Arguments:
        roots: `cryptography` certificates, PEM files, or directories that contain PEM files (`*.pem`, `*.crt`). Give
            only roots of your own CAs: an attacker can get a certificate with any name from a public CA (RFC 8705
            section 7.4). Changed files are read again within about a second. If a changed file cannot be read, the
            error is logged, its old contents stay in use, and the file is read again later. If a file is deleted, its
            certificates are no longer trusted, unless no root is left.
        intermediates: CA certificates for clients that do not send their intermediates, in the same forms as `roots`.
        revocation: `RevocationLists`, `OCSP`, your own `Revocation`, or a list of them. A certificate that any of them
            reports as revoked is rejected. Default: the revocation status is not checked.
        require_client_auth_eku: reject a leaf without extended key usage. A leaf whose extended key usage lacks
            clientAuth is always rejected.
        max_depth: maximum number of certificates between leaf and root, 0 to 16.
        leeway: tolerance at both ends of the validity period of the path, in seconds, 0 to 300. Default: the
            `clock_skew` of the `ClientCertificateMiddleware` or `ClientAuthenticator` that uses the store, or 0 if your
            own code calls `validate`. If both `leeway` and `clock_skew` are given, the smaller value applies.

    Raises `ConfigurationError` if an argument is invalid, or if a file cannot be used.

    Example: `TrustStore(["clients-ca.pem"])`
    """

    _suffixes: tuple[str, ...] = (".pem", ".crt")
    # Whether to raise an error for a root that can never validate a client.
    _checks_roots: bool = True

    def __init__(
        self,
        roots: Collection[Given],
        *,
        intermediates: Collection[Given] = (),
        revocation: Revocation | Sequence[Revocation] | None = None,
        require_client_auth_eku: bool = False,
        max_depth: int = _DEPTH,
        leeway: float | None = None,
    ) -> None:
        options.integer("max_depth", max_depth, 0, 16, _DEPTH)
        options.boolean("require_client_auth_eku", require_client_auth_eku)
        self._paths: Cache[tuple[int, bytes, tuple[bytes, ...]], _Validation] = Cache(_CACHED, largest=_LARGEST)
        self._given_leeway = None if leeway is None else check_clock_skew("leeway", leeway)
        self._leeway = self._given_leeway or 0.0
        self._sources = None if revocation is None else RevocationSources(revocation)
        self._make_roots = partial(
            chain.Roots, max_depth=max_depth, require_client_auth_eku=require_client_auth_eku, purpose=_PURPOSE
        )
        given = {
            "roots": split("roots", roots, x509.Certificate, "['clients-ca.pem']"),
            "intermediates": split("intermediates", intermediates, x509.Certificate, "['issuing-ca.pem']"),
        }
        root_paths: set[Path] = set()
        if self._checks_roots:
            root_paths = {each for each in given["roots"] if isinstance(each, Path)}
            _check_given(given["roots"])

        self._snapshot = FileCache(
            [each for both in given.values() for each in both if isinstance(each, Path)],
            self._suffixes,
            partial(self._parse, root_paths),
            partial(self._combine, given),
            gone="certificates that it contained are not trusted, unless no root is left",
        )

    def _combine(
        self,
        given: Mapping[str, Collection[x509.Certificate | Path]],
        previous: _Snapshot | None,
        contents: Contents[Sequence[x509.Certificate]],
        now: float,  # noqa: ARG002 (the signature of `combine` of `FileCache`)
    ) -> _Snapshot:
        """Return the snapshot of the given certificates and of the contents of all files."""
        found = {name: _certificates(name, each, contents, previous) for name, each in given.items()}
        if not found["roots"]:
            raise ConfigurationError(
                "roots contains no certificate, so every client would be rejected; expected a list of "
                "files or certificates, for example ['clients-ca.pem']"
            )
        return _Snapshot(self._make_roots(found["roots"], found["intermediates"]))

    def with_clock_skew(self, clock_skew: float) -> Self:
        """Return a copy whose tolerance is `clock_skew` seconds, or the `leeway` of this store if that is smaller.

        The copy shares the files and the cached paths of this store. Example: `store.with_clock_skew(60)`
        """
        found = copy.copy(self)
        found._leeway = clock_skew if self._given_leeway is None else min(clock_skew, self._given_leeway)
        return found

    @classmethod
    def from_pem_file(cls, path: str | PathLike[str], **options: Any) -> Self:
        """Create a trust store from one PEM file of roots, which is read again when it changes.

        `options`: the other arguments of the constructor. Raises `ConfigurationError`.

        Example: `TrustStore.from_pem_file("clients-ca.pem")`
        """
        return cls([path], **options)

    is_reusable = True

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches that share the memory of a stack of layers."""
        return (self._paths, *(() if self._sources is None else self._sources.caches))

    def validate(self, certificate: ClientCertificate, now: float) -> Flow[ClientCertificate]:
        """Return the certificate with the verification `BY_TRUST_STORE` (RFC 5280 section 6.1).

        `now`: seconds since the epoch. Raises `Refused("client_certificate_refused")` with all reasons if the
        certificate is not valid, and `Unavailable` if the revocation status cannot be fetched.
        """
        return (yield from self.decide(certificate, now)).value

    def decide(self, certificate: ClientCertificate, now: float) -> Flow[Reusable[ClientCertificate]]:
        """Like `validate`, but returns the certificate with the time for which the result may be reused."""
        snapshot = self._snapshot.current(now)
        key = (snapshot.number, certificate.der, certificate.chain)
        validated = self._paths.get(key)
        if validated is None or not self._is_within(validated, now):
            validated = self._validate(snapshot.roots, certificate, now)
            size = sum(map(len, certificate.chain), len(certificate.der))
            self._paths.put(key, validated, size, extra=_OBJECTS + extra_bytes(certificate.der))
        found = Reusable(
            validated.certificate,
            validated.begins - self._leeway,
            validated.ends + self._leeway,
            (partial(self._is_current, weakref.ref(snapshot)),),
        )
        if self._sources is None:
            return found
        return found.within((yield from self._check_revocation(self._sources, validated, now)))

    def _is_current(self, snapshot: "weakref.ref[_Snapshot]", now: float) -> bool:
        """Return whether the files are unchanged since this snapshot.

        `snapshot` is a weak reference, so that a cached decision does not keep an old snapshot in memory.
        """
        return self._snapshot.current(now) is snapshot()

    def _validate(self, roots: chain.Roots, certificate: ClientCertificate, now: float) -> _Validation:
        path = self._path(roots, certificate, now)
        return _Validation(
            certificate.with_verification(
                Verification.BY_TRUST_STORE, (path.begins, path.ends), (certificate.der, *roots.encoded(path))
            ),
            path.begins,
            path.ends,
            () if self._sources is None else self._status_requests(certificate, path),
        )

    def _is_within(self, validated: _Validation, now: float) -> bool:
        return validated.begins - self._leeway <= now <= validated.ends + self._leeway

    def _status_requests(self, certificate: ClientCertificate, path: chain.Path) -> tuple[StatusRequest, ...]:
        try:
            return status_requests(path.certificates)
        except chain.UNREADABLE as error:
            # The distribution points, which are parsed here for the first time, may be unreadable.
            raise chain.refused(
                certificate, f"the extensions of the certificate cannot be read ({type(error).__name__})"
            ) from None

    def _check_revocation(self, sources: RevocationSources, validated: _Validation, now: float) -> Flow[Reusable[None]]:
        try:
            return (yield from sources.check(validated.requests, now))
        except Unavailable:
            raise
        except Refused as refusal:
            raise chain.refused(validated.certificate, *refusal.evidence) from None

    def _path(self, roots: chain.Roots, certificate: ClientCertificate, now: float) -> chain.Path:
        try:
            return roots.path(certificate, now, self._leeway)
        except Refused as refusal:
            expired = roots.outside(certificate, now, self._leeway)
            evidence = (*expired, *refusal.evidence[1:])
            advice = RENEW if expired else refusal.advice
            raise chain.refused(certificate, *evidence, new_connection=bool(expired), advice=advice) from None

    @classmethod
    def _parse(cls, roots: AbstractSet[Path], file: BinaryIO) -> Sequence[x509.Certificate]:
        """Return the certificates of one open file.

        Raises `ValueError`, also for a root that can never validate a client.
        """
        found = cls._read(file.read(), file.name)
        if not roots.isdisjoint((Path(file.name), Path(file.name).parent)):
            root_check.require_usable(found, _PURPOSE, file.name)
        return found

    @staticmethod
    def _read(octets: bytes, file: str) -> Sequence[x509.Certificate]:
        """Return the certificates in the bytes of one file, with its name for messages. Raises `ValueError`."""
        return trust_files.read_certificates(octets, file)


def _check_given(roots: Sequence[x509.Certificate | Path]) -> None:
    """Raises `ConfigurationError` for a root that is given as an object and can never validate a client."""
    for position, root in enumerate(roots):
        defect = root_check.defect(root, _PURPOSE) if isinstance(root, x509.Certificate) else None
        if defect is not None:
            raise ConfigurationError(f"roots[{position}] {defect}")


def _certificates(
    name: str,
    given: Collection[x509.Certificate | Path],
    contents: Contents[Sequence[x509.Certificate]],
    previous: _Snapshot | None,
) -> list[x509.Certificate]:
    found: list[x509.Certificate] = []
    for each in given:
        if isinstance(each, x509.Certificate):
            found.append(each)
            continue
        if previous is None and not contents[each]:
            raise ConfigurationError(f"{name}: the directory {each} contains no *.pem and no *.crt file")
        for certificates in contents[each].values():
            found += certificates
    return found
