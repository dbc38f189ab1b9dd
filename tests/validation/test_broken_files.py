"""Files that cannot be read or parsed: each file is treated by itself, and no failure is final."""

import errno
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from mtls_middleware.effects.flow import BlockingDriver
from mtls_middleware.errors import ConfigurationError, Unavailable
from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import RevocationLists, SpiffeTrust, TrustStore, files
from mtls_middleware.validation.files import MAX_INLINE_SIZE
from mtls_middleware.wsgi import protect
from tests.key_server import until
from tests.validation.authority import crl
from tests.validation.test_files import cached, replace
from tests.validation.verdicts import presented, reasons

NOW = time.time()
DAY = 86_400


@pytest.fixture(scope="module")
def ours():
    return CertificateAuthority("CN=Our CA")


@pytest.fixture(scope="module")
def partner():
    return CertificateAuthority("CN=Partner CA")


@pytest.fixture
def failing(monkeypatch):
    """By method and path: the error that the method raises."""
    found = {}

    def fail(name):
        real = getattr(Path, name)

        def call(self, *arguments, **options):
            error = found.get((name, self))
            if isinstance(error, int):
                raise OSError(error, os.strerror(error), str(self))
            if error is not None:
                raise error
            return real(self, *arguments, **options)

        monkeypatch.setattr(Path, name, call)

    for each in ("open", "stat", "iterdir"):
        fail(each)
    return found


ERRORS = [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EACCES, MemoryError()]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_a_list_that_cannot_be_read_once_is_read_a_second_later(tmp_path, ours, failing, error, caplog):
    path, client = tmp_path / "ca.crl", ours.issue()
    path.write_bytes(crl(ours, now=NOW))
    store = TrustStore([ours.certificate], revocation=RevocationLists([path]))
    assert reasons(store, client, NOW) == ()
    replace(path, crl(ours, [client], now=NOW, number=2))
    failing["open", path] = error
    assert reasons(store, client, NOW + 1) == ()
    assert "the next attempt is in 1 s" in caplog.text
    failing.clear()
    assert "is revoked" in reasons(store, client, NOW + 2)[1]


@pytest.mark.parametrize("kind", ["stat", "open"])
@pytest.mark.parametrize("error", ERRORS[:2], ids=str)
def test_a_file_whose_reading_fails_for_long_is_tried_again_less_often(tmp_path, failing, error, kind):
    path = tmp_path / "a.pem"
    path.write_bytes(b"1")
    watched = cached([path])
    path.write_bytes(b"22")
    failing[kind, path] = error
    for second in range(1, 70):
        assert watched.current(NOW + second) == [b"1"]
    attempts = watched._files[path].failures
    failing.clear()
    assert attempts == 8  # after 1, 1, 2, 4, 8, 16 and 30 s
    assert watched.current(NOW + 70 if kind == "stat" else NOW + 93) == [b"22"]


@pytest.mark.parametrize("error", ERRORS[:5], ids=str)
def test_a_directory_that_cannot_be_listed_keeps_its_files(tmp_path, failing, error, caplog):
    for name in "ab":
        (tmp_path / f"{name}.pem").write_bytes(name.encode())
    watched = cached([tmp_path])
    (tmp_path / "c.pem").write_bytes(b"c")
    failing["iterdir", tmp_path] = error
    assert watched.current(NOW) == [b"a", b"b"]
    (tmp_path / "a.pem").write_bytes(b"new")  # a known file is read all the same
    assert watched.current(NOW + 1) == [b"new", b"b"]
    assert "the next attempt is in 1 s" in caplog.text
    failing.clear()
    assert watched.current(NOW + 2) == [b"new", b"b", b"c"]


@pytest.mark.parametrize("kind", ["stat", "open", "iterdir"])
def test_a_file_that_fails_at_construction_is_a_configuration_error(tmp_path, failing, kind):
    path = tmp_path / "a.pem"
    path.write_bytes(b"a")
    failing[kind, tmp_path if kind == "iterdir" else path] = errno.EACCES
    with pytest.raises(ConfigurationError, match="cannot be read"):
        cached([tmp_path])


def test_a_broken_file_at_construction_is_a_configuration_error(tmp_path, ours):
    (tmp_path / "ours.pem").write_text(ours.pem)
    (tmp_path / "partner.pem").write_text("junk")
    with pytest.raises(ConfigurationError, match=r"partner\.pem"):
        TrustStore([tmp_path])


@pytest.mark.parametrize("broken", [b"junk", b"", b"-----BEGIN X509 CRL-----\n", b"\x30\x84\xff\xff\xff\xff"])
@pytest.mark.parametrize("in_directory", [True, False])
def test_a_broken_list_of_a_partner_does_not_delay_our_own(tmp_path, ours, partner, broken, in_directory):
    client, theirs = ours.issue(), partner.issue()
    (tmp_path / "ours.crl").write_bytes(crl(ours, now=NOW))
    (tmp_path / "partner.crl").write_bytes(crl(partner, [theirs], now=NOW))
    paths = [tmp_path] if in_directory else [tmp_path / "partner.crl", tmp_path / "ours.crl"]
    store = TrustStore([ours.certificate, partner.certificate], revocation=RevocationLists(paths))
    assert reasons(store, client, NOW) == ()
    replace(tmp_path / "partner.crl", broken)
    assert reasons(store, client, NOW + 1) == ()
    replace(tmp_path / "ours.crl", crl(ours, [client], now=NOW, number=2))
    assert "is revoked" in reasons(store, client, NOW + 2)[1]
    assert "is revoked" in reasons(store, theirs, NOW + 2)[1]  # their last good list stays in use


def test_a_new_file_that_is_broken_changes_nothing_else(tmp_path, ours, partner, caplog):
    (tmp_path / "ours.pem").write_text(ours.pem)
    store = TrustStore([tmp_path])
    (tmp_path / "partner.pem").write_text("junk")
    assert reasons(store, ours.issue(), NOW) == ()
    assert "partner.pem" in caplog.text
    (tmp_path / "partner.pem").write_text(partner.pem)
    assert reasons(store, partner.issue(), NOW + 1) == ()


@pytest.mark.parametrize("broken", ["junk", ""])
@pytest.mark.parametrize("in_directory", [True, False])
def test_a_deleted_root_is_not_trusted_although_a_file_is_broken(tmp_path, ours, partner, broken, in_directory):
    for name, ca in (("ours", ours), ("partner", partner)):
        (tmp_path / f"{name}.pem").write_text(ca.pem)
    store = TrustStore([tmp_path] if in_directory else [tmp_path / "ours.pem", tmp_path / "partner.pem"])
    (tmp_path / "partner.pem").write_text(broken)
    assert reasons(store, ours.issue(), NOW) == ()
    (tmp_path / "ours.pem").unlink()
    assert reasons(store, ours.issue(), NOW + 1) != ()
    assert reasons(store, partner.issue(), NOW + 1) == ()


@pytest.mark.parametrize("kind", ["list", "root"])
def test_a_link_to_nothing_is_an_error_at_construction(tmp_path, ours, kind):
    (tmp_path / "a.pem").symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match=r"a\.pem: cannot be read"):
        RevocationLists([tmp_path]) if kind == "list" else TrustStore([tmp_path])


@pytest.mark.parametrize("in_directory", [True, False])
@pytest.mark.parametrize("how", ["link", "file"])
def test_a_root_behind_a_link_to_nothing_is_not_trusted(tmp_path, ours, partner, in_directory, how):
    (tmp_path / "a.pem").write_text(partner.pem)
    (tmp_path / "real").write_text(ours.pem)
    (tmp_path / "b.pem").symlink_to(tmp_path / "real")
    store = TrustStore([tmp_path] if in_directory else [tmp_path / "a.pem", tmp_path / "b.pem"])
    assert reasons(store, ours.issue(), NOW) == ()
    (tmp_path / ("real" if how == "link" else "b.pem")).unlink()
    assert reasons(store, ours.issue(), NOW + 1) != ()
    assert reasons(store, partner.issue(), NOW + 1) == ()
    (tmp_path / ("real" if how == "link" else "b.pem")).write_text(ours.pem)
    assert reasons(store, ours.issue(), NOW + 3) == ()


def test_a_deleted_directory_removes_the_trust_in_its_roots(tmp_path, ours, partner, caplog):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.pem").write_text(partner.pem)
    store = TrustStore([ours.certificate, tmp_path / "theirs"])
    assert reasons(store, partner.issue(), NOW) == ()
    (tmp_path / "theirs").rename(tmp_path / "gone")
    assert reasons(store, partner.issue(), NOW + 1) != ()
    assert reasons(store, ours.issue(), NOW + 1) == ()
    assert "a.pem is deleted; certificates that it contained are not trusted" in caplog.text
    (tmp_path / "gone").rename(tmp_path / "theirs")
    assert reasons(store, partner.issue(), NOW + 2) == ()


def test_a_broken_bundle_of_one_file_does_not_delay_the_other(tmp_path, ours, partner):
    for name, ca in (("ours", ours), ("partner", partner)):
        (tmp_path / f"{name}.pem").write_text(ca.pem)
    trust = SpiffeTrust({"acme.internal": [tmp_path]})
    uris = ["spiffe://acme.internal/billing"]
    (tmp_path / "partner.pem").write_text('{"keys": [')
    (tmp_path / "ours.pem").unlink()
    assert reasons(trust, ours.issue(uris=uris), NOW) != ()
    assert reasons(trust, partner.issue(uris=uris), NOW) == ()


def test_a_file_that_changes_all_the_time_does_not_delay_the_others(tmp_path, caplog):
    busy, calm = tmp_path / "busy.pem", tmp_path / "calm.pem"
    for each in (busy, calm):
        each.write_bytes(b"1")

    def parse(octets):
        if octets.startswith(b"b"):
            busy.write_bytes(octets + b"b")
        return octets

    watched = cached([tmp_path], parse)
    calm.write_bytes(b"22")
    busy.write_bytes(b"b")
    assert watched.current(NOW) == [b"1", b"22"]
    assert "busy.pem: it changed while it was read" in caplog.text
    replace(busy, b"end")
    assert watched.current(NOW + 1) == [b"end", b"22"]


def raising(error, times=1):
    """A function that raises `error` the first times."""
    left = [error] * times

    def call(*_, **__):
        if left:
            raise left.pop()

    return call


class RaisingHandler(logging.Handler):
    """A log handler with a bug, for the first records."""

    def __init__(self, error):
        super().__init__()
        self.is_over = False
        self._error = error

    def raise_once(self):
        if not self.is_over:
            self.is_over = True
            raise self._error

    def emit(self, record):
        self.raise_once()


LONG = MAX_INLINE_SIZE + 1
BY_A_REQUEST = [(10, MemoryError()), (10, RuntimeError())]  # other exceptions end the request and its thread
BY_A_THREAD = [(LONG, MemoryError()), (LONG, RuntimeError()), (LONG, SystemExit()), (LONG, KeyboardInterrupt())]


@pytest.mark.parametrize("step", ["parse", "combine", "list", "log", "log a failure"])
@pytest.mark.parametrize(("size", "error"), [*BY_A_REQUEST, *BY_A_THREAD], ids=str)
def test_an_exception_at_any_step_is_not_final(tmp_path, step, error, size, monkeypatch):
    path, raise_at = tmp_path / "a.pem", {}
    path.write_bytes(b"1")

    def parse(octets):
        raise_at.get("parse", int)()
        if octets[:1] == b"x":
            raise ValueError("broken")
        return octets[:1]

    def combine(_, contents, __):
        raise_at.get("combine", int)()
        return contents[path][path]

    watched = cached([path], parse, combine)
    handler, real, calls = RaisingHandler(error), watched._list, []
    if step == "list":  # the second listing, after the file is read
        monkeypatch.setattr(watched, "_list", lambda: (calls.append(1), calls[1:] and handler.raise_once(), real())[2])
    elif step in ("parse", "combine"):
        raise_at[step] = raising(error)
    else:
        files.logger.setLevel(logging.INFO)
        files.logger.addHandler(handler)
    try:
        if step == "log a failure":
            replace(path, b"x" * size)
            watched.current(NOW)
            until(lambda: watched._thread is None or not watched._thread.is_alive())
        replace(path, b"2" * size)
        assert watched.current(NOW + 1) in {b"1", b"2"}
        until(lambda: b"2" in {watched.current(NOW + 2), watched.current(NOW + 4)})
    finally:
        files.logger.removeHandler(handler)
        files.logger.setLevel(logging.NOTSET)
    assert handler.is_over == step.startswith(("list", "log"))
    replace(path, b"3" * size)
    until(lambda: watched.current(NOW + 20) == b"3")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on: other threads run
def test_a_dead_thread_does_not_keep_the_files_from_being_read(tmp_path):
    """For example in a fork, which has the objects of its parent, but not its threads."""
    path = tmp_path / "a.pem"
    path.write_bytes(b"1")
    gate = threading.Event()

    def parse(octets):
        assert octets[:1] != b"2" or gate.wait(30)
        return octets[:1]

    watched = cached([path], parse)
    replace(path, b"2" * (MAX_INLINE_SIZE + 1))
    watched.current(NOW)
    child = os.fork()
    if child == 0:
        gate.set()
        end = time.monotonic() + 10
        while watched.current(time.time() + 100) != [b"2"] and time.monotonic() < end:
            time.sleep(0.1)
        os._exit(0 if watched.current(NOW + 100) == [b"2"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.set()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on: other threads run
def test_a_fork_while_another_thread_reads_files_keeps_them_readable(tmp_path):
    path, gate, began = tmp_path / "a.pem", threading.Event(), threading.Event()
    path.write_bytes(b"1")

    def parse(octets):
        if octets == b"2":
            began.set()
            assert gate.wait(30)
        return octets

    watched = cached([path], parse)
    replace(path, b"2")
    thread = threading.Thread(target=watched.current, args=(NOW,))
    thread.start()
    assert began.wait(10)
    child = os.fork()
    if child == 0:
        replace(path, b"3")
        os._exit(0 if watched.current(NOW + 10) == [b"3"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.set()
    thread.join()


def test_without_a_thread_the_response_is_503_until_there_is_one(tmp_path, ours, monkeypatch, caplog):
    path, client = tmp_path / "ca.crl", ours.issue()
    path.write_bytes(crl(ours, now=NOW))
    store = TrustStore([ours.certificate], revocation=RevocationLists([path]))
    assert reasons(store, client, NOW) == ()
    pem = crl(ours, [client], now=NOW, number=2)
    replace(path, pem)
    monkeypatch.setattr(files, "MAX_INLINE_SIZE", 10)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread"), 2))
        for moment in (NOW + 1, NOW + 1.5, NOW + 2):
            with pytest.raises(Unavailable) as refusal:
                BlockingDriver().run(store.validate(presented(client), moment))
            assert refusal.value.retry_after == 1
    assert "no thread can be started to read changed files" in caplog.text
    until(lambda: "is revoked" in str(reasons(store, client, NOW + 3)))


def test_without_a_thread_a_wsgi_application_responds_503_and_never_500(tmp_path, ours, monkeypatch):
    path, client = tmp_path / "roots.pem", ours.issue()
    path.write_text(ours.pem)
    app = protect(
        lambda environ, start: start("200 OK", []) or [b""], source=ServerTLS(), trust_store=TrustStore([path])
    )
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_ADDR": "192.0.2.1", "wsgi.url_scheme": "https"}

    def status():
        found = []
        list(app({**environ, **client.as_environ()}, lambda line, *_: found.append(line)))
        return found[0]

    assert status() == "200 OK"
    replace(path, ours.pem + "\n" * (MAX_INLINE_SIZE + 1))
    time.sleep(1.01)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", raising(RuntimeError("can't start new thread"), 1))
        assert [status(), status()] == ["503 Service Unavailable"] * 2
