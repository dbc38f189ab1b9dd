"""Callers that share one token request: some are cancelled, some are refused, and the request fails or not."""

import asyncio
import contextlib
import copy
import logging
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from mtls_middleware.client import CertificateBoundAuth, TokenError, TokenNotBound
from mtls_middleware.effects import BlockingDriver
from mtls_middleware.effects.exchange import Fetch, FetchFailed
from tests.client.conftest import World


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "mtls_middleware.client" and each.levelno >= logging.ERROR
    ]


@pytest.fixture
def auth(world: World) -> CertificateBoundAuth:
    """The metadata is cached, and there is no token."""
    auth = world.auth()
    world.get("sync", auth)
    auth._tokens.drop(auth._tokens._tokens[0].token)
    world.server.received.clear()
    return auth


async def cancel_during_the_token_request(world: World, auth: CertificateBoundAuth, callers: int) -> None:
    """Start requests at the same time, and cancel all of them when the authorization server has the token request."""
    async with world.async_client(auth) as client:
        tasks = [asyncio.create_task(client.get("/")) for _ in range(callers)]
        while not world.server.token_requests:  # noqa: ASYNC110 (a thread changes the list)
            await asyncio.sleep(0.01)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each.cancelled() for each in tasks)


@pytest.mark.parametrize("callers", [1, 3])
def test_the_token_of_a_request_without_callers_is_cached(world: World, callers: int) -> None:
    world.server.stall = 0.3
    auth = world.auth()
    asyncio.run(cancel_during_the_token_request(world, auth, callers))
    world.server.stall = 0
    assert world.get("sync", auth)[0].status_code == 200
    assert len(world.server.token_requests) == 1
    assert world.get("async", auth)[0].status_code == 200
    assert len(world.server.token_requests) == 1


def test_the_token_is_cached_if_the_caller_that_began_is_cancelled(world: World) -> None:
    world.server.stall = 0.3
    auth = world.auth()

    async def run() -> list[httpx2.Response]:
        async with world.async_client(auth) as client:
            first, second = asyncio.create_task(client.get("/")), asyncio.create_task(client.get("/"))
            while not world.server.token_requests:  # noqa: ASYNC110 (a thread changes the list)
                await asyncio.sleep(0.01)
            first.cancel()
            third = asyncio.create_task(client.get("/"))  # it begins after the cancellation
            return [await second, await third, await client.get("/")]

    assert [each.status_code for each in asyncio.run(run())] == [200, 200, 200]
    assert len(world.server.token_requests) == 1


def test_a_failed_request_without_callers_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.server.stall = 0.3
    world.server.response = {"token_type": "DPoP"}
    asyncio.run(cancel_during_the_token_request(world, world.auth(), 2))
    ends = time.monotonic() + 20
    while not errors(caplog) and time.monotonic() < ends:
        time.sleep(0.01)
    (line,) = errors(caplog)
    assert "no token for client 'billing'" in line
    assert "expected Bearer" in line


@pytest.mark.parametrize("failure", ["response", "exchange"])
def test_a_failed_request_has_one_line_for_all_callers(
    world: World, auth: CertificateBoundAuth, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.server.stall = 0.3
    if failure == "exchange":
        world.server.behaviour = lambda handler: setattr(handler, "close_connection", True)
    else:
        world.server.response = {"access_token": None}
    with world.client(auth) as client, ThreadPoolExecutor(10) as threads:
        running = [threads.submit(client.get, "/") for _ in range(10)]
        failures = [each.exception(30) for each in running]
    assert {type(each) for each in failures} == {TokenError}
    assert len(set(map(id, failures))) == 10  # each caller gets an exception of its own, with its own traceback
    assert len(errors(caplog)) == len(world.server.token_requests) == 1


def test_callers_of_one_request_get_the_same_token(world: World) -> None:
    """Otherwise, a caller whose token a resource server rejects could not remove it from the cache."""
    world.server.stall = 0.3
    source, pair = world.auth()._tokens, world.files.current()
    with ThreadPoolExecutor(5) as threads:
        running = [threads.submit(BlockingDriver().run, source.current(pair, time.time())) for _ in range(5)]
        tokens = [each.result() for each in running]
    assert len(set(map(id, tokens))) == 1
    source.drop(tokens[-1])
    assert source.cached(pair, time.time()) is None


class Caller:
    """A flow that waits for a token request, after the metadata is cached."""

    def __init__(self, world: World, auth: CertificateBoundAuth) -> None:
        self._flow = auth._tokens.current(world.files.current(), time.time())
        need = next(self._flow)
        assert isinstance(need, Fetch)
        self.fetch = need

    def fails(self, failure: FetchFailed) -> TokenError:
        with pytest.raises(TokenError) as caught:
            self._flow.throw(failure)
        return caught.value


def test_a_caller_that_is_refused_leaves_the_request_to_others(
    world: World, auth: CertificateBoundAuth, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Caller(world, auth), Caller(world, auth)
    assert first.fetch is second.fetch
    assert first.fetch.claim()  # the first caller has started the exchange
    assert second.fails(FetchFailed("too many requests wait", retry_after=1)).code == "unavailable"
    assert Caller(world, auth).fetch is first.fetch
    assert not errors(caplog)  # the request has not failed


def test_an_overdue_request_is_replaced(world: World, auth: CertificateBoundAuth) -> None:
    first = Caller(world, auth)
    assert first.fetch.claim()
    first.fails(FetchFailed("not complete within 5 s"))
    assert Caller(world, auth).fetch is not first.fetch


def test_a_request_that_no_caller_could_start_fails_for_all(
    world: World, auth: CertificateBoundAuth, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Caller(world, auth), Caller(world, auth)
    first.fails(FetchFailed("the server stalls", retry_after=3))
    assert second.fails(FetchFailed("the server stalls", retry_after=3)).code == "unavailable"
    assert len(errors(caplog)) == 1
    assert Caller(world, auth).fetch is not first.fetch


def test_a_forked_child_does_not_wait_for_the_request_of_its_parent(world: World, auth: CertificateBoundAuth) -> None:
    """The child process has no thread that makes the exchange, and would wait until its timeout."""
    world.server.stall = 60
    world.api.respond = lambda received: (200, {}, {})
    with ThreadPoolExecutor(1) as threads, world.client(auth) as client:
        waiting = threads.submit(client.get, "/")
        while not world.server.token_requests:
            time.sleep(0.01)
        world.server.stall = 0
        child = os.fork()
        if child == 0:
            status = 0
            with contextlib.suppress(BaseException):
                status = client.get("/").status_code
            os._exit(0 if status == 200 else 1)
        assert os.waitpid(child, 0)[1] == 0
        world.server.release()
        assert waiting.result(30).status_code == 200
    assert len(world.server.token_requests) == 2


def test_a_server_that_rejects_all_tokens_causes_no_second_token_request(world: World) -> None:
    world.api.respond = lambda received: (401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}, b"")
    auth = world.auth()
    assert [each.status_code for each in world.get("sync", auth, times=3)] == [401, 401, 401]
    assert len(world.api.received) == 6
    assert len(world.server.token_requests) == 4  # the first request needs two


@pytest.mark.parametrize(
    "error", [TokenError("rejected", "no", oauth_error="invalid_client"), TokenNotBound("it is not bound")]
)
def test_an_error_can_be_copied_and_pickled(error: TokenError) -> None:
    for each in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(each) is type(error)
        assert (str(each), each.code, each.oauth_error) == (str(error), error.code, error.oauth_error)
