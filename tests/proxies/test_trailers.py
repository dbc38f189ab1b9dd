"""HAProxy forwards trailer fields, and uvicorn's own httptools class takes them for headers: shown, and shut out."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtls_middleware.testing.issued_certificate import IssuedCertificate
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.client import Answer, over_http1
from tests.proxies.conftest import context, options_for, server_command
from tests.proxies.matrix import Setup

pytestmark = [pytest.mark.live, pytest.mark.case("007", "010")]

SETUP = Setup("haproxy", "rfc9440", "optional", "httptools", "no-secret")
_TRUST = 'trusted_proxies=["127.0.0.1"], proxy_deletes_underscores=True'
SOURCES = {
    "stated": f'ClientCertHeader({_TRUST}, verify_header="MtlsClientVerify")',
    # A source that reads the certificate's field alone.
    "careless": f"ClientCertHeader({_TRUST}, verified_by_proxy=True)",
}


@pytest.fixture(scope="module", params=["httptools", "HTTPTools", "H11"])
def behind(
    request: pytest.FixtureRequest, server_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """The name of uvicorn's protocol class (the first is its own), and the port of HAProxy in front of it."""
    upstream, port, folder = free_port(), free_port(), tmp_path_factory.mktemp("haproxy")
    command = server_command(request.param, upstream)
    with (
        programs.started(command, upstream, ROOT, SOURCES=json.dumps(SOURCES)),
        programs.proxy(options_for(SETUP, port, upstream, server_files), folder),
    ):
        yield request.param, port


def forge(port: int, source: str) -> tuple[Answer, IssuedCertificate]:
    victim = matrix.certificate("victim")
    fields = victim.as_client_cert() | {"MtlsClientVerify": "SUCCESS"}
    trailers = [f"{name}: {value}".encode() for name, value in fields.items()]
    return over_http1(port, context("none"), f"/{source}/", [], trailers), victim


def test_trailers_are_taken_for_headers_by_uvicorns_own_class_alone(behind):
    name, port = behind
    answer, victim = forge(port, "careless")
    report = answer.report["certificate"]
    if name == "httptools":  # a forged identity: where this stops being so, docs and doctor can be gentler
        assert report["thumbprint"] == victim.thumbprint
    else:
        assert report is None


def test_the_stated_source_refuses_even_then(behind):
    name, port = behind
    answer, victim = forge(port, "stated")
    assert victim.thumbprint.encode() not in answer.body
    if name == "httptools":  # two verification words: the proxy's NONE, and the client's
        assert answer.status == 400
        assert json.loads(answer.body)["error"] == "invalid_client_certificate"
    else:
        assert answer.report["certificate"] is None
