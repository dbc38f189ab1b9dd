"""Requests that servers read differently, over real servers: odd octets, split heads, one connection, a megabyte.

The proxy's own lines stand beside those of an attacker, as where it passes on what it should not. What must never
happen, whatever a server makes of it: the attacker's certificate is attached, or the application reads its header.
"""

from collections.abc import Iterator

import pytest

from tests.live import wire
from tests.live.case_servers import REFUSED, SERVERS, Server, started
from tests.live.claims import CLAIMS, EVIL, GOOD, base64, escaped, expected_report
from tests.live.echo_applications import SECRET

pytestmark = pytest.mark.live

PATH = "/nginx/loopback"
MALFORMED = (400, "invalid_client_certificate")
CLAIM, (FORGED, SUCCESS) = CLAIMS["nginx"](GOOD), CLAIMS["nginx"](EVIL)
NONE = b"X-SSL-Client-Verify: NONE"
NAME, VALUE = FORGED.split(b": ")


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with started(request.param) as server:
        yield server


@pytest.fixture(scope="module", params=REFUSED)
def refused(request: pytest.FixtureRequest) -> Iterator[Server]:
    with started(request.param) as server:
        yield server


# ---- odd octets in one line

# The line -> who answers it 200 in some place of a request; the others answer 400 wherever it stands.
ODDITIES: dict[bytes, set[str]] = {
    FORGED + b"\0": set(),
    NAME + b": \0" + VALUE: set(),
    NAME + b": " + VALUE[:200] + b"\0" + VALUE[200:]: set(),
    NAME + b"\0: " + VALUE: {"werkzeug"},
    b"X-A: a\0" + FORGED: {"werkzeug"},
    NAME + b" : " + VALUE: {"werkzeug"},
    NAME + b"\t: " + VALUE: {"werkzeug"},
    NAME + b"\xa0: " + VALUE: {"werkzeug"},
    b" " + FORGED: {"waitress", "werkzeug", "uvicorn-h11", "hypercorn", "daphne"},
    NAME + b" " + VALUE: {"werkzeug"},
    b": " + FORGED: {"werkzeug"},
    NAME.replace(b"SS", b"\xdf") + b": " + VALUE: {"werkzeug"},
    b"X-A: a\n" + FORGED: set(),
    b"X-A: a\r" + FORGED: set(),
    b"X-A: a\r\r\n" + FORGED: {"werkzeug"},
    b"X-A: a\n\r" + FORGED: {"werkzeug"},
    b"X-A: a\r\n\t" + FORGED: {"waitress", "werkzeug", "uvicorn-h11", "hypercorn", "daphne"},
    b"X-A: a\x0b" + FORGED: {"werkzeug"},
    b"X-A: a\x1c" + FORGED: {"werkzeug", "uvicorn-h11", "hypercorn"},
    b"X-A: a\x85" + FORGED: set(SERVERS) - {"daphne"},
}
LINES = {ascii(line.replace(VALUE[:200], b"FOR").replace(VALUE[200:], b"GED"))[2:-1]: line for line in ODDITIES}


@pytest.mark.case("009", "010", "011")
@pytest.mark.parametrize("shown", LINES)
def test_no_odd_line_beside_the_proxys_own_is_a_certificate(server: Server, shown: str) -> None:
    line = LINES[shown]
    answers = [server.get(PATH, *lines) for lines in ([line, *CLAIM], [*CLAIM, line], [line, NONE], [NONE, line])]
    assert (server.name in ODDITIES[line]) == (200 in {each.status for each in answers})
    for answer, proxys in zip(answers, [GOOD, GOOD, None, None], strict=True):
        if answer.status == 200:  # werkzeug's reading ends at a line that it cannot read: the proxy's word may be lost
            assert answer.thumbprint in (None, proxys and proxys.thumbprint)
        assert answer.status in (200, 400)
        assert certificate_fields(answer) == []


def certificate_fields(answer: wire.Answer) -> list[str]:
    """What the application could take for one by its name; a foreign field may hold the forged line as its value."""
    return [name for name, _ in answer.report["seen"] if "SSL" in name.upper()] if answer.status == 200 else []


# ---- one head or two

# What makes the head end before the proxy's lines, for a server that takes a bare LF, or CR, for the end of a line.
SPLITS = {
    "LF": (b"\n", b"\n"),
    "LF and CR LF": (b"\n", b"\r\n"),
    "CR": (b"\r", b"\r"),
    "no header behind LF": (b"\n", b"junk\n"),
    "no header behind CR": (b"\r", b"junk\r"),
    "a second request": (b"\n", f"\nGET {PATH.replace('loopback', 'secret')} HTTP/1.1\r\nHost: localhost".encode()),
}


def assert_a_secret_keeps_forgeries_out(server: Server, trust: str = "secret") -> None:
    for between, end in SPLITS.values():
        forged = between.join([b"X-A: a", FORGED, SUCCESS, end])
        for answer in server.ask(wire.request(f"/nginx/{trust}", forged, ": ".join(SECRET).encode(), *CLAIM), 2):
            assert answer.status == 400 or answer.thumbprint in (None, GOOD.thumbprint)
            assert certificate_fields(answer) == []


def test_where_a_proxy_lets_a_head_be_split_a_secret_keeps_forgeries_out(server: Server) -> None:
    """Without one, the forged head is a request as the trusted peer's own: only the proxy can refuse a bare LF."""
    assert_a_secret_keeps_forgeries_out(server)


@pytest.mark.case("063")
@pytest.mark.parametrize("framing", ["Content-Length", "Transfer-Encoding"])
def test_an_unread_body_is_not_parsed_as_a_request(server: Server, framing: str) -> None:
    inner = wire.request(PATH, FORGED, SUCCESS, last=False)
    head, body = f"Content-Length: {len(inner)}".encode(), inner
    if framing == "Transfer-Encoding":
        head, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)
    outer = wire.request(PATH, head, *CLAIM, last=False, start=b"POST")
    answers = server.ask(outer + body + wire.request(PATH, NONE), 3)
    assert [each.certificate for each in answers] == [expected_report(GOOD), None][: KEPT.get(server.name)]


@pytest.mark.case("007", "010")
def test_trailer_fields_do_not_become_header_fields(server: Server) -> None:
    """uvicorn's own httptools class takes them for such; ours does not, nor does any other server."""
    for lines, expected in (([], None), ([NONE], None), (CLAIM, expected_report(GOOD))):
        head = wire.request(PATH, b"Transfer-Encoding: chunked", b"Trailer: X-SSL-Client-Cert", *lines, start=b"POST")
        (answer,) = server.ask(head + b"\r\n".join([b"1", b"x", b"0", FORGED, SUCCESS, b"", b""]))
        assert (answer.certificate, answer.leaks) == (expected, [])


# ---- one connection

# How many requests a connection is kept for, where that is not as many as there are.
KEPT = {"werkzeug": 1}
IN_TURN = [
    (CLAIM, expected_report(GOOD)),
    ([], None),
    ([FORGED, SUCCESS], expected_report(EVIL)),
    ([NONE], None),
    (CLAIM, expected_report(GOOD)),
]


@pytest.mark.case("063")
@pytest.mark.parametrize("written", ["in turn", "at once"])
def test_each_request_of_a_connection_has_its_own_certificate_or_none(server: Server, written: str) -> None:
    requests = [wire.request(PATH, *lines, last=False) for lines, _ in IN_TURN]
    if written == "in turn":
        answers = wire.converse(("127.0.0.1", server.port), requests)
    else:
        answers = server.ask(b"".join(requests), len(requests))
    assert [each.certificate for each in answers] == [expected for _, expected in IN_TURN][: KEPT.get(server.name)]
    assert [name for each in answers for name in each.leaks] == []


# ---- a megabyte

MEGABYTE = 1_000_000
BIG = {
    "/nginx/loopback": f"X-SSL-Client-Cert: {(escaped(GOOD) * 2000)[:MEGABYTE]}".encode(),
    "/rfc9440/loopback": f"Client-Cert: :{'A' * MEGABYTE}:".encode(),
    "/envoy/loopback": f"x-forwarded-client-cert: {'By=a;' * (MEGABYTE // 5)}".encode(),
    "/traefik/loopback": f"X-Forwarded-Tls-Client-Cert: {base64(GOOD)}{',AAAA' * (MEGABYTE // 5)}".encode(),
}
# Who answers itself. That answer is lost where the connection is closed on what is still being written.
ANSWER = {"gunicorn": 431, "gunicorn-asgi": 431, "waitress": 431, "werkzeug": 431, "hypercorn": 431}
CLOSE = {"uvicorn-h11": 400, "daphne": 400}
# Seconds of CPU: what the reference allows for one field, and many times what is measured.
SLACK = 0.05


@pytest.mark.case("062")
def test_a_header_of_a_megabyte_is_rejected_at_no_extra_cost(server: Server) -> None:
    own = (ANSWER | CLOSE).get(server.name)
    any_other = cost(server, PATH, b"X-Other: " + b"A" * MEGABYTE)
    for path, line in BIG.items():
        assert server.get(path, line, SUCCESS).refusal in ([MALFORMED] if own is None else [(own, None), (0, None)])
        assert cost(server, path, line) < 2 * any_other + SLACK
        assert server.get(PATH, *CLAIM).certificate == expected_report(GOOD)


def cost(server: Server, path: str, line: bytes) -> float:
    """Seconds of the server's CPU, of the best of two."""

    def once() -> float:
        before = server.get(PATH).report["cpu"]
        server.get(path, line, SUCCESS)
        return float(server.get(PATH).report["cpu"] - before)

    return min(once() for _ in range(2))


# ---- servers where nothing can be known


@pytest.mark.case("005", "007", "009", "010", "011", "062")
def test_servers_that_hide_forgeries_are_refused_whatever_comes(refused: Server) -> None:
    """cheroot alone takes a blank before the colon, CR CR LF, and the octet DF for SS, all as the proxy's header."""
    for source, claim in CLAIMS.items():
        for lines in (claim(GOOD), [*claim(GOOD), *claim(EVIL)], []):
            assert refused.get(f"/{source}/loopback", *lines).refusal == (500, "server_error")
    for line in (*ODDITIES, *BIG.values()):
        for lines in ([line, *CLAIM], [*CLAIM, line], [line, NONE]):
            assert refused.get(PATH, *lines).status in (0, 400, 431, 500)
    assert refused.get("/nginx/secret", ": ".join(SECRET).encode(), *CLAIM).refusal == (500, "server_error")
    assert_a_secret_keeps_forgeries_out(refused, "stated")
    assert "a client's X_SSL_Client_Cert can arrive as the proxy's" in refused.logged
