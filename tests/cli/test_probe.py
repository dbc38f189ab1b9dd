"""`mtls-middleware probe`: what gets in is said to get in, and what is kept out to be kept out, on real servers."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mtls_middleware.cli.main import main
from mtls_middleware.testing import CertificateAuthority
from tests.live.servers import free_port, running, tls_files

pytestmark = pytest.mark.live

AUTHORITY = CertificateAuthority()
APPLICATIONS = "tests.cli.applications"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tls_files(AUTHORITY, tmp_path_factory.mktemp("tls"))
    AUTHORITY.issue("CN=own").write(folder, name="own")
    return folder


@pytest.fixture
def probe(files: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[dict[str, object]]]]:
    def probe(port: int, *options: str) -> tuple[int, list[dict[str, object]]]:
        url = f"https://localhost:{port}/private"
        status = main(["probe", url, "--ca", f"{files}/ca.pem", "--rate", "100", "--json", *options])
        return status, json.loads(capsys.readouterr().out or "[]")

    return probe


def hypercorn(application: str, port: int, files: Path) -> list[str]:
    return [
        *("-m", "hypercorn", f"{APPLICATIONS}:{application}", "--bind", f"127.0.0.1:{port}"),
        *("--certfile", f"{files}/server.pem", "--keyfile", f"{files}/server-key.pem"),
    ]


def test_what_gets_past_a_header_parser_is_found_over_both_protocols(files, probe):
    port = free_port()
    with running(hypercorn("believes_headers", port, files), port):
        status, outcomes = probe(port)
    assert status == 1
    entered = {(each["protocol"], each["header"], each["form"]) for each in outcomes if each["got_in"]}
    for protocol in ("HTTP/1.1", "HTTP/2"):
        assert (protocol, "nginx", "exact name") in entered
        assert (protocol, "nginx", "twice") in entered
        assert (protocol, "Envoy", "exact name") not in entered
    assert ("HTTP/1.1", "nginx", "upper case") in entered


def test_nothing_gets_past_our_layer(files, probe):
    port = free_port()
    with running(hypercorn("protected", port, files), port):
        status, outcomes = probe(port, "--certificate", f"{files}/own.pem", "--key", f"{files}/own-key.pem")
    assert (status, [each for each in outcomes if each["got_in"]]) == (0, [])
    assert {each["certificate"] for each in outcomes} == {True, False}
    assert len(outcomes) > 400


def test_an_address_that_refuses_nobody_cannot_be_judged(files, capsys):
    port = free_port()
    with running(hypercorn("open", port, files), port):
        assert main(["probe", f"https://localhost:{port}/", "--ca", f"{files}/ca.pem"]) == 2
    assert "nothing to get past" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["http://localhost/"], "no https address"),
        (["https://localhost/", "--rate", "1000"], "100 at most"),
        (["https://localhost/", "--ca", "nowhere.pem"], "cannot be read"),
        (["https://localhost/", "--victim", "nowhere.pem"], "--victim"),
        (["https://localhost:1/"], "does not answer"),
    ],
)
def test_what_it_cannot_do_is_said(arguments, word, capsys):
    assert main(["probe", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_it_says_what_it_sends_before_it_starts(files, capsys):
    port = free_port()
    with running(hypercorn("protected", port, files), port):
        assert main(["probe", f"https://localhost:{port}/", "--ca", f"{files}/ca.pem", "--rate", "100"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("sending ")
    assert "100 a second" in err
    assert out.count("kept out") == int(err.split()[1])
