"""Which addresses are connected to where private ones are shut out. The rest of exchanges: `test_effects.py`."""

import asyncio
import socket
import ssl
import tempfile
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from mtls_middleware.effects import exchange
from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, ask
from mtls_middleware.testing import CertificateAuthority
from tests.key_server import KeyServer, answer

Get = Callable[[Fetch], Response]
GETS: dict[str, Get] = {
    "blocking": lambda need: BlockingDriver().run(ask(need)),
    "awaiting": lambda need: asyncio.run(AwaitingDriver().run(ask(need))),
}
AUTHORITY = CertificateAuthority()


@pytest.fixture(params=GETS.values(), ids=GETS)
def get(request: pytest.FixtureRequest) -> Get:
    found: Get = request.param
    return found


def fetch(url: str, *, allow_private: bool = False, limit: int = 1000) -> Fetch:
    return Fetch(url, AUTHORITY.client_context(), 5.0, limit, allow_private)


PRIVATE = """
    127.0.0.1 127.255.255.254 10.0.0.1 172.16.0.1 192.168.0.1 169.254.169.254 100.64.0.1 0.0.0.0 0.1.2.3 192.0.0.1
    192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 fe80::1 fec0::1 fc00::1 fd00:ec2::254 ff02::1 ff0e::1 2001:db8::1 100::1
    ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 ::ffff:0:127.0.0.1
    64:ff9b::7f00:1 64:ff9b:1::7f00:1 2002:7f00:1:: 2002:a00:1::1 2001:0:7f00:1:: fe80::5efe:7f00:1 fe80::1%eth0
""".split()  # noqa: SIM905 (a table)
PUBLIC = ["1.1.1.1", "8.8.8.8", "198.41.0.4", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_or_hides_a_private_one_is_not_public(address: str) -> None:
    assert not exchange._is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert exchange._is_public(ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "[::1]"]
)
def test_no_spelling_of_loopback_is_connected_to(get: Get, host: str) -> None:
    with KeyServer(b"secret") as server:
        url = server.url.replace("127.0.0.1", host)
        with pytest.raises(FetchFailed, match=r"not public|gaierror"):
            get(fetch(url))
        assert server.requests == 0


def test_private_addresses_can_be_allowed(get: Get) -> None:
    with KeyServer(b"body") as server:
        for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
            assert get(fetch(url, allow_private=True)) == Response(200, b"body")


def addresses(*found: str) -> list[Any]:
    """As `getaddrinfo` gives them."""
    return [
        (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in found
    ]


class Names:
    """A name server that gives one answer after the other, the last for ever: as one that an attacker runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[Any]) -> None:
        self.asked: list[Any] = []
        self._answers = list(answers)
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, *rest: Any, **options: Any) -> list[Any]:
        if host not in ("keys.test", b"keys.test"):
            return self._real(host, *rest, **options)
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["::1", "1.1.1.1"], ["1.1.1.1", "::ffff:10.0.0.1"], []],
    ids=str,
)
def test_a_name_with_one_private_address_is_refused(
    get: Get, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch, addresses(*found))
    with pytest.raises(FetchFailed, match="not public"):
        get(fetch("https://keys.test/jwks"))


def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(
    get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer, were it asked for, would lead elsewhere. TLS still demands the name."""
    monkeypatch.setattr(exchange, "_is_public", lambda address: str(address) == "127.0.0.1")  # the one we can serve
    names = Names(monkeypatch, addresses("127.0.0.1"), addresses("127.0.0.2"))
    hosts: list[str | None] = []

    def note(handler: Any) -> None:
        hosts.append(handler.headers["Host"])
        answer(200, b"keys")(handler)

    with KeyServer(b"", tls=serving("keys.test")) as server:
        server.behaviour = note
        url = server.url.replace("127.0.0.1", "keys.test")
        assert get(fetch(url)) == Response(200, b"keys")
        assert names.asked == ["keys.test"]
        assert hosts == [url.split("/")[2]]


def test_the_certificate_must_be_for_the_name_and_not_for_the_address(
    get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_is_public", lambda _: True)
    Names(monkeypatch, addresses("127.0.0.1"))
    with KeyServer(b"keys", tls=serving("127.0.0.1", "other.test")) as server:
        with pytest.raises(FetchFailed):
            get(fetch(server.url.replace("127.0.0.1", "keys.test")))
        assert get(fetch(server.url)) == Response(200, b"keys")


def serving(*hosts: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        context.load_cert_chain(*AUTHORITY.server(*hosts).write(directory))
    return context


@pytest.mark.parametrize(
    "url", ["https://a..b/", f"https://{'a' * 64}/", "https://.a/", "https://a\0b/", "https://a b/", "https://[::1/"]
)
@pytest.mark.parametrize("allow_private", [True, False])
def test_an_invalid_host_name_is_a_fetch_failure(get: Get, url: str, allow_private: bool) -> None:
    with pytest.raises(FetchFailed):
        get(fetch(url, allow_private=allow_private))


def test_a_compressed_answer_is_never_unfolded(get: Get) -> None:
    """Ten million zeros in ten thousand octets: the limit would be looked at too late."""
    import gzip

    packed = gzip.compress(b"\0" * 10_000_000)
    assert len(packed) < 20_000
    with KeyServer(b"") as server:
        server.behaviour = answer(200, packed, **{"Content-Encoding": "gzip"})
        assert get(fetch(server.url, allow_private=True, limit=20_000)).body == packed
