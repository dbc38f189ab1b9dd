"""Header sources over real servers: the underscore twin and the duplicate never become an identity."""

import http.client
import sys

import pytest

from mtls_middleware.testing import CertificateAuthority
from tests.live.servers import APPLICATIONS, ROOT, free_port, running
from tests.servers import embedded

pytestmark = [pytest.mark.live, pytest.mark.case("005")]

GOOD, EVIL = CertificateAuthority().issue("CN=good"), CertificateAuthority().issue("CN=evil")
TWIN = {"X_SSL_Client_Cert": EVIL.as_nginx()["X-SSL-Client-Cert"]}
DUPLICATE = {"x-ssl-client-cert": EVIL.as_nginx()["X-SSL-Client-Cert"]}


def command(server: str, application: str, port: int) -> list[str]:
    if server == "uwsgi":
        module = ["--module", f"{APPLICATIONS}:{application}", "--pythonpath", str(ROOT)]
        return ["--http", f"127.0.0.1:{port}", "--buffer-size", "65535", *module]
    if server.startswith("granian"):
        interface = server.partition("-")[2]
        served = (
            f"{APPLICATIONS}:{application}" if interface == "wsgi" else f"tests.servers.tls_applications:{application}"
        )
        return ["-m", "granian", "--interface", interface, "--port", str(port), served]
    if server == "gunicorn":
        return ["-m", "gunicorn", f"{APPLICATIONS}:{application}", "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    return ["-m", APPLICATIONS, f"{server}_plain", str(port), application]


def ask(port: int, *headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest("GET", "/")
        for name, value in (pair for each in headers for pair in each.items()):
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("server", ["gunicorn", "waitress"])
def test_a_second_certificate_never_replaces_the_proxys_certificate(server):
    port = free_port()
    with running(command(server, "behind_nginx", port), port):
        assert GOOD.thumbprint.encode() in ask(port, GOOD.as_nginx())[1]
        for forged in (TWIN, DUPLICATE):
            status, body = ask(port, GOOD.as_nginx(), forged)
            assert status in (200, 400)
            assert EVIL.thumbprint.encode() not in body


@pytest.mark.parametrize("server", ["cheroot", "wsgiref", "granian-wsgi", "uwsgi"])
def test_a_server_that_folds_names_needs_a_proxy_that_deletes_them(server):
    program = embedded.UWSGI if server == "uwsgi" else [sys.executable]
    secret = {"X-Proxy-Secret": "s" * 16}
    for application, fields in (("behind_nginx", {}), ("behind_nginx_with_secret", secret)):
        port = free_port()
        with running(command(server, application, port), port, program=program) as log:
            assert ask(port, GOOD.as_nginx(), fields)[0] == 500
            assert ask(port, TWIN, fields)[0] == 500
            assert ask(port, TWIN, {"X_SSL_Client_Verify": "SUCCESS"}, fields)[0] == 500  # the proxy wrote neither
            assert "folds header names" in log()
            assert EVIL.as_nginx()["X-SSL-Client-Cert"][100:140] not in log()
    port = free_port()
    with running(command(server, "behind_nginx_that_deletes", port), port, program=program):
        assert GOOD.thumbprint.encode() in ask(port, GOOD.as_nginx(), secret)[1]
        assert ask(port, TWIN) == (200, b'{"certificate": null, "seen": []}')


def test_over_asgi_granian_shows_the_twin_which_is_never_read():
    port = free_port()
    with running(command("granian-asgi", "behind_nginx", port), port):
        assert GOOD.thumbprint.encode() in ask(port, GOOD.as_nginx())[1]
        assert ask(port, TWIN) == (200, b'{"certificate": null, "tls": null, "seen": []}')
        status, body = ask(port, GOOD.as_nginx(), TWIN)
        assert status in (200, 400)
        assert EVIL.thumbprint.encode() not in body
        assert ask(port, GOOD.as_nginx(), DUPLICATE)[0] == 400
