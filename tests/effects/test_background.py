"""Where exchanges are made: one thread for a process, whoever asks, and nobody there holds up anybody else."""

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from mtls_middleware.effects.exchange import Connections, Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Call, Flow, ask
from tests.introspection_server import IntrospectionServer, says
from tests.key_server import until

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BODY = b'{"active": false}'


@pytest.fixture
def server() -> Iterator[IntrospectionServer]:
    with IntrospectionServer() as running:
        running.behaviour = says(BODY)
        yield running


def post(server: IntrospectionServer, connections: Connections | None, timeout: float = 5.0) -> Fetch:
    return Fetch(server.url, TLS, timeout, 1000, form=[("token", "x")], connections=connections)


def get(need: Fetch) -> Response:
    return BlockingDriver().run(ask(need))


async def all_of(needs: list[Fetch]) -> list[Any]:
    return await asyncio.gather(*(AwaitingDriver().run(ask(each)) for each in needs), return_exceptions=True)


def test_five_hundred_at_once_need_one_thread_and_fifty_connections(server: IntrospectionServer) -> None:
    connections = Connections(TLS)
    get(post(server, connections))
    before = threading.active_count() - len(server.connections)  # the server in this process has one for each
    found = asyncio.run(all_of([post(server, connections, timeout=30) for _ in range(500)]))
    assert found == [Response(200, BODY)] * 500
    assert len(server.questions) == 501
    assert len(server.connections) <= 50
    assert threading.active_count() - len(server.connections) <= before


def test_threads_and_event_loops_share_connections(server: IntrospectionServer) -> None:
    connections = Connections(TLS)
    for _ in range(3):
        get(post(server, connections))
        asyncio.run(all_of([post(server, connections)]))
    assert len(server.connections) == 1


def test_a_stalled_server_delays_no_other_server(server: IntrospectionServer) -> None:
    """More wait for it than have their turn at once; each of them is told after its time, in the queue or not."""
    with IntrospectionServer() as stalling:
        stalling.stall = 30
        both = Connections(TLS), Connections(TLS)

        async def together() -> tuple[list[Any], list[Any]]:
            stalled = asyncio.gather(all_of([post(stalling, both[0], timeout=3) for _ in range(120)]))
            await asyncio.sleep(0.2)
            good = await all_of([post(server, both[1]) for _ in range(20)])
            assert not stalled.done()
            return good, (await stalled)[0]

        good, failed = asyncio.run(together())
        assert good == [Response(200, BODY)] * 20
        assert [type(each) for each in failed] == [FetchFailed] * 120
        assert len(stalling.connections) == 50  # those in the queue never began


def test_an_endless_name_lookup_delays_no_other_exchange(
    server: IntrospectionServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, real = threading.Event(), socket.getaddrinfo

    def look_up(host: Any, *rest: Any, **options: Any) -> Any:
        if host in ("hangs.test", b"hangs.test"):
            released.wait(20)
        return real("127.0.0.1" if host in ("good.test", b"good.test") else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    url = server.url.replace("127.0.0.1", "{}.test")
    form = [("token", "x")]

    async def together() -> tuple[list[Any], list[Any]]:
        hanging = [Fetch(url.format("hangs"), TLS, 1.5, 1000, form=form) for _ in range(40)]
        stuck = asyncio.gather(all_of(hanging))
        await asyncio.sleep(0.1)
        good = await all_of([Fetch(url.format("good"), TLS, 5, 1000, form=form) for _ in range(10)])
        return good, (await stuck)[0]

    good, failed = asyncio.run(together())
    released.set()
    assert good == [Response(200, BODY)] * 10
    assert [type(each) for each in failed] == [FetchFailed] * 40


def test_connections_are_closed_with_the_object_that_keeps_them(server: IntrospectionServer) -> None:
    connections = Connections(TLS)
    get(post(server, connections))
    (kept,) = server.connections
    assert kept.fileno() != -1
    del connections
    gc.collect()
    until(lambda: kept.fileno() == -1)  # the server saw its end


PROGRAM = """
import os, ssl, sys, time
from mtls_middleware.effects.flow import Begin, BlockingDriver, ask
from mtls_middleware.effects.exchange import Connections, Fetch

tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
connections = Connections(tls)

def fetch(timeout=5.0):
    return Fetch(sys.argv[1], tls, timeout, 1000, form=[("token", "x")], connections=connections)

def get():
    return BlockingDriver().run(ask(fetch())).status

def forked(function):
    pid = os.fork()
    if pid == 0:
        function()
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(server: IntrospectionServer, program: str, *, after_questions: int = 0) -> str:
    """Run the program. Its `input()` returns when the server has got `after_questions` requests."""
    # A program that forks after the first exchange gets this warning (docs/forking.md). The child works.
    options = ["-W", "error::ResourceWarning", "-W", "ignore:This process:DeprecationWarning"]
    command = [sys.executable, *options, "-c", PROGRAM + program, server.url]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as process:
        until(lambda: len(server.questions) >= after_questions, seconds=30)
        output, errors = process.communicate("\n", timeout=60)
    assert errors == ""
    assert process.returncode == 0
    return output


def test_a_forked_child_makes_a_thread_and_connections_of_its_own(server: IntrospectionServer) -> None:
    """And leaves those of its parent open, also where it throws away everything that it inherited."""
    program = """
def child():
    import gc
    assert get() == 200
    global connections
    del connections
    gc.collect()

assert get() == 200
forked(child)
forked(child)
assert get() == 200
"""
    run(server, program)
    assert len(server.questions) == 4
    assert len(server.connections) == 3


def test_the_end_of_the_interpreter_waits_for_no_exchange(server: IntrospectionServer) -> None:
    server.stall = 20
    program = """
def begun():
    yield from ask(Begin(fetch(timeout=20.0)))

BlockingDriver().run(begun())
input()
begun = time.monotonic()
import atexit
atexit._run_exitfuncs()
print(time.monotonic() - begun)
"""
    assert float(run(server, program, after_questions=1)) < 10
    assert len(server.questions) == 1


def test_the_background_thread_misses_no_concurrently_added_exchange(server: IntrospectionServer) -> None:
    """Threads and the background race about who wakes it: nobody may be left lying there."""
    connections, found = Connections(TLS), []

    def some() -> None:
        found.extend(get(post(server, connections)) for _ in range(20))

    threads = [threading.Thread(target=some) for _ in range(20)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == [Response(200, BODY)] * 400


@pytest.mark.parametrize("kept", [True, False], ids=["open connections", "new connections"])
def test_a_failed_exchange_leaves_no_data_in_memory(server: IntrospectionServer, kept: bool) -> None:
    """Without the garbage collector: a full collection may come late in an application with many objects."""
    server.behaviour = says(b"x" * 500_000)
    connections = Connections(TLS) if kept else None

    def bodies() -> int:
        return sum(type(each).__name__ == "_Body" for each in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = bodies()
        for _ in range(10):
            with pytest.raises(FetchFailed):
                get(post(server, connections))
        until(lambda: bodies() == before)
    finally:
        gc.enable()


# --- Event loops that end


def ended_in_the_turn_of(work: Any) -> None:
    """Run `work()` on a loop that is stopped and closed in the very turn in which it begins."""
    loop = asyncio.new_event_loop()

    async def request() -> None:
        loop.stop()
        await work()

    task = loop.create_task(request())
    loop.run_forever()
    loop.close()
    task._log_destroy_pending = False  # that it is pending is what is tested


def calling() -> Flow[int]:
    return (yield from ask(Call(lambda: 1, ())))


def test_a_loop_that_ends_in_the_turn_of_a_request_holds_up_no_later_loop() -> None:
    driver = AwaitingDriver()
    for _ in range(3):
        ended_in_the_turn_of(lambda: driver.run(calling()))

    async def single_exchange() -> int:
        return await asyncio.wait_for(driver.run(calling()), 10)

    assert [asyncio.run(single_exchange()) for _ in range(120)] == [1] * 120
    gc.collect()
    assert len(driver._in_this_turn) == 0


def test_no_more_than_fifty_flows_begin_in_one_turn() -> None:
    driver, turns, begun = AwaitingDriver(), [0], []

    def flow() -> Flow[None]:
        begun.append(turns[0])
        yield from ask(Call(lambda: None, ()))

    async def many() -> None:
        def turn() -> None:
            turns[0] += 1
            loop.call_soon(turn)

        loop = asyncio.get_running_loop()
        loop.call_soon(turn)
        await asyncio.gather(*(driver.run(flow()) for _ in range(175)))

    asyncio.run(many())
    counts = [begun.count(each) for each in sorted(set(begun))]
    assert max(counts) == 50
    assert len(counts) <= 5


def test_a_loop_that_ends_during_an_exchange_delays_no_later_exchange(server: IntrospectionServer) -> None:
    """Neither an exchange that is begun later, nor one that the ended loop was to begin and others wait for."""
    connections = Connections(TLS)
    shared = post(server, connections)
    ended_in_the_turn_of(lambda: AwaitingDriver().run(ask(shared)))
    assert not shared.outcome.done()
    assert asyncio.run(all_of([shared, post(server, connections)])) == [Response(200, BODY)] * 2
    again = post(server, connections)
    ended_in_the_turn_of(lambda: AwaitingDriver().run(ask(again)))
    assert get(again) == Response(200, BODY)
