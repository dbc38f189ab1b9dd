"""Roots that real servers make: no guest reaches a view of "/admin", and a stated root lets good requests pass."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.testing import CertificateAuthority
from tests.live.path_apps import SECRET
from tests.live.servers import free_port, running

pytestmark = pytest.mark.live

AUTHORITY = CertificateAuthority()
FIELDS = {name: AUTHORITY.issue(f"CN={name},O=Acme").as_nginx() for name in ("ops", "guest")}
SERVERS = {
    "daphne": ["daphne", "-b", "127.0.0.1", "-p", "PORT"],
    "uvicorn": ["uvicorn", "--no-proxy-headers", "--http", "h11", "--port", "PORT"],
    "uvicorn --root-path": ["uvicorn", "--no-proxy-headers", "--http", "h11", "--root-path", "/api", "--port", "PORT"],
    "hypercorn": ["hypercorn", "-b", "127.0.0.1:PORT"],
    "hypercorn --root-path": ["hypercorn", "--root-path", "/api", "-b", "127.0.0.1:PORT"],
    "gunicorn": ["gunicorn", "-b", "127.0.0.1:PORT"],
}


def answer(port: int, target: str, client: str, fields: dict[str, str]) -> tuple[int, str]:
    """The status, and the view that ran."""
    sent = {"Host": "localhost", "Connection": "close", SECRET[0]: SECRET[1], **FIELDS[client], **fields}
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode())
        received = b""
        while more := connection.recv(65_536):
            received += more
    body = received.partition(b"\r\n\r\n")[2]
    return int(received.split(b" ", 2)[1]), next((view for view in ("admin", "other") if view.encode() in body), "")


DAPHNE = {"Daphne-Root-Path": "/admin"}
# The application and its server, what an attacker sends, and where the deployment is mounted: the target for "/admin".
CASES: list[tuple[str, str, list[tuple[str, dict[str, str]]], str, str]] = [
    ("daphne", "falcon_asgi", [("/admin/users", DAPHNE), ("/admin", DAPHNE)], "", "/admin"),
    ("daphne", "quart", [("/xadmin", {"Daphne-Root-Path": "/x"}), ("/public", DAPHNE)], "", "/admin"),
    ("daphne", "litestar", [("/public/admin", {"Daphne-Root-Path": "lic"})], "", "/admin"),
    ("daphne", "fastapi_root", [("/api/admin", {})], "/api", "/admin"),
    ("hypercorn --root-path", "quart", [("/apiadmin", {})], "/api", "/api/admin"),
    ("hypercorn --root-path", "litestar", [("/x/api/admin", {})], "/api", "/api/admin"),
    ("hypercorn", "dispatched_quart", [("/apiadmin", {})], "/api", "/api/admin"),
    ("uvicorn --root-path", "quart", [("admin", {})], "/api", "/admin"),
    ("uvicorn --root-path", "litestar", [("admin", {})], "/api", "/admin"),
    ("uvicorn", "fastapi_root", [("/api/admin", {})], "/api", "/admin"),
    ("uvicorn", "forced_django", [("/api/admin", {})], "/api", "/admin"),
    ("gunicorn", "flask", [("/x/admin", {"SCRIPT_NAME": "/x"}), ("/xadmin", {"SCRIPT_NAME": "/x"})], "", "/admin"),
]  # fmt: skip


@pytest.mark.case("148", "149", "152")
@pytest.mark.parametrize(("server", "application", "attacks", "stated", "good"), CASES)
@pytest.mark.parametrize("says", [False, True], ids=["nothing stated", "root_path="])
def test_no_root_leads_past_a_rule(
    server: str, application: str, attacks: Any, stated: str, good: str, *, says: bool
) -> None:
    port = free_port()
    command = [word.replace("PORT", str(port)) for word in SERVERS[server]]
    program = [str(Path(sys.executable).with_name(command[0]))]
    environment = {"TEST_SITE": application, **({"TEST_ROOT": stated} if says else {})}
    with running([*command[1:], "tests.live.path_apps:app"], port, program=program, **environment):
        for target, fields in attacks:
            status, view = answer(port, target, "guest", fields)
            assert (status != 200) or view == "other", (target, status, view)
            assert answer(port, good, "guest", {})[0] in {400, 403}
        if says:
            assert answer(port, good, "ops", {}) == (200, "admin")
            assert answer(port, good.replace("admin", "public"), "guest", {}) == (200, "other")
