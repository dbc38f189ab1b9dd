"""`RevocationLists`: checks certificates against certificate revocation lists (CRLs).

CRLs come from configured files and URLs only. URLs in certificates are never fetched.
"""

import contextlib
import hashlib
import logging
import math
import ssl
import time
import weakref
from collections.abc import Collection, Sequence
from functools import partial
from io import BytesIO
from itertools import count
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from mtls_middleware import options
from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.flow import BlockingDriver, Flow
from mtls_middleware.effects.idle_renewal import IdleRenewal
from mtls_middleware.effects.remote_document import RemoteDocument, UnusableDocument
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.reusable import Reusable, once
from mtls_middleware.validation import crl
from mtls_middleware.validation.crl import RevocationList, StatusRequest
from mtls_middleware.validation.files import MAX_INLINE_SIZE, Contents, FileCache, split
from mtls_middleware.validation.known_lists import KnownLists, status
from mtls_middleware.validation.revocation import EXEMPT, GOOD, CertificateStatus, Statuses

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

_SUFFIXES = (".crl", ".pem")
# Maximum bytes and maximum seconds of one fetch. A list with a million entries has 35 MB.
_LIMIT, _TIMEOUT = 67_108_864, 10.0
# Seconds that a thread sleeps after each millisecond in which it parses a long list, so that other threads have about
# half of the time. A request may parse a short list, so the first milliseconds have no pause.
_REST, _SHORT = 0.001, 10
# The consequence for the log if a file is deleted.
_GONE = "a list that it contained stays in use until a newer list replaces it, or the process restarts"


class RevocationLists:
    """Checks certificates against certificate revocation lists (CRLs), for a `TrustStore`.

    Each certificate of a certification path, except the root, must be covered by a current list that its issuer signed.
    If this is not the case, the client is rejected. If a list could not be fetched, the response is a 503.

    Arguments:
        files: CRL files in DER or PEM with one list in each file, or directories that contain such files (`*.crl`,
            `*.pem`). Changed files are read again. A list stays in use until a newer list replaces it, even if its
            file is deleted, broken, or contains an older list.
        urls: https URLs of CRLs. A list is fetched when it is first needed, then every eight to ten minutes, and again
            after it has expired. The newest list is used until its nextUpdate. A request waits at most 10 seconds for
            the first attempt to fetch each list.
        soft_fail: accept a certificate and log a warning if its status cannot be determined. A certificate that is on a
            list in force is always rejected.
        leaf_only: check only the client's own certificate, not the intermediate CAs.
        tls: verifies the servers of `urls`. Default: the CAs of the system.
        proxy: the URL of an HTTP proxy for `urls`. The variables `HTTPS_PROXY` and `HTTP_PROXY` are ignored.
        allow_http: allow http for loopback addresses. For tests only.

    After the first request, lists are also renewed while the process has no requests: a thread checks every 10 seconds
    whether files have changed and lists at URLs must be fetched.

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
        proxy: str | None = None,
        allow_http: bool = False,
    ) -> None:
        paths = [Path(each) for each in split("files", files, Path, "['clients-ca.crl']")]
        addresses = options.string_list("urls", urls, "'https://ca.internal/clients.crl'")
        if not paths and not addresses:
            raise ConfigurationError(
                "neither files= nor urls= is given; expected at least one of them, for example files=['clients-ca.crl']"
            )
        options.boolean("allow_http", allow_http)
        proxy = options.proxy_url("proxy", proxy)
        for each in addresses:
            check_address("urls", each, allow_http=allow_http)
        self._files = FileCache(paths, _SUFFIXES, _read, _combine, gone=_GONE)
        self._remote = [_RemoteList(each, tls, proxy) for each in dict.fromkeys(addresses)]
        self._soft_fail = options.boolean("soft_fail", soft_fail)
        self._leaf_only = options.boolean("leaf_only", leaf_only)
        self._idle = IdleRenewal(self._renew)

    is_reusable = True

    def statuses(self, requests: Sequence[StatusRequest], now: float) -> Flow[Reusable[Statuses]]:
        """Return the status of each certificate of a validated path: see `Revocation`.

        The status is `"unavailable"` instead of `"not_covered"` if a list could not be fetched.
        """
        unavailable: Unavailable | None = None
        known = [self._files.current(now)]
        self._idle.note(now)
        for remote in self._remote:
            try:
                fetched = yield from remote.current(now)
            except Unavailable as failure:
                unavailable = failure
            else:
                known.append(fetched)
                if fetched.have_expired(now):
                    reason = "the revocation list has expired, and its server has no newer list"
                    unavailable = Unavailable(reason, retry_after=remote.retry_after(now))
        statuses: list[CertificateStatus] = []
        found: Reusable[None] = Reusable(None)
        for number, request in enumerate(requests):
            if number and self._leaf_only:
                statuses.append(EXEMPT)
                continue
            lists = [each for one in known for each in one.by_issuer.get(request.issuer_name, ())]
            each, period = self._status(request, lists, unavailable, now)
            statuses.append(each)
            found = found.within(period)
        if unavailable is not None:
            return once(statuses)
        checks = (partial(self._are_current, [weakref.ref(each) for each in known]),)
        result: Reusable[Statuses] = Reusable(statuses, checks=checks)
        return result.within(found)

    def _renew(self, now: float) -> None:
        """Read changed files, and begin to fetch the lists at URLs that must be renewed. Does not wait for a server.

        A thread calls this method every 10 seconds while the process has no requests. `now`: seconds since the epoch.
        """
        with contextlib.suppress(Unavailable):  # the failure is already in the log
            self._files.current(now)
        for each in self._remote:
            BlockingDriver().run(each.renewal(now))

    def _status(
        self, request: StatusRequest, lists: Sequence[RevocationList], unavailable: Unavailable | None, now: float
    ) -> tuple[CertificateStatus, Reusable[None]]:
        """Return the status of one certificate, and the time for which it is valid."""
        try:
            found = status(request, lists, now)
        except Refused as refusal:
            return CertificateStatus("revoked", refusal.evidence[0]), once(None)
        if isinstance(found, Reusable):
            return GOOD, found
        if unavailable is not None:
            reason = "; ".join(dict.fromkeys((found, *unavailable.evidence)))
            unreachable = CertificateStatus("unavailable", reason, unavailable.retry_after, self._soft_fail)
            return unreachable, once(None)
        # Without a list of the issuer, only a new list can change the status. With a list, the status can also change
        # with time.
        period = once(None) if lists else Reusable(None)
        return CertificateStatus("not_covered", found, soft_fail=self._soft_fail), period

    def _are_current(self, known: "Sequence[weakref.ref[KnownLists]]", now: float) -> bool:
        """Return whether `known` are still the newest lists, and no list must be fetched.

        The references are weak, so that a cached decision does not keep old lists in memory. A list may have a million
        entries.
        """
        files, *remote_lists = known
        return self._files.current(now) is files() and all(
            (found := remote.fresh(now)) is not None and found is each()
            for remote, each in zip(self._remote, remote_lists, strict=True)
        )


class _RemoteList:
    """Fetches and caches the revocation list at one URL."""

    def __init__(self, url: str, tls: ssl.SSLContext | None, proxy: str | None) -> None:
        self._url = url
        # `max_stale` is infinite, because the list contains its own expiry. Until then, the list is used even if the
        # server is unavailable.
        self._document = RemoteDocument(
            url,
            self._parse,
            tls=tls,
            limit=_LIMIT,
            timeout=_TIMEOUT,
            # Long, because requests without a list get 503, and fetching a long list takes seconds.
            first_wait=_TIMEOUT,
            max_inline=MAX_INLINE_SIZE,
            max_stale=math.inf,
            what="urls",
            proxy=proxy,
        )
        self._fingerprint = b""
        self._known = KnownLists.of({})
        self._now = float("-inf")  # the time of the last request or of the last renewal

    def current(self, now: float) -> Flow[KnownLists]:
        """Return the known lists, which may have expired. Raises `Unavailable` if no list could be fetched."""
        self._now = now
        known = yield from self._document.current(now)
        return (yield from self._document.refreshed(now)) if known.have_expired(now) else known

    def renewal(self, now: float) -> Flow[None]:
        """Begin to fetch the list if it is old or has expired. Never waits."""
        self._now = now
        return self._document.renewal(now, is_due=self._known.have_expired(now))

    def fresh(self, now: float) -> KnownLists | None:
        """Return the known lists, or `None` if a newer list must be fetched."""
        return self._document.fresh(now)

    def retry_after(self, now: float) -> int:
        """Return the number of seconds after which a request can cause the next fetch."""
        return self._document.retry_after(now)

    def _parse(self, octets: bytes) -> KnownLists:
        """Return the known lists, which include the list in `octets`. Raises `ValueError` if this list is unusable."""
        fingerprint = hashlib.sha256(octets).digest()
        if fingerprint != self._fingerprint:
            try:
                self._known = self._known.renewed({self._url: _read(BytesIO(octets))}, self._now)
            except ValueError as error:
                raise UnusableDocument(str(error)) from error
            self._fingerprint = fingerprint
        return self._known


def _read(file: BinaryIO) -> RevocationList:
    """Read a list. While a long list is read, other threads run often. Raises `ValueError`."""
    calls = count()

    def let_others_run() -> None:
        if next(calls) > _SHORT:
            # After `sleep(0)`, this thread would often get the lock back before another thread wakes up.
            time.sleep(_REST)

    return crl.read(file, let_others_run)


def _combine(known: KnownLists | None, contents: Contents[RevocationList], now: float) -> KnownLists:
    """Return the known lists after files have changed. Raises `ConfigurationError` at construction."""
    for path, files in contents.items():
        if known is None and not files:
            raise ConfigurationError(f"files: the directory {path} contains no *.crl and no *.pem file")
    found = {str(file): each for files in contents.values() for file, each in files.items()}
    return (known or KnownLists.of({})).renewed(found, now)
