"""Trailer fields, which httptools gives like header fields."""

import ssl
import time
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.servers.uvicorn_tls.server import CA, CLIENT, HTTP, LOOPS, Application, answers, connected, serving

CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-SSL-Client-Cert\r\n\r\n"
TRAILER = b"2\r\nhi\r\n0\r\nX-SSL-Client-Cert: forged\r\n\r\n"


@pytest.mark.live
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("http", HTTP)
@pytest.mark.parametrize("at_once", [True, False])
def test_trailer_fields_do_not_become_header_fields(files: Any, http: str, loop: str, at_once: bool) -> None:
    app = Application()
    following = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Last: seen\r\n\r\n"
    with (
        serving(app, http=http, loop=loop, ssl_cert_reqs=ssl.CERT_REQUIRED, **files) as port,
        connected(port, CA.client_context(CLIENT)) as connection,
    ):
        for part in [CHUNKED + TRAILER + following] if at_once else [CHUNKED, TRAILER, following]:
            connection.sendall(part)
            time.sleep(0 if at_once else 0.05)
        assert answers(connection, 2) == [b"ok", b"ok"]
    posted, last = app.scopes
    assert app.bodies == [b"hi", b""]
    assert [name for name, _ in posted["headers"]] == [b"host", b"transfer-encoding", b"trailer"]
    assert (b"x-last", b"seen") in last["headers"]  # the next message has its headers again


@pytest.mark.live
def test_uvicorns_own_class_still_needs_the_one_without_trailers(files: Any) -> None:
    """The control of the tests above. When it fails, uvicorn was mended, and `_WithoutTrailers` may go."""
    app = Application()
    with (
        serving(app, http=HttpToolsProtocol, **files) as port,
        connected(port, CA.client_context()) as connection,
    ):
        connection.sendall(CHUNKED + TRAILER)
        answers(connection)
    assert (b"x-ssl-client-cert", b"forged") in app.scopes[0]["headers"]
    assert "tls" not in app.scopes[0]["extensions"]  # and this is why the module is there at all
