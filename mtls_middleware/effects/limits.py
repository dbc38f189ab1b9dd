"""`ConcurrencyLimit`: how many exchanges with one server run at once, in total and for one client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate

# Exchanges at once, of 50 in total. A service that calls another one has a few requests at a time.
_OF_A_CERTIFICATE = 10
# A client may have many certificates, such as short-lived ones, and a service many replicas.
_OF_A_NAME = 25
# All clients behind one proxy have one address.
_OF_AN_ADDRESS = 20
# Anyone can make a certificate of their own, and another address. All clients whose certificate is not verified
# together leave half of the turns to those whose certificate is.
_UNVERIFIED = 25


class Share(NamedTuple):
    """At most `most` exchanges at once have this key."""

    key: str
    most: int


Shares = tuple[Share, ...]


def shares(certificate: ClientCertificate | None, address: str | None) -> Shares:
    """The shares of the client that caused an exchange, the narrowest first. `address`: of the peer."""
    own = () if certificate is None else (Share(f"certificate {certificate.thumbprint}", _OF_A_CERTIFICATE),)
    if certificate is not None and certificate.verified:
        return *own, Share(f"name {_names(certificate)}", _OF_A_NAME)
    return *own, Share(f"address {address}", _OF_AN_ADDRESS), Share("unverified", _UNVERIFIED)


def _names(certificate: ClientCertificate) -> str:
    """Subject and alternative names: what all certificates of one client have in common."""
    try:
        return f"{certificate.subject} {certificate.alternative_names}"
    except MalformedCertificate:
        return "unreadable"


@dataclass(slots=True)
class _Users:
    turns: asyncio.Semaphore
    count: int = 0


class ConcurrencyLimit:
    """At most `most` exchanges at once. Each waits first for its own shares, so one client cannot fill the queue."""

    def __init__(self, most: int) -> None:
        self._all = asyncio.Semaphore(most)
        self._shares: dict[str, _Users] = {}

    @contextlib.asynccontextmanager
    async def one(self, of: Shares, seconds: float) -> AsyncIterator[None]:
        """One turn. Raises `TimeoutError` if it does not come within `seconds`."""
        async with contextlib.AsyncExitStack() as held:
            async with asyncio.timeout(seconds):
                for share in of:
                    await held.enter_async_context(self._of(share))
                await held.enter_async_context(self._all)
            yield

    @contextlib.asynccontextmanager
    async def _of(self, share: Share) -> AsyncIterator[None]:
        users = self._shares.setdefault(share.key, _Users(asyncio.Semaphore(share.most)))
        users.count += 1
        try:
            async with users.turns:
                yield
        finally:
            users.count -= 1
            if users.count == 0:
                del self._shares[share.key]
