"""`KnownLists`: the revocation lists that this process knows, and what they say about a certificate.

No I/O except log records, and no clock. A list stays known until a newer list of the same key and scope replaces it,
even if its file is deleted, becomes unreadable, or contains an older list.
"""

import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mtls_middleware.cache import Cache
from mtls_middleware.dependencies import report
from mtls_middleware.errors import Refused
from mtls_middleware.reusable import Reusable
from mtls_middleware.validation.crl import RevocationList, Scope, StatusRequest

logger: logging.Logger = logging.getLogger("mtls_middleware.validation")

# Usually there are no former lists. They accumulate if a CA's numbers decrease or its scopes change, or if it is not
# known which newer list replaces a former list, because the signature of the former list was never verified. Limits:
# 8 lists for one issuer's name and one scope; 5 million entries (100 MB) for one issuer's name; 2 million entries in
# all lists whose signature was never verified. Each list counts as 1,000 entries more than it has.
_MAX_LISTS, _MAX_VERIFIED, _MAX_UNVERIFIED, _LIST = 8, 5_000_000, 2_000_000, 1_000

_Kind = tuple[Hashable, Scope]  # newer lists of one kind replace older lists, if the same key signed them


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class KnownLists:
    """The revocation lists that are in use: the current lists, and those former lists that no newer list replaces.

    Attributes:
        current: the lists that the files or the URL contain now, by file or URL.
        former: lists that the files or the URL contained earlier, and that no newer list replaces.
        by_issuer: all current and former lists, grouped by `RevocationList.issuer`.
    """

    current: Mapping[str, RevocationList]
    former: Sequence[RevocationList]
    by_issuer: Mapping[Hashable, Sequence[RevocationList]]

    @classmethod
    def of(cls, current: Mapping[str, RevocationList], former: Sequence[RevocationList] = ()) -> "KnownLists":
        """Return the known lists with `by_issuer`. Example: `KnownLists.of({"ca.crl": crl.parse(octets)})`"""
        by_issuer: dict[Hashable, list[RevocationList]] = {}
        for each in (*current.values(), *former):
            by_issuer.setdefault(each.issuer, []).append(each)
        return cls(current, former, by_issuer)

    def have_expired(self, now: float) -> bool:
        """Return whether all lists have expired."""
        return all(each.next_update < now for each in self.all)

    @property
    def all(self) -> tuple[RevocationList, ...]:
        """All known lists: the current lists and the former lists."""
        return (*self.current.values(), *self.former)

    def renewed(self, found: Mapping[str, RevocationList], now: float) -> "KnownLists":
        """Return the known lists after the files or the URL have changed.

        `found`: the lists that the files or URLs contain now, by file or URL. Logs an error if a list is older than a
        known list.
        """
        known = {each.digest: each for each in self.all}
        by_kind = _by_kind(known.values())
        for origin, each in found.items():
            if each.digest not in known:
                _log_order(origin, each, self.current.get(origin), by_kind.get(_kind(each), ()))
        # A list that is already known keeps the results of its signature checks.
        current = {origin: known.get(each.digest, each) for origin, each in found.items()}
        digests = {each.digest for each in current.values()}
        former = [each for each in known.values() if each.digest not in digests]
        return KnownLists.of(current, list(_needed(former, _by_kind((*current.values(), *former)), now)))


def _kind(found: RevocationList) -> _Kind:
    return found.issuer, found.scope


def _by_kind(lists: Iterable[RevocationList]) -> Mapping[_Kind, Sequence[RevocationList]]:
    found: dict[_Kind, list[RevocationList]] = {}
    for each in lists:
        found.setdefault(_kind(each), []).append(each)
    return found


def _log_order(
    origin: str, new: RevocationList, before: RevocationList | None, known: Sequence[RevocationList]
) -> None:
    """Log an error if a new list is older than a known list of its kind, or if it is not certain which list is newer.

    `before`: the list that the file or the URL contained before.
    """
    for each in known:
        signer = each.signer
        if new.supersedes(each) or (each is not before and (signer is None or not new.is_signed_by(signer))):
            continue  # no error: the list is newer, or possibly from another CA with the same name
        if each.supersedes(new):
            _log(origin, new, "is older than", each, "the newer list stays in use; to use the older list, restart")
        else:
            _log(origin, new, "is neither newer nor older than", each, "what is on either list is revoked")
        return


def _log(origin: str, new: RevocationList, relation: str, known: RevocationList, advice: str) -> None:
    reason = (
        f"{origin}: the revocation list (thisUpdate {_time(new)}, cRLNumber {new.number}) {relation} a known list of "
        f"its issuer (thisUpdate {_time(known)}, cRLNumber {known.number})"
    )
    logger.error("%s; %s", reason, advice)
    report("revocation_list_failed", reason)


def _time(found: RevocationList) -> str:
    return datetime.fromtimestamp(found.this_update, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _needed(
    former: Sequence[RevocationList], known: Mapping[_Kind, Sequence[RevocationList]], now: float
) -> Iterator[RevocationList]:
    """Yield the former lists that no newer list of `known` replaces, within the limits.

    A list replaces another list only if the same key signed both, and if its thisUpdate is not in the future.
    """
    # Lists whose signature was never verified are counted separately, because anyone can create such lists.
    lists: Counter[Hashable] = Counter()
    entries: Counter[Hashable] = Counter()
    for each in sorted(former, key=_order, reverse=True):
        signer, kind = each.signer, _kind(each)
        if signer is not None and any(
            other.supersedes(each) and other.this_update <= now and other.is_signed_by(signer) for other in known[kind]
        ):
            continue
        issuer = each.issuer if signer is not None else None
        lists[kind, signer is None] += 1
        entries[issuer] += len(each.serials) + _LIST
        limit = _MAX_UNVERIFIED if signer is None else _MAX_VERIFIED
        if lists[kind, signer is None] <= _MAX_LISTS and entries[issuer] <= limit:
            yield each


def status(request: StatusRequest, lists: Sequence[RevocationList], now: float) -> Reusable[None] | str:
    """Return the time for which a certificate is not revoked, or the reason why its status is unknown.

    `lists`: the known lists with the name of the certificate's issuer. Raises `Refused` if the certificate is revoked,
    that is, if any list in force contains its serial number. The order of `lists` has no effect.
    """
    in_force = _in_force(request, lists, now)
    if any(request.serial in each.serials for each in in_force):
        raise Refused("client_certificate_refused", f"serial {request.serial:x} is revoked")
    covering = [each for each in in_force if each.covers(request)]
    future = [each.this_update for each in in_force if each.this_update > now]
    effective = [each for each in covering if each.this_update <= now]
    if not effective:
        reason = f"no revocation list of its issuer covers serial {request.serial:x}"
        if not covering:
            return reason
        ahead = min(each.this_update for each in covering) - now
        return f"{reason} yet: thisUpdate is {ahead:.0f} s ahead, so check the clocks"
    fresh = [each for each in effective if now <= each.next_update]
    if not fresh:
        return f"the revocation list for serial {request.serial:x} has expired"
    _warn_near_end(max(fresh, key=lambda each: each.next_update), now)
    return Reusable(
        None, max(each.this_update for each in fresh), min([*(each.next_update for each in fresh), *future])
    )


def _in_force(request: StatusRequest, lists: Sequence[RevocationList], now: float) -> list[RevocationList]:
    """Return the lists that the certificate's issuer signed, without the lists that a newer list replaces.

    Lists whose scope does not include the certificate are included if they contain its serial number. A list whose
    thisUpdate is in the future is in force, but replaces no other list. If it is not certain which of two lists is
    newer, both are in force.
    """
    scopes = {each.scope for each in lists if each.covers(request) or request.serial in each.serials}
    signed = [each for each in lists if each.scope in scopes and each.is_signed_by_issuer(request)]
    in_force = [each for each in signed if each.this_update > now]
    for kind in _by_kind(each for each in signed if each.this_update <= now).values():
        newest: RevocationList | None = None  # the first of the lists with the highest cRLNumber
        for each in sorted(kind, key=_order, reverse=True):
            if newest is None or not newest.supersedes(each):
                in_force.append(each)
                newest = each if newest is None or each.number > newest.number else newest
    return in_force


def _order(found: RevocationList) -> tuple[float, int]:
    return found.this_update, found.number


# A list expires soon in the last tenth of its period. Most CAs publish the next list in the middle of the period.
_NEAR_END = 0.1
# The lists about whose expiry a warning was logged. A list is identified by its period and size, so two lists with the
# same period and size cause only one warning.
_warned: Cache[tuple[float, float, int], bool] = Cache(1_000)


def _warn_near_end(newest: RevocationList, now: float) -> None:
    """Log a warning, once for each list, if it expires soon and no newer list has replaced it."""
    key = (newest.this_update, newest.next_update, len(newest.serials))
    remaining = newest.next_update - now
    if remaining < _NEAR_END * (newest.next_update - newest.this_update) and _warned.get(key) is None:
        _warned.put(key, True)
        reason = f"a revocation list expires in {remaining / 3_600:.1f} hours, and no newer list has replaced it"
        logger.warning("%s; after that, the status of all certificates of its issuer is unknown", reason)
        report("revocation_list_ending", reason)
