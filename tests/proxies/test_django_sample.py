"""samples/django_site behind a real nginx: the admin for the staff's cards, and its own tests."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.cli.proxy_options import SECRET_VARIABLE
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.live.servers import ROOT, free_port
from tests.proxies import forgery, matrix, programs
from tests.proxies.client import Answer, over_http1
from tests.proxies.conftest import options_for, until_it_answers
from tests.proxies.matrix import Setup

pytestmark = pytest.mark.live
SITE = ROOT / "samples" / "django_site"
ALICE = {"user_principal_names": ["alice@corp.example"]}
SERVERS = {
    "gunicorn": ("gunicorn", "shop.wsgi:application", "--bind", "127.0.0.1:PORT", "--no-control-socket"),
    "uvicorn": ("uvicorn", "shop.asgi:application", "--port", "PORT", "--no-proxy-headers", "--log-level", "error"),
}


def manage(command: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *command.split()],
        cwd=SITE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The staff is one of two CAs that nginx accepts."""
    staff, cas = tmp_path / "staff-ca.pem", tmp_path / "client-cas.pem"
    staff.write_text(matrix.clients().pem)
    cas.write_text(matrix.clients().pem + PARTNER.pem)
    return {"STAFF_CA": str(staff), "CLIENT_CAS": str(cas), "DATABASE": str(tmp_path / "db.sqlite3")}


PARTNER = CertificateAuthority("CN=Partner CA")


@pytest.fixture(params=SERVERS.values(), ids=SERVERS)
def port(request: Any, environment: dict[str, str], server_files: Path, tmp_path: Path) -> Iterator[int]:
    upstream, port = free_port(), free_port()
    files = tmp_path / "files"
    files.mkdir()
    for name in ("server.pem", "server.pem.key"):
        (files / name).write_text((server_files / name).read_text())
    (files / "ca.pem").write_text(Path(environment["CLIENT_CAS"]).read_text())
    manage("migrate", environment)
    manage("createsuperuser --noinput --email a@corp.example --username alice@corp.example", environment)
    command = [sys.executable, "-m", *(each.replace("PORT", str(upstream)) for each in request.param)]
    proxys = tmp_path / "nginx"
    proxys.mkdir()
    settings = {**environment, SECRET_VARIABLE: matrix.SECRET, "PYTHONPATH": f"{ROOT}{os.pathsep}{SITE}"}
    setup = Setup("nginx", "idiomatic", "optional", "")
    with (
        programs.started(command, upstream, SITE, **settings),
        programs.proxy(options_for(setup, port, upstream, files), proxys),
    ):
        until_it_answers(port, "/")
        yield port


def ask(port: int, card: IssuedCertificate | None, path: str, *lines: bytes) -> Answer:
    return over_http1(port, matrix.servers().client_context(card), path, list(lines))


def test_the_admin_is_for_the_cards_of_the_staff(port: int) -> None:
    alice = matrix.clients().issue("CN=alice", **ALICE)
    assert ask(port, None, "/").body == b'{"welcome": "guest"}'
    assert ask(port, alice, "/").body == b'{"welcome": "alice@corp.example"}'
    page = ask(port, alice, "/admin/")
    assert (page.status, b"Site administration" in page.body) == (200, True)
    forged = forgery.Request([*forgery.forged(), *forgery.escaped()[:1]]).lines
    assert ask(port, None, "/admin/").status == 403
    assert ask(port, None, "/admin/", *forged).status == 403
    assert ask(port, PARTNER.issue("CN=alice", **ALICE), "/admin/").status == 403
    assert ask(port, PARTNER.issue("CN=alice", **ALICE), "/").body == b'{"welcome": "guest"}'
    assert ask(port, alice, "/api/profile").body == b'{"user":"alice@corp.example","groups":[]}'


def test_the_tests_of_the_sample_pass(environment: dict[str, str]) -> None:
    manage("check", environment)
    manage("test", environment)
