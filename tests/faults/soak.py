"""Soak: `python -m tests.faults.soak 200000`: requests with ever new tokens and certificates; memory must stay flat.

Each request has a new certificate, and a new token that is bound to it: three in four a JWT, one in four an opaque one
that a real server is asked about. They take turns between WSGI and ASGI, through the full stack: chain validation, the
token, its binding. One token in 97 is another's, and must be refused.
"""

import asyncio
import gc
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from mtls_middleware.resource_server import IntrospectedAccessTokens, MemoryAnswers, TrustedIssuers
from mtls_middleware.testing import CertificateAuthority, TokenIssuer
from mtls_middleware.validation import TrustStore
from tests.faults.server_process import ServerProcess
from tests.resource_server.stack import ASGIStack, WSGIStack


def resident() -> float:
    """MB of this process in memory (Linux)."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def soak(requests: int, samples: int = 20) -> list[float]:
    """Memory after each of so many equal parts of the requests."""
    authority, issuer, key = CertificateAuthority(), TokenIssuer(), ec.generate_private_key(ec.SECP256R1())
    with ServerProcess() as server:
        tokens = TrustedIssuers(
            [issuer.access_tokens(), IntrospectedAccessTokens(**server.options, cache=MemoryAnswers())]
        )
        store = TrustStore([authority.certificate])
        wsgi, asgi = WSGIStack(tokens, trust_store=store), ASGIStack(tokens, trust_store=store)
        memory: list[float] = []
        begun = time.monotonic()
        for number in range(requests):
            client = authority.issue("CN=client", key=key)
            holder = authority.issue("CN=other", key=key) if number % 97 == 96 else client
            opaque = f"bound.{holder.thumbprint}.{number}"
            bearer = f"Bearer {opaque if number % 4 == 3 else issuer.token(certificate=holder)}"
            stack = wsgi if number % 8 < 4 else asgi
            outcome = (
                stack.request(bearer, certificate=client)
                if stack is wsgi
                else await asgi.asked(bearer, certificate=client)
            )
            assert outcome.status == (200 if holder is client else 401), (number, outcome)
            if (number + 1) % (requests // samples) == 0:
                gc.collect()
                memory.append(resident())
                rate = (number + 1) / (time.monotonic() - begun)
                print(f"{number + 1} requests, {rate:.0f}/s, {memory[-1]:.1f} MB", flush=True)
                if server.counts().requests > 10_000:
                    server.kill()  # it remembers every question; ours is the memory to look at
                    server.start()
    return memory


if __name__ == "__main__":
    asyncio.run(soak(int(sys.argv[1])))
