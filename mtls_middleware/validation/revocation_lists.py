"""`RevocationLists`: is a certificate of a validated path revoked? CRLs from configured files and addresses alone.

Must never know: an address out of a certificate. No OCSP: see docs/validation.md.
"""

import logging
import math
import ssl
import threading
from collections.abc import Collection, Sequence
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path

from cryptography import x509

from mtls_middleware.effects.flow import Flow
from mtls_middleware.effects.remote_document import COOL_DOWN, RemoteDocument, check_address
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.reusable import Reusable, once
from mtls_middleware.validation import crl
from mtls_middleware.validation.crl import RevocationList, StatusRequest
from mtls_middleware.validation.files import Contents, Watched, split

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

_SUFFIXES = (".crl", ".pem")
# A list of a million has 35 MB.
_LIMIT, _TIMEOUT = 67_108_864, 10.0
# Up to here a list is read by the request that fetched it; beyond, by a thread, where there is an old one meanwhile.
_READ_IN_PASSING = 2_097_152


class RevocationLists:
    """Certificate revocation lists, for `TrustStore(..., revocation=RevocationLists([...]))`.

    Every certificate of a path, the root aside, must be covered by a current list that its issuer signed. Where that is
    not so, the client is refused (where a list could not be fetched: 503).

    Arguments:
        files: CRL files, DER or PEM, one list each, or directories of them (`*.crl`, `*.pem`). Read again when changed.
        urls: addresses of CRLs, https. Fetched when first needed, then every ten minutes, and once more when a list has
            expired; the last good list serves until its nextUpdate.
        soft_fail: let a certificate pass whose status cannot be determined, with a line in the log. One that a list
            names is refused all the same.
        leaf_only: ask for the status of the client's own certificate alone, not of the CAs above it.
        tls: how the servers of `urls` are verified, where the system's CAs do not do.
        allow_http: admit plain http to loopback addresses, for tests.

    Raises `ConfigurationError`: nothing given, a file that is no list, or one of a kind that is not processed (delta,
    indirect, for some reasons only, without nextUpdate or cRLNumber).

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
            raise ConfigurationError(f"urls={urls!r}: a list, for example ['https://ca.internal/clients.crl']")
        if not paths and not urls:
            raise ConfigurationError("neither files nor urls: no certificate's status could ever be known")
        for each in urls:
            check_address("urls", each, allow_http=allow_http)
        self._files = Watched(paths, _SUFFIXES, _read)
        self._remote = [_Remote(each, tls) for each in dict.fromkeys(urls)]
        self._soft_fail, self._leaf_only = soft_fail, leaf_only
        self._warned_at = float("-inf")

    def check(self, questions: Sequence[StatusRequest], now: float) -> Flow[Reusable[None]]:
        """Check that no certificate of a validated path is revoked. `questions`: the `status_requests` of the path.

        Returns the time for which this holds.

        Raises `Refused` with the reason, and `Unavailable` where a list that might say more cannot be fetched.
        """
        unavailable: Unavailable | None = None
        files = lists = self._files.current(now)
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
                        "a list has expired, and there is none after it", retry_after=int(COOL_DOWN)
                    )
        for asked in questions[:1] if self._leaf_only else questions:
            status = _status(asked, lists.get(asked.issuer_name, ()), now)
            if isinstance(status, Reusable):
                found = Reusable(None, max(found.begins, status.begins), min(found.ends, status.ends))
                continue
            unknown = status
            if not self._soft_fail:
                raise unavailable or Refused("client_certificate_refused", unknown)
            found = once(None)  # each use is logged
            if abs(now - self._warned_at) >= COOL_DOWN:
                self._warned_at = now
                logger.warning("let pass by soft_fail: %s", unknown)
        if unavailable is not None:
            return once(None)
        return found._replace(checks=(partial(self._are_current, files, remote_lists),))

    def _are_current(self, files: object, remote_lists: Sequence[RevocationList], now: float) -> bool:
        """Whether these are still the newest lists, and none of them has to be fetched."""
        return self._files.current(now) is files and all(
            remote.fresh(now) is each for remote, each in zip(self._remote, remote_lists, strict=True)
        )


def status_requests(path: Sequence[x509.Certificate]) -> tuple[StatusRequest, ...]:
    """What is asked along a path, leaf to root: the status of each but the root."""
    return tuple(StatusRequest(certificate, issuer) for certificate, issuer in pairwise(path))


def _status(asked: StatusRequest, lists: Sequence[RevocationList], now: float) -> Reusable[None] | str:
    """The time for which the certificate is good; or why its status is unknown. Raises `Refused` if it is revoked."""
    signed = [each for each in lists if each.covers(asked) and each.is_signed_by(asked)]
    begun = [each for each in signed if each.this_update <= now]
    if not begun:
        return f"no revocation list of its issuer covers serial {asked.serial:x}"
    newest = max(begun, key=lambda each: each.this_update)
    if asked.serial in newest.serials:
        raise Refused("client_certificate_refused", f"serial {asked.serial:x} is revoked")
    if now > newest.next_update:
        return f"the revocation list for serial {asked.serial:x} has expired"
    later = (each.this_update for each in signed if each.this_update > now)
    return Reusable(None, newest.this_update, min([newest.next_update, *later]))


class _Remote:
    """The list behind one address: the last good one, until it expires."""

    def __init__(self, url: str, tls: ssl.SSLContext | None) -> None:
        self._url = url
        # A list says itself how long it serves: nobody waits for a server that is down before that.
        self._fetched = RemoteDocument(
            url, self._take_in, tls=tls, limit=_LIMIT, timeout=_TIMEOUT, max_stale=math.inf, what="urls"
        )
        self._fingerprint = b""
        self._list: RevocationList | None = None

    def current(self, now: float) -> Flow[RevocationList]:
        """The list, which may have expired. Raises `Unavailable` where there never was one."""
        yield from self._fetched.current(now)
        if self._list is not None and now > self._list.next_update:
            yield from self._fetched.refreshed(now)
        if self._list is None:  # the first is read in passing, so there is one
            raise Unavailable(f"nothing from {self._url}", retry_after=int(COOL_DOWN))
        return self._list

    def fresh(self, now: float) -> RevocationList | None:
        """The list, if there is no need to look for a newer list."""
        return None if self._fetched.fresh(now) is None else self._list

    def _take_in(self, octets: bytes) -> bytes:
        """The fingerprint of what came. A long list that replaces another is read by a thread. Raises `ValueError`."""
        fingerprint = crl.fingerprint(octets)
        if fingerprint == self._fingerprint:
            return fingerprint
        if self._list is None or len(octets) <= _READ_IN_PASSING:
            self._replace(octets, fingerprint)
        else:
            arguments = (octets, fingerprint)
            threading.Thread(
                target=self._replace_later, args=arguments, name="mtls-middleware list", daemon=True
            ).start()
        return fingerprint

    def _replace(self, octets: bytes, fingerprint: bytes) -> None:
        found = crl.parse(octets)
        if self._list is not None and found.this_update < self._list.this_update:
            raise ValueError("older than the list before")
        self._list, self._fingerprint = found, fingerprint

    def _replace_later(self, octets: bytes, fingerprint: bytes) -> None:
        try:
            self._replace(octets, fingerprint)
        except ValueError as error:
            logger.error("the new list from %s is of no use, the old one stays: %s", self._url, error)


def _read(contents: Contents) -> dict[bytes, tuple[RevocationList, ...]]:
    """The lists of all files by issuer. Raises `ConfigurationError`."""
    found: dict[bytes, tuple[RevocationList, ...]] = {}
    for path, files in contents.items():
        if not files:
            raise ConfigurationError(f"files: {path} holds no *.crl and no *.pem file")
        for file, octets in files:
            try:
                each = crl.parse(octets)
            except ValueError as error:
                raise ConfigurationError(f"files: {file}: {error}") from error
            found[each.issuer] = (*found.get(each.issuer, ()), each)
    return found
