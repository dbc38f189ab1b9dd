"""A lock that a thread holds at a fork does not stop the child process, which does not have this thread."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.cache import CacheMemory
from mtls_middleware.certificate_files import CertificateConnections, CertificateFiles
from mtls_middleware.effects.cool_down import CoolDown
from mtls_middleware.effects.remote_document import RemoteDocument
from mtls_middleware.effects.supervision import RepeatingThread
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.resource_server.shared_exchanges import SharedExchanges
from mtls_middleware.testing import IssuedCertificate


def connections(folder: Path, client: IssuedCertificate) -> Any:
    return CertificateConnections(CertificateFiles(*client.write(folder)), None)


def document(folder: Path, client: IssuedCertificate) -> Any:
    return RemoteDocument("https://as.example/jwks", bytes.decode)


def renamed_document(folder: Path, client: IssuedCertificate) -> Any:
    return document(folder, client).with_uri("https://as.example/other", bytes.decode)


def memory(folder: Path, client: IssuedCertificate) -> Any:
    return CacheMemory(1024)


def log_lines(folder: Path, client: IssuedCertificate) -> Any:
    return LineLimit()


def exchanges(folder: Path, client: IssuedCertificate) -> Any:
    return SharedExchanges()


def cool_down(folder: Path, client: IssuedCertificate) -> Any:
    return CoolDown(30)


def repeating_thread(folder: Path, client: IssuedCertificate) -> Any:
    return RepeatingThread(client.write, name="test", interval=1, logger=logging.getLogger("test"))


OWNERS = [connections, document, renamed_document, memory, log_lines, exchanges, cool_down, repeating_thread]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on: other threads run
@pytest.mark.parametrize("make", OWNERS)
def test_a_lock_that_is_held_at_a_fork_is_free_in_the_child(
    make: Callable[[Path, IssuedCertificate], Any], tmp_path: Path, mtls_client: IssuedCertificate
) -> None:
    owner, held, end = make(tmp_path, mtls_client), threading.Event(), threading.Event()

    def hold() -> None:
        with owner._lock:
            held.set()
            end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(0 if owner._lock.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    end.set()
    thread.join()


def test_a_change_of_a_cache_that_a_fork_interrupts_empties_it() -> None:
    memory = CacheMemory(1024)
    memory.put("key", "value", 1)
    memory.after_fork()
    assert memory.get("key") == "value"
    memory._lock.acquire()
    memory.after_fork()
    memory.put("other", "value", 1)
    assert (memory.get("key"), memory.get("other"), memory.size) == (None, "value", 1)
