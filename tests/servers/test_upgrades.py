"""Requests that ask for another protocol: what our classes make of each payload, and what servers do by themselves."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mtls_middleware.servers.upgrades import ProtocolChange, has_body, protocol_change
from tests.live.servers import ROOT, free_port, running, tls_files
from tests.servers.attempt import attempts
from tests.servers.clients import BILLING, CA
from tests.servers.plain import MEASURED, OURS, OWN, PRIOR_KNOWLEDGE, RELEASES, Class, measured
from tests.servers.upgrades import PAYLOADS, SMUGGLED, head
from tests.servers.upgrades import WEBSOCKET as WS_FIELDS

CASES = [
    pytest.param(kind, tls, release, id=f"{name}, {'TLS' if tls else 'clear text'}, {release}")
    for name, kind in OURS.items()
    for tls in (False, True)
    for release in RELEASES
    if tls or kind.clear_text
]


@pytest.mark.live
@pytest.mark.parametrize(("kind", "tls", "release"), CASES)
def test_no_upgrade_is_carried_out_and_nothing_is_read_after_it(
    kind: Class, tls: bool, release: str, tmp_path: Path
) -> None:
    port = free_port()
    context = CA.client_context(BILLING) if tls else None
    command = kind.command(port, tls_files(CA, tmp_path) if tls else None)
    with running(command, port, program=RELEASES[release]):
        waiting = {} if kind.ends else {"threads": 32, "patience": 1}  # each connection stays open
        outcomes = attempts(port, PAYLOADS, context=context, **waiting)
    found = {
        payload.name: outcomes[payload.name].problems(payload, websockets=kind.websockets, ends=kind.ends)
        for payload in PAYLOADS
    }
    assert {name: problems for name, problems in found.items() if problems} == {}


@pytest.mark.live
@pytest.mark.parametrize("name", OWN)
def test_what_a_server_does_by_itself_is_as_the_page_says(name: str) -> None:
    own, port = OWN[name], free_port()
    with running(own.command(port, None), port, program=own.program):
        for patience in (3, 20):  # seconds; on a busy machine, some servers need more time
            found = measured(attempts(port, MEASURED, threads=1 if own.one_by_one else 16, patience=patience))
            if found == own.facts:
                break
    assert found == own.facts


def test_the_names_of_the_payloads_are_unique() -> None:
    assert len({payload.name for payload in PAYLOADS}) == len(PAYLOADS)


WEBSOCKET = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]


@pytest.mark.parametrize(
    ("headers", "change"),
    [
        ([], ProtocolChange.NONE),
        ([(b"connection", b"upgrade")], ProtocolChange.NONE),
        (WEBSOCKET, ProtocolChange.WEBSOCKET),
        ([*WEBSOCKET, (b"content-length", b"0")], ProtocolChange.WEBSOCKET),
        ([(b"connection", b"keep-alive"), *WEBSOCKET], ProtocolChange.WEBSOCKET),
        ([(b"connection", b"keep-alive ,\tUPGRADE"), (b"upgrade", b" WebSocket\t")], ProtocolChange.WEBSOCKET),
        ([*WEBSOCKET, (b"content-length", b"1")], ProtocolChange.UPGRADE),
        ([*WEBSOCKET, (b"content-length", b"0"), (b"content-length", b"1")], ProtocolChange.UPGRADE),
        ([*WEBSOCKET, (b"content-length", b"")], ProtocolChange.UPGRADE),
        ([*WEBSOCKET, (b"transfer-encoding", b"identity")], ProtocolChange.UPGRADE),
        ([*WEBSOCKET, (b"upgrade", b"websocket")], ProtocolChange.UPGRADE),
        ([*WEBSOCKET, (b"upgrade", b"h2c")], ProtocolChange.UPGRADE),
        ([WEBSOCKET[0], (b"upgrade", b"websocket, h2c")], ProtocolChange.UPGRADE),
        ([WEBSOCKET[0], (b"upgrade", b"websocket\x0b")], ProtocolChange.UPGRADE),
        ([WEBSOCKET[0], (b"upgrade", b"")], ProtocolChange.UPGRADE),
        ([(b"upgrade", b"websocket")], ProtocolChange.UPGRADE),
        ([(b"connection", b"upgraded"), WEBSOCKET[1]], ProtocolChange.UPGRADE),
    ],
)
def test_only_a_websocket_handshake_is_an_upgrade(headers: list[tuple[bytes, bytes]], change: ProtocolChange) -> None:
    assert protocol_change("GET", "1.1", headers) is change


@pytest.mark.parametrize(
    ("method", "version", "change"),
    [
        ("POST", "1.1", ProtocolChange.UPGRADE),
        ("get", "1.1", ProtocolChange.UPGRADE),
        ("GET", "1.0", ProtocolChange.UPGRADE),
        ("GET", "2.0", ProtocolChange.VERSION),
        ("PRI", "2.0", ProtocolChange.VERSION),
        ("CONNECT", "1.1", ProtocolChange.TUNNEL),
        ("Connect", "1.1", ProtocolChange.TUNNEL),
        ("CONNECT", "1.0", ProtocolChange.TUNNEL),
        ("CONNECT", "2.0", ProtocolChange.VERSION),
        ("GET", "1.2", ProtocolChange.UPGRADE),
    ],
)
def test_a_handshake_is_a_get_of_http_1_1(method: str, version: str, change: ProtocolChange) -> None:
    assert protocol_change(method, version, WEBSOCKET) is change


def test_without_websockets_a_handshake_is_one_more_upgrade() -> None:
    assert protocol_change("GET", "1.1", WEBSOCKET, websockets=False) is ProtocolChange.UPGRADE


@pytest.mark.parametrize(("value", "body"), [(b"0", False), (b" 00 ", False), (b"1", True), (b"", True), (b"x", True)])
def test_a_length_other_than_zero_announces_a_body(value: bytes, body: bool) -> None:
    assert has_body([(b"content-length", value)]) is body


# --- classes that differ ---


def conversation(port: int, *segments: bytes) -> bytes:
    """All that a server sends until it closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for segment in segments:
            connection.sendall(segment)
        while data := connection.recv(65536):
            received += data
    return received


HANDSHAKE = head(b"GET /first/x HTTP/1.1", *WS_FIELDS)


@pytest.mark.live
def test_hypercorn_reads_no_websocket_whose_client_speaks_too_early() -> None:
    port = free_port()
    with running(OURS["hypercorn_tls"].command(port, None), port):
        received = conversation(port, HANDSHAKE + SMUGGLED)
    assert received.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in received.lower()


@pytest.mark.live
def test_httptools_begins_a_websocket_only_after_earlier_responses() -> None:
    port = free_port()
    with running(OURS["uvicorn_tls:HTTPTools"].command(port, None), port):
        received = conversation(port, head(b"GET /slow/x HTTP/1.1") + HANDSHAKE)
    assert received.count(b"HTTP/1.1 ") == received.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.live
@pytest.mark.parametrize("name", [name for name in OURS if "hypercorn" in name or "gunicorn" in name or "H11" in name])
def test_requests_that_ask_for_nothing_share_a_connection(name: str) -> None:
    port = free_port()
    last = head(b"GET /first/x HTTP/1.1", b"Connection: close")
    with running(OURS[name].command(port, None), port):
        received = conversation(port, head(b"GET /first/x HTTP/1.1"), head(b"GET /first/x HTTP/1.1"), last)
    assert received.count(b"HTTP/1.1 200") == 3


@pytest.mark.live
@pytest.mark.parametrize("mechanism", ["upgrade", "prior-knowledge", "both"])
def test_gunicorns_worker_does_not_start_with_http2_in_clear_text(mechanism: str) -> None:
    command = OURS["gunicorn_asgi.Worker"].command(free_port(), None)
    done = subprocess.run(
        [sys.executable, *command, "--http2-cleartext", mechanism, "--http-protocols", "h2,h1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert f"http2_cleartext='{mechanism}': expected 'off'" in done.stderr
    assert done.returncode != 0


@pytest.mark.live
@pytest.mark.parametrize("alpn", [None, ["http/1.1"]])
def test_http2_over_tls_needs_alpn(alpn: list[str] | None, tmp_path: Path) -> None:
    port, context = free_port(), CA.client_context(BILLING)
    if alpn:
        context.set_alpn_protocols(alpn)
    with running(OURS["uvicorn_tls:HTTP2"].command(port, tls_files(CA, tmp_path)), port):
        outcomes = attempts(port, PRIOR_KNOWLEDGE, context=context)
    assert [outcome.speaks_http2 for outcome in outcomes.values()] == [False]
