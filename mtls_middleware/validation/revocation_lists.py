"""`RevocationLists`: checks by certificate revocation lists (CRLs) whether a certificate of a path is revoked.

CRLs come from configured files and URLs only. URLs in certificates are never fetched. OCSP is not supported: see
docs/validation.md.
"""

import logging
import math
import ssl
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path

from cryptography import x509

from mtls_middleware.cache import Cache
from mtls_middleware.dependencies import report
from mtls_middleware.effects.flow import Flow
from mtls_middleware.effects.remote_document import COOL_DOWN, RemoteDocument, check_address
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.reusable import Reusable, once
from mtls_middleware.validation import crl
from mtls_middleware.validation.crl import RevocationList, StatusRequest
from mtls_middleware.validation.files import Contents, FileCache, split

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

_SUFFIXES = (".crl", ".pem")
# Maximum bytes and maximum seconds of one fetch. A list with a million entries has 35 MB.
_LIMIT, _TIMEOUT = 67_108_864, 10.0
# Maximum bytes of a list that is parsed by the request that fetched it. If there is an old list, a thread parses a
# larger list.
_MAX_INLINE_SIZE = 2_097_152


class RevocationLists:
    """Checks by certificate revocation lists (CRLs) whether a certificate is revoked, for a `TrustStore`.

    Each certificate of a path, except the root, must be covered by a current list that its issuer signed. If this is
    not the case, the client is rejected. If a list could not be fetched, the response is a 503.

    Arguments:
        files: CRL files in DER or PEM with one list in each file, or directories that contain such files (`*.crl`,
            `*.pem`). Changed files are read again.
        urls: https URLs of CRLs. A list is fetched when it is first needed, then every ten minutes, and again after it
            has expired. The last good list is used until its nextUpdate.
        soft_fail: accept a certificate and log a warning if its status cannot be determined. A certificate that is on a
            list is always rejected.
        leaf_only: check only the client's own certificate, not the intermediate CAs.
        tls: verifies the servers of `urls`. Default: the CAs of the system.
        allow_http: allow http for loopback addresses. For tests only.

    Raises `ConfigurationError` if neither files nor URLs are given, if a file is not a CRL, or if a CRL is not
    supported: a delta CRL, an indirect CRL, a CRL for some reasons only, or a CRL without nextUpdate or cRLNumber.

    Example: `TrustStore(["clients-ca.pem"], revocation=RevocationLists(["clients-ca.crl"]))`
    """

    def __init__(
        self,
        files: Collection[str | PathLike[str]] = (),
        *,
        urls: Collection[str] = (),
        soft_fail: bool = False,
        leaf_only: bool = False,
        tls: ssl.SSLContext | None = None,
        allow_http: bool = False,
    ) -> None:
        paths = [Path(each) for each in split("files", files, Path, "['clients-ca.crl']")]
        if isinstance(urls, (str, bytes)) or not isinstance(urls, Collection):
            raise ConfigurationError(f"urls={urls!r}: expected a list, for example ['https://ca.internal/clients.crl']")
        if not paths and not urls:
            raise ConfigurationError(
                "neither files= nor urls= is given; expected at least one of them, for example files=['clients-ca.crl']"
            )
        for each in urls:
            check_address("urls", each, allow_http=allow_http)
        self._files = FileCache(paths, _SUFFIXES, _parse_files)
        self._remote = [_RemoteList(each, tls) for each in dict.fromkeys(urls)]
        self._soft_fail, self._leaf_only = soft_fail, leaf_only
        self._warned_at = float("-inf")

    is_reusable = True

    def check(self, requests: Sequence[StatusRequest], now: float) -> Flow[Reusable[None]]:
        """Check that no certificate of a validated path is revoked, and return the time for which this result is valid.

        `requests`: the `status_requests` of the path. `now`: seconds since the epoch.

        Raises `Refused` with the reason if a certificate is revoked or its status is unknown. Raises `Unavailable`
        instead of `Refused` if the status is unknown because a list could not be fetched.
        """
        unavailable: Unavailable | None = None
        files = self._files.current(now)
        lists: Mapping[bytes, tuple[RevocationList, ...]] = files
        remote_lists: list[RevocationList] = []
        found: Reusable[None] = Reusable(None)
        for remote in self._remote:
            try:
                fetched = yield from remote.current(now)
            except Unavailable as failure:
                unavailable = failure
            else:
                remote_lists.append(fetched)
                lists = {**lists, fetched.issuer: (*lists.get(fetched.issuer, ()), fetched)}
                if now > fetched.next_update:
                    unavailable = Unavailable(
                        "the revocation list has expired, and its server has no newer list", retry_after=int(COOL_DOWN)
                    )
        for request in requests[:1] if self._leaf_only else requests:
            status = _status(request, lists.get(request.issuer_name, ()), now)
            if isinstance(status, Reusable):
                found = Reusable(None, max(found.begins, status.begins), min(found.ends, status.ends))
                continue
            if not self._soft_fail:
                raise unavailable or Refused("client_certificate_refused", status)
            found = once(None)  # the result is not reused, so that each use can be logged
            if abs(now - self._warned_at) >= COOL_DOWN:
                self._warned_at = now
                logger.warning("accepted because of soft_fail: %s", status)
        if unavailable is not None:
            return once(None)
        known = [weakref.ref(each) for each in remote_lists]
        return found._replace(checks=(partial(self._are_current, weakref.ref(files), known),))

    def _are_current(
        self, files: "weakref.ref[_Lists]", remote_lists: "Sequence[weakref.ref[RevocationList]]", now: float
    ) -> bool:
        """Return whether `files` and `remote_lists` are still the newest lists, and none of them must be fetched.

        The references are weak, so that a cached decision does not keep old lists in memory. A list may have a million
        entries.
        """
        return self._files.current(now) is files() and all(
            (found := remote.fresh(now)) is not None and found is each()
            for remote, each in zip(self._remote, remote_lists, strict=True)
        )


def status_requests(path: Sequence[x509.Certificate]) -> tuple[StatusRequest, ...]:
    """Return the status requests for a path from leaf to root: one for each certificate except the root."""
    return tuple(StatusRequest(certificate, issuer) for certificate, issuer in pairwise(path))


def _status(request: StatusRequest, lists: Sequence[RevocationList], now: float) -> Reusable[None] | str:
    """Return the time for which the certificate is not revoked, or the reason why its status is unknown.

    Raises `Refused` if the certificate is revoked.
    """
    signed = [each for each in lists if each.covers(request) and each.is_signed_by_issuer(request)]
    effective = [each for each in signed if each.this_update <= now]
    if not effective:
        return f"no revocation list of its issuer covers serial {request.serial:x}"
    newest = max(effective, key=lambda each: each.this_update)
    if request.serial in newest.serials:
        raise Refused("client_certificate_refused", f"serial {request.serial:x} is revoked")
    if now > newest.next_update:
        return f"the revocation list for serial {request.serial:x} has expired"
    _warn_near_end(newest, now)
    later = (each.this_update for each in signed if each.this_update > now)
    return Reusable(None, newest.this_update, min([newest.next_update, *later]))


# A list is near its end in the last tenth of its period. Most CAs publish the next list in the middle of the period.
_NEAR_END = 0.1
# The lists about whose end there was a warning, by their period and size. If two lists have the same
# period and size, there is only one warning.
_warned: Cache[tuple[float, float, int], bool] = Cache(1_000)


def _warn_near_end(newest: RevocationList, now: float) -> None:
    """Log a warning, once for each list, if no newer list has replaced it and it ends soon."""
    key = (newest.this_update, newest.next_update, len(newest.serials))
    remaining = newest.next_update - now
    if remaining < _NEAR_END * (newest.next_update - newest.this_update) and _warned.get(key) is None:
        _warned.put(key, True)
        reason = f"a revocation list ends in {remaining / 3_600:.1f} hours, and no newer list has replaced it"
        logger.warning("%s; after its end, no certificate of its issuer has a known status", reason)
        report("revocation_list_ending", reason)


class _RemoteList:
    """Fetches and caches the revocation list at one URL."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self._url = url
        # `max_stale` is infinite, because the list contains its own expiry. Until then, the list is used even if the
        # server is unavailable.
        self._document = RemoteDocument(
            url, self._parse, tls=tls, limit=_LIMIT, timeout=_TIMEOUT, max_stale=math.inf, what="urls"
        )
        self._fingerprint = b""
        self._list: RevocationList | None = None

    def current(self, now: float) -> Flow[RevocationList]:
        """Return the last fetched list, which may have expired. Raises `Unavailable` if no list could be fetched."""
        yield from self._document.current(now)
        if self._list is not None and now > self._list.next_update:
            yield from self._document.refreshed(now)
        if self._list is None:  # never true, because the first list is parsed before `current` returns
            raise Unavailable(f"the revocation list at {self._url} is unavailable", retry_after=int(COOL_DOWN))
        return self._list

    def fresh(self, now: float) -> RevocationList | None:
        """Return the cached list, or `None` if a newer list must be fetched."""
        return None if self._document.fresh(now) is None else self._list

    def _parse(self, octets: bytes) -> bytes:
        """Parse and store the list in `octets`, and return its fingerprint. Raises `ValueError` if it is unusable.

        If a large list replaces another list, a thread parses it later.
        """
        fingerprint = crl.fingerprint(octets)
        if fingerprint == self._fingerprint:
            return fingerprint
        if self._list is None or len(octets) <= _MAX_INLINE_SIZE:
            self._replace(octets, fingerprint)
        else:
            arguments = (octets, fingerprint)
            threading.Thread(
                target=self._replace_in_thread, args=arguments, name="mtls-middleware list", daemon=True
            ).start()
        return fingerprint

    def _replace(self, octets: bytes, fingerprint: bytes) -> None:
        found = crl.parse(octets)
        if self._list is not None and found.this_update < self._list.this_update:
            raise ValueError("it is older than the current list")
        self._list, self._fingerprint = found, fingerprint

    def _replace_in_thread(self, octets: bytes, fingerprint: bytes) -> None:
        try:
            self._replace(octets, fingerprint)
        except ValueError as error:
            logger.error("the new revocation list from %s is unusable; the old list stays in use: %s", self._url, error)
            report("revocation_list_failed", f"the new revocation list from {self._url} is unusable: {error}")


class _Lists(dict[bytes, tuple[RevocationList, ...]]):
    """Maps issuers to the lists in all files. Unlike a plain `dict`, it can be the target of a weak reference."""


def _parse_files(contents: Contents) -> _Lists:
    """Parse the lists in all files, and group the lists by issuer. Raises `ConfigurationError`."""
    found = _Lists()
    for path, files in contents.items():
        if not files:
            raise ConfigurationError(f"files: the directory {path} contains no *.crl and no *.pem file")
        for file, octets in files:
            try:
                each = crl.parse(octets)
            except ValueError as error:
                raise ConfigurationError(f"files: {file}: {error}") from error
            found[each.issuer] = (*found.get(each.issuer, ()), each)
    return found
