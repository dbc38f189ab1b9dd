"""Files that change take effect without restart, whole or not at all."""

import os
import threading
import time
from pathlib import Path

import pytest

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.testing import CertificateAuthority
from mtls_middleware.validation import RevocationLists, SpiffeTrust, TrustStore
from mtls_middleware.validation.files import FileCache
from tests.key_server import until
from tests.validation.authority import crl
from tests.validation.verdicts import reasons

NOW = time.time()


@pytest.fixture(scope="module")
def old():
    return CertificateAuthority("CN=Old CA")


@pytest.fixture(scope="module")
def new():
    return CertificateAuthority("CN=New CA")


def replace(path, content):
    """As a careful operator does: another file, renamed."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content if isinstance(content, bytes) else content.encode())
    beside.replace(path)


def test_a_changed_root_counts_within_a_second(tmp_path, old, new):
    path = tmp_path / "ca.pem"
    path.write_text(old.pem)
    store = TrustStore.from_pem_file(path)
    before, after = old.issue(), new.issue()
    assert (reasons(store, before, NOW), bool(reasons(store, after, NOW))) == ((), True)
    replace(path, old.pem + new.pem)
    assert reasons(store, after, NOW + 1) == reasons(store, before, NOW + 1) == ()
    replace(path, new.pem)
    assert reasons(store, before, NOW + 1.5) == ()  # not looked at again yet
    assert reasons(store, before, NOW + 2) != ()  # what was remembered is gone with the root
    assert reasons(store, after, NOW + 2) == ()


def test_a_file_written_in_place_counts_too(tmp_path, old, new):
    path = tmp_path / "ca.pem"
    path.write_text(old.pem)
    store = TrustStore([path])
    path.write_text(new.pem)
    assert reasons(store, new.issue(), NOW) == ()


def test_a_link_that_leads_elsewhere_counts_as_kubernetes_does_it(tmp_path, old, new):
    for name, ca in (("v1", old), ("v2", new)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca.pem").write_text(ca.pem)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "ca.pem").symlink_to("../..data/ca.pem")
    store = TrustStore([tmp_path / "mount"])
    assert reasons(store, old.issue(), NOW) == ()
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    assert reasons(store, new.issue(), NOW + 1) == ()


def test_intermediates_are_watched_with_the_roots(tmp_path, old):
    below = old.intermediate()
    path = tmp_path / "issuing.pem"
    path.write_text(old.intermediate("CN=Other").pem)
    store = TrustStore([old.certificate], intermediates=[path])
    alone = type(below.issue())(below.issue().x509, below.issue().key)
    assert reasons(store, alone, NOW) != ()
    replace(path, below.pem)
    assert reasons(store, alone, NOW + 1) == ()


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("broken", ["", "no certificate", "half", "a key"])
def test_a_broken_new_file_keeps_the_old_one_and_is_tried_again(tmp_path, old, new, broken, caplog):
    path = tmp_path / "ca.pem"
    path.write_text(old.pem)
    store = TrustStore([path])
    key = old.issue().key_pem
    content = {"half": old.pem + new.pem[:200], "a key": old.pem + key}.get(broken, broken)
    replace(path, content)
    for seconds in range(1, 90):
        assert reasons(store, old.issue(), NOW + seconds) == ()
    # Only the lines about this file: a store of another test may renew its lists meanwhile.
    lines = [line for line in errors(caplog) if str(path) in line]
    assert [line.rpartition("next attempt is in ")[2] for line in lines] == [
        f"{delay} s" for delay in (1, 1, 2, 4, 8, 16, 30, 30)
    ]
    assert not any(line in caplog.text for line in key.splitlines()[1:-1])
    replace(path, new.pem)
    assert reasons(store, new.issue(), NOW + 100) == ()


def test_a_file_that_is_gone_keeps_the_old_one_and_is_logged_once(tmp_path, old, new, caplog):
    path = tmp_path / "ca.pem"
    path.write_text(old.pem)
    store = TrustStore([path])
    path.unlink()
    for seconds in range(1, 5):
        assert reasons(store, old.issue(), NOW + seconds) == ()
    assert len(errors(caplog)) == 1
    assert f"{path} is deleted" in caplog.text
    path.write_text(new.pem)
    assert reasons(store, new.issue(), NOW + 10) == ()


def test_a_directory_is_its_pem_and_crt_files(tmp_path, old, new, caplog):
    with pytest.raises(ConfigurationError, match="contains no"):
        TrustStore([tmp_path])
    (tmp_path / "old.pem").write_text(old.pem)
    for name in ("README", "bundle.json"):
        (tmp_path / name).write_text("not read")
    (tmp_path / ".new.crt").write_text("not read")
    store = TrustStore([tmp_path])
    (tmp_path / "new.crt").write_text(new.pem)
    assert reasons(store, new.issue(), NOW + 1) == ()
    (tmp_path / "old.pem").unlink()
    assert reasons(store, old.issue(), NOW + 2) != ()
    (tmp_path / "new.crt").unlink()  # no root at all is no store: the last one stays
    assert reasons(store, new.issue(), NOW + 3) == ()
    assert "contains no" in caplog.text


@pytest.mark.case("081")
def test_a_changed_revocation_list_counts_within_a_second(tmp_path, old, caplog):
    client = old.issue()
    path = tmp_path / "ca.crl"
    path.write_bytes(crl(old, now=NOW))
    store = TrustStore([old.certificate], revocation=RevocationLists([path]))
    assert reasons(store, client, NOW) == ()
    replace(path, b"broken")
    assert reasons(store, client, NOW + 1) == ()
    assert "ca.crl" in caplog.text
    replace(path, crl(old, [client], now=NOW))
    assert "is revoked" in reasons(store, client, NOW + 2)[1]


def test_a_changed_spiffe_bundle_counts_within_a_second(tmp_path, old, new):
    path = tmp_path / "bundle.pem"
    path.write_text(old.pem)
    trust = SpiffeTrust({"acme.internal": [path]})
    one, other = (each.issue(uris=["spiffe://acme.internal/billing"]) for each in (old, new))
    assert (reasons(trust, one, NOW), bool(reasons(trust, other, NOW))) == ((), True)
    replace(path, new.pem)
    assert (bool(reasons(trust, one, NOW + 1)), reasons(trust, other, NOW + 1)) == (True, ())


def cached(paths, parse=lambda octets: octets, combine=None):
    """A cache whose value is the parsed contents of all files in their order."""

    def joined(_, contents, __):
        return [each for files in contents.values() for each in files.values()]

    return FileCache(paths, (".pem",), lambda file: parse(file.read()), combine or joined, gone="it is not used")


def test_a_long_file_is_read_in_a_thread_without_blocking_requests(tmp_path):
    path = tmp_path / "long.crl"
    path.write_bytes(b"1")
    may_end, began = threading.Event(), threading.Event()

    def parse(octets):
        if len(octets) > 1:
            began.set()
            assert may_end.wait(10)
        return octets[:1]

    watched = cached([path], parse)
    path.write_bytes(b"2" * 3_000_000)
    assert watched.current(NOW) == [b"1"]
    assert began.wait(10)
    assert watched.current(NOW + 5) == [b"1"]
    may_end.set()
    until(lambda: watched.current(NOW + 5) == [b"2"])
    assert watched.current(NOW + 6) == [b"2"]


def test_a_change_is_never_visible_in_part(tmp_path):
    """Two files that belong together, changed together again and again, read by four threads."""
    (tmp_path / "v").mkdir()
    link = tmp_path / "current"

    def publish(number):
        directory = tmp_path / "v" / str(number)
        directory.mkdir()
        for name in "ab":
            (directory / f"{name}.pem").write_text(str(number))
        beside = tmp_path / "beside"
        beside.symlink_to(directory)
        beside.replace(link)

    publish(0)
    watched = cached([link])
    seen, stop = set(), threading.Event()

    def read(start):
        moment = start
        while not stop.is_set():
            moment += 2
            seen.add(tuple(watched.current(moment)))

    threads = [threading.Thread(target=read, args=(NOW + number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 40):
        publish(number)
        time.sleep(0.005)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(seen) > 1
    assert all(one == other for one, other in seen)


def test_the_disk_is_asked_once_a_second_at_most(tmp_path, monkeypatch):
    path = tmp_path / "a.pem"
    path.write_bytes(b"1")
    watched = cached([path])
    asked = []
    stat = os.stat
    monkeypatch.setattr(Path, "stat", lambda self, **options: asked.append(1) or stat(self, **options))
    for hundredth in range(100):
        watched.current(NOW + hundredth / 100)
    first = len(asked)
    for hundredth in range(100, 150):
        watched.current(NOW + hundredth / 100)
    assert 0 < first <= 2
    assert len(asked) == 2 * first
    asked.clear()
    watched.current(NOW - 500)  # a clock that was set back
    assert asked
