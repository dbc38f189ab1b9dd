"""`Pools`: one connection pool for each certificate, and old pools until their last response is closed."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from mtls_middleware.certificate_files import CertificateFiles, CertificateKeyPair
from mtls_middleware.forks import reset_after_fork

logger: logging.Logger = logging.getLogger("mtls_middleware.client")

T = TypeVar("T")

# Maximum number of old pools that wait for the end of their responses. With files that are renewed every minute, a
# response may take a quarter of an hour.
_MAX_OLD_POOLS = 16


class Pool(Generic[T]):
    """The connections that present one certificate. `responses`: the number of requests and responses in progress."""

    def __init__(self, pair: CertificateKeyPair, transport: T) -> None:
        self.pair: CertificateKeyPair = pair
        self.transport: T = transport
        self.responses: int = 0


class Pools(Generic[T]):
    """The pool of the current certificate, and old pools until their responses are closed. Thread-safe; no I/O.

    A forked child process opens new connections. If it used the connections of its parent, each process could read
    responses to requests of the other process.
    """

    def __init__(self, certificate: CertificateFiles, connect: Callable[[CertificateKeyPair], T]) -> None:
        self._certificate, self._connect = certificate, connect
        self._lock = threading.Lock()  # protects the following attributes
        self._pools: list[Pool[T]] = []  # the last pool is that of the current certificate
        # Pools that belong to parent processes, and are never closed in this process.
        self._inherited: list[Pool[T]] = []
        reset_after_fork(self)

    def acquire(self, pair: CertificateKeyPair | None = None) -> tuple[Pool[T], Sequence[Pool[T]]]:
        """Return the pool for a request, and the old pools that must be closed now. Call `release` later.

        `pair`: the certificate of the request. Default: the current certificate.
        """
        wanted = self._certificate.current() if pair is None else pair
        with self._lock:
            if self._pools and self._pools[-1].pair is wanted:
                self._pools[-1].responses += 1
                return self._pools[-1], ()
        current = self._certificate.current()
        with self._lock:
            if not self._pools or self._pools[-1].pair != current:
                self._pools.append(Pool(current, self._connect(current)))
            pool = self._pools[-1] if pair is None else self._pool_of(pair)
            pool.responses += 1
            return pool, self._remove_unused()

    def release(self, pool: Pool[T]) -> bool:
        """Count the end of a response. Returns whether the pool must be closed now."""
        with self._lock:
            pool.responses -= 1
            if pool.responses or pool not in self._pools[:-1]:
                return False
            self._pools.remove(pool)
            return True

    def remove_all(self) -> list[Pool[T]]:
        """Remove all pools, and return them."""
        with self._lock:
            pools, self._pools = self._pools, []
            return pools

    def after_fork(self) -> None:
        """Leave the connections to the parent.

        Another thread of the parent may hold the lock, so the child creates a new lock.
        """
        self._lock = threading.Lock()
        self._inherited += self._pools
        self._pools = []

    def _pool_of(self, pair: CertificateKeyPair) -> Pool[T]:
        """Return the pool of `pair`.

        If the files were renewed since the request began, a new pool counts as old from the start.
        """
        for pool in reversed(self._pools):
            if pool.pair == pair:
                return pool
        pool = Pool(pair, self._connect(pair))
        self._pools.insert(-1, pool)
        return pool

    def _remove_unused(self) -> list[Pool[T]]:
        *old, current = self._pools
        used = [pool for pool in old if pool.responses]
        if len(used) > _MAX_OLD_POOLS:
            logger.warning("%d old certificates have open responses; the oldest connections are closed", len(used))
            used = used[-_MAX_OLD_POOLS:]
        self._pools = [*used, current]
        return [pool for pool in old if pool not in used]
