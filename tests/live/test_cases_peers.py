"""Who is at the other end, over real servers: strangers, IPv4 on a [::] listener, unix sockets, forwarded addresses.

What must never happen, whatever comes: the application reads a certificate's header, or a stranger's certificate.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtls_middleware.sources.vendors import KNOWN_HEADERS
from tests.key_server import until
from tests.live import wire
from tests.live.case_servers import ASGI, SERVERS, Server, started
from tests.live.claims import CLAIMS, EVIL, GOOD, expected_report

pytestmark = pytest.mark.live

ABSENT = (403, "client_certificate_required")
CLAIM, FORGED = CLAIMS["nginx"](GOOD), CLAIMS["nginx"](EVIL)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with started(request.param) as server:
        yield server


@pytest.mark.case("001", "002")
@pytest.mark.standard("A1")
@pytest.mark.parametrize("source", CLAIMS)
def test_a_certificate_from_a_stranger_is_ignored_and_removed(server: Server, source: str) -> None:
    """The same lines from a trusted peer are a certificate: so they arrive, and the source can read them."""
    trusted = server.get(f"/{source}/loopback", *CLAIMS[source](GOOD))
    assert (trusted.certificate, trusted.leaks) == (expected_report(GOOD, source), [])
    forged = CLAIMS[source](EVIL)
    ignored = server.get(f"/{source}/elsewhere", *forged)
    assert (ignored.certificate, ignored.leaks) == (None, [])
    assert {each.split(b":")[0].decode().upper().replace("-", "_") for each in forged} <= arrived(ignored)
    if source not in ("unstated", "azure"):  # what can never be verified cannot be required either
        assert server.get(f"/{source}/elsewhere/required", *forged).refusal == ABSENT


def arrived(answer: wire.Answer) -> set[str]:
    return {wire.folded(name) for name in answer.report["arrived"]}


@pytest.mark.case("003")
@pytest.mark.standard("A2")
def test_known_headers_from_an_untrusted_peer_reach_no_application(server: Server) -> None:
    forms = [line for claim in CLAIMS.values() for line in claim(EVIL)]
    names = sorted(KNOWN_HEADERS)
    # A server takes 100 lines, or 64 kB: so the forms with whole certificates at once, and all names in three parts.
    for lines in (forms, *([f"{name}: MIIB".encode() for name in names[part::3]] for part in range(3))):
        for spelled in (lines, [renamed(each) for each in lines]):
            answer = server.get("/nginx/elsewhere", *spelled)
            assert (answer.certificate, answer.leaks) == (None, [])
            assert server.get("/nginx/elsewhere/required", *spelled).refusal == ABSENT
        assert {wire.folded(each.split(b":")[0].decode()) for each in lines} <= arrived(
            server.get("/nginx/elsewhere", *lines)
        )


def renamed(line: bytes) -> bytes:
    """With underscores for the dashes of the name."""
    name, value = line.split(b":", 1)
    return name.replace(b"-", b"_") + b":" + value


# ---- an IPv4 client on a [::] listener

# waitress takes IPv6 alone there, and so does `uvicorn --host ::` without --workers, --reload or sockets of its own.
IPV6_ALONE = {"waitress"}


@pytest.mark.case("014", "015")
def test_an_ipv4_client_on_an_ipv6_listener_is_the_one_it_is(server: Server) -> None:
    address = ("127.0.0.1", server.ipv6)
    if server.name in IPV6_ALONE:
        with pytest.raises(ConnectionRefusedError):
            wire.ask(address, wire.request("/nginx/loopback"))
        return
    (answer,) = wire.ask(address, wire.request("/nginx/loopback", *CLAIM))
    assert "::ffff:127.0.0.1" in answer.report["peer"]  # the text itself, or the first of a pair
    assert (answer.certificate, answer.leaks) == (expected_report(GOOD), [])
    (answer,) = wire.ask(address, wire.request("/nginx/elsewhere", *FORGED))
    assert (answer.certificate, answer.leaks) == (None, [])
    assert wire.ask(address, wire.request("/nginx/elsewhere/required", *FORGED))[0].refusal == ABSENT


# ---- unix sockets

# hypercorn and daphne name no address at all, neither the client's nor the server's own; gunicorn's asgi worker cuts
# its path into ("/", "t"). So nobody can tell that it is a unix socket.
SAY_UNIX = {"gunicorn", "waitress", "werkzeug", "uvicorn-h11", "uvicorn-httptools"}


@pytest.mark.case("017")
def test_a_unix_socket_is_trusted_only_where_the_server_reports_it(server: Server) -> None:
    (answer,) = wire.ask(server.unix, wire.request("/nginx/unix", *CLAIM))
    assert (answer.certificate, answer.leaks) == (expected_report(GOOD) if server.name in SAY_UNIX else None, [])
    unreported = "the server does not report whether its peer is a unix socket"
    if server.name in SAY_UNIX:
        assert unreported not in server.logged
    else:  # the lines per second are limited, and other tests use the same server
        until(lambda: wire.ask(server.unix, wire.request("/nginx/unix", *CLAIM)) and unreported in server.logged)
    for address, trust in ((server.unix, "loopback"), (server.unix, "elsewhere"), (("127.0.0.1", server.port), "unix")):
        (answer,) = wire.ask(address, wire.request(f"/nginx/{trust}", *FORGED))
        assert (answer.certificate, answer.leaks) == (None, [])
        assert wire.ask(address, wire.request(f"/nginx/{trust}/required", *FORGED))[0].refusal == ABSENT


@pytest.mark.case("017")
@pytest.mark.parametrize("trust", ["loopback", "elsewhere"])
@pytest.mark.parametrize("name", ["127.0.0.1", "10.0.0.7", "\x00127.0.0.1", "\x00\x7f\x00\x00\x01"], ids=ascii)
def test_a_unix_client_named_like_a_trusted_address_is_not_trusted(
    server: Server, name: str, trust: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where the name is that of a file
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(wire.TIMEOUT)
        connection.bind(name)
        connection.connect(server.unix)
        connection.sendall(wire.request(f"/nginx/{trust}", *FORGED))
        (answer,) = wire.answers(connection, 1)
    if server.name == "werkzeug" and name.startswith("\x00"):  # its log cannot write such a name
        assert answer == wire.CLOSED
    else:
        assert (answer.certificate, answer.leaks) == (None, [])


# ---- addresses and schemes that a header says

# uvicorn believes X-Forwarded-For of 127.0.0.1 unless told otherwise: --no-proxy-headers.
REWRITE = {"uvicorn-h11", "uvicorn-httptools"}
SCHEME_FLIPS = REWRITE | {"gunicorn", "gunicorn-asgi"}


@pytest.mark.case("023")
@pytest.mark.parametrize(
    "value", ["10.0.0.7", "10.0.0.7:443", "10.0.0.7, 127.0.0.1", "127.0.0.1, 10.0.0.7", "[::ffff:10.0.0.7]:1"]
)
def test_no_forwarded_address_becomes_a_trusted_peer(server: Server, value: str) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        line = f"{name}: {f'for={value}' if name == 'Forwarded' else value}".encode()
        answer = server.get("/nginx/elsewhere", line, *FORGED)
        assert (answer.certificate, answer.leaks) == (None, [])
        assert server.get("/nginx/elsewhere/required", line, *FORGED).refusal == ABSENT


@pytest.mark.case("023")
@pytest.mark.parametrize("value", ["203.0.113.9", "203.0.113.9:443", "127.0.0.1", "127.0.0.1:9"])
def test_a_rewritten_peer_address_is_not_trusted(server: Server, value: str) -> None:
    # With the peer's own address and a port it cannot be told whether somebody rewrote it.
    doubted = server.name in REWRITE or (value == "127.0.0.1:9" and server.name in ASGI)
    answer = server.get("/nginx/loopback", f"X-Forwarded-For: {value}".encode(), *CLAIM)
    assert (answer.certificate, answer.leaks) == (None if doubted else expected_report(GOOD), [])


@pytest.mark.case("023")
def test_the_log_warns_once_of_a_rewritten_peer_and_names_the_fix(server: Server) -> None:
    before = server.logged
    for _ in range(2):
        server.get("/apache/loopback", b"X-Forwarded-For: 203.0.113.9", *CLAIMS["apache"](GOOD))
    written = server.logged.removeprefix(before)
    assert written.count("WARNING the peer's address may come from X-Forwarded-For") == (server.name in REWRITE)
    assert ("run uvicorn with --no-proxy-headers" in written) == (server.name in REWRITE)
    assert "203.0.113.9" not in written


# By these names servers themselves speak of TLS in WSGI's environ (mod_ssl's, which cheroot and werkzeug have too).
VARIABLES = [
    b"SSL-Client-Verify: SUCCESS",
    *(b"SSL%bClient%bCert: %b" % (dash, dash, EVIL.pem.encode().replace(b"\n", b" ")) for dash in (b"-", b"_")),
]


@pytest.mark.case("023", "058")
def test_https_in_a_header_does_not_prove_tls(server: Server) -> None:
    for path, more in (("/server", VARIABLES), ("/nginx/elsewhere", [])):
        line = b"X-Forwarded-Proto: https"
        answer = server.get(path, line, *more, *FORGED)
        assert answer.report["scheme"] == ("https" if server.name in SCHEME_FLIPS else "http")
        assert (answer.certificate, answer.leaks) == (None, [])
        assert server.get(f"{path}/required", line, *FORGED).refusal == ABSENT
