"""Measure 7: resident memory after many distinct certificates and tokens.

Each gateway has a process of its own (`python -m tests.benchmarks.memory GATEWAY NUMBER`), both at once. A million
requests there take some minutes: each has a certificate and a token that nobody has seen.
"""

import base64
import gc
import itertools
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from mtls_middleware.certificate import ClientCertificate
from tests.benchmarks import stacks
from tests.benchmarks.carriers import GATEWAYS, Application
from tests.benchmarks.table import Row

GOAL_MEGABYTES = 64
FIRST, DISTINCT = 10_000, 1_000_000


def rows(quick: bool, distinct: int = DISTINCT) -> list[Row]:
    first, number = (50, 200) if quick else (min(FIRST, distinct // 2), distinct)
    running = {
        gateway.name: subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.memory", gateway.name, str(first), str(number)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for gateway in GATEWAYS
    }
    found = {name: json.loads(process.communicate()[0]) for name, process in running.items()}
    return [_row(name, first, number, *sizes) for name, sizes in found.items()]


def _row(name: str, first: int, number: int, early: float, late: float) -> Row:
    return Row(
        7,
        f"resident, {name.upper()}",
        f"{late:.1f} MB after {number:,} certificates and tokens",
        f"{early:.1f} MB after {first:,}",
        (late - early) / GOAL_MEGABYTES,
        1,
        note=f"the growth, as a part of {GOAL_MEGABYTES} MB",
    )


def sizes(name: str, first: int, number: int) -> tuple[float, float]:
    """Megabytes of this process after the first requests, and after all of them."""
    gateway = next(each for each in GATEWAYS if each.name == name)
    application = Application()
    run = gateway.runner(stacks.full_stack(name, getattr(application, name), stacks.RFC9440))
    early = 0.0
    for count, pairs in enumerate(itertools.islice(_requests(), number), 1):
        run(gateway.carrier(pairs))
        if count == first:
            early = _resident()
    assert application.reached == number, "requests were refused"
    return early, _resident()


def _requests() -> Iterator[Any]:
    sign = signer()
    for der in stacks.distinct(stacks.client()):
        field = f":{base64.b64encode(der).decode('ascii')}:"
        token = sign(ClientCertificate.from_der(der).thumbprint)
        yield [("Client-Cert", field), ("Authorization", f"Bearer {token}")]


def signer() -> Callable[[str], str]:
    """Thumbprint to token: `TokenIssuer` with what is the same for all of them done once."""
    issuer, now = stacks.issuer(), int(time.time())
    key_id, key = next(reversed(issuer._keys.items()))
    header = _part(json.dumps({"typ": "at+jwt", "alg": "ES256", "kid": key_id}).encode("ascii"))
    usual = {
        "iss": issuer.issuer,
        "aud": issuer.audience,
        "sub": "user",
        "client_id": "client",
        "iat": now,
        "exp": now + 86_400,
        "scope": stacks.SCOPE,
    }

    def sign(thumbprint: str) -> str:
        claims = {**usual, "jti": secrets.token_urlsafe(16), "cnf": {"x5t#S256": thumbprint}}
        signed = f"{header}.{_part(json.dumps(claims).encode('ascii'))}"
        pair = decode_dss_signature(key.sign(signed.encode("ascii"), ECDSA(SHA256())))
        return f"{signed}.{_part(b''.join(each.to_bytes(32, 'big') for each in pair))}"

    return sign


def _part(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _resident() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000


if __name__ == "__main__":
    print(json.dumps(sizes(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
