"""A Redis command that fails: the other command goes on, and each is tried again after a short time at first."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver
from mtls_middleware.errors import Unavailable
from mtls_middleware.resource_server import IntrospectedAccessTokens, RedisAnswers
from tests.introspection_server import IntrospectionServer
from tests.redis_server import RedisServer
from tests.resource_server.introspection import asking

NOW = 1_900_000_000.0
ACTIVE = {"active": True, "exp": NOW + 3_600}

# Gives (token, time) -> "good", or "503".
Ask = Callable[[str, float], str]


def outcome(tokens: IntrospectedAccessTokens, token: str, now: float) -> str:
    try:
        found = BlockingDriver().run(tokens.validate(token, now))
    except Unavailable:
        return "503"
    return "good" if found.claims["active"] is True else "wrong"


def over(
    kind: str, redis_server: RedisServer, server: IntrospectionServer, check: Callable[[Ask], None], **options: Any
):
    """Run `check` with a blocking or an asyncio client of Redis."""
    if kind == "sync":
        with redis_server.client() as client:
            tokens = asking(server, cache=RedisAnswers(client, **options), remember_active=300)
            check(lambda token, now: outcome(tokens, token, now))
        return

    async def run() -> None:
        async with redis_server.client(redis.asyncio.Redis) as client:
            tokens = asking(server, cache=RedisAnswers(client, timeout=1, **options), remember_active=300)
            loop = asyncio.get_running_loop()

            async def single_call(token: str, now: float) -> str:
                try:
                    found = await AwaitingDriver().run(tokens.validate(token, now))
                except Unavailable:
                    return "503"
                return "good" if found.claims["active"] is True else "wrong"

            def ask(token: str, now: float) -> str:
                return asyncio.run_coroutine_threadsafe(single_call(token, now), loop).result(30)

            await asyncio.to_thread(check, ask)

    asyncio.run(run())


@pytest.fixture
def tokens(server: IntrospectionServer) -> IntrospectionServer:
    """A server that knows the tokens "0" to "99"."""
    server.tokens = {str(number): ACTIVE for number in range(100)}
    return server


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize("on_failure", ["ask", "refuse"])
def test_a_full_redis_still_serves_what_it_has(
    tokens: IntrospectionServer, kind: str, on_failure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer() as own, own.client() as admin:

        def check(ask: Ask) -> None:
            assert [ask("0", NOW), ask("0", NOW)] == ["good", "good"]
            assert len(tokens.questions) == 1
            admin.config_set("maxmemory", "1")
            for number in range(1, 40):
                at = NOW + number / 10
                assert ask(str(number), at) == "good"  # from the introspection server
                assert ask("0", at) == "good"  # from Redis
            assert len(tokens.questions) == 40
            admin.config_set("maxmemory", "0")
            assert [ask("50", NOW + 20), ask("50", NOW + 20)] == ["good", "good"]
            assert len(tokens.questions) == 41

        with caplog.at_level(logging.ERROR, "mtls_middleware.introspection"):
            over(kind, own, tokens, check, on_failure=on_failure)
    lines = [each.getMessage() for each in caplog.records]
    assert [each.rpartition("in ")[2] for each in lines] == ["0.5 s", "1 s", "2 s", "4 s"]
    assert all("SET failed (OutOfMemoryError)" in each for each in lines)


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize("on_failure", ["ask", "refuse"])
def test_a_redis_without_get_still_stores_responses(tokens: IntrospectionServer, kind: str, on_failure: Any) -> None:
    """An ACL without GET fails each GET. With `"ask"`, the responses that SET stores serve as soon as GET works."""
    with RedisServer() as own, own.client() as admin:

        def check(ask: Ask) -> None:
            admin.acl_setuser("default", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-get"])
            expected = "good" if on_failure == "ask" else "503"
            assert [ask("1", NOW + number / 10) for number in range(10)] == [expected] * 10
            admin.acl_setuser("default", enabled=True, nopass=True, keys=["*"], categories=["+@all"])
            asked = len(tokens.questions)
            assert [ask("1", NOW + 10), ask("1", NOW + 10)] == ["good", "good"]
            assert len(tokens.questions) == asked + (on_failure == "refuse")

        over(kind, own, tokens, check, on_failure=on_failure)


def test_one_thread_at_a_time_waits_for_a_redis_that_stalls(tokens: IntrospectionServer) -> None:
    with RedisServer() as own, own.client() as client:
        validator = asking(tokens, cache=RedisAnswers(client), remember_active=300)
        assert outcome(validator, "0", NOW) == "good"
        own.stop()
        assert outcome(validator, "0", NOW + 1) == "good"  # waits, and begins the cool-down
        waited: list[float] = []

        def single_call() -> None:
            begun = time.monotonic()
            assert outcome(validator, "0", NOW + 5) == "good"
            waited.append(time.monotonic() - begun)

        threads = [threading.Thread(target=single_call) for _ in range(20)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        own.go_on()
        assert len(waited) == 20
        assert sum(each > 0.9 for each in waited) <= 2  # GET and SET of the same request, or of two requests


def test_redis_is_used_again_soon_after_a_short_outage(tokens: IntrospectionServer) -> None:
    with RedisServer() as own, own.client() as client:
        validator = asking(tokens, cache=RedisAnswers(client), remember_active=300)
        own.kill()
        assert outcome(validator, "0", NOW) == "good"
        own.start()
        assert outcome(validator, "0", NOW + 1.2) == "good"
        assert outcome(validator, "0", NOW + 1.2) == "good"
        assert len(tokens.questions) == 2
