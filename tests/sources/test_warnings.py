"""A server that does what certificates should not depend on is named in the log: once, not with each request."""

import logging

import pytest

from mtls_middleware import asgi, wsgi
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import IssuedCertificate

SECRET = ("X-Proxy-Secret", "s" * 16)


def wsgi_request(source: Nginx, client: IssuedCertificate, **environ: str) -> int:
    statuses: list[int] = []
    layer = wsgi.ClientCertificateMiddleware(lambda environ, start: start("200 OK", []) or [], source)
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in client.as_nginx().items()}
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_X_PROXY_SECRET": SECRET[1], **headers, **environ}
    list(layer(request, lambda status, headers, *_: statuses.append(int(status[:3]))))
    return statuses[0]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.case("005")
@pytest.mark.parametrize("software", ["Cheroot/11.1.2", "Granian", "WSGIServer/0.2 CPython/3.11"])
def test_the_operators_statement_lifts_the_rejection_without_a_warning(software, mtls_client, caplog):
    source = Nginx(shared_secret=SECRET, proxy_deletes_underscores=True)
    assert wsgi_request(source, mtls_client, SERVER_SOFTWARE=software) == 200
    assert wsgi_request(Nginx(shared_secret=SECRET), mtls_client, SERVER_SOFTWARE=software) == 500
    assert warnings(caplog) == []


def test_a_sound_server_is_not_named(mtls_client, caplog):
    assert wsgi_request(Nginx(shared_secret=SECRET), mtls_client, SERVER_SOFTWARE="gunicorn/27.0") == 200
    assert warnings(caplog) == []


def test_a_rewritten_peer_is_named_once_with_what_to_change(mtls_client, caplog):
    import asyncio

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        assert message["status"] == 200

    layer = asgi.ClientCertificateMiddleware(application, Nginx(trusted_proxies=["10.0.0.0/8"]))
    headers = [(b"x-forwarded-for", b"10.0.0.7")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": ("10.0.0.7", 0)}
    for _ in range(3):
        asyncio.run(layer(scope, None, send))
    (warning,) = warnings(caplog)
    assert "--no-proxy-headers" in warning


def test_a_trusted_address_under_an_unknown_server_is_warned_of_once(mtls_client, caplog):
    source = Nginx(shared_secret=SECRET, trusted_proxies=["10.0.0.0/8"], proxy_deletes_underscores=True)
    for _ in range(3):
        assert wsgi_request(source, mtls_client, REMOTE_ADDR="10.0.0.7") == 200
    (warning,) = warnings(caplog)
    assert "give shared_secret= without trusted_proxies=" in warning
