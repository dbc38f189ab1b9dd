"""The servers and files that the soak needs, and the faults that it injects into them."""

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Self

from mtls_middleware.effects import background
from mtls_middleware.revocation import RedisRevocations
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from tests.faults.server_process import FAULTS, ServerProcess
from tests.redis_server import RedisServer
from tests.validation.authority import crl

# The `jti` of a token that is revoked from the beginning.
REVOKED_ID = "revoked from the beginning"


class Fault(NamedTuple):
    """A fault of one dependency: `begin` injects it, and `end` repairs it."""

    dependency: str
    name: str
    begin: Callable[[], object]
    end: Callable[[], object]


class Dependencies:
    """Introspection, keys, Redis and a CRL file, each in good order until a fault begins."""

    def __init__(self, directory: Path) -> None:
        self.authority, self.issuer = CertificateAuthority(), TokenIssuer()
        self.revoked_client: IssuedCertificate = self.authority.issue("CN=revoked by the CRL")
        self.crl, self._crl_number = directory / "clients.crl", 0
        self._held = contextlib.ExitStack()
        self.introspection = self._held.enter_context(ServerProcess())
        self.keys = self._held.enter_context(ServerProcess())
        self.redis = self._held.enter_context(RedisServer())
        self._admin = self._held.enter_context(self.redis.client())
        self._list = RedisRevocations(self._admin)

    def __enter__(self) -> Self:
        self.keys.serve_keys(self.issuer.jwks)
        self.create_list()
        self.write_crl()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def create_list(self) -> None:
        """Create the shared list of revocations, as an operator does after Redis lost its data."""
        until = datetime.now(UTC) + timedelta(hours=2)
        self._list.create([{"token_id": REVOKED_ID, "issuer": self.issuer.issuer, "until": until}])

    def write_crl(self) -> None:
        """Write the next CRL, which revokes one client."""
        self._crl_number += 1
        der = crl(self.authority, [self.revoked_client], now=time.time(), begins=-60, number=self._crl_number)
        new = self.crl.with_suffix(".new")
        new.write_bytes(der)
        new.replace(self.crl)

    def break_crl(self) -> None:
        """Replace the CRL by a file that cannot be parsed."""
        self.crl.write_bytes(b"not a revocation list")

    def start_keys(self) -> None:
        self.keys.start()
        self.keys.serve_keys(self.issuer.jwks)

    def start_redis(self) -> None:
        """Redis has no data after this: nothing is written to disk."""
        self.redis.start()
        self.create_list()

    def faults(self) -> Iterator[Fault]:
        """All faults, in an order in which each dependency has pauses."""
        for name in FAULTS:
            yield Fault("introspection", name, lambda name=name: self.introspection.fault(name), self._well)
        yield Fault("introspection", "dead", self.introspection.kill, self.introspection.start)
        yield Fault("keys", "stalls", lambda: self.keys.fault("stalls"), lambda: self.keys.fault(None))
        yield Fault("keys", "dead", self.keys.kill, self.start_keys)
        yield Fault("redis", "stalls", self.redis.stop, self.redis.go_on)
        yield Fault("redis", "full", lambda: self._memory("1"), lambda: self._memory("0"))
        yield Fault("redis", "dead", self.redis.kill, self.start_redis)
        yield Fault("introspection", "the thread for exchanges ends", end_thread, lambda: None)
        yield Fault("crl", "broken file", self.break_crl, self.write_crl)

    def _well(self) -> None:
        self.introspection.fault(None)

    def _memory(self, most: str) -> None:
        self._admin.config_set("maxmemory", most)


def end_thread() -> None:
    """End the thread for exchanges by an exception, as a defect of a callback can do."""

    def fail() -> None:
        raise SystemExit

    background._current_background()._loop.call_soon_threadsafe(fail)
