"""The peer of a WSGI request: the values in the key of the decision cache determine it."""

import itertools
import socket
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware.request import TESTING_KEY, Peer
from mtls_middleware.wsgi_peer import _rare_peer, connection_of, peer_of
from tests.sources.test_known_servers import Settings, gunicorns

SOFTWARE = (
    None, b"gunicorn/27.0.1", "", "gunicorn/27.0.1", "gunicorn/21.2.0", "Werkzeug/3.1.3", "WSGIServer/0.2", "waitress",
    "Unit/1.34.1",
)  # fmt: skip
ADDRESSES = (None, "", "10.0.0.7", "203.0.113.9", b"10.0.0.7", ["10.0.0.7"])
FORWARDED: dict[str, Any] = {"HTTP_X_FORWARDED_FOR": "203.0.113.9"}
OTHERS: tuple[dict[str, Any], ...] = (
    {},
    FORWARDED,
    {"SERVER_PROTOCOL": "HTTP/2.0"},
    {"PROXY_PROTOCOL": "TCP4"},
    {"werkzeug.proxy_fix.orig": {"REMOTE_ADDR": "10.0.0.8"}},
    {"werkzeug.proxy_fix.orig": {"REMOTE_ADDR": "203.0.113.9"}, **FORWARDED},
    {"waitress.client_disconnected": None},
    {"waitress.client_disconnected": None, **FORWARDED},
    {"waitress.client_disconnected": None, "SERVER_PORT": "/run/app.sock"},
    {"uwsgi.version": b"2.0.21"},
    {TESTING_KEY: True},
)


class _OtherSocket:
    """A server's own class of sockets, such as gevent's."""

    family = socket.AF_UNIX


@pytest.fixture(scope="module")
def sockets() -> Iterator[list[Any]]:
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        yield [None, tcp, unix, _OtherSocket(), object()]


def test_equal_keys_of_connections_mean_equal_peers(sockets: list[Any]) -> None:
    """`_rare_peer` applies every rule to the whole environ."""
    starts = (print, gunicorns(Settings()), gunicorns(Settings(header_map="dangerous")), gunicorns(["unhashable"]))
    peers: dict[Any, set[Peer]] = defaultdict(set)
    for software, address, other, found, start in itertools.product(SOFTWARE, ADDRESSES, OTHERS, sockets, starts):
        environ = {"SERVER_SOFTWARE": software, "REMOTE_ADDR": address, "gunicorn.socket": found, **other}
        expected = _rare_peer(environ, start)
        assert peer_of(environ, start) == expected, environ
        peers[connection_of(environ, start)].add(expected)
    assert {len(each) for each in peers.values()} == {1}
    assert any(not isinstance(key, Peer) for key in peers)


def test_an_environ_without_the_keys_of_a_server_has_no_reliable_peer() -> None:
    assert peer_of({}) == _rare_peer({}, None)
    assert peer_of({}).doubt is not None
