"""A real browser, Debian's Chromium with a client certificate, opens the admin of samples/django_site through nginx.

`MTLS_WRITE_RESULTS=1` keeps the picture of docs/users.md.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import browse, home_of_browser, selecting_certificates
from tests.live.servers import ROOT
from tests.proxies import django_sample, matrix
from tests.proxies.django_sample import ALICE

pytestmark = pytest.mark.live
PICTURE = ROOT / "docs" / "admin-by-smart-card.png"


@pytest.fixture
def admin(server_files: Path, tmp_path: Path) -> Iterator[str]:
    environment = {**django_sample.variables(tmp_path), "DEBUG": "1"}
    with (
        django_sample.running("gunicorn", environment, server_files, tmp_path) as port,
        selecting_certificates(f"https://localhost:{port}"),
    ):
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
