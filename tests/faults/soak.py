"""Soak: `python -m tests.faults.soak --minutes 10`: load with one fault after another, and what it does to the process.

Threads send requests through WSGI and tasks through ASGI: chain validation with a CRL, JWTs and introspected tokens
with a shared cache, their binding, and a shared list of revocations. One in three requests has a new certificate, and
most have a new token. Each response must be the expected one. It may be 503 only if the request needs a dependency
that has a fault. Memory, threads and open files must stay flat.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import redis.asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from mtls_middleware.resource_server import IntrospectedAccessTokens, RedisAnswers, TrustedIssuers
from mtls_middleware.revocation import RedisRevocations, RevocableTokens
from mtls_middleware.testing import IssuedCertificate
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.faults.dependencies import REVOKED_ID, Dependencies
from tests.resource_server.stack import ASGIStack, WSGIStack

# Kind of request -> the status without a fault, the share of the requests, and the dependency without which it is 503.
KINDS: dict[str, tuple[int, int, str | None]] = {
    "JWT": (200, 30, None),
    "JWT of another client": (401, 5, None),
    "revoked JWT": (401, 5, None),
    "revoked certificate": (403, 5, None),
    "new opaque token": (200, 25, "introspection"),
    "known opaque token": (200, 20, "introspection"),
    "inactive opaque token": (401, 5, "introspection"),
    "opaque token of another client": (401, 5, "introspection"),
}
_THREADS, _TASKS = 8, 24
_PAUSE = 0.02  # seconds between two requests of one thread or task, so that other programs get some of the processor
# Seconds after a fault in which the response may still be 503: a stall is noticed after the timeout of 5 s, and the
# next attempt has a delay. The delay after a long fault is longer.
_GRACE = 7.0


class Sample(NamedTuple):
    """The state of the process at one moment. `statuses`: responses since the start."""

    seconds: float
    megabytes: float
    threads: int
    files: int
    statuses: Counter[int]
    wrong: int


def sample(begun: float, soak: "Soak") -> Sample:
    status = Path("/proc/self/status").read_text("ascii")
    resident = int(status.partition("VmRSS:")[2].split()[0]) / 1024
    files = len(os.listdir("/proc/self/fd"))
    seconds = time.monotonic() - begun
    return Sample(seconds, resident, threading.active_count(), files, Counter(soak.statuses), len(soak.wrong))


class Windows:
    """The times in which a dependency has a fault, or had one so recently that its next attempt may not be due."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._open: dict[str, list[list[float]]] = {}

    def begin(self, dependency: str) -> None:
        self._open.setdefault(dependency, []).append([time.monotonic(), float("inf")])

    def end(self, dependency: str) -> None:
        self._open[dependency][-1][1] = time.monotonic() + self._grace

    def overlap(self, dependency: str | None, begun: float) -> bool:
        """Whether a request that began at `begun`, and ends now, may have needed it during a fault."""
        return any(end >= begun for _, end in self._open.get(dependency or "", ())[-2:])


class Soak:
    """The load, and the responses. `wrong`: descriptions of responses that are not as expected."""

    def __init__(self, dependencies: Dependencies, grace: float) -> None:
        self.dependencies, self.windows = dependencies, Windows(grace)
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.stopped = threading.Event()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._other = dependencies.authority.issue("CN=other", key=self._key)
        self._known: list[IssuedCertificate] = [self._issue() for _ in range(200)]
        keys = dependencies.keys.keys_url
        self._jwt = dependencies.issuer.access_tokens(jwks_uri=keys, jwks=None, allow_http=True)
        self._revocations = RedisRevocations(dependencies.redis.client(), max_age=120)
        self._store = TrustStore(
            [dependencies.authority.certificate], revocation=RevocationLists([dependencies.crl], leaf_only=True)
        )

    def _issue(self) -> IssuedCertificate:
        return self.dependencies.authority.issue("CN=client", key=self._key)

    def _tokens(self, answers: Any) -> Any:
        """The validator of all tokens. Both gateways share the JWTs and the list of revocations."""
        introspected = IntrospectedAccessTokens(**self.dependencies.introspection.options, cache=answers)
        return RevocableTokens(TrustedIssuers([self._jwt, introspected]), self._revocations, ids="when_present")

    def request(self, chance: random.Random, number: int) -> tuple[str, str, IssuedCertificate]:
        """The kind, the `Authorization` field and the client certificate of a request."""
        (kind,) = chance.choices(list(KINDS), [share for _, share, _ in KINDS.values()])
        client = self._issue() if number % 3 == 0 else chance.choice(self._known)
        issuer, name = self.dependencies.issuer, f"{threading.get_ident()}.{number}"
        match kind:
            case "JWT":
                token = issuer.token(certificate=client)
            case "JWT of another client":
                token = issuer.token(certificate=self._other)
            case "revoked JWT":
                token = issuer.token(certificate=client, claims={"jti": REVOKED_ID})
            case "revoked certificate":
                client = self.dependencies.revoked_client
                token = issuer.token(certificate=client)
            case "new opaque token":
                token = f"bound.{client.thumbprint}.{name}"
            case "known opaque token":
                client = self._known[number % 20]
                token = f"bound.{client.thumbprint}.known"
            case "inactive opaque token":
                token = f"inactive.{name}"
            case _:
                token = f"bound.{self._other.thumbprint}.{name}"
        return kind, f"Bearer {token}", client

    def note(self, kind: str, status: int, begun: float) -> None:
        expected, _, dependency = KINDS[kind]
        self.statuses[status] += 1
        if status != expected and not (status == 503 and self.windows.overlap(dependency, begun)):
            self.wrong.append(f"{kind}: {status} instead of {expected}")

    def run_thread(self, stack: WSGIStack, seed: int) -> None:
        chance, number = random.Random(seed), seed
        while not self.stopped.wait(_PAUSE):
            number += _THREADS + _TASKS
            kind, bearer, client = self.request(chance, number)
            begun = time.monotonic()
            self.note(kind, stack.request(bearer, certificate=client).status, begun)

    async def run_task(self, stack: ASGIStack, seed: int) -> None:
        chance, number = random.Random(seed), seed
        while not self.stopped.is_set():
            await asyncio.sleep(_PAUSE * _TASKS / _THREADS)
            number += _THREADS + _TASKS
            kind, bearer, client = self.request(chance, number)
            begun = time.monotonic()
            self.note(kind, (await stack.asked(bearer, certificate=client)).status, begun)

    async def run_tasks(self) -> None:
        async with self.dependencies.redis.client(redis.asyncio.Redis) as client:
            stack = ASGIStack(self._tokens(RedisAnswers(client)), trust_store=self._store)
            await asyncio.gather(*(self.run_task(stack, _THREADS + seed) for seed in range(_TASKS)))

    def start(self) -> list[threading.Thread]:
        stack = WSGIStack(self._tokens(RedisAnswers(self.dependencies.redis.client())), trust_store=self._store)
        threads = [threading.Thread(target=self.run_thread, args=(stack, seed)) for seed in range(_THREADS)]
        threads.append(threading.Thread(target=lambda: asyncio.run(self.run_tasks())))
        for each in threads:
            each.start()
        return threads


def soak(seconds: float) -> list[Sample]:
    """Run the load for `seconds` seconds, and inject each fault once. Returns one sample after each fault."""
    with tempfile.TemporaryDirectory() as directory, Dependencies(Path(directory)) as dependencies:
        faults = list(dependencies.faults())
        turn = seconds / (len(faults) + 1)
        load = Soak(dependencies, grace=_GRACE + turn / 8)
        begun = time.monotonic()
        threads, samples = load.start(), []
        try:
            time.sleep(turn)
            samples.append(sample(begun, load))
            print(HEAD, flush=True)
            for fault in faults:
                load.windows.begin(fault.dependency)
                fault.begin()
                time.sleep(turn / 2)
                fault.end()
                load.windows.end(fault.dependency)
                time.sleep(turn / 2)
                samples.append(sample(begun, load))
                print(row(f"{fault.dependency}: {fault.name}", samples[-2], samples[-1]), flush=True)
        finally:
            load.stopped.set()
            for each in threads:
                each.join()
    for line in sorted(set(load.wrong)):
        print(line, flush=True)
    return samples


HEAD = (
    "| until | fault | requests/s | memory | threads | open files | 200 | 401, 403 | 503 | wrong |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def row(name: str, before: Sample, after: Sample) -> str:
    counts = after.statuses - before.statuses
    rate = counts.total() / (after.seconds - before.seconds)
    return (
        f"| {after.seconds:.0f} s | {name} | {rate:.0f} | {after.megabytes:.0f} MB | {after.threads} | {after.files} "
        f"| {counts[200]:,} | {counts[401] + counts[403]:,} | {counts[503]:,} | {after.wrong - before.wrong} |"
    )


def growth(samples: list[Sample], name: str) -> float:
    """The median of the last quarter of one value, divided by that of the second quarter."""
    values = [float(getattr(each, name)) for each in samples]
    quarter = max(1, len(values) // 4)
    return statistics.median(values[-quarter:]) / statistics.median(values[quarter : 2 * quarter])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    samples = soak(60 * parser.parse_args().minutes)
    last = samples[-1]
    for name in ("megabytes", "threads", "files"):
        print(f"growth of {name} from the second to the last quarter: {growth(samples, name):.2f}")
    print(f"{last.statuses.total():,} responses, {last.wrong} of them wrong")
    raise SystemExit(1 if last.wrong else 0)


if __name__ == "__main__":
    main()
