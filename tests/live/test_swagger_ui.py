"""Swagger UI, in a browser with a client certificate, shows that the documented FastAPI application needs mutual TLS.

`MTLS_WRITE_RESULTS=1` keeps the picture of docs/integrations.md.
"""

import os
from pathlib import Path

import pytest

from mtls_middleware.testing import CertificateAuthority
from tests.browser import browse, home_of_browser, selecting_certificates
from tests.live.servers import ROOT, free_port, running, tls_files

pytestmark = pytest.mark.live
PICTURE = ROOT / "docs" / "swagger-ui.png"


def test_swagger_ui_shows_mutual_tls_and_the_certificate_of_the_browser(tmp_path: Path) -> None:
    authority = CertificateAuthority()
    files = tls_files(authority, tmp_path)
    home = home_of_browser(tmp_path / "home", authority, authority.issue("CN=Alice Example,OU=infra"))
    port = free_port()
    command = ["-m", "uvicorn", "tests.live.swagger_application:app", "--port", str(port), "--log-level", "warning"]
    command += ["--ssl-certfile", f"{files}/server.pem", "--ssl-keyfile", f"{files}/server-key.pem"]
    command += ["--ssl-ca-certs", f"{files}/ca.pem", "--ssl-cert-reqs", "1", "--ws", "none"]
    command += ["--http", "mtls_middleware.servers.uvicorn_tls:H11"]
    address, wait = f"https://localhost:{port}", "--virtual-time-budget=20000"
    with running(command, port), selecting_certificates(address):
        page = browse(home, f"{address}/picture", wait, "--dump-dom", size="1000,1160")
        assert "Mutual TLS is required by this API/Operation" in page
        assert "CN=Alice Example,OU=infra" in page
        picture = PICTURE if os.environ.get("MTLS_WRITE_RESULTS") else tmp_path / "swagger-ui.png"
        browse(home, f"{address}/picture", wait, "--hide-scrollbars", f"--screenshot={picture}", size="1000,1160")
    assert picture.read_bytes().startswith(b"\x89PNG")
