"""Real servers in processes of their own share one list: what a third process revokes, they refuse."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from mtls_middleware.revocation import RedisRevocations
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.key_server import until
from tests.live.servers import ROOT, free_port, running
from tests.redis_server import RedisServer

pytestmark = pytest.mark.live

MODULE = "tests.revocation.applications"


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as found:
        RedisRevocations(found.client()).create()
        yield found


def environment(server: RedisServer, issuer: TokenIssuer, **more: str) -> dict[str, str]:
    described = {"ISSUER": issuer.issuer, "AUDIENCE": issuer.audience, "JWKS": json.dumps(issuer.jwks)}
    return {"REDIS_PORT": str(server.port), **described, **more}


def gunicorn(port: int, *options: str) -> list[str]:
    return [
        *("-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4", "--no-control-socket"),
        *(*options, f"{MODULE}:wsgi_application"),
    ]


def uvicorn(port: int) -> list[str]:
    return ["-m", "uvicorn", "--port", str(port), "--no-proxy-headers", f"{MODULE}:asgi_application"]


def get(port: int, certificate: IssuedCertificate, token: str = "") -> httpx2.Response:
    headers = {**certificate.as_nginx(), **({"Authorization": f"Bearer {token}"} if token else {})}
    return httpx2.get(f"http://127.0.0.1:{port}/", headers=headers, timeout=30, trust_env=False)


def revoke(server: RedisServer, **arguments: Any) -> float:
    """In a process of its own; when it was begun, by `time.monotonic()`."""
    done = subprocess.run(
        [sys.executable, "-m", MODULE],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        input=json.dumps(arguments).encode(),
        env={**os.environ, "REDIS_PORT": str(server.port)},
    )
    return float(done.stdout)


@pytest.mark.parametrize("what", ["token", "bound certificate", "certificate"])
def test_two_servers_refuse_what_a_third_process_revoked(
    redis_server: RedisServer,
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
    mtls_issuer: TokenIssuer,
    what: str,
) -> None:
    shared = environment(redis_server, mtls_issuer, **({"BY_CERTIFICATE": "1"} if what == "certificate" else {}))
    one, two = free_port(), free_port()
    refused = 403 if what == "certificate" else 401
    token = mtls_issuer.token(certificate=mtls_client, claims={"jti": "1"})
    unharmed = mtls_issuer.token(certificate=mtls_other_client, claims={"jti": "2"})

    def statuses() -> list[int]:
        return [get(port, mtls_client, token).status_code for port in (one, two)]

    with running(gunicorn(one), one, **shared), running(uvicorn(two), two, **shared):
        assert statuses() == [200, 200]  # the first requests of both
        if what == "token":
            begun = revoke(redis_server, token_id="1", issuer=mtls_issuer.issuer)
        else:
            begun = revoke(redis_server, thumbprint=mtls_client.thumbprint)
        until(lambda: statuses() == [refused, refused], seconds=5)
        print(f"refused by both {time.monotonic() - begun:.2f} s after")
        assert [get(port, mtls_other_client, unharmed).status_code for port in (one, two)] == [200, 200]

        redis_server.kill()
        until(lambda: statuses() == [503, 503], seconds=20)
        redis_server.start()  # empty: an outage still, and no list without revocations
        time.sleep(3)
        assert statuses() == [503, 503]
        assert get(one, mtls_other_client, unharmed).headers["Retry-After"] == "1"
        RedisRevocations(redis_server.client()).create()
        until(lambda: statuses() == [200, 200], seconds=20)


@pytest.mark.parametrize("kind", ["preload", "followed before the fork", "gevent"])
def test_every_worker_of_a_server_that_forks_follows_the_list(
    redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer, kind: str
) -> None:
    shared = environment(redis_server, mtls_issuer, **({"FOLLOW": "1"} if kind.startswith("followed") else {}))
    port = free_port()
    token = mtls_issuer.token(certificate=mtls_client, claims={"jti": "1"})
    workers = set()

    def both_were_seen() -> bool:
        answer = get(port, mtls_client, token)
        assert answer.status_code == 200
        workers.add(answer.text)
        return len(workers) == 2

    options = ["--worker-class", "gevent"] if kind == "gevent" else ["--preload"]
    with running(gunicorn(port, "--workers", "2", *options), port, **shared):
        until(both_were_seen, seconds=30)
        revoke(redis_server, token_id="1", issuer=mtls_issuer.issuer)
        until(lambda: {get(port, mtls_client, token).status_code for _ in range(20)} == {401}, seconds=10)
