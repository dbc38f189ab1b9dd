"""Name look-ups that hang take a bounded number of threads, and delay no look-up of another name."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware.effects import name_lookups
from mtls_middleware.effects.name_lookups import ClientNameLookups, NameLookupThreads, zone, zone_of_url
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.token_endpoint import ClientAuthenticator, ClientRequest, RegisteredClient
from tests.key_server import until

ADDRESS = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 443))]


class NameServers:
    """`getaddrinfo` that hangs for names with `hangs` in them until the test ends."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[str] = []
        self.hanging = 0

    def __call__(self, host: str, port: int, *_: Any, **__: Any) -> Any:
        self.asked.append(host)
        if "hangs" in host:
            self.hanging += 1
            self.released.wait(30)
            self.hanging -= 1
        return ADDRESS


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    servers = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers)
    yield servers
    servers.released.set()
    until(lambda: servers.hanging == 0)


def test_look_ups_of_one_name_share_a_thread(names: NameServers) -> None:
    pool = NameLookupThreads()
    same = [pool.submit(socket.getaddrinfo, "hangs.test", 443) for _ in range(50)]
    other = pool.submit(socket.getaddrinfo, "good.test", 443)
    assert other.result(5) == ADDRESS
    assert len(set(map(id, same))) == 1
    assert names.asked.count("hangs.test") == 1
    names.released.set()
    assert same[0].result(5) == ADDRESS
    until(lambda: pool._running == {})
    pool.submit(socket.getaddrinfo, "good.test", 443).result(5)
    assert names.asked.count("good.test") == 2  # nothing is cached


def test_a_look_up_that_hangs_for_long_is_tried_again_a_few_times(
    names: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_lookups, "_SHARED_SECONDS", 0.0)
    pool = NameLookupThreads()
    for _ in range(50):
        pool.submit(socket.getaddrinfo, "hangs.test", 443)
    until(lambda: names.hanging == 4)
    assert names.asked == ["hangs.test"] * 4


def test_a_look_up_without_a_thread_fails_and_is_tried_again(
    names: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = NameLookupThreads()
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="no thread can be started"):  # as any other failure of a connection
            pool.submit(socket.getaddrinfo, "good.test", 443).result(5)
    assert pool.submit(socket.getaddrinfo, "good.test", 443).result(5) == ADDRESS


def test_an_exception_of_a_look_up_reaches_all_who_wait() -> None:
    def failing() -> None:
        raise socket.gaierror("no such name")

    pool = NameLookupThreads()
    with pytest.raises(socket.gaierror):
        pool.submit(failing).result(5)
    until(lambda: pool._running == {})


@pytest.mark.parametrize(("name", "most"), [("hangs{}.attacker.test", 8), ("hangs.{}.test", 32)])
def test_names_that_clients_choose_take_a_bounded_number_of_threads(names: NameServers, name: str, most: int) -> None:
    async def many() -> None:
        chosen = ClientNameLookups()
        flood = [asyncio.ensure_future(chosen.addresses(name.format(number), 443, 30)) for number in range(300)]
        await asyncio.sleep(0.1)
        if most < 32:
            assert await chosen.addresses("good.example", 443, 5) == ADDRESS
        else:
            with pytest.raises(TimeoutError):
                await chosen.addresses("good.example", 443, 0.1)
        assert names.hanging == most
        for each in flood:
            each.cancel()
        names.released.set()
        assert await chosen.addresses("good.example", 443, 5) == ADDRESS

    asyncio.run(many())


def test_clients_with_a_name_that_hangs_get_503_and_take_eight_threads(names: NameServers) -> None:
    certificate = CertificateAuthority().issue("CN=x").client_certificate()

    def look_up(client_id: str) -> RegisteredClient:
        uri = f"https://{client_id}.hangs.test/jwks"
        method = "self_signed_tls_client_auth"
        return RegisteredClient(client_id=client_id, token_endpoint_auth_method=method, jwks_uri=uri)

    authenticator = ClientAuthenticator(look_up)

    async def single_look_up(number: int) -> str:
        try:
            await authenticator.authenticate_async(ClientRequest([("client_id", f"c{number}")], certificate), 0.0)
        except Exception as error:  # noqa: BLE001 (its type is the result)
            return type(error).__name__
        return "authenticated"

    async def gather_all() -> list[str]:
        return await asyncio.gather(*map(single_look_up, range(200)))

    before = threading.active_count()
    assert asyncio.run(gather_all()) == ["Unavailable"] * 200
    assert names.hanging <= 8
    assert threading.active_count() <= before + 8 + 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.b.Example.COM./x", "example.com"),
        ("https://localhost/", "localhost"),
        ("https://192.0.2.7/", "2.7"),
        ("https://[2001:db8::1]/", "2001:db8::1"),
        ("https://[::1/", ""),
        ("https:///", ""),
    ],
)
def test_the_zone_of_an_address(url: str, expected: str) -> None:
    assert zone_of_url(url) == expected
    assert zone("x." + "example.com") == "example.com"
