"""Limits for one server: `ConcurrencyLimit` for concurrent exchanges, `WaitingLimit` for the requests that wait."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import MalformedCertificate

# Maximum number of concurrent exchanges for each certificate, of 50 exchanges in total. A service usually has only a
# few requests in progress.
_PER_CERTIFICATE = 10
# Maximum number of concurrent exchanges for each client name. A client may have many short-lived certificates, and a
# service may have many replicas.
_PER_NAME = 25
# Maximum number of concurrent exchanges for each peer address. All clients behind one proxy have the same address.
_PER_ADDRESS = 20
# Maximum number of concurrent exchanges for all clients without a verified certificate together. Such clients can use
# any number of certificates and addresses, so half of the 50 exchanges are reserved for clients with a verified
# certificate.
_UNVERIFIED = 25
# A cache of the digests of names, by the DER of the certificate. Its limit in bytes of DER is enough for about 1,000
# certificates. Reading the names takes 0.1 ms, and each request has a new certificate object.
_digests: Cache[bytes, str] = Cache(1_048_576)


class Share(NamedTuple):
    """A limit of `most` concurrent exchanges, which all exchanges with the same `key` share."""

    key: str
    most: int


Shares = tuple[Share, ...]


def shares(certificate: ClientCertificate | None, address: str | None) -> Shares:
    """Return the limits for the client that caused an exchange, the smallest first. `address`: the peer's address."""
    own = () if certificate is None else (Share(f"certificate {certificate.thumbprint}", _PER_CERTIFICATE),)
    if certificate is not None and certificate.verified:
        return *own, Share(f"names {_digest_of_names(certificate)}", _PER_NAME)
    return *own, Share(f"address {address}", _PER_ADDRESS), Share("unverified", _UNVERIFIED)


def client_of(shares: Shares) -> str:
    """Return a key for the client: the names of a verified certificate, or one key for all unverified clients.

    A client cannot choose this key, unlike the thumbprint of an unverified certificate.
    """
    return shares[-1].key if shares else ""


def _digest_of_names(certificate: ClientCertificate) -> str:
    """Return the SHA-256 digest of the names of a certificate. All certificates of one client have the same names.

    The names themselves may be long, and the key of a client is kept after its requests.
    """
    digest = _digests.get(certificate.der)
    if digest is None:
        names = _names(certificate).encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(names).hexdigest()
        _digests.put(certificate.der, digest, len(certificate.der))
    return digest


def _names(certificate: ClientCertificate) -> str:
    """Return the subject and the alternative names."""
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
    """Limits the number of concurrent exchanges to `most`.

    An exchange first waits for the limits of its client, so that one client cannot fill the queue of all clients.
    """

    def __init__(self, most: int) -> None:
        self._total = asyncio.Semaphore(most)
        self._shares: dict[str, _CountedSemaphore] = {}

    @contextlib.asynccontextmanager
    async def slot(self, shares: Shares, seconds: float) -> AsyncIterator[None]:
        """Wait for a free slot for one exchange, and hold the slot. `shares`: the limits of the client.

        Raises `TimeoutError` if no slot is free within `seconds` seconds.
        """
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


class WaitingLimit:
    """Counts the requests that wait for one server, and admits at most `most`. At most half may be of one client."""

    def __init__(self, most: int) -> None:
        self._most, self._most_of_client = most, (most + 1) // 2
        self._total = 0
        self._clients: dict[str, int] = {}

    def enter(self, client: str) -> bool:
        """Count a request of `client`, which must call `leave` later. Return `False` if the limit is reached."""
        count = self._clients.get(client, 0)
        if self._total >= self._most or count >= self._most_of_client:
            return False
        self._total += 1
        self._clients[client] = count + 1
        return True

    def leave(self, client: str) -> None:
        """Stop counting a request that `enter` admitted."""
        self._total -= 1
        self._clients[client] -= 1
        if self._clients[client] == 0:
            del self._clients[client]
