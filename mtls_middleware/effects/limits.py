"""`ConcurrencyLimit`: limits the concurrent exchanges with one server, in total and for each client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate

# Concurrent exchanges for each certificate, of 50 in total. A service usually has only a few requests in progress.
_PER_CERTIFICATE = 10
# For each client name. One client may have many short-lived certificates, and one service many replicas.
_PER_NAME = 25
# For each peer address. All clients behind one proxy share an address.
_PER_ADDRESS = 20
# For all clients without a verified certificate together. Such clients can create any number of certificates and
# addresses, so half of the exchanges are reserved for clients with a verified certificate.
_UNVERIFIED = 25


class Share(NamedTuple):
    """A limit of `most` concurrent exchanges for all that have the same `key`."""

    key: str
    most: int


Shares = tuple[Share, ...]


def shares(certificate: ClientCertificate | None, address: str | None) -> Shares:
    """Return the shares of the client that caused an exchange, the smallest first. `address`: the peer address."""
    own = () if certificate is None else (Share(f"certificate {certificate.thumbprint}", _PER_CERTIFICATE),)
    if certificate is not None and certificate.verified:
        return *own, Share(f"name {_names(certificate)}", _PER_NAME)
    return *own, Share(f"address {address}", _PER_ADDRESS), Share("unverified", _UNVERIFIED)


def _names(certificate: ClientCertificate) -> str:
    """Subject and alternative names, which all certificates of one client have in common."""
    try:
        return f"{certificate.subject} {certificate.alternative_names}"
    except MalformedCertificate:
        return "unreadable"


@dataclass(slots=True)
class _CountedSemaphore:
    """A semaphore and the number of exchanges that use it or wait for it."""

    semaphore: asyncio.Semaphore
    users: int = 0


class ConcurrencyLimit:
    """Limits concurrent exchanges to `most`.

    An exchange waits for its shares first, so one client cannot fill the queue.
    """

    def __init__(self, most: int) -> None:
        self._total = asyncio.Semaphore(most)
        self._shares: dict[str, _CountedSemaphore] = {}

    @contextlib.asynccontextmanager
    async def slot(self, shares: Shares, seconds: float) -> AsyncIterator[None]:
        """Hold a slot for one exchange. Raises `TimeoutError` if none is free within `seconds`."""
        async with contextlib.AsyncExitStack() as held:
            async with asyncio.timeout(seconds):
                for share in shares:
                    await held.enter_async_context(self._share_slot(share))
                await held.enter_async_context(self._total)
            yield

    @contextlib.asynccontextmanager
    async def _share_slot(self, share: Share) -> AsyncIterator[None]:
        counted = self._shares.setdefault(share.key, _CountedSemaphore(asyncio.Semaphore(share.most)))
        counted.users += 1
        try:
            async with counted.semaphore:
                yield
        finally:
            counted.users -= 1
            if counted.users == 0:
                del self._shares[share.key]
