"""Remembered answers: for seconds, never past exp, never across certificates; shared through Redis, and without it."""

import asyncio
import json
import threading
import time
from typing import Any

import httpx2
import pytest
import redis
import redis.asyncio
from cryptography.exceptions import UnsupportedAlgorithm

from mtls_middleware import ConfigurationError, Refused
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Call, Flow, ask
from mtls_middleware.errors import Unavailable
from mtls_middleware.resource_server import IntrospectedAccessTokens, MemoryAnswers, RedisAnswers, introspection_cache
from mtls_middleware.resource_server.introspection_cache import IntrospectionKey
from mtls_middleware.testing import IssuedCertificate
from tests.introspection_server import CLIENT_ID, CLIENT_SECRET, IntrospectionServer
from tests.key_server import until
from tests.live.servers import free_port, running
from tests.redis_server import RedisServer
from tests.resource_server.stack import ASGIStack, Stack, WSGIStack

TOKEN = "2YotnFZFEjr1zCsicMWpAA"
BEARER = f"Bearer {TOKEN}"
NOW = 1_900_000_000.0


def asking(server: IntrospectionServer, **options: Any) -> IntrospectedAccessTokens:
    usual = {"endpoint": server.url, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "allow_http": True}
    return IntrospectedAccessTokens(**{**usual, **options})


def validate(tokens: IntrospectedAccessTokens, now: float = NOW, text: str = TOKEN) -> Any:
    return BlockingDriver().run(tokens.validate(text, now))


def is_good(tokens: IntrospectedAccessTokens, now: float = NOW) -> bool:
    try:
        validate(tokens, now)
    except Refused as refusal:
        if refusal.code != "invalid_token":
            raise
        return False
    return True


# --- how long ---


@pytest.mark.standard("F6")
def test_without_a_cache_each_request_asks(server: IntrospectionServer) -> None:
    server.tokens = {TOKEN: {"active": True}}
    tokens = asking(server)
    assert is_good(tokens)
    server.tokens = {}
    assert not is_good(tokens)
    assert len(server.questions) == 2


@pytest.mark.case("125")
@pytest.mark.standard("F6")
def test_good_and_bad_answers_have_lifetimes_of_their_own(server: IntrospectionServer) -> None:
    server.tokens = {TOKEN: {"active": True}}
    tokens = asking(server, cache=MemoryAnswers(), remember_active=20, remember_inactive=3)
    assert is_good(tokens, NOW)
    server.tokens = {}
    assert is_good(tokens, NOW + 19)
    assert not is_good(tokens, NOW + 20)
    server.tokens = {TOKEN: {"active": True}}
    assert not is_good(tokens, NOW + 22)
    assert is_good(tokens, NOW + 23)
    assert len(server.questions) == 3


@pytest.mark.standard("F6")
def test_a_lifetime_of_zero_remembers_nothing_of_that_kind(server: IntrospectionServer) -> None:
    tokens = asking(server, cache=MemoryAnswers(), remember_inactive=0)
    assert [is_good(tokens) for _ in range(3)] == [False] * 3
    assert len(server.questions) == 3


@pytest.mark.case("125")
@pytest.mark.standard("F5")
@pytest.mark.parametrize("cached", ["memory", "redis"])
def test_an_answer_is_never_kept_past_exp(server: IntrospectionServer, redis_server: RedisServer, cached: str) -> None:
    client = redis_server.client()
    cache = MemoryAnswers() if cached == "memory" else RedisAnswers(client)
    server.tokens = {TOKEN: {"active": True, "exp": NOW + 7}}
    tokens = asking(server, cache=cache, leeway=0)
    assert is_good(tokens, NOW)
    assert is_good(tokens, NOW + 6.9)
    assert len(server.questions) == 1
    assert not is_good(tokens, NOW + 7)
    assert len(server.questions) == 2
    if cached == "redis":
        (key,) = client.keys()
        assert 0 < client.pttl(key) <= 7000
    client.close()


def test_a_clock_that_is_set_back_does_not_prolong_an_answer(server: IntrospectionServer) -> None:
    server.tokens = {TOKEN: {"active": True}}
    tokens = asking(server, cache=MemoryAnswers())
    assert is_good(tokens, NOW)
    server.tokens = {}
    assert not is_good(tokens, NOW - 3600)


def test_a_decision_ends_when_a_newer_response_replaces_its_own(server: IntrospectionServer) -> None:
    server.tokens = {TOKEN: {"active": True}}
    tokens, driver = asking(server, cache=MemoryAnswers()), BlockingDriver()
    assert is_good(tokens, NOW)
    decided = driver.run(tokens.decide(TOKEN, NOW))
    assert all(check(NOW) for check in decided.checks)
    server.tokens = {}
    assert not is_good(tokens, NOW + 60)
    assert not all(check(NOW) for check in decided.checks)


@pytest.mark.parametrize("kind", ["active", "inactive"])
@pytest.mark.parametrize(
    ("limits", "age", "used"),
    [
        ((300, 30), 299, False),
        ((300, 30), 31, False),
        ((300, 30), 30, False),
        ((300, 30), 29, True),
        ((300, 300), 299, True),
        ((30, 300), 31, True),
        ((30, 300), 299, True),
        ((30, 300), 300, False),
        ((300, 0), 0, False),
        ((300, 30), -1, False),  # the clock was set back
        ((30, 300), -270, False),
    ],
)
def test_each_reader_applies_its_own_limit_to_the_age_of_a_response(
    server: IntrospectionServer, kind: str, limits: tuple[float, float], age: float, used: bool
) -> None:
    cache, limit, (writer, reader) = MemoryAnswers(), f"remember_{kind}", limits
    server.tokens = {TOKEN: {"active": True}} if kind == "active" else {}
    is_good(asking(server, cache=cache, **{limit: writer}))
    assert is_good(asking(server, cache=cache, **{limit: reader}), NOW + age) is (kind == "active")
    assert len(server.questions) == (1 if used else 2)


def test_a_shared_response_has_the_limit_of_its_reader(server: IntrospectionServer, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        server.tokens = {TOKEN: {"active": True}}
        assert is_good(asking(server, cache=RedisAnswers(client), remember_active=300))
        server.tokens = {}
        assert is_good(asking(server, cache=RedisAnswers(client), remember_active=300), NOW + 200)
        assert not is_good(asking(server, cache=RedisAnswers(client), remember_active=30), NOW + 200)


def test_the_age_of_a_response_begins_with_the_request(server: IntrospectionServer) -> None:
    """A revocation while the server responds is known `remember_active` seconds after the request at the latest."""
    server.tokens = {TOKEN: {"active": True}}
    tokens = asking(server, cache=MemoryAnswers(), remember_active=1)
    server.stall = 1.2
    begun = time.time()
    assert BlockingDriver().run(tokens.validate(TOKEN, begun))
    server.stall, server.tokens = 0, {}
    assert not is_good(tokens, time.time())


@pytest.mark.parametrize(
    "record",
    [
        {"until": NOW + 20, "answer": {"active": True}},
        {"obtained": "x", "answer": {"active": True}},
        {"obtained": None, "answer": {"active": True}},
        {"obtained": 10**400, "answer": {"active": True}},
        {"obtained": NOW, "answer": {"active": True, "exp": "soon"}},
        {"obtained": NOW, "answer": {"active": True, "exp": NOW}},
        {"obtained": NOW, "answer": {}},
        {"obtained": NOW, "answer": []},
        {"obtained": NOW},
    ],
    ids=str,
)
def test_a_record_of_another_form_is_not_used(server: IntrospectionServer, record: Any) -> None:
    class Foreign(MemoryAnswers):
        def get(self, key: IntrospectionKey, now: float) -> Flow[bytes | None]:
            yield from ()
            return json.dumps(record).encode()

    server.tokens = {}
    assert not is_good(asking(server, cache=Foreign()))
    assert len(server.questions) == 1


def test_failures_and_overlong_answers_are_not_remembered(server: IntrospectionServer) -> None:
    tokens = asking(server, cache=MemoryAnswers())
    server.tokens = {TOKEN: b"garbage"}
    with pytest.raises(Unavailable):
        validate(tokens)
    server.tokens = {TOKEN: {"active": True, "long": "x" * 20_000}}
    assert is_good(tokens)
    assert is_good(tokens)
    assert len(server.questions) == 3


# --- what it may not answer for ---


@pytest.mark.case("125")
@pytest.mark.standard("F9", "A23")
@pytest.mark.parametrize("cached", ["memory", "redis"])
def test_a_remembered_token_with_another_certificate_is_refused(
    stack: type[Stack],
    mtls_client: IssuedCertificate,
    mtls_other_client: IssuedCertificate,
    redis_server: RedisServer,
    cached: str,
) -> None:
    with IntrospectionServer() as server, redis_server.client() as client:
        server.tokens = {TOKEN: {"active": True, "cnf": {"x5t#S256": mtls_client.thumbprint}}}
        cache = MemoryAnswers() if cached == "memory" else RedisAnswers(client)
        layers = stack(asking(server, cache=cache))
        order = [mtls_client, mtls_other_client, None, mtls_client]
        assert [layers.request(BEARER, certificate=each).status for each in order] == [200, 401, 401, 200]
        assert len(server.questions) == 1


class SlowAnswers(MemoryAnswers):
    """As a cache is that is far away."""

    def put(self, key: IntrospectionKey, record: bytes, seconds: float, now: float) -> Flow[None]:
        yield from ask(Call(time.sleep, (0.5,)))
        yield from super().put(key, record, seconds, now)


def test_who_asks_while_an_answer_is_being_put_down_takes_it(server: IntrospectionServer) -> None:
    server.tokens = {TOKEN: {"active": True}}
    tokens = asking(server, cache=SlowAnswers())
    first = threading.Thread(target=validate, args=(tokens,))
    first.start()
    until(lambda: len(server.questions) == 1)
    time.sleep(0.2)  # the answer is there, and on its way to the cache
    assert is_good(tokens)
    assert first.is_alive()
    first.join()
    assert len(server.questions) == 1


@pytest.mark.standard("F9")
def test_answers_are_kept_apart_by_token_server_and_client(server: IntrospectionServer) -> None:
    cache = MemoryAnswers()
    server.tokens = {TOKEN: {"active": True}}
    assert is_good(asking(server, cache=cache))
    with IntrospectionServer() as other:
        assert not is_good(asking(other, cache=cache))
    with pytest.raises(Unavailable):  # the server does not know this client
        validate(asking(server, cache=cache, client_id="another"))
    with pytest.raises(Refused, match="not active"):
        validate(asking(server, cache=cache), text=TOKEN.lower())


def test_each_reader_judges_a_remembered_answer_by_its_own_rules(server: IntrospectionServer) -> None:
    cache = MemoryAnswers()
    server.tokens = {TOKEN: {"active": True, "aud": "https://one.test"}}
    assert is_good(asking(server, cache=cache, audience="https://one.test"))
    assert not is_good(asking(server, cache=cache, audience="https://two.test"))
    assert len(server.questions) == 1


def test_memory_is_bounded(server: IntrospectionServer) -> None:
    cache = MemoryAnswers(2)
    tokens = asking(server, cache=cache)
    for text in ("a", "b", "c", "a"):
        with pytest.raises(Refused):
            validate(tokens, text=text)
    assert len(server.questions) == 4


# --- Redis ---


def test_redis_contents_reveal_no_token_and_no_response(server: IntrospectionServer, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        server.tokens = {TOKEN: {"active": True, "sub": "jane.doe"}}
        assert is_good(asking(server, cache=RedisAnswers(client)))
        (key,) = client.keys()
        assert key.startswith(b"mtls_middleware:introspection:")
        kept = key + client.get(key)
        assert TOKEN.encode() not in kept
        assert b"jane" not in kept
        assert b"active" not in kept


@pytest.mark.parametrize("forged", ["plain", "of another token", "changed", "cut", "nothing", "a list"])
def test_a_forged_redis_entry_is_not_accepted(
    server: IntrospectionServer, redis_server: RedisServer, forged: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server.client() as client:
        tokens = asking(server, cache=RedisAnswers(client))
        server.tokens = {"mine": {"active": True, "sub": "admin"}}
        validate(tokens, text="mine")
        (key,) = client.keys()
        good = client.get(key)
        assert not is_good(tokens)  # its own record is there now: not active
        (victim,) = set(client.keys()) - {key}
        own = client.get(victim)
        client.delete(victim)
        written = {
            "plain": json.dumps({"obtained": NOW, "answer": {"active": True}}).encode(),
            "of another token": good,
            "changed": own[:-5] + (b"A" if own[-5:-4] != b"A" else b"B") + own[-4:],
            "cut": own[:20],
            "nothing": b"",
        }
        if forged == "a list":
            client.rpush(victim, "x")
        else:
            client.set(victim, written[forged])
        asked = len(server.questions)
        assert not is_good(tokens)
        assert len(server.questions) == asked + 1
        assert TOKEN not in caplog.text


def test_a_secret_of_the_machines_seals_too(server: IntrospectionServer, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        server.tokens = {TOKEN: {"active": True}}
        for secret in ("s" * 16, "s" * 16, "t" * 16, None):
            assert is_good(asking(server, cache=RedisAnswers(client, secret=secret)))
        assert len(server.questions) == 3


def test_answers_are_the_same_for_both_kinds_of_client(
    server: IntrospectionServer, redis_server: RedisServer, mtls_client: IssuedCertificate
) -> None:
    server.tokens = {TOKEN: {"active": True, "cnf": {"x5t#S256": mtls_client.thumbprint}}}
    patient = {"socket_timeout": 5, "socket_connect_timeout": 5}  # fifty connections at once, on a busy machine

    async def over_asyncio() -> None:
        async with redis_server.client(redis.asyncio.Redis, decode_responses=True, **patient) as client:
            layers = ASGIStack(asking(server, cache=RedisAnswers(client, timeout=5)))
            outcomes = await asyncio.gather(*(layers.asked(BEARER, certificate=mtls_client) for _ in range(50)))
            assert {each.status for each in outcomes} == {200}

    asyncio.run(over_asyncio())
    with redis_server.client() as client:
        layers = WSGIStack(asking(server, cache=RedisAnswers(client)))
        assert layers.request(BEARER, certificate=mtls_client).status == 200
    assert len(server.questions) == 1


def test_an_asyncio_redis_client_under_wsgi_is_a_configuration_error(
    server: IntrospectionServer, redis_server: RedisServer
) -> None:
    tokens = asking(server, cache=RedisAnswers(redis_server.client(redis.asyncio.Redis)))
    with pytest.raises(ConfigurationError, match="WSGI cannot await"):
        validate(tokens)


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize("outage", ["dead", "stalled"])
@pytest.mark.parametrize("on_failure", ["ask", "refuse"])
def test_a_redis_outage_asks_the_server_or_answers_503(
    server: IntrospectionServer, mtls_client: IssuedCertificate, kind: str, outage: str, on_failure: Any
) -> None:
    server.tokens = {TOKEN: {"active": True}}

    async def check(driver: Any, client: Any, own: RedisServer) -> None:
        tokens = asking(server, cache=RedisAnswers(client, on_failure=on_failure, timeout=0.3))

        async def outcome(now: float) -> str:
            try:
                running_flow = driver.run(tokens.validate(TOKEN, now))
                found = running_flow if kind == "sync" else await running_flow
            except Unavailable:
                return "503"
            return "good" if found.claims["active"] is True else "wrong"

        assert await outcome(NOW) == "good"
        own.kill() if outage == "dead" else own.stop()
        start = time.monotonic()
        expected = "good" if on_failure == "ask" else "503"
        assert [await outcome(NOW + 1 + n / 100) for n in range(20)] == [expected] * 20
        assert time.monotonic() - start < 5  # one wait, not twenty
        assert len(server.questions) == (21 if on_failure == "ask" else 1)
        own.start() if outage == "dead" else own.go_on()
        await asyncio.sleep(0.2)
        assert await outcome(NOW + 10) == "good"
        assert await outcome(NOW + 10.1) == "good"
        assert len(server.questions) <= (22 if on_failure == "ask" else 2)

    async def over_asyncio(own: RedisServer) -> None:
        async with own.client(redis.asyncio.Redis) as client:
            await check(AwaitingDriver(), client, own)

    with RedisServer() as own:
        if kind == "asyncio":
            asyncio.run(over_asyncio(own))
        else:
            with own.client() as client:
                asyncio.run(check(BlockingDriver(), client, own))


@pytest.mark.live
def test_two_real_processes_share_what_the_server_said(
    server: IntrospectionServer, redis_server: RedisServer, mtls_client: IssuedCertificate, mtls_other_client: Any
) -> None:
    server.tokens = {TOKEN: {"active": True, "sub": "jane", "cnf": {"x5t#S256": mtls_client.thumbprint}}}
    environment = {"ENDPOINT": server.url, "REDIS_PORT": str(redis_server.port)}
    one, two = free_port(), free_port()
    module = "tests.resource_server.applications"
    gunicorn = ["-m", "gunicorn", "--bind", f"127.0.0.1:{one}", "--threads", "4", f"{module}:wsgi_application"]
    uvicorn = ["-m", "uvicorn", "--port", str(two), "--no-proxy-headers", f"{module}:asgi_application"]

    def get(port: int, certificate: IssuedCertificate) -> tuple[int, str]:
        headers = {"Authorization": BEARER, **certificate.as_nginx()}
        answer = httpx2.get(f"http://127.0.0.1:{port}/", headers=headers, timeout=30, trust_env=False)
        return answer.status_code, answer.text

    with running(gunicorn, one, **environment), running(uvicorn, two, **environment):
        assert [get(port, mtls_client) for port in (one, two, one, two)] == [(200, "jane")] * 4
        assert [get(port, mtls_other_client)[0] for port in (one, two)] == [401, 401]
        assert len(server.questions) == 1


# --- construction ---


def blocking(**options: Any) -> redis.Redis:
    usual = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2}
    return redis.Redis(retry=redis.retry.Retry(redis.backoff.NoBackoff(), 1), **{**usual, **options})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RedisAnswers("redis://cache.internal"), "for example redis"),
        (lambda: RedisAnswers(redis.Redis()), "socket_timeout=(5|None): expected at most 1 second"),
        (lambda: RedisAnswers(blocking(socket_timeout=None)), "socket_timeout=None"),
        (lambda: RedisAnswers(blocking(socket_connect_timeout=2)), "socket_connect_timeout=2"),
        (lambda: RedisAnswers(redis.Redis(socket_timeout=0.2, socket_connect_timeout=0.2)), "retries: expected at"),
        (lambda: RedisAnswers(blocking(), on_failure="allow"), "on_failure="),
        (lambda: RedisAnswers(blocking(), prefix=""), "prefix="),
        (lambda: RedisAnswers(blocking(), timeout=0), "timeout="),
        (lambda: RedisAnswers(blocking(), secret="short"), "16 characters"),
        (lambda: MemoryAnswers(0), "size=0"),
        (lambda: MemoryAnswers(True), "size=True"),
    ],
    ids=["text", "default", "endless", "connect", "retries", "on_failure", "prefix", "timeout", "secret", "0", "True"],
)
def test_wrong_settings_are_refused_at_construction(make: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_an_openssl_without_its_cipher_is_an_error_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL's FIPS provider has no AES-SIV, and `cryptography` raises this there (docs/stability.md)."""

    def unsupported(key: bytes) -> None:
        raise UnsupportedAlgorithm("AES-SIV is not supported by this version of OpenSSL")

    monkeypatch.setattr(introspection_cache, "AESSIV", unsupported)
    with pytest.raises(ConfigurationError, match="FIPS mode"):
        RedisAnswers(redis.Redis(socket_timeout=0.2, socket_connect_timeout=0.2))
