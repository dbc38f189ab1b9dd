"""`origins`: the token is sent to these origins only, whatever the form of the URL is."""

import asyncio
from typing import Any

import httpx2
import pytest

from mtls_middleware.client import CredentialsNotSent
from mtls_middleware.client.origins import Origins
from mtls_middleware.errors import ConfigurationError
from tests.client.conftest import World
from tests.client.servers import Server

BOTH = pytest.mark.parametrize("way", ["sync", "async"])


@BOTH
def test_an_origin_of_the_list_gets_the_token(world: World, way: str) -> None:
    auth = world.auth(origins=["https://other.example", world.api.host])
    assert world.get(way, auth)[0].status_code == 200


@BOTH
def test_another_port_of_the_host_gets_no_token(world: World, way: str) -> None:
    with Server(world.authority) as other:
        with pytest.raises(CredentialsNotSent, match="is not one of the origins= of CertificateBoundAuth") as caught:
            world.get(way, world.auth(origins=[world.api.host]), url=other.host)
        assert other.host in str(caught.value)
        assert not other.received
    assert not world.server.received  # the token is not even requested


@BOTH
def test_a_request_without_authentication_may_be_sent_to_another_origin(world: World, way: str) -> None:
    auth = world.auth(origins=[world.api.host])
    with Server(world.authority) as other:
        if way == "sync":
            with world.client(auth) as client:
                assert client.get(other.host, auth=None).status_code == 200
        else:

            async def run() -> int:
                async with world.async_client(auth) as client:
                    return (await client.get(other.host, auth=None)).status_code

            assert asyncio.run(run()) == 200
        assert [each.token for each in other.received] == [None]


@BOTH
def test_the_next_request_of_a_redirect_to_another_origin_gets_no_token(world: World, way: str) -> None:
    """An application may follow redirects itself, with the authentication of the client."""
    auth = world.auth(origins=[world.api.host])
    with Server(world.authority) as other:
        world.api.respond = lambda received: (307, {"Location": f"{other.host}/"}, b"")
        (response,) = world.get(way, auth)
        assert response.next_request is not None
        with pytest.raises(CredentialsNotSent, match="origins="):
            world.get(way, auth, url=str(response.next_request.url))
        with world.client(auth) as client, pytest.raises(CredentialsNotSent, match="origins="):
            client.send(httpx2.Request("GET", response.next_request.url))
        assert not other.received


@BOTH
def test_a_redirect_to_another_listed_origin_gets_no_token(world: World, way: str) -> None:
    with Server(world.authority) as other:
        world.api.respond = lambda received: (307, {"Location": f"{other.host}/"}, b"")
        with pytest.raises(CredentialsNotSent, match="redirect"):
            world.get(way, world.auth(origins=[world.api.host, other.host]), follow_redirects=True)
        assert not other.received


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://api.example", "https://api.example"),
        ("https://api.example", "https://api.example:443/x?y=https://evil.example"),
        ("https://api.example:443", "https://API.Example/"),
        ("https://API.example/", "HTTPS://api.example#part"),
        ("https://api.example:8443", "https://api.example:08443/"),
        ("https://xn--bcher-kva.example", "https://bücher.example/"),
        ("https://XN--BCHER-KVA.example", "https://BÜCHER.example/"),
        ("https://[::1]:8443", "https://[::1]:8443/"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]/"),
        ("https://api.example", "https://user:password@api.example/"),
        ("https://api.example.", "https://api.example./"),
    ],
)
def test_an_equal_origin_gets_the_token(origin: str, url: str) -> None:
    Origins([origin]).check(httpx2.URL(url))


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example:8443/",
        "https://api.example:80/",
        "https://sub.api.example/",
        "https://evil-api.example/",
        "https://api.example.evil.example/",
        "https://example/",
        "https://api.example./",
        "https://api.example@evil.example/",
        "https://api.example:443@evil.example/",
        "https://api.example%40evil.example/",
        "https://api.example\\@evil.example/",
        "https://evil.example/https://api.example",
        "https://evil.example?https://api.example",
        "https://evil.example#https://api.example",
        "https://api%2eexample/",
        "https://api.example%2e/",
        "https://api.example%00.evil.example/",
        "https://\u0430pi.example/",  # a Cyrillic letter
        "https://xn--pi-7kc.example/",
        "https://ap\u0131.example/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https:api.example",
        "https:///api.example",
        "http://api.example/",
        "http://api.example:443/",
        "wss://api.example/",
        "//api.example/",
        "/",
    ],
)
def test_no_other_origin_gets_the_token(url: str) -> None:
    origins = Origins(["https://api.example", "https://127.0.0.1", "https://[::2]"])
    with pytest.raises(CredentialsNotSent):
        origins.check(httpx2.URL(url))


def test_the_origin_is_the_one_to_which_httpx2_connects(world: World) -> None:
    """A URL with a user name of the form of a host leads to the host behind it."""
    auth = world.auth(origins=["https://localhost"])
    with pytest.raises(CredentialsNotSent, match="127"):
        world.get("sync", auth, url=world.api.host.replace("https://", "https://localhost@"))
    assert not world.api.received


def test_the_message_has_no_password_of_the_url(world: World) -> None:
    with pytest.raises(CredentialsNotSent) as caught:
        world.get("sync", world.auth(origins=[world.api.host]), url="https://user:secret@other.example/path?secret")
    assert "other.example" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_hook_cannot_lead_the_token_to_another_origin(world: World) -> None:
    with Server(world.authority) as other:

        def redirect(request: httpx2.Request) -> None:
            request.url = httpx2.URL(other.host)

        with pytest.raises(CredentialsNotSent):
            world.get("sync", world.auth(origins=[world.api.host]), event_hooks={"request": [redirect]})
        assert not other.received


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        ("https://api.example", "expected a list of strings"),
        ([], "at least one origin"),
        ([b"https://api.example"], "expected a list of strings"),
        (iter(["https://api.example"]), "expected a list of strings"),
        (True, "expected a list of strings"),
        (["api.example"], "origins='api.example'"),
        (["*"], "origins="),
        (["https://"], "origins="),
        (["https://*.example/"], "origins="),
        (["http://api.example"], "expected https"),
        (["https://user@api.example"], "without a user name"),
        (["https://api.example/v1"], "without path"),
        (["https://api.example?x"], "without path"),
        (["https://api.example#x"], "without a user name or a fragment"),
        (["https://api.example:99999"], "origins="),
        (["https://b\u00fccher.example"], "origins="),
        (["https://[::1"], "origins="),
        (["https://api.example", ""], "origins="),
    ],
)
def test_a_wrong_origin_is_named(world: World, origins: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        world.auth(origins=origins)
    assert str(caught.value).startswith("origins=")
