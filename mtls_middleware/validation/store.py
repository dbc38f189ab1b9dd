"""`TrustStore`: validates client certificates: a path to a root first, then the revocation status along the path."""

import copy
import weakref
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Self

from cryptography import x509

from mtls_middleware import options
from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.reusable import Reusable, once, opts_in
from mtls_middleware.validation import chain
from mtls_middleware.validation.crl import StatusRequest
from mtls_middleware.validation.files import Contents, FileCache, split
from mtls_middleware.validation.revocation_lists import RevocationLists, status_requests
from mtls_middleware.validity import check_clock_skew

# Certificates between leaf and root. Private PKIs have one or two; every one more costs a signature.
_DEPTH = 5
# Bytes of the leaves and chains whose paths are cached, and of the largest of them: a client with one good certificate
# can present endless other certificates with it.
_CACHED, _LARGEST = 16 * 1024 * 1024, 16_384

Given = x509.Certificate | str | PathLike[str]


@dataclass(frozen=True, slots=True)
class _Validated:
    """A certificate with a path that was found, and the certificates whose revocation status must be known."""

    certificate: ClientCertificate
    questions: tuple[StatusRequest, ...]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class _Snapshot:
    """The store as its files are at one time, and the paths that were found with it."""

    roots: chain.Roots
    paths: Cache[tuple[bytes, tuple[bytes, ...]], _Validated] = field(
        default_factory=lambda: Cache(_CACHED, largest=_LARGEST)
    )


class TrustStore:
    """The roots that client certificates may come from, and how strictly.

    Arguments:
        roots: `cryptography` certificates, PEM files, or directories of them (`*.pem`, `*.crt`). Few, and your own:
            whoever else gets certificates from a root of yours can take any name (RFC 8705 7.4). Files that change are
            read again within about a second of use; a broken new file is logged, and the old one stays.
        intermediates: the same, for clients that do not send theirs.
        revocation: `RevocationLists`; without them nothing is ever taken for revoked.
        require_client_auth_eku: refuse a leaf without extended key usage; one that has it without clientAuth always is.
        max_depth: certificates that may stand between leaf and root, 0 to 16.
        leeway: tolerance at both ends of the validity periods of the path, in seconds, 0 to 300. Default: the
            `clock_skew` of the `ClientCertificateMiddleware` or `ClientAuthenticator` that uses the store; 0 if your
            own code calls `validate`. A value given here is a second limit beside `clock_skew`, never a wider one: the
            smaller of the two counts.

    Raises `ConfigurationError`.

    Example: `TrustStore(["clients-ca.pem"])`
    """

    _suffixes: tuple[str, ...] = (".pem", ".crt")

    def __init__(
        self,
        roots: Collection[Given],
        *,
        intermediates: Collection[Given] = (),
        revocation: RevocationLists | None = None,
        require_client_auth_eku: bool = False,
        max_depth: int = _DEPTH,
        leeway: float | None = None,
    ) -> None:
        if revocation is not None and not isinstance(revocation, RevocationLists):
            raise ConfigurationError(f"revocation={revocation!r}: for example RevocationLists(['clients-ca.crl'])")
        options.integer("max_depth", max_depth, 0, 16, _DEPTH)
        self._given_leeway = None if leeway is None else check_clock_skew("leeway", leeway)
        self._leeway = self._given_leeway or 0.0
        self._revocation = revocation
        given = {
            "roots": split("roots", roots, x509.Certificate, "['clients-ca.pem']"),
            "intermediates": split("intermediates", intermediates, x509.Certificate, "['issuing-ca.pem']"),
        }

        def make(contents: Contents) -> _Snapshot:
            found = {name: self._certificates(name, each, contents) for name, each in given.items()}
            if not found["roots"]:
                raise ConfigurationError("roots is empty: no client could ever be validated")
            return _Snapshot(
                chain.Roots(
                    found["roots"],
                    found["intermediates"],
                    max_depth=max_depth,
                    require_client_auth_eku=require_client_auth_eku,
                )
            )

        self._snapshot = FileCache(
            [each for both in given.values() for each in both if isinstance(each, Path)], self._suffixes, make
        )

    def with_clock_skew(self, clock_skew: float) -> Self:
        """The same store with this tolerance, or its `leeway` if that is smaller. Files and verdicts are shared.

        Example: `store.with_clock_skew(60)`
        """
        found = copy.copy(self)
        found._leeway = clock_skew if self._given_leeway is None else min(clock_skew, self._given_leeway)
        return found

    @classmethod
    def from_pem_file(cls, path: str | PathLike[str], **options: Any) -> Self:
        """The roots of one PEM file, read again when it changes. Takes and raises what the constructor does.

        Example: `TrustStore.from_pem_file("clients-ca.pem")`
        """
        return cls([path], **options)

    is_reusable = True

    def validate(self, certificate: ClientCertificate, now: float) -> Flow[ClientCertificate]:
        """The certificate as `BY_TRUST_STORE` (RFC 5280 section 6.1).

        `now`: seconds since the epoch. Raises `Refused("client_certificate_refused")` with every reason, and
        `Unavailable` if revocation lists cannot be fetched.
        """
        return (yield from self.decide(certificate, now)).value

    def decide(self, certificate: ClientCertificate, now: float) -> Flow[Reusable[ClientCertificate]]:
        """The same, with the time for which the result holds."""
        snapshot = self._snapshot.current(now)
        key = (certificate.der, certificate.chain)
        validated = snapshot.paths.get(key)
        if validated is None or not self._is_within(validated.certificate.period, now):
            validated = self._validated(snapshot.roots, certificate, now)
            size = sum(map(len, certificate.chain), len(certificate.der))
            snapshot.paths.put(key, validated, size, extra=certificate.cost)
        begins, ends = validated.certificate.period
        found = Reusable(
            validated.certificate,
            begins - self._leeway,
            ends + self._leeway,
            (partial(self._is_current, weakref.ref(snapshot)),),
        )
        if self._revocation is None:
            return found
        status = yield from self._unrevoked(self._revocation, validated, now)
        if not opts_in(self._revocation):
            return once(validated.certificate)
        return found._replace(
            begins=max(found.begins, status.begins),
            ends=min(found.ends, status.ends),
            checks=(*found.checks, *status.checks),
        )

    def _is_current(self, snapshot: "weakref.ref[_Snapshot]", now: float) -> bool:
        """Whether the files are unchanged. A cached decision must not keep an old snapshot in memory."""
        return self._snapshot.current(now) is snapshot()

    def _validated(self, roots: chain.Roots, certificate: ClientCertificate, now: float) -> _Validated:
        path = self._path(roots, certificate, now)
        return _Validated(
            certificate.with_verification(Verification.BY_TRUST_STORE, (path.begins, path.ends)),
            () if self._revocation is None else self._questions(certificate, path),
        )

    def _is_within(self, period: tuple[float, float], now: float) -> bool:
        return period[0] - self._leeway <= now <= period[1] + self._leeway

    def _questions(self, certificate: ClientCertificate, path: chain.Path) -> tuple[StatusRequest, ...]:
        try:
            return status_requests(path.certificates)
        except chain.UNREADABLE as error:  # distribution points, which nobody has read so far
            raise chain.refused(certificate, f"its extensions cannot be read ({type(error).__name__})") from None

    def _unrevoked(self, revocation: RevocationLists, validated: _Validated, now: float) -> Flow[Reusable[None]]:
        try:
            return (yield from revocation.check(validated.questions, now))
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
            raise chain.refused(certificate, *evidence, new_connection=bool(expired)) from None

    def _certificates(
        self, name: str, given: Collection[x509.Certificate | Path], contents: Contents
    ) -> list[x509.Certificate]:
        found: list[x509.Certificate] = []
        for each in given:
            if isinstance(each, x509.Certificate):
                found.append(each)
                continue
            if not contents[each]:
                raise ConfigurationError(f"{name}: {each} holds no *.pem and no *.crt file")
            for file, octets in contents[each]:
                try:
                    found += self._read(octets)
                except ValueError as error:
                    raise ConfigurationError(f"{name}: {file}: no PEM certificates ({error})") from error
        return found

    @staticmethod
    def _read(octets: bytes) -> list[x509.Certificate]:
        """One file's certificates; SPIFFE bundles have a second form. Raises `ValueError`."""
        return read_pem(octets)


def read_pem(octets: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM file, whole. Raises `ValueError`."""
    try:
        found = x509.load_pem_x509_certificates(octets)
    except chain.UNREADABLE as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if octets.count(b"-----BEGIN ") != len(found) or octets.count(b"-----END ") != len(found):
        raise ValueError("something else than whole certificates in it")  # half a file, or a private key
    return found
