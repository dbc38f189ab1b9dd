"""An introspection server stalls behind a real server: JWT clients of the same process are served meanwhile."""

import contextlib
import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.faults.applications import environment
from tests.introspection_server import IntrospectionServer
from tests.key_server import until
from tests.live.servers import free_port, running

pytestmark = pytest.mark.live

APPLICATIONS = "tests.faults.applications"
GUNICORN = ["-m", "gunicorn", f"{APPLICATIONS}:wsgi_application", "--no-control-socket", "--bind"]
# Server -> its command up to the port, and more arguments of `IntrospectedAccessTokens`.
SERVERS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "gunicorn, 4 threads": ([*GUNICORN[:-1], "--threads", "4", "--bind"], {}),
    "gunicorn, 4 threads, 2 of them for introspection": (
        [*GUNICORN[:-1], "--threads", "4", "--bind"],
        {"max_waiting": 2},
    ),
    "gunicorn, 1 thread": (GUNICORN, {}),
    "uvicorn": (["-m", "uvicorn", f"{APPLICATIONS}:asgi_application", "--no-proxy-headers", "--port"], {}),
}


class Client:
    """Sends requests to a server, each over a connection of its own."""

    def __init__(self, port: int, certificate: IssuedCertificate) -> None:
        self.port, self.headers = port, certificate.as_nginx()

    def get(self, token: str) -> int:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", "/", headers={**self.headers, "Authorization": f"Bearer {token}"})
            return connection.getresponse().status


@pytest.fixture(params=SERVERS)
def served(request: pytest.FixtureRequest, mtls_client: IssuedCertificate) -> Iterator[tuple[Any, str, Client]]:
    """An introspection server that knows each opaque token, a JWT, and a client of the server under test."""
    command, options = SERVERS[request.param]
    issuer, port = TokenIssuer(), free_port()
    address = str(port) if command[-1] == "--port" else f"127.0.0.1:{port}"
    with IntrospectionServer() as server:
        good = {"active": True, "cnf": {"x5t#S256": mtls_client.thumbprint}}
        server.tokens = {f"opaque{number}": good for number in range(10_000)}
        variables = environment(server.url, issuer, timeout=2, **options)
        with running([*command, address], port, **variables):
            yield server, issuer.token(certificate=mtls_client), Client(port, mtls_client)


def test_jwt_clients_are_served_while_the_introspection_server_stalls(served: tuple[Any, str, Client]) -> None:
    server, jwt, client = served
    numbers = itertools.count()
    assert [client.get(jwt), client.get(f"opaque{next(numbers)}")] == [200, 200]
    server.stall = 60
    with ThreadPoolExecutor(8) as pool:
        assert client.get(f"opaque{next(numbers)}") == 503  # the first stall
        found = Counter(
            pool.map(lambda at: (at % 5 == 0, client.get(f"opaque{next(numbers)}" if at % 5 == 0 else jwt)), range(300))
        )
    assert found == {(True, 503): 60, (False, 200): 240}
    asked = len(server.questions)
    assert asked < 30  # of more than sixty opaque tokens
    server.stall = 0
    server.release()
    until(lambda: client.get(f"opaque{next(numbers)}") == 200, 40)
    assert [client.get(f"opaque{next(numbers)}") for _ in range(20)] == [200] * 20


def test_cached_responses_are_used_while_the_introspection_server_stalls(served: tuple[Any, str, Client]) -> None:
    server, _, client = served
    assert client.get("opaque0") == 200
    server.stall = 60
    for number in range(1, 4):
        assert client.get(f"opaque{number}") == 503
    assert [client.get("opaque0") for _ in range(20)] == [200] * 20


def test_threads_of_all_kinds_end_their_wait(served: tuple[Any, str, Client]) -> None:
    """Also the requests that already wait when the server stalls get 503, and no other response."""
    server, _, client = served
    server.stall = 60
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda number=number: results.append(client.get(f"opaque{number}")))
        for number in range(8)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(50)
    assert results == [503] * 8
