"""Key sets: what may be a key, where keys come from, and what happens while their server misbehaves (A63, A64)."""

import asyncio
import contextlib
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from mtls_middleware import ConfigurationError, Refused, jwks
from mtls_middleware.effects import AwaitingDriver, BlockingDriver, Flow
from mtls_middleware.errors import Unavailable
from mtls_middleware.fetched import COOL_DOWN, check_address
from mtls_middleware.jwks import FetchedKeys, KeySet
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from tests.key_server import Behaviour, KeyServer, answer, die, raw, until
from tests.resource_server.stack import ASGIStack, Stack, WSGIStack

HOUR = 3600.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # for plain http, where loading the system's CAs only takes time
START = 1_000_000.0


@pytest.fixture
def issuer() -> TokenIssuer:
    return TokenIssuer()


@pytest.fixture
def server(issuer: TokenIssuer) -> Iterator[KeyServer]:
    with KeyServer(issuer.jwks) as running:
        yield running


@pytest.fixture(params=[WSGIStack, ASGIStack], ids=["wsgi", "asgi"])
def stack(request: pytest.FixtureRequest) -> type[Stack]:
    found: type[Stack] = request.param
    return found


def awaited(flow: Flow[Any]) -> Any:
    return asyncio.run(AwaitingDriver().run(flow))


@pytest.fixture(params=[BlockingDriver().run, awaited], ids=["blocking", "awaiting"])
def run(request: pytest.FixtureRequest) -> Callable[[Flow[Any]], Any]:
    found: Callable[[Flow[Any]], Any] = request.param
    return found


def fetched(server: KeyServer) -> FetchedKeys:
    return FetchedKeys(server.url, allow_http=True, tls=NO_TLS)


def fetching(issuer: TokenIssuer, server: KeyServer) -> JWTAccessTokens:
    return issuer.access_tokens(jwks_uri=server.url, allow_http=True, ssl_context=NO_TLS)


def protected(stack: type[Stack], issuer: TokenIssuer, server: KeyServer) -> Stack:
    return stack(fetching(issuer, server))


# --- what may be a key ---


def jwk_of(key: Any, algorithm: str, **members: Any) -> dict[str, Any]:
    return {**jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True), "kid": "1", **members}


GOOD = jwk_of(ec.generate_private_key(ec.SECP256R1()).public_key(), "ES256")
SMALL = rsa.generate_private_key(public_exponent=65537, key_size=1024)
LEFT_OUT: dict[str, Any] = {
    "symmetric": {"kty": "oct", "k": "AAAA", "kid": "1", "alg": "HS256"},
    "private": jwk_of(ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "RSA of 1024 bits": jwk_of(SMALL.public_key(), "RS256"),
    "RSA with exponent 1": {**jwk_of(SMALL.public_key(), "RS256"), "n": "w" * 342 + "Q", "e": "AQ"},
    "RSA without exponent": {"kty": "RSA", "n": "w" * 342 + "Q"},
    "X25519": {"kty": "OKP", "crv": "X25519", "x": GOOD["x"], "kid": "1"},
    "Ed448": jwk_of(ed448.Ed448PrivateKey.generate().public_key(), "EdDSA"),
    "secp256k1": jwk_of(ec.generate_private_key(ec.SECP256K1()).public_key(), "ES256K"),
    "point off the curve": {**GOOD, "y": GOOD["x"]},
    "short coordinate": {**GOOD, "x": "AA"},
    "for encryption": {**GOOD, "use": "enc"},
    "for encryption by key_ops": {**GOOD, "key_ops": ["encrypt"]},
    "for nothing": {**GOOD, "key_ops": []},
    "key_ops a text": {**GOOD, "key_ops": "verify"},
    "key_ops a number": {**GOOD, "key_ops": 1},
    "alg of another type": {**GOOD, "alg": "RS256"},
    "alg of another curve": {**GOOD, "alg": "ES384"},
    "alg symmetric": {**GOOD, "alg": "HS256"},
    "alg a list": {**GOOD, "alg": ["ES256"]},
    "kid a number": {**GOOD, "kid": 1},
    "kty of another type": {**GOOD, "kty": "RSA"},
    "kty unknown": {**GOOD, "kty": "ec"},
    "kty a list": {**GOOD, "kty": ["EC"]},
    "curve unknown": {**GOOD, "crv": "P-512"},
    "curve a list": {**GOOD, "crv": []},
    "coordinate a number": {**GOOD, "x": 1},
    "coordinate not base64": {**GOOD, "x": "!"},
    "empty": {},
    "null": None,
    "list": [],
    "text": "key",
}


@pytest.mark.case("120")
@pytest.mark.parametrize("member", LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_key_that_must_not_verify_is_left_out_and_the_others_stay(
    member: Any, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeySet.parse({"keys": [member, {**GOOD, "kid": "2"}, member]})
    assert [key.key_id for key in keys.keys] == ["2"]
    assert len(caplog.records) == 2
    for value in member.values() if isinstance(member, dict) else ():
        assert len(str(value)) < 20 or str(value) not in caplog.text


@pytest.mark.parametrize("document", [None, [], "keys", {}, {"keys": None}, {"keys": {}}, {"keys": "x"}, {"Keys": []}])
def test_what_is_no_key_set_is_a_value_error(document: Any) -> None:
    with pytest.raises(ValueError, match="not a JWK Set"):
        KeySet.parse(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
VALUES = JSON | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "X25519", "AQAB", "sig", GOOD["x"]])


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "k", "kid", "alg", "use", "key_ops"]), VALUES
    )
)
def test_no_key_of_any_shape_breaks_the_set(member: dict[str, Any]) -> None:
    assert GOOD["kid"] in [key.key_id for key in KeySet.parse({"keys": [member, GOOD]}).keys]


@settings(max_examples=100, deadline=None)
@given(st.binary() | st.text() | JSON.map(json.dumps))
def test_no_text_of_any_kind_is_more_than_a_value_error(text: Any) -> None:
    with contextlib.suppress(ValueError):
        jwks.parse_text(text)


def test_many_keys_cost_no_more_than_one_to_choose_from() -> None:
    keys = KeySet.parse({"keys": [{**GOOD, "kid": str(number)} for number in range(200)]})
    found = keys.choose("150", "ES256")
    assert found
    assert found.key_id == "150"
    assert keys.choose(None, "ES256") is None
    assert keys.choose("150", "ES384") is None


# --- where keys may come from ---


@pytest.mark.parametrize(
    "address",
    [
        "http://as.example/jwks",
        "http://10.0.0.1/jwks",
        "http://169.254.169.254/latest",
        "http://127.0.0.1.attacker.test/jwks",
        "http://localhost.attacker.test/jwks",
        "http://127.0.0.1@attacker.test/jwks",
        "http://0.0.0.0/jwks",
        "file:///etc/passwd",
        "ftp://127.0.0.1/jwks",
        "//as.example/jwks",
        "as.example/jwks",
        "https://",
        "https:///jwks",
        "https://user:password@as.example/jwks",
        "https://as.example/jwks#fragment",
        "https://as.example:port/jwks",
        "https://[::1/jwks",
        "",
        None,
        b"https://as.example/jwks",
        1,
    ],
)
@pytest.mark.parametrize("allow_http", [False, True])
def test_an_address_other_than_https_is_refused_at_construction(address: Any, allow_http: bool) -> None:
    with pytest.raises(ConfigurationError, match="jwks_uri"):
        FetchedKeys(address, allow_http=allow_http, tls=None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "[::1]", "localhost"])
def test_plain_http_is_for_loopback_alone_and_only_where_allowed(host: str) -> None:
    check_address("jwks_uri", f"http://{host}:8000/jwks", allow_http=True)
    with pytest.raises(ConfigurationError):
        check_address("jwks_uri", f"http://{host}:8000/jwks", allow_http=False)
    check_address("jwks_uri", "https://10.0.0.1/jwks", allow_http=False)  # an authorization server of one's own


# --- fetched, remembered, renewed ---


def test_keys_are_fetched_on_demand_and_once(
    stack: type[Stack], issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    app = protected(stack, issuer, server)
    assert server.requests == 0
    for _ in range(3):
        text = issuer.token(certificate=mtls_client)
        assert app.request(f"Bearer {text}", certificate=mtls_client).status == 200
    assert server.requests == 1


def test_keys_come_over_https_verified_by_the_context_given(
    stack: type[Stack], issuer: TokenIssuer, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    context = mtls_ca.server_context(mtls_ca.server(), client_certificates="optional")
    with KeyServer(issuer.jwks, tls=context) as server:
        authorization = f"Bearer {issuer.token(certificate=mtls_client)}"
        trusting = stack(issuer.access_tokens(jwks_uri=server.url, ssl_context=mtls_ca.client_context()))
        assert trusting.request(authorization, certificate=mtls_client).status == 200
        wary = stack(issuer.access_tokens(jwks_uri=server.url))  # the system's CAs do not know this one
        assert wary.request(authorization, certificate=mtls_client).status == 503
        assert server.requests == 1


def test_keys_from_a_server_of_another_name_are_not_taken(
    stack: type[Stack], issuer: TokenIssuer, mtls_ca: CertificateAuthority, mtls_client: IssuedCertificate
) -> None:
    context = mtls_ca.server_context(mtls_ca.server("as.example"), client_certificates="optional")
    with KeyServer(issuer.jwks, tls=context) as server:
        app = stack(issuer.access_tokens(jwks_uri=server.url, ssl_context=mtls_ca.client_context()))
        text = issuer.token(certificate=mtls_client)
        assert app.request(f"Bearer {text}", certificate=mtls_client).status == 503


@pytest.mark.case("127")
def test_a_hundred_unknown_key_ids_cost_one_fetch_and_valid_tokens_go_on(
    stack: type[Stack], issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    app, text = protected(stack, issuer, server), issuer.token(certificate=mtls_client)
    assert app.request(f"Bearer {text}", certificate=mtls_client).status == 200
    for number in range(100):
        unknown = issuer.token(certificate=mtls_client, headers={"kid": str(number)})
        outcome = app.request(f"Bearer {unknown}", certificate=mtls_client)
        assert (outcome.status, outcome.error) == (401, "invalid_token")
        if not number % 10:
            assert app.request(f"Bearer {text}", certificate=mtls_client).status == 200
    assert server.requests == 1


@pytest.mark.case("127")
def test_an_unknown_key_id_is_looked_for_once_per_cool_down(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    keys = fetched(server)
    run(keys.current(START))
    for second in range(121):
        run(keys.refreshed(START + second, str(second)))
    assert server.requests == 1 + 120 // int(COOL_DOWN)


def test_a_token_without_key_id_never_makes_us_fetch(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    keys = fetched(server)
    run(keys.current(START))
    run(keys.refreshed(START + 2 * COOL_DOWN, None))
    assert server.requests == 1


def test_a_rotation_is_seen_when_the_new_key_id_comes_and_ends_what_the_old_key_signed(
    server: KeyServer, issuer: TokenIssuer, run: Callable[[Flow[Any]], Any]
) -> None:
    tokens = fetching(issuer, server)
    now = time.time()
    old = issuer.token()
    assert run(tokens.validate(old, now))
    issuer.rotate()
    server.jwks, new = issuer.jwks, issuer.token()
    assert run(tokens.validate(new, now + COOL_DOWN))
    assert run(tokens.validate(old, now + COOL_DOWN))  # still published
    issuer.retire()
    issuer.rotate()
    server.jwks, newest = issuer.jwks, issuer.token()
    assert run(tokens.validate(newest, now + 2 * COOL_DOWN))
    with pytest.raises(Refused) as refusal:  # remembered as good until now
        run(tokens.validate(old, now + 2 * COOL_DOWN))
    assert refusal.value.code == "invalid_token"
    assert server.requests == 3


def test_a_withdrawn_key_is_dropped_after_ten_minutes_without_anybody_asking(
    server: KeyServer, issuer: TokenIssuer, run: Callable[[Flow[Any]], Any]
) -> None:
    keys = fetched(server)
    first = run(keys.current(START))
    assert run(keys.current(START + 479)) is first
    issuer.rotate()
    issuer.retire()
    server.jwks = issuer.jwks
    second = run(keys.current(START + 600))
    assert {key.key_id for key in second.keys}.isdisjoint(key.key_id for key in first.keys)


def test_the_same_keys_stay_the_same_object_so_that_verified_tokens_stay_so(
    server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    keys = fetched(server)
    assert run(keys.current(START + 601)) is run(keys.current(START))
    assert run(keys.current(START + 1300)) is run(keys.current(START))


@pytest.mark.parametrize("jump", [-10 * HOUR, 10 * HOUR])
def test_a_clock_that_was_wrong_does_not_freeze_the_keys(
    jump: float, server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    keys = fetched(server)
    run(keys.current(START))
    run(keys.current(START + jump))
    assert server.requests == 2


# --- a server that misbehaves ---

HTML = b"<!doctype html><title>Maintenance</title>"
MISBEHAVIOUR: dict[str, Behaviour] = {
    "500": answer(500),
    "404": answer(404, b"{}"),
    "401 with keys": answer(401),
    "204": answer(204, b""),
    "206": answer(206),
    "304": answer(304, b""),
    "HTML": answer(200, HTML, "text/html"),
    "empty": answer(200, b""),
    "not JSON": answer(200, b"{"),
    "list": answer(200, b"[]"),
    "no keys": answer(200, b'{"keys": []}'),
    "only a symmetric key": answer(200, b'{"keys": [{"kty": "oct", "k": "AAAA"}]}'),
    "deep": answer(200, b'{"keys": ' + b"[" * 100_000),
    "invalid UTF-8": answer(200, b'{"keys": "\xff"}'),
    "too large": answer(200, b" " * 300_000),
    "too large and endless": raw(b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 65_536] * 8),
    "compressed though not asked": answer(200, b"\x1f\x8b\x08\0garbage", **{"Content-Encoding": "gzip"}),
    "dead": die,
    "garbage": raw(b"\0\xff garbage\r\n\r\n"),
    "cut short": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"keys": ['),
    "broken chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"),
    "headers too large": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"),
}


@pytest.mark.case("128")
@pytest.mark.parametrize("behaviour", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_without_keys_a_broken_key_server_means_try_later_and_never_yes(
    stack: type[Stack], behaviour: Behaviour, issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.behaviour = behaviour
    app, text = protected(stack, issuer, server), issuer.token(certificate=mtls_client)
    for _ in range(3):
        outcome = app.request(f"Bearer {text}", certificate=mtls_client)
        assert (outcome.status, outcome.challenge, outcome.reached) == (503, None, False)
        assert 1 <= int(outcome.headers["retry-after"]) <= COOL_DOWN
        assert outcome.headers["cache-control"] == "no-store"
    assert server.requests == 1


@pytest.mark.case("128")
@pytest.mark.parametrize("behaviour", MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
def test_with_keys_a_broken_key_server_is_borne_for_an_hour(
    behaviour: Behaviour, server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    keys = fetched(server)
    good = run(keys.current(START))
    server.behaviour = behaviour
    for late in (600, 601, 629, 630, 2000, 600 + HOUR - 1):
        assert run(keys.current(START + late)) is good
    with pytest.raises(Unavailable):
        run(keys.current(START + 600 + HOUR))
    assert server.requests == 5  # at 0, 600, 630, 2000 and 4199; the cool-down holds at 601, 629 and 4200
    server.behaviour = None
    assert run(keys.current(START + 600 + HOUR + COOL_DOWN)).keys


def test_keys_are_renewed_in_the_background_before_they_are_old(server: KeyServer) -> None:
    """Nobody waits for a slow server while the keys are good, and the next asker has the new ones."""
    driver, keys = BlockingDriver(), fetched(server)
    old = driver.run(keys.current(START))
    other = TokenIssuer()
    server.jwks = other.jwks
    assert driver.run(keys.current(START + 479)) is old
    assert server.requests == 1
    assert driver.run(keys.current(START + 480)) is old  # begins it, and goes on
    until = time.monotonic() + 5
    while driver.run(keys.current(START + 481)) is old and time.monotonic() < until:
        time.sleep(0.01)
    assert driver.run(keys.current(START + 481)) is not old
    assert server.requests == 2


def test_keys_are_renewed_in_the_background_of_an_event_loop(server: KeyServer) -> None:
    async def renewed() -> None:
        driver, keys = AwaitingDriver(), fetched(server)
        old = await driver.run(keys.current(START))
        server.jwks = TokenIssuer().jwks
        assert await driver.run(keys.current(START + 480)) is old
        for _ in range(500):
            if await driver.run(keys.current(START + 481)) is not old:
                break
            await asyncio.sleep(0.01)
        assert await driver.run(keys.current(START + 481)) is not old
        assert server.requests == 2

    asyncio.run(renewed())


def test_an_outage_in_the_background_is_borne(server: KeyServer) -> None:
    driver, keys = BlockingDriver(), fetched(server)
    good = driver.run(keys.current(START))
    server.behaviour = die
    for late in range(480, 600, 10):
        assert driver.run(keys.current(START + late)) is good
        time.sleep(0.02)
    assert 2 <= server.requests <= 5  # one each cool-down


@pytest.mark.case("128")
def test_with_keys_an_unknown_key_id_during_an_outage_is_still_a_bad_token(
    server: KeyServer, issuer: TokenIssuer, run: Callable[[Flow[Any]], Any]
) -> None:
    tokens = fetching(issuer, server)
    run(tokens.validate(issuer.token(), time.time()))
    server.behaviour = die
    with pytest.raises(Refused) as refusal:
        run(tokens.validate(issuer.token(headers={"kid": "unknown"}), time.time() + COOL_DOWN))
    assert refusal.value.code == "invalid_token"
    assert run(tokens.validate(issuer.token(), time.time()))


def test_retry_after_counts_down_to_the_next_attempt(server: KeyServer, run: Callable[[Flow[Any]], Any]) -> None:
    server.behaviour = answer(500)
    keys = fetched(server)
    waits = []
    for late in (0, 10, 29.9):
        with pytest.raises(Unavailable) as refusal:
            run(keys.current(START + late))
        waits.append(refusal.value.retry_after)
    assert waits == [30, 20, 1]
    server.behaviour = None
    assert run(keys.current(START + COOL_DOWN)).keys


def test_nobody_at_the_address_means_try_later(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    issuer = TokenIssuer()
    with KeyServer(issuer.jwks) as server:
        app = protected(stack, issuer, server)
    outcome = app.request(f"Bearer {issuer.token(certificate=mtls_client)}", certificate=mtls_client)
    assert (outcome.status, outcome.reached) == (503, False)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    status: int, issuer: TokenIssuer, server: KeyServer, run: Callable[[Flow[Any]], Any]
) -> None:
    with KeyServer(issuer.jwks) as elsewhere:
        server.behaviour = answer(status, Location=elsewhere.url)
        with pytest.raises(Unavailable):
            run(fetched(server).current(START))
        assert elsewhere.requests == 0


DRIPS = {
    "silence": raw(pause=60),
    "status line alone": raw(b"HTTP/1.1 200 OK\r\n", pause=60),
    "headers byte by byte": raw(b"HTTP/1.1 200 OK\r\n", *[b"X: 1\r\n"] * 200, pause=0.05),
    "body byte by byte": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n", *[b" "] * 200, pause=0.05),
    "interim answers without end": raw(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 200, pause=0.05),
}


@pytest.mark.case("128")
@pytest.mark.parametrize("behaviour", DRIPS.values(), ids=DRIPS)
def test_the_whole_answer_has_to_be_there_in_time(
    behaviour: Behaviour, server: KeyServer, run: Callable[[Flow[Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtls_middleware.fetched._TIMEOUT", 0.3)
    server.behaviour = behaviour
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        run(fetched(server).current(START))
    assert time.monotonic() - begun < 1.5


def test_proxies_of_the_environment_are_not_used(
    issuer: TokenIssuer, server: KeyServer, run: Callable[[Flow[Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with KeyServer(issuer.jwks) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        assert run(fetched(server).current(START)).keys
        assert (server.requests, proxy.requests) == (1, 0)


@pytest.mark.standard("H14")
def test_keys_of_one_issuer_never_verify_a_token_of_another(stack: type[Stack], mtls_client: IssuedCertificate) -> None:
    ours, theirs = TokenIssuer("https://a.test"), TokenIssuer("https://b.test")
    same_id = {"kid": "1"}
    key_sets = [{"keys": [{**each.jwks["keys"][0], **same_id}]} for each in (ours, theirs)]
    with KeyServer(key_sets[0]) as first, KeyServer(key_sets[1]) as second:
        apps = [protected(stack, issuer, server) for issuer, server in ((ours, first), (theirs, second))]
        for signer in (ours, theirs):
            for app, claimed in zip(apps, (ours, theirs), strict=True):
                text = signer.token(certificate=mtls_client, headers=same_id, claims={"iss": claimed.issuer})
                outcome = app.request(f"Bearer {text}", certificate=mtls_client)
                assert outcome.status == (200 if signer is claimed else 401)


# --- many at once ---


def at_once(number: int, act: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(number)

    def waited(each: int) -> Any:
        barrier.wait()
        return act(each)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(waited, range(number)))


@pytest.mark.case("127")
@pytest.mark.parametrize("stall", [0.0, 0.2])
def test_fifty_threads_share_one_fetch(
    stall: float, issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.stall = stall
    tokens = fetching(issuer, server)
    text, driver = issuer.token(certificate=mtls_client), BlockingDriver()
    found = at_once(50, lambda _: driver.run(tokens.validate(text, time.time())))
    assert {each.subject for each in found} == {"user"}
    assert server.requests == 1


@pytest.mark.case("127")
@pytest.mark.parametrize("stall", [0.0, 0.2])
def test_two_hundred_tasks_share_one_fetch(
    stall: float, issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.stall = stall
    app = ASGIStack(fetching(issuer, server))
    authorization = f"Bearer {issuer.token(certificate=mtls_client)}"

    async def ask(number: int) -> int:
        await asyncio.sleep(number % 10 * 0.005)
        return (await app.asked(authorization, certificate=mtls_client)).status

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(ask(number) for number in range(200)))

    assert asyncio.run(all_of_them()) == [200] * 200
    assert server.requests == 1


@pytest.mark.parametrize("broken", [False, True])
def test_whoever_comes_with_the_new_key_during_a_rotation_waits_for_it(
    broken: bool, issuer: TokenIssuer, server: KeyServer
) -> None:
    tokens, driver = fetching(issuer, server), BlockingDriver()
    driver.run(tokens.validate(issuer.token(), time.time()))
    issuer.rotate()
    server.jwks, server.stall, server.behaviour = issuer.jwks, 0.2, die if broken else None
    text, later = issuer.token(), time.time() + COOL_DOWN

    def ask(number: int) -> str:
        time.sleep(number * 0.01)
        try:
            return str(driver.run(tokens.validate(text, later)).subject)
        except Refused as refusal:
            return refusal.code

    assert set(at_once(10, ask)) == {"invalid_token" if broken else "user"}
    assert server.requests == 2


def test_whoever_comes_with_the_new_key_during_a_rotation_waits_for_it_in_tasks_too(
    issuer: TokenIssuer, server: KeyServer
) -> None:
    tokens, driver = fetching(issuer, server), AwaitingDriver()

    async def ask(text: str, later: float, number: int) -> str | None:
        await asyncio.sleep(number * 0.005)
        found: str | None = (await driver.run(tokens.validate(text, later))).subject
        return found

    async def rotated() -> list[str | None]:
        await driver.run(tokens.validate(issuer.token(), time.time()))
        issuer.rotate()
        server.jwks, server.stall = issuer.jwks, 0.2
        later = time.time() + COOL_DOWN
        return await asyncio.gather(*(ask(issuer.token(), later, number) for number in range(20)))

    assert asyncio.run(rotated()) == ["user"] * 20
    assert server.requests == 2


def test_old_keys_serve_the_others_while_one_fetches_anew(issuer: TokenIssuer, server: KeyServer) -> None:
    tokens, driver = fetching(issuer, server), BlockingDriver()
    text, later = issuer.token(lifetime=timedelta(hours=1)), time.time() + 700
    driver.run(tokens.validate(text, time.time()))
    server.stall = 1.0
    first = threading.Thread(target=lambda: driver.run(tokens.validate(text, later)))
    first.start()
    until(lambda: server.requests == 2)
    begun = time.monotonic()
    assert driver.run(tokens.validate(text, later))
    assert time.monotonic() - begun < 0.5
    server.stall = 0
    first.join()


@pytest.mark.case("128")
def test_the_event_loop_goes_on_while_the_key_server_stalls(
    issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.stall = 0.5
    app = ASGIStack(fetching(issuer, server))
    authorization = f"Bearer {issuer.token(certificate=mtls_client)}"
    import httpx2  # noqa: F401 (loaded on first use otherwise: 0.2 s that are not the key server's)

    async def longest_gap() -> float:
        waiting = asyncio.ensure_future(app.asked(authorization, certificate=mtls_client))
        longest, last = 0.0, time.monotonic()
        while not waiting.done():
            await asyncio.sleep(0.005)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        assert (await waiting).status == 200
        return longest

    begun = time.monotonic()
    assert asyncio.run(longest_gap()) < 0.2
    assert time.monotonic() - begun > 0.5


def test_the_first_asker_may_go_away_while_the_others_wait(issuer: TokenIssuer, server: KeyServer) -> None:
    server.stall = 0.2
    tokens, driver = fetching(issuer, server), AwaitingDriver()
    text = issuer.token()

    async def first_goes() -> list[Any]:
        asked = [asyncio.ensure_future(driver.run(tokens.validate(text, time.time()))) for _ in range(5)]
        await asyncio.sleep(0.05)
        asked[0].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    gone, *others = asyncio.run(first_goes())
    assert isinstance(gone, asyncio.CancelledError)
    assert [each.subject for each in others] == ["user"] * 4
    assert server.requests == 1


def test_when_all_askers_go_away_the_next_one_has_the_answer_all_the_same(
    issuer: TokenIssuer, server: KeyServer
) -> None:
    server.stall = 0.1
    tokens, driver = fetching(issuer, server), AwaitingDriver()
    text = issuer.token()

    async def all_go() -> Any:
        asked = asyncio.ensure_future(driver.run(tokens.validate(text, time.time())))
        await asyncio.sleep(0.03)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return await driver.run(tokens.validate(text, time.time()))

    assert asyncio.run(all_go()).subject == "user"
    assert server.requests == 1


def test_one_validator_serves_both_gateways_and_several_event_loops(
    issuer: TokenIssuer, server: KeyServer, mtls_client: IssuedCertificate
) -> None:
    server.stall = 0.1
    tokens = fetching(issuer, server)
    stacks: list[Stack] = [WSGIStack(tokens) if number % 2 else ASGIStack(tokens) for number in range(8)]
    authorization = f"Bearer {issuer.token(certificate=mtls_client)}"
    found = at_once(8, lambda number: stacks[number].request(authorization, certificate=mtls_client).status)
    assert found == [200] * 8
    assert server.requests == 1


def test_an_outage_is_logged_once_however_many_wait(
    issuer: TokenIssuer, server: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "mtls_middleware.jwks")
    server.stall, server.behaviour = 0.1, die
    keys, driver = fetched(server), BlockingDriver()

    def ask(_: int) -> str:
        try:
            return str(driver.run(keys.current(START)))
        except Unavailable as refusal:
            return refusal.code

    assert set(at_once(10, ask)) == {"temporarily_unavailable"}
    assert server.requests == 1
    assert len(caplog.records) == 1
