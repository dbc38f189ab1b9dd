"""A process without requests renews its revocation lists, and so does a forked one."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from mtls_middleware.effects import idle_renewal
from mtls_middleware.validation import RevocationLists, TrustStore
from tests.key_server import KeyServer, until
from tests.validation.authority import HOUR, crl, long_crl
from tests.validation.verdicts import reasons

NOW = time.time()


@pytest.fixture(scope="module")
def client(ca):
    return ca.issue("CN=billing")


@pytest.fixture
def later(monkeypatch):
    """Moves the clock of the thread, which calls every 5 milliseconds instead of every 10 seconds."""
    monkeypatch.setattr(idle_renewal, "_timer", idle_renewal._Timer(interval=0.005))

    def move(seconds):
        monkeypatch.setattr(idle_renewal, "monotonic", lambda: time.monotonic() + seconds)

    return move


@pytest.mark.parametrize("kind", [crl, long_crl], ids=["short", "read by a thread"])
def test_an_idle_process_renews_a_list_at_a_url(ca, client, later, kind):
    serials = [client.x509.serial_number, *(range(1, 9_000) if kind is long_crl else ())]
    with KeyServer(crl(ca, now=NOW, begins=-2 * HOUR)) as server:
        lists = RevocationLists(urls=[server.url], allow_http=True)
        store = TrustStore([ca.certificate], revocation=lists)
        assert reasons(store, client, NOW) == ()
        server.jwks = kind(ca, serials, now=NOW)
        time.sleep(0.1)
        assert server.requests == 1  # the list is not old yet
        later(490)
        document = lists._remote[0]._document
        until(lambda: document.fresh(NOW + 500) is not None, seconds=60)
    assert server.requests == 2
    assert "is revoked" in reasons(store, client, NOW + 500)[1]


def test_an_idle_process_fetches_a_list_that_has_expired(ca, client, later):
    with KeyServer(crl(ca, now=NOW, ends=60)) as server:
        lists = RevocationLists(urls=[server.url], allow_http=True)
        assert reasons(TrustStore([ca.certificate], revocation=lists), client, NOW) == ()
        server.jwks = crl(ca, now=NOW, begins=-30)
        later(70)
        until(lambda: not lists._remote[0]._known.have_expired(NOW + 70), seconds=60)
        assert server.requests == 2


def test_an_idle_process_tries_a_dead_server_again(ca, client, later):
    with KeyServer(crl(ca, now=NOW, ends=4 * HOUR)) as server:
        lists = RevocationLists(urls=[server.url], allow_http=True)
        store = TrustStore([ca.certificate], revocation=lists)
        assert reasons(store, client, NOW) == ()
        server.jwks = b"broken"
        later(490)
        until(lambda: server.requests == 2, seconds=60)
        later(525)  # the longest pause after a failure is 30 seconds
        until(lambda: server.requests == 3, seconds=60)
        server.jwks = crl(ca, [client], now=NOW)
        later(560)
        until(lambda: lists._remote[0]._document.fresh(NOW + 560) is not None, seconds=60)
    assert "is revoked" in reasons(store, client, NOW + 560)[1]


def test_an_idle_process_reads_a_changed_file(ca, client, later, tmp_path):
    file = tmp_path / "a.crl"
    file.write_bytes(crl(ca, now=NOW, begins=-2 * HOUR))
    lists = RevocationLists([file])
    store = TrustStore([ca.certificate], revocation=lists)
    assert reasons(store, client, NOW) == ()
    (tmp_path / "new").write_bytes(crl(ca, [client], now=NOW))
    (tmp_path / "new").replace(file)
    later(5)
    until(lambda: any(len(each.serials) for each in lists._files._combined.good[0].all), seconds=60)
    assert "is revoked" in reasons(store, client, NOW)[1]  # at this time, a request does not check the file


# The parent has a request and forks. The child has a request, and then both are idle.
FORKED = """
    import os, sys, time
    from mtls_middleware.effects import idle_renewal, remote_document
    from mtls_middleware.testing import CertificateAuthority
    from mtls_middleware.validation import RevocationLists
    from mtls_middleware.effects.flow import BlockingDriver
    idle_renewal._timer = idle_renewal._Timer(interval=0.05)
    remote_document._RENEWAL_AGE = remote_document.COOL_DOWN = 0.2
    parent = os.getpid()
    paths = sys.argv[1] + "/parent", sys.argv[1] + "/child"
    lists = RevocationLists(urls=[sys.argv[1] + "/first"], allow_http=True)
    BlockingDriver().run(lists.statuses((), time.time()))
    os.fork()
    lists._remote[0]._document._uri = paths[os.getpid() != parent]
    if os.getpid() != parent:
        BlockingDriver().run(lists.statuses((), time.time()))
    sys.stdin.read()
"""


def test_a_forked_process_renews_with_its_own_thread(ca):
    with KeyServer(crl(ca, now=NOW, ends=24 * HOUR)) as server:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKED), server.host],
            stdin=subprocess.PIPE,
            cwd=os.getcwd(),
        )
        try:
            until(lambda: all(list(server.asked).count(each) >= 3 for each in ("/parent", "/child")), seconds=60)
        finally:
            process.stdin.close()  # both processes end, although their threads sleep
            assert process.wait(30) == 0
