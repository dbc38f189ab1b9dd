"""A real browser, Debian's Chromium with a client certificate, opens the admin of samples/django_site through nginx.

`MTLS_WRITE_RESULTS=1` keeps the picture of docs/users.md.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtls_middleware.cli.proxy_options import SECRET_VARIABLE
from tests.browser import browse, home_of_browser, selecting_certificates
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.conftest import until_it_answers, wanted
from tests.proxies.matrix import Setup
from tests.proxies.test_django_sample import ALICE, SERVERS, SITE, manage

pytestmark = pytest.mark.live
PICTURE = ROOT / "docs" / "admin-by-smart-card.png"


@pytest.fixture
def admin(server_files: Path, tmp_path: Path) -> Iterator[str]:
    upstream, port = free_port(), free_port()
    staff = tmp_path / "staff-ca.pem"
    staff.write_text(matrix.clients().pem)
    environment = {"STAFF_CA": str(staff), "DATABASE": str(tmp_path / "db.sqlite3"), "DEBUG": "1"}
    manage("migrate", environment)
    manage("createsuperuser --noinput --email a@corp.example --username alice@corp.example", environment)
    command = [sys.executable, "-m", *(each.replace("PORT", str(upstream)) for each in SERVERS["gunicorn"])]
    settings = {**environment, SECRET_VARIABLE: matrix.SECRET, "PYTHONPATH": f"{ROOT}{os.pathsep}{SITE}"}
    proxys = tmp_path / "nginx"
    proxys.mkdir()
    setup = Setup("nginx", "idiomatic", "optional", "")
    with (
        programs.started(command, upstream, SITE, **settings),
        programs.proxy(wanted(setup, port, upstream, server_files), proxys),
    ):
        until_it_answers(port, "/")
        with selecting_certificates(f"https://localhost:{port}"):
            yield f"https://localhost:{port}/admin/"


def test_a_browser_with_the_card_opens_the_admin(admin: str, tmp_path: Path) -> None:
    card = matrix.clients().issue("CN=Alice Example,OU=sales", **ALICE)
    home = home_of_browser(tmp_path / "with", matrix.servers(), card)
    page = browse(home, admin, "--dump-dom")
    assert "Site administration" in page
    assert "alice@corp.example" in page
    picture = PICTURE if os.environ.get("MTLS_WRITE_RESULTS") else tmp_path / "admin.png"
    browse(home, admin, f"--screenshot={picture}")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_browser_without_a_card_gets_403(admin: str, tmp_path: Path) -> None:
    page = browse(home_of_browser(tmp_path / "without", matrix.servers(), None), admin, "--dump-dom")
    assert "client_certificate_required" in page
    assert "Site administration" not in page
