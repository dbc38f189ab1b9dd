"""`mtls-middleware probe` ends in bounded time, with a verdict of its own, whatever the server sends."""

import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import pytest

from mtls_middleware.cli.main import main
from mtls_middleware.testing import CertificateAuthority
from tests.cli.hostile import FORBIDDEN, for_ever, frame, literal, once, refusing_plain_requests, serving

pytestmark = pytest.mark.live

AUTHORITY = CertificateAuthority()
HEADERS, PING, GOAWAY, CONTINUATION = 1, 6, 7, 9
STATUS_403 = b"\x48\x03403"


def probed(port: int, tmp_path: Path, capsys, *options: str) -> tuple[int, list[dict[str, object]], float]:
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    began = time.monotonic()
    arguments = ["probe", f"https://localhost:{port}/", "--ca", str(tmp_path / "ca.pem"), "--rate", "100", "--json"]
    status = main([*arguments, "--timeout", "0.5", *options])
    return status, json.loads(capsys.readouterr().out or "[]"), time.monotonic() - began


MALFORMED = {
    "no :status": frame(HEADERS, 5, 1, literal(b"a", b"b")),
    "two :status": frame(HEADERS, 5, 1, literal(b":status", b"403") + literal(b":status", b"200")),
    "a status that is no number": frame(HEADERS, 5, 1, literal(b":status", b"2x0")),
    "a status with a sign": frame(HEADERS, 5, 1, literal(b":status", b"+200")),
    "a status with a blank": frame(HEADERS, 5, 1, literal(b":status", b" 200")),
    "a status of five digits": frame(HEADERS, 5, 1, literal(b":status", b"20000")),
    "an empty status": frame(HEADERS, 5, 1, literal(b":status", b"")),
    "a stream that was never opened": frame(HEADERS, 5, 7, literal(b":status", b"200")),
    "HPACK that ends early": frame(HEADERS, 5, 1, b"\x00\x7f"),
    "an unknown HPACK index": frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\x0f"),
    "HTTP/1.1": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "zeros": bytes(5000),
    "a frame that is too large": frame(0, 0, 1, bytes(20_000)),
    "GOAWAY": frame(GOAWAY, 0, 0, bytes(8)),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_http2_is_an_outcome(name, tmp_path, capsys):
    with serving(AUTHORITY, http2=once(MALFORMED[name])) as port:
        status, outcomes, _ = probed(port, tmp_path, capsys, "--headers-only")
    assert status in (0, 2)
    over_http2 = [each for each in outcomes if each["protocol"] == "HTTP/2"]
    assert over_http2
    assert not [each for each in outcomes if each["got_in"]]


ENDLESS = {
    "PING": for_ever(frame(PING, 0, 0, b"12345678")),
    "PING, fast": for_ever(frame(PING, 0, 0, b"12345678") * 500, 0),
    "informational responses": for_ever(frame(HEADERS, 4, 1, literal(b":status", b"103"))),
    "CONTINUATION": for_ever(frame(CONTINUATION, 0, 1, b"")),
    "SETTINGS": for_ever(frame(4, 0, 0, b"")),
    "nothing": for_ever(b"", 1),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_http2_without_an_end_is_given_up(name, tmp_path, capsys):
    with serving(AUTHORITY, http2=ENDLESS[name]) as port:
        status, outcomes, seconds = probed(port, tmp_path, capsys, "--headers-only")
    assert seconds < 60
    assert not [each for each in outcomes if each["got_in"]]
    over_http2 = [each for each in outcomes if each["protocol"] == "HTTP/2"]
    if all(not each["tried"] for each in over_http2):
        assert status == 2
        assert len([each for each in over_http2 if str(each["answer"]).startswith("timed out")]) == 3
    else:  # the library that reads HTTP/2 rejects it
        assert all("connection ended" in str(each["answer"]) for each in over_http2 if each["tried"])


def test_a_server_that_is_just_in_time_is_ended_by_the_limit(tmp_path, capsys):
    with serving(AUTHORITY, http2=for_ever(b"\0")) as port:  # each exchange ends with the ninth octet
        status, outcomes, seconds = probed(port, tmp_path, capsys, "--headers-only", "--limit", "5")
    assert (status, seconds < 20) == (2, True)
    assert outcomes[-1]["answer"] == "not tried: the run reached its --limit"


@pytest.mark.parametrize(
    "data",
    [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", b"X: " + b"x" * 500, b"HTTP/1.1 403 x\r\nA: b\r\n", b""],
    ids=["single octets", "100 Continue", "one line", "fields", "nothing"],
)
def test_http1_without_an_end_is_given_up(data, tmp_path, capsys):
    with serving(AUTHORITY, http1=refusing_plain_requests(for_ever(data))) as port:
        status, outcomes, seconds = probed(port, tmp_path, capsys)
    assert seconds < 60
    assert not [each for each in outcomes if each["got_in"]]
    assert status in (0, 2)


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" + FORBIDDEN, "403"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + FORBIDDEN, "403"),
        (b"HTTP/1.1 20\r\n\r\n", "connection ended (MalformedResponseError)"),
        (b"HTTP/1.1 +20 OK\r\n\r\n", "connection ended (MalformedResponseError)"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "connection ended (MalformedResponseError)"),
        (b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n", "connection ended (MalformedResponseError)"),
        (b"HTTP/9.9 200 OK\r\n\r\n", "connection ended (MalformedResponseError)"),
        (b"SSH-2.0-x\r\n\r\n", "connection ended (MalformedResponseError)"),
        (b"", "connection ended (NoResponseError)"),
    ],
)
def test_only_a_final_response_is_an_answer(data, answer, tmp_path, capsys):
    with serving(AUTHORITY, http1=refusing_plain_requests(once(data))) as port:
        status, outcomes, _ = probed(port, tmp_path, capsys, "--headers-only", "--timeout", "2")
    first = next(each for each in outcomes if each["form"] == "exact name" and each["protocol"] == "HTTP/1.1")
    assert (status, first["answer"], first["got_in"]) == (0, answer, False)


@pytest.mark.parametrize(
    "behind",
    [
        b"",
        b"\0" * 9,
        frame(PING, 0, 0, b"12345678") * 100,
        frame(HEADERS, 5, 3, literal(b"a", b"b")),
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_a_tunnel_to_anything_is_found(behind, tmp_path, capsys):
    upgraded = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with serving(AUTHORITY, http1=refusing_plain_requests(once(upgraded + behind))) as port:
        status, outcomes, seconds = probed(port, tmp_path, capsys)
    assert status == 1
    assert seconds < 60
    assert [each for each in outcomes if each["header"] == "Upgrade: h2c" and each["got_in"]]


def test_an_address_whose_answers_vary_cannot_be_judged(tmp_path, capsys):
    statuses = iter([b"403", b"404"] * 1000)

    def vary(connection, _):
        connection.sendall(b"HTTP/1.1 " + next(statuses) + b" x\r\nContent-Length: 0\r\n\r\n")

    with serving(AUTHORITY, http1=vary) as port:
        (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
        assert main(["probe", f"https://localhost:{port}/", "--ca", str(tmp_path / "ca.pem")]) == 2
    assert "[403, 404] to the same request" in capsys.readouterr().err


def test_a_service_that_bans_the_prober_is_not_a_finding(tmp_path, capsys):
    """After some requests that look like an attack, everything gets another status."""
    seen = []

    def ban(connection, received):
        seen.append(b"Upgrade: foo" in received)
        connection.sendall(FORBIDDEN if sum(seen) < 3 else b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")

    with serving(AUTHORITY, http1=ban) as port:
        status, outcomes, _ = probed(port, tmp_path, capsys, "--timeout", "3")
    assert (status, [each for each in outcomes if each["got_in"]]) == (0, [])
    assert any("cannot tell" in str(each["answer"]) for each in outcomes)


def test_an_overloaded_service_is_not_a_finding(tmp_path, capsys):
    turn = iter(range(100_000))

    def overloaded(connection, received):
        busy = len(received) > 200 or next(turn) < 4
        connection.sendall(FORBIDDEN if busy or next(turn) % 3 else b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")

    with serving(AUTHORITY, http1=overloaded) as port:
        _, outcomes, _ = probed(port, tmp_path, capsys)
    assert [each for each in outcomes if each["got_in"]] == []


def test_a_response_cannot_steer_the_terminal(tmp_path, capsys):
    upgraded = b"HTTP/1.1 101 \x1b[2J\r\nUpgrade: \x1b]0;x\x07\x9b31m\xe2\x80\xae\r\n\r\n"
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    with serving(AUTHORITY, http1=refusing_plain_requests(once(upgraded))) as port:
        arguments = ["probe", f"https://localhost:{port}/", "--ca", str(tmp_path / "ca.pem"), "--rate", "100"]
        assert main([*arguments, "--timeout", "0.5"]) == 1
    printed = "".join(capsys.readouterr())
    assert "101 (\\x1b]0;x\\x07\\x9b31m" in printed
    assert all(line.isprintable() for line in printed.split("\n"))


# How a server treats a connection before its TLS handshake is complete.
BEFORE_TLS = {
    "nothing": lambda connection: time.sleep(5),
    "the end": lambda connection: None,
    "plain HTTP": lambda connection: connection.sendall(FORBIDDEN),
    "half a record": lambda connection: (connection.sendall(b"\x16\x03\x03\x40\x00\x02"), time.sleep(5)),
    "single octets": lambda connection: [
        (connection.sendall(bytes([each])), time.sleep(0.1)) for each in b"\x16\x03\x03\x40\x00" + bytes(50)
    ],
    "empty records": lambda connection: [connection.sendall(b"\x17\x03\x03\x00\x00") for _ in range(10_000)],
}


@pytest.mark.parametrize("name", BEFORE_TLS)
def test_a_handshake_without_an_end_is_given_up(name, tmp_path, capsys):
    def accept():
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                BEFORE_TLS[name](connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
        began = time.monotonic()
        url = f"https://localhost:{listener.getsockname()[1]}/"
        assert main(["probe", url, "--ca", str(tmp_path / "ca.pem"), "--timeout", "0.5"]) == 2
    assert time.monotonic() - began < 20
    assert "the address does not answer without a certificate: connection ended (" in capsys.readouterr().err


def test_all_addresses_of_a_name_have_one_timeout(monkeypatch, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(5):  # the queue is full: the next connection gets no answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())] * 30
        for look_up in (lambda *_, **__: found, lambda *_, **__: time.sleep(60)):
            monkeypatch.setattr(socket, "getaddrinfo", look_up)
            began = time.monotonic()
            assert main(["probe", "https://localhost/", "--timeout", "0.5"]) == 2
            assert time.monotonic() - began < 20
            assert "connection ended (TimeoutError)" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["a..b", ".example", "x" * 64 + ".example"])
def test_a_host_that_is_not_a_name_is_rejected(host, capsys):
    assert main(["probe", f"https://{host}/"]) == 2
    assert "is not an https address" in capsys.readouterr().err
