"""Measure 14: a call of the client with a cached token, a renewal of its certificate, and concurrent first calls."""

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from mtls_middleware.client import (
    AsyncCertificateTransport,
    CertificateBoundAuth,
    CertificateFiles,
    CertificateTransport,
)
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import files as file_cache
from tests.benchmarks.table import Row, microseconds
from tests.client.servers import API, AuthorizationServer

GOAL = 1.05
HEADERS = {"Authorization": "Bearer " + "x" * 300}


def rows(quick: bool) -> list[Row]:
    authority = CertificateAuthority()
    with tempfile.TemporaryDirectory() as directory, AuthorizationServer(authority) as server, API(authority) as api:
        roots = Path(directory, "ca.pem")
        roots.write_text(authority.pem)
        certificate = CertificateFiles(*authority.issue().write(directory))
        api.respond = lambda received: (200, {}, {})  # no check of the token: it would count for one of the two
        auth = CertificateBoundAuth(issuer=server.host, client_id="billing", certificate=certificate, roots=roots)
        return [
            _cached(api, auth, certificate, roots, 20 if quick else 3_000),
            _cached_async(api, auth, certificate, roots, 20 if quick else 3_000),
            _renewal(authority, api, auth, certificate, 3 if quick else 50),
            _first_calls(server, api, certificate, roots, 10 if quick else 1_000),
        ]


def _cached(api: API, auth: CertificateBoundAuth, certificate: CertificateFiles, roots: Path, rounds: int) -> Row:
    """CPU time of this thread, in turns: the same TLS context, the same token, the same server."""
    context = certificate.current().ssl_context(roots)
    with (
        httpx2.Client(transport=CertificateTransport(certificate, roots=roots), auth=auth) as ours,
        httpx2.Client(verify=context, headers=HEADERS, trust_env=False) as alone,
    ):
        turns = Turns(rounds)
        for name in turns:
            begun = time.thread_time()
            (ours if name == "ours" else alone).get(api.host)
            turns.spent[name].append(time.thread_time() - begun)
    return turns.row("a call with a cached token")


def _cached_async(api: API, auth: CertificateBoundAuth, certificate: CertificateFiles, roots: Path, rounds: int) -> Row:
    """The same with asynchronous clients. The time of the event loop counts for both."""

    async def run() -> Row:
        context = certificate.current().ssl_context(roots)
        async with (
            httpx2.AsyncClient(transport=AsyncCertificateTransport(certificate, roots=roots), auth=auth) as ours,
            httpx2.AsyncClient(verify=context, headers=HEADERS, trust_env=False) as alone,
        ):
            turns = Turns(rounds)
            for name in turns:
                begun = time.thread_time()
                await (ours if name == "ours" else alone).get(api.host)
                turns.spent[name].append(time.thread_time() - begun)
        return turns.row("an asynchronous call with a cached token")

    return asyncio.run(run())


class Turns:
    """The CPU times of two clients that take turns, in both orders, without garbage collection."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self.spent: dict[str, list[float]] = {"ours": [], "alone": []}

    def __iter__(self) -> Iterator[str]:
        gc.collect()
        gc.disable()
        try:
            for number in range(self._rounds):
                yield from sorted(self.spent, reverse=bool(number % 2))
        finally:
            gc.enable()

    def row(self, what: str) -> Row:
        """Compare the medians after a tenth of the rounds."""
        ours, alone = (median(self.spent[name][self._rounds // 10 :]) for name in ("ours", "alone"))
        other = f"{microseconds(alone * 1e9)} httpx2 alone"
        return Row(14, what, microseconds(ours * 1e9), other, ours / alone, GOAL)


def _renewal(
    authority: CertificateAuthority, api: API, auth: CertificateBoundAuth, certificate: CertificateFiles, rounds: int
) -> Row:
    """The first call after a renewal, with the new token, against a first call of httpx2 with a new connection."""
    ours, alone, directory = [], [], certificate._paths[0].parent
    roots = directory / "ca.pem"
    interval, file_cache._INTERVAL = file_cache._INTERVAL, 0.0
    try:
        with httpx2.Client(transport=CertificateTransport(certificate, roots=roots), auth=auth) as client:
            for _ in range(rounds):
                for path in authority.issue().write(directory, name="new"):
                    os.replace(path, directory / path.name.replace("new", "client"))
                ours.append(_elapsed(lambda: client.get(api.host)))
                context = certificate.current().ssl_context(roots)
                with httpx2.Client(verify=context, trust_env=False) as new:
                    alone.append(_elapsed(lambda: new.get(api.host)))
    finally:
        file_cache._INTERVAL = interval
    first, other = median(ours), median(alone)
    return Row(
        14,
        "the first call after a renewal",
        f"{first * 1e3:.1f} ms",
        f"{other * 1e3:.1f} ms httpx2 alone with a new connection",
        first / other,
        None,
        note="two TLS connections and a token request against one TLS connection; elapsed time",
    )


def _elapsed(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _first_calls(server: AuthorizationServer, api: API, certificate: CertificateFiles, roots: Path, count: int) -> Row:
    before = len(server.token_requests)

    async def run() -> float:
        auth = CertificateBoundAuth(issuer=server.host, client_id="billing", certificate=certificate, roots=roots)
        transport = AsyncCertificateTransport(certificate, roots=roots)
        async with httpx2.AsyncClient(transport=transport, auth=auth, timeout=120) as client:
            begun = time.perf_counter()
            responses = await asyncio.gather(*(client.get(api.host) for _ in range(count)))
            assert {each.status_code for each in responses} == {200}
            return time.perf_counter() - begun

    seconds = asyncio.run(run())
    requests = len(server.token_requests) - before
    return Row(
        14,
        f"{count:,} concurrent first calls",
        f"{requests} token requests",
        "1 token request",
        float(requests),
        1.0,
        note=f"{seconds:.1f} s elapsed, most of it in the test server",
    )
