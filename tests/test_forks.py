"""A lock that a thread holds at a fork does not stop the child process, which does not have this thread."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtls_middleware.certificate_files import CertificateConnections, CertificateFiles
from mtls_middleware.effects.remote_document import RemoteDocument
from mtls_middleware.testing import IssuedCertificate


def connections(folder: Path, client: IssuedCertificate) -> Any:
    return CertificateConnections(CertificateFiles(*client.write(folder)), None)


def document(folder: Path, client: IssuedCertificate) -> Any:
    return RemoteDocument("https://as.example/jwks", bytes.decode)


def renamed_document(folder: Path, client: IssuedCertificate) -> Any:
    return document(folder, client).with_uri("https://as.example/other", bytes.decode)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on: other threads run
@pytest.mark.parametrize("make", [connections, document, renamed_document])
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
