"""The thread that polls the list survives an exception at each of its steps, and starts again if it has ended."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mtls_middleware.effects import supervision
from mtls_middleware.revocation import RedisRevocations, poller
from mtls_middleware.revocation.list_copy import RevocationListCopy
from mtls_middleware.revocation.poller import RevocationListPoller
from mtls_middleware.sources import ServerTLS
from tests.effects.test_supervision import Raising
from tests.gateways import Outcome, Request, both_gateways, send
from tests.key_server import until
from tests.redis_server import RedisServer
from tests.revocation.lists import BILLING, SOON, following, includes, new_list

Steps = dict[str, Callable[[pytest.MonkeyPatch, RedisRevocations, Any], None]]


def clock(**replaced: Any) -> SimpleNamespace:
    """The module `time` as one module sees it."""
    usual = {name: getattr(time, name) for name in ("monotonic", "time", "sleep")}
    return SimpleNamespace(**{**usual, **replaced})


# Where the exception is raised, by what the thread does there.
STEPS: Steps = {
    "command": lambda patch, list_, fail: patch.setattr(list_._client, "execute_command", fail),
    "clock": lambda patch, list_, fail: patch.setattr(poller, "time", clock(monotonic=fail)),
    "head": lambda patch, list_, fail: patch.setattr(poller, "parse_head", fail),
    "page": lambda patch, list_, fail: patch.setattr(poller, "parse_page", fail),
    "copy": lambda patch, list_, fail: patch.setattr(RevocationListCopy, "add_pages", fail),
    "publication": lambda patch, list_, fail: patch.setattr(RevocationListPoller, "_publish", fail),
    "clean-up": lambda patch, list_, fail: patch.setattr(RevocationListCopy, "drop_expired", fail),
    "event": lambda patch, list_, fail: patch.setattr(list_._poller.first_poll, "set", fail),
    "whole poll": lambda patch, list_, fail: patch.setattr(RevocationListPoller, "_update", fail),
    "sleep": lambda patch, list_, fail: patch.setattr(supervision, "time", clock(sleep=fail)),
}


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "_INTERVAL", 0.01)
    monkeypatch.setattr(poller, "_OVERDUE", 0.05)
    monkeypatch.setattr(poller, "_CLEANUP_INTERVAL", 0.0)
    monkeypatch.setattr(poller, "_LOG_INTERVAL", 0.0)
    monkeypatch.setattr(supervision, "_RESTART_INTERVAL", 0.1)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # threads end here on purpose


@pytest.fixture
def raising_handler() -> Iterator[None]:
    handler = Raising(SystemExit("of the log"))
    poller.logger.addHandler(handler)
    yield
    poller.logger.removeHandler(handler)


@pytest.mark.usefixtures("raising_handler")
@pytest.mark.parametrize("kind", [RuntimeError, SystemExit])
@pytest.mark.parametrize("step", STEPS)
def test_the_list_is_in_force_again_after_an_exception(
    redis_server: RedisServer, step: str, kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = []

    def fail(*arguments: object, **options: object) -> Any:
        if threading.current_thread() is threading.main_thread():  # a request, which reads the clock too
            return time.monotonic()
        raised.append(step)
        raise kind(step)

    new_list(redis_server)
    revocations = following(redis_server, max_age=1)
    assert includes(revocations, BILLING) is False
    with monkeypatch.context() as patched:
        STEPS[step](patched, revocations, fail)
        following(redis_server).revoke(thumbprint=BILLING.thumbprint, until=SOON)
        thread = revocations._poller._thread._thread
        until(lambda: not thread.is_alive() if step == "sleep" else len(raised) > 3, seconds=30)
    until(lambda: includes(revocations, BILLING) is True and revocations._poller._thread._thread.is_alive(), seconds=20)


@pytest.mark.usefixtures("raising_handler")
def test_an_outage_with_a_log_handler_that_raises_ends_with_the_outage(own_redis: RedisServer) -> None:
    new_list(own_redis)
    revocations = following(own_redis, max_age=1)
    assert includes(revocations, BILLING) is False
    own_redis.kill()
    until(lambda: includes(revocations, BILLING) == "503", seconds=30)
    own_redis.start()
    following(own_redis).create()
    following(own_redis).revoke(thumbprint=BILLING.thumbprint, until=SOON)
    until(lambda: includes(revocations, BILLING) is True, seconds=20)


def exhausted(_thread: object) -> None:
    raise RuntimeError("can't start new thread")


@both_gateways
def test_without_a_thread_the_response_is_503_until_there_is_one(
    redis_server: RedisServer, gateway: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    new_list(redis_server)
    revocations = following(redis_server)

    def answer() -> Outcome:
        def wrap(module: Any, app: Any) -> Any:
            return module.protect(app, source=ServerTLS(), allow=revocations.not_revoked)

        return send(gateway, wrap, Request(tls=BILLING))

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", exhausted)
        for _ in range(3):
            found = answer()
            assert (found.status, found.header("Retry-After"), found.reached) == (503, "1", False)
    lines = [each.getMessage() for each in caplog.records if each.name == poller.logger.name]
    assert sum(line.startswith("mtls_middleware.revocation: can't start new thread; check") for line in lines) == 1
    assert answer().status == 200


def test_a_copy_is_used_for_max_age_if_its_thread_cannot_be_started_again(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_list(redis_server)
    revocations = following(redis_server, max_age=1)
    assert includes(revocations, BILLING) is False
    begun = time.monotonic()
    with monkeypatch.context() as patched:
        patched.setattr(revocations._poller._thread._thread, "is_alive", lambda: False)
        patched.setattr(threading.Thread, "start", exhausted)
        patched.setattr(RevocationListPoller, "_update", exhausted)
        seen = []
        until(lambda: seen.append(includes(revocations, BILLING)) or seen[-1] == "503", seconds=30)
    assert seen[0] is False
    assert time.monotonic() - begun > 0.9
    until(lambda: includes(revocations, BILLING) is False, seconds=30)
