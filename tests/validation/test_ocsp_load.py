"""OCSP under load and in trouble: event loops, cancelled requests, many certificates, threads that cannot start."""

import asyncio
import os
import threading
import time

import pytest

from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver
from mtls_middleware.errors import Unavailable
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import OCSP
from mtls_middleware.validation.ocsp_records import OCSPRecord
from tests.key_server import until
from tests.live.servers import free_port
from tests.validation import test_ocsp
from tests.validation.responder import Responder
from tests.validation.test_ocsp import client, new_time, outcome, server, store_of
from tests.validation.verdicts import presented

__all__ = ["client", "new_time", "server"]


def test_an_event_loop_is_not_blocked_by_a_slow_responder(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    server.stall = 0.5

    async def validate():
        return await AwaitingDriver().run(store.validate(presented(client), test_ocsp.NOW))

    async def run():
        tasks = [asyncio.ensure_future(validate()) for _ in range(20)]
        turns = 0
        while not all(each.done() for each in tasks):
            turns += 1
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        return turns

    assert asyncio.run(run()) > 5
    assert len(server.asked) == 1


def test_a_cancelled_request_does_not_fail_others_of_its_exchange(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    server.stall = 0.3

    async def run():
        driver = AwaitingDriver()
        first, second = (
            asyncio.ensure_future(driver.run(store.validate(presented(client), test_ocsp.NOW))) for _ in range(2)
        )
        await asyncio.sleep(0.1)
        first.cancel()
        return await second

    assert asyncio.run(run()).verified
    assert len(server.asked) == 1
    assert outcome(store, client) == "good"
    assert len(server.asked) == 1


def test_a_dead_responder_is_one_log_line_for_many_certificates(ca, caplog):
    store = store_of(ca, OCSP(f"http://127.0.0.1:{free_port()}/"))
    for _ in range(20):
        assert outcome(store, ca.issue()) == "unavailable"
    assert sum("gave no usable response" in each for each in caplog.messages) == 1


def test_failures_that_differ_by_numbers_are_one_log_line(ca, caplog, server):
    store = store_of(ca, OCSP(server.url))
    window = test_ocsp.NOW // 30 * 30
    for number in range(20):
        server.options["ends"] = -120 - number  # nextUpdate was 120 s ago, 121 s ago, ...
        assert outcome(store, ca.issue(), window + number) == "unavailable"
    assert outcome(store, ca.issue(), window + 31) == "unavailable"
    lines = [each for each in caplog.messages if "gave no usable response" in each]
    assert [each.rpartition("; ")[2] for each in lines] == ["similar lines left out: 0", "similar lines left out: 19"]


def test_the_number_of_cached_statuses_is_limited(ca, server, monkeypatch):
    monkeypatch.setattr("mtls_middleware.validation.ocsp_client._CACHED", 16_000)
    source = OCSP(server.url)
    store = store_of(ca, source)
    (cache,) = source.caches
    assert cache in store.caches
    for _ in range(15):
        assert outcome(store, ca.issue()) == "good"
    assert 0 < len(cache) < 15


def test_if_no_thread_can_start_the_response_is_503(ca, client, server, monkeypatch):
    def fail(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("mtls_middleware.effects.background._current_background", fail)
    store = store_of(ca, OCSP(server.url))
    with pytest.raises(Unavailable):
        BlockingDriver().run(store.validate(presented(client), test_ocsp.NOW))
    monkeypatch.undo()
    assert outcome(store, client, time.time() + 1) == "good"


def test_a_changed_file_of_signed_by_takes_effect(ca, client, server, tmp_path):
    one, other = CertificateAuthority("CN=one"), CertificateAuthority("CN=other")
    file = tmp_path / "responder.pem"
    file.write_text(one.pem)
    store = store_of(ca, OCSP(server.url, signed_by=file))
    server.options |= {"key": one.key, "named": one.certificate}
    assert outcome(store, client) == "good"
    (tmp_path / "new.pem").write_text(other.pem)
    os.replace(tmp_path / "new.pem", file)
    assert outcome(store, client, test_ocsp.NOW + 5) == "unavailable"  # not the cached response of the former signer
    server.options |= {"key": other.key, "named": other.certificate}
    assert outcome(store, client, test_ocsp.NOW + 10) == "good"


def test_a_deleted_file_of_signed_by_stays_in_use_and_is_named(ca, client, server, tmp_path, caplog):
    file = tmp_path / "responder.pem"
    file.write_text(ca.pem)
    store = store_of(ca, OCSP(server.url, signed_by=file))
    assert outcome(store, client) == "good"
    file.unlink()
    for seconds in (5, 10, 15):
        assert outcome(store, ca.issue(), test_ocsp.NOW + seconds) == "good"
    errors = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert errors == [
        "cannot use the changed files; the old contents stay in use: "
        f"signed_by: the file {file} is missing; expected one PEM certificate"
    ]
    file.write_text(CertificateAuthority().pem)
    assert outcome(store, ca.issue(), test_ocsp.NOW + 20) == "unavailable"


def test_a_redirect_is_not_followed(ca, client, server):
    server.http_status = 302
    assert outcome(store_of(ca, OCSP(server.url)), client) == "unavailable"


def test_threads_renew_a_response_by_one_exchange(ca, client, server):
    store = store_of(ca, OCSP(server.url))
    assert outcome(store, client) == "good"
    server.stall = 0.3
    found = []
    later = test_ocsp.NOW + 3_000
    threads = [threading.Thread(target=lambda: found.append(outcome(store, client, later))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == ["good"] * 8
    until(lambda: len(server.asked) == 2, seconds=20)


def test_a_renewal_without_a_later_request_is_used_after_the_end(ca, client, monkeypatch):
    attempts, begin = [], OCSPRecord.begin

    def begin_and_note(record, attempt):
        attempts.append(attempt)
        begin(record, attempt)

    monkeypatch.setattr(OCSPRecord, "begin", begin_and_note)
    with Responder(ca, now=test_ocsp.NOW, ends=100) as server:
        store = store_of(ca, OCSP(server.url))
        assert outcome(store, client) == "good"
        server.options["ends"] = 1_000
        assert outcome(store, client, test_ocsp.NOW + 90) == "good"  # begins the renewal
        until(lambda: len(attempts) == 2 and attempts[1].is_complete, seconds=20)
    assert outcome(store, client, test_ocsp.NOW + 300) == "good"  # the responder is dead now
