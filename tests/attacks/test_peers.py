"""Addresses that somebody else than the transport wrote."""

import asyncio
import functools
import http.client
import itertools
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from cheroot.wsgi import Server
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from mtls_middleware import client_certificate, wsgi
from mtls_middleware.asgi import ClientCertificateMiddleware
from mtls_middleware.sources import Nginx
from mtls_middleware.testing import IssuedCertificate
from tests.environs import KNOWN_SERVER
from tests.gateways import PROXY, Request, scope_of, send
from tests.live import wire
from tests.live.claims import CLAIMS, EVIL
from tests.live.servers import APPLICATIONS, free_port, running

# However it may be written: with ports that int() takes, in brackets, quotes and odd blanks.
_PORTS = ("", ":1", ":+1", ":01", ":1_0", ": 1", ":-1", ":0", ":\u00b9", ":1 ")
_FRAMES = ("{}{}", "[{}]{}", " {}{} ", '"{}{}"', "{}{}, 127.0.0.1", "127.0.0.1,{}{}", "\xa0{}{}\x85", "{}{}\x1f")
_ADDRESSES = (PROXY, "fd00::1", "FD00:0::1", f"::ffff:{PROXY}", "fd00::1%eth0")
FORGED = [frame.format(*pair) for frame in _FRAMES for pair in itertools.product(_ADDRESSES, _PORTS)]


def test_uvicorns_rewritten_address_is_not_a_trusted_peer(mtls_client: IssuedCertificate) -> None:
    seen: list[tuple[Any, bool]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["client"], client_certificate(scope) is not None))

    layer = ClientCertificateMiddleware(application, Nginx(trusted_proxies=["10.0.0.0/8", "fd00::/8"]))
    fields = list(mtls_client.as_nginx().items())
    for trusted in ("127.0.0.1", "*"):
        app: Any = ProxyHeadersMiddleware(layer, trusted)
        for value in FORGED:
            scope = scope_of(Request(peer="127.0.0.1", headers=[*fields, ("x-forwarded-for", value)]))
            asyncio.run(app(scope, None, None))
    assert len(seen) == 2 * len(FORGED)
    assert [client for client, attached in seen if attached] == []
    assert (PROXY, 1) in {client for client, _ in seen}  # so it was rewritten, port and all

    asyncio.run(layer(scope_of(Request(headers=fields)), None, None))
    assert seen[-1][1]


@pytest.mark.live
@pytest.mark.case("023")
def test_daphnes_rewritten_address_is_not_a_trusted_peer(tmp_path: Path) -> None:
    """With `--proxy-headers` it takes the address of one header and the port of another, both from anybody."""
    port = free_port()
    command = ["-m", "daphne", "--proxy-headers", "--bind", "127.0.0.1", "--port", str(port), "--verbosity", "0"]
    claim = CLAIMS["nginx"](EVIL)
    ports = ("443", "+443", " 443", "4_43", "0443", "\u0664\u0664\u0663", "65536", "-1", "x", "")
    with running([*command, "tests.live.echo_applications:asgi_application"], port, LOG=str(tmp_path / "log")):
        for forwarded, number in itertools.product((PROXY, f"{PROXY}, 203.0.113.9"), ports):
            fields = (f"X-Forwarded-For: {forwarded}".encode(), f"X-Forwarded-Port: {number}".encode())
            (answer,) = wire.ask(("127.0.0.1", port), wire.request("/nginx/elsewhere", *fields, *claim))
            assert answer.report["peer"][0] == PROXY  # so it was rewritten
            assert answer.certificate is None
            (answer,) = wire.ask(("127.0.0.1", port), wire.request("/nginx/elsewhere/required", *fields, *claim))
            assert answer.refusal == (403, "client_certificate_required")


@pytest.mark.parametrize(
    ("port", "forwarded_port", "trusted"),
    [(50_000, "443", True), (50_000, "", True), (443, "443", False), ("443", "443", False), (443, " 0443", False)],
)
def test_a_port_from_a_header_is_not_the_peers_port(
    port: Any, forwarded_port: str, trusted: bool, mtls_client: IssuedCertificate
) -> None:
    """A proxy that says its own port is none that was rewritten, also where the client is on its host."""
    fields = [*mtls_client.as_nginx().items(), ("X-Forwarded-For", PROXY), ("X-Forwarded-Port", forwarded_port)]
    request = Request(headers=fields, extra={"client": (PROXY, port)})
    layer = functools.partial(ClientCertificateMiddleware, source=Nginx(trusted_proxies=["10.0.0.0/8"]))
    assert (send("asgi", lambda _, app: layer(app), request).application.certificate is not None) is trusted


@pytest.mark.case("017")
@pytest.mark.parametrize(
    "address",
    [b"\x0a\x00\x00\x07", b"\x00" * 10 + b"\xff\xff\x0a\x00\x00\x07", 0x0A000007],
    ids=["IPv4", "mapped", "number"],
)
def test_a_unix_sockets_own_name_is_never_taken_for_an_address(address: Any, mtls_client: IssuedCertificate) -> None:
    """A client binds its socket to an abstract name of its choice, and Python tells that as octets."""

    def wrap(module: Any, app: Any) -> Any:
        return module.ClientCertificateMiddleware(app, Nginx(trusted_proxies=["10.0.0.0/8"]))

    for gateway in ("wsgi", "asgi"):
        request = Request(peer=address, headers=list(mtls_client.as_nginx().items()))
        assert send(gateway, wrap, request).application.certificate is None


@pytest.mark.live
def test_an_address_from_the_proxy_protocol_is_not_the_peer(mtls_client: IssuedCertificate) -> None:
    """Gunicorn writes what the PROXY line claims into REMOTE_ADDR; who may send one could be any address."""
    port = free_port()
    command = ["-m", "gunicorn", f"{APPLICATIONS}:behind_nginx", "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    head = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    request = head + "".join(f"{name}: {value}\r\n" for name, value in mtls_client.as_nginx().items()) + "\r\n"
    with running([*command, "--proxy-protocol"], port):
        # The application trusts 127.0.0.1, which the line names and the connection has: still nobody may say so.
        claimed = send_line(port, "PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n" + request)
        assert b'"certificate": null, "seen": []' in claimed
    port = free_port()
    command[4] = f"127.0.0.1:{port}"
    with running(command, port):
        assert mtls_client.thumbprint.encode() in send_line(port, request)


def send_line(port: int, text: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(text.encode("latin-1"))
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert response.status == 200
        return response.read()


@pytest.mark.live
@pytest.mark.case("023")
@pytest.mark.parametrize(
    ("fields", "peer", "trust"),
    [
        (("X-Forwarded-For: 10.0.0.7",), PROXY, "elsewhere"),
        (("X-Forwarded-For: 203.0.113.9, 10.0.0.7",), PROXY, "elsewhere"),
        (('X-Forwarded-For: "10.0.0.7:4711"',), PROXY, "elsewhere"),
        (("X-Forwarded-Port: /run/app.sock",), "127.0.0.1", "unix"),
        (("X-Forwarded-Host: example.org:/run/app.sock",), "127.0.0.1", "unix"),
    ],
)
def test_waitress_rewritten_address_is_not_a_trusted_peer(fields: Any, peer: str, trust: str, tmp_path: Path) -> None:
    """Where it believes everybody it takes address and port from fields, and the path of its unix socket with them."""
    believed = "x-forwarded-for x-forwarded-port x-forwarded-host"
    assert peer_and_certificate(
        fields, trust, tmp_path, "--trusted-proxy=*", f"--trusted-proxy-headers={believed}"
    ) == (peer, None)


@pytest.mark.live
@pytest.mark.case("023")
def test_the_forwarded_field_does_not_set_the_peer_of_waitress(tmp_path: Path) -> None:
    options = ("--trusted-proxy=*", "--trusted-proxy-headers=forwarded")
    assert peer_and_certificate(("Forwarded: for=10.0.0.7",), "elsewhere", tmp_path, *options) == (PROXY, None)
    assert peer_and_certificate(('Forwarded: host="a:/run/x"',), "unix", tmp_path, *options) == ("127.0.0.1", None)
    peer, certificate = peer_and_certificate(("X-Forwarded-For: 10.0.0.7",), "loopback", tmp_path)  # as it is by itself
    assert peer == "127.0.0.1"
    assert certificate is not None


@pytest.mark.live
@pytest.mark.case("023")
@pytest.mark.parametrize("ident", ["web", "", "gunicorn/27.0.1"])
def test_waitress_is_known_also_where_it_does_not_say_its_name(ident: str, tmp_path: Path) -> None:
    """`--ident` is what its `Server` header says, and SERVER_SOFTWARE with it: text of the operator's, or none."""
    options = (f"--ident={ident}", "--trusted-proxy=*", "--trusted-proxy-headers=x-forwarded-for")
    assert peer_and_certificate(("X-Forwarded-For: 10.0.0.7",), "elsewhere", tmp_path, *options) == (PROXY, None)
    peer, certificate = peer_and_certificate((), "loopback", tmp_path, options[0])
    assert peer == "127.0.0.1"
    assert certificate is not None


@pytest.mark.case("023")
def test_proxy_fix_does_not_make_waitress_rewritten_address_a_peer(mtls_client: IssuedCertificate) -> None:
    """ProxyFix keeps what it found, which is the transport's address only where nobody was there before it."""

    def wrap(module: Any, app: Any) -> Any:
        return ProxyFix(module.ClientCertificateMiddleware(app, Nginx(trusted_proxies=["10.0.0.0/8"])))

    fields = mtls_client.as_nginx().items()
    waitress = {"SERVER_SOFTWARE": "waitress", "waitress.client_disconnected": lambda: False}
    # Two ProxyFix would leave the same environ as the third row: the address may be the client's choice.
    rows = ((waitress, PROXY, False), (KNOWN_SERVER, "203.0.113.9", True), (KNOWN_SERVER, PROXY, False))
    for environ, forwarded, trusted in rows:
        request = Request(headers=[*fields, ("X-Forwarded-For", forwarded)], extra=environ)
        assert (send("wsgi", wrap, request).application.certificate is not None) is trusted


@pytest.mark.case("005")
def test_cheroot_is_known_also_by_the_name_of_what_runs_on_it(mtls_client: IssuedCertificate) -> None:
    """CherryPy puts its own name before cheroot's, and lets X_SSL_Client_Cert pass for X-SSL-Client-Cert as it does."""
    layer = wsgi.ClientCertificateMiddleware(lambda *_: [], Nginx(trusted_proxies=["127.0.0.1"]))
    server = Server(("127.0.0.1", 0), layer, numthreads=1)
    server.version = "CherryPy/18.10.0 Cheroot/11.1.2"
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.bind_addr[1], timeout=10)
        connection.request("GET", "/", headers=mtls_client.as_nginx())
        assert connection.getresponse().status == 500
        connection.close()
    finally:
        server.stop()
        thread.join()


def peer_and_certificate(fields: tuple[str, ...], trust: str, folder: Path, *options: str) -> tuple[str, Any]:
    """The peer that waitress tells, and the certificate that is attached."""
    port = free_port()
    command = [
        "-m",
        "waitress",
        f"--listen=127.0.0.1:{port}",
        *options,
        "tests.live.echo_applications:wsgi_application",
    ]
    with running(command, port, LOG=str(folder / "log")):
        lines = [*(each.encode() for each in fields), *CLAIMS["nginx"](EVIL)]
        (answer,) = wire.ask(("127.0.0.1", port), wire.request(f"/nginx/{trust}", *lines))
    return answer.report["peer"], answer.certificate
