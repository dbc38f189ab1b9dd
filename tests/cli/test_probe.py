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


def our_uvicorn(application: str, port: int, files: Path) -> list[str]:
    """A server that speaks both protocols over TLS, and no HTTP/2 in clear text."""
    return [
        *("-m", "uvicorn", f"{APPLICATIONS}:{application}", "--port", str(port), "--log-level", "error"),
        *("--http", "mtls_middleware.servers.uvicorn_tls:HTTP2", "--ws", "none", "--ssl-cert-reqs", "1"),
        *("--ssl-certfile", f"{files}/server.pem", "--ssl-keyfile", f"{files}/server-key.pem"),
        *("--ssl-ca-certs", f"{files}/ca.pem"),
    ]


def test_what_gets_past_a_header_parser_is_found_over_both_protocols(files, probe):
    port = free_port()
    with running(hypercorn("believes_headers", port, files), port):
        status, outcomes = probe(port, "--headers-only")
    assert status == 1
    entered = {(each["protocol"], each["header"], each["form"]) for each in outcomes if each["got_in"]}
    for protocol in ("HTTP/1.1", "HTTP/2"):
        assert (protocol, "nginx", "exact name") in entered
        assert (protocol, "nginx", "twice") in entered
        assert (protocol, "Envoy", "exact name") not in entered
    assert ("HTTP/1.1", "nginx", "upper case") in entered


def test_nothing_gets_past_our_layer(files, probe):
    port = free_port()
    with running(our_uvicorn("protected", port, files), port):
        status, outcomes = probe(port, "--certificate", f"{files}/own.pem", "--key", f"{files}/own-key.pem")
    assert (status, [each for each in outcomes if each["got_in"]]) == (0, [])
    assert {each["certificate"] for each in outcomes} == {True, False}
    assert {each["tried"] for each in outcomes} == {True}
    assert {each["header"] for each in outcomes} > {"Upgrade: h2c", "Upgrade, body", "CONNECT", "extended CONNECT"}


def test_an_upgrade_to_clear_text_http2_is_found_in_every_spelling(files, probe):
    port = free_port()
    with running(hypercorn("believes_headers", port, files), port):
        status, outcomes = probe(port)
    upgraded = {
        each["form"]: each["answer"] for each in outcomes if each["header"] == "Upgrade: h2c" and each["got_in"]
    }
    assert status == 1
    assert {"as in RFC 7540", "without HTTP2-Settings", "spelt 'H2C'", "two lines, h2c last"} <= upgraded.keys()
    # The ten careless lines accept the fields of nginx and of what writes the same two.
    assert "then 200 to nginx, Apache, HAProxy" in upgraded["as in RFC 7540"]


def test_a_server_that_reads_requests_from_bodies_is_found(files, probe):
    port = free_port()
    httptools = [
        part.replace("mtls_middleware.servers.uvicorn_tls:HTTP2", "httptools")
        for part in our_uvicorn("refuses", port, files)
    ]
    with running(httptools, port):
        status, outcomes = probe(port, "--timeout", "1")
    entered = {(each["header"], each["form"]): each["answer"] for each in outcomes if each["got_in"]}
    assert status == 1
    assert entered["Upgrade, body", "foo, length, whole request"] == "403, then 403"


def test_the_probe_cannot_judge_an_address_that_accepts_every_client(files, capsys):
    port = free_port()
    with running(hypercorn("open", port, files), port):
        assert main(["probe", f"https://localhost:{port}/", "--ca", f"{files}/ca.pem"]) == 2
    assert "the probe cannot detect anything" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["http://localhost/"], "is not an https address"),
        (["https://localhost/", "--rate", "1000"], "at most 100"),
        (["https://localhost/", "--timeout", "600"], "0.1 to 60 seconds"),
        (["https://localhost:99999/"], "is not an https address"),
        (["https://[::1/"], "is not an https address"),
        (["https://localhost/a b"], "is not an https address"),
        (["https://localhost/", "--ca", "nowhere.pem"], "cannot be read"),
        (["https://localhost/", "--victim", "nowhere.pem"], "--victim"),
        (["https://localhost:1/"], "does not answer"),
    ],
)
def test_the_probe_reports_what_it_cannot_do(arguments, word, capsys):
    assert main(["probe", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_the_probe_prints_what_it_sends_and_what_it_cannot_detect(files, capsys):
    port = free_port()
    with running(our_uvicorn("refuses", port, files), port):
        assert main(["probe", f"https://localhost:{port}/{{0}}?{{a}}", "--ca", f"{files}/ca.pem", "--rate", "100"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("making ")
    assert "100 connections a second" in err
    assert "nothing is sent to another address" in err
    assert "can disturb other clients" in err
    assert "The probe cannot detect a hidden request" in err
    assert sum(int(line.split(" kept out")[0].split()[-1]) for line in out.splitlines()) == int(err.split()[1])


def test_headers_only_leaves_connections_alone(files, capsys):
    port = free_port()
    with running(our_uvicorn("refuses", port, files), port):
        assert (
            main(["probe", f"https://localhost:{port}/", "--ca", f"{files}/ca.pem", "--rate", "100", "--headers-only"])
            == 0
        )
    out, err = capsys.readouterr()
    assert "CONNECT" not in out + err
    assert "Upgrade" not in out + err


def demanding(application: str, port: int, files: Path) -> list[str]:
    """A server that demands a client certificate in the handshake."""
    command = our_uvicorn(application, port, files)
    command[command.index("--ssl-cert-reqs") + 1] = "2"
    return command


def test_a_handshake_that_demands_a_certificate_is_not_taken_for_a_private_ca(files, capsys):
    port = free_port()
    url = f"https://localhost:{port}/private"
    own = ["--certificate", f"{files}/own.pem", "--key", f"{files}/own-key.pem"]
    with running(demanding("refuses", port, files), port):
        assert main(["probe", url, "--headers-only"]) == 2
        assert "--ca ca.pem" in capsys.readouterr().err
        assert main(["probe", url, "--headers-only", "--ca", f"{files}/ca.pem"]) == 2
        demanded = capsys.readouterr().err
        assert "demands a certificate in the TLS handshake" in demanded
        assert "--certificate" in demanded
        assert main(["probe", url, "--headers-only", "--rate", "100", "--ca", f"{files}/ca.pem", *own]) == 0
        out, err = capsys.readouterr()
    assert "All attempts use your certificate" in " ".join(err.split())
    assert "no certificate" not in out


def test_a_port_where_nothing_or_no_tls_listens_is_not_taken_for_either(files, capsys):
    port = free_port()
    assert main(["probe", f"https://localhost:{port}/", "--ca", f"{files}/ca.pem"]) == 2
    assert "does not answer" in capsys.readouterr().err
    plain = ["-m", "uvicorn", f"{APPLICATIONS}:refuses", "--port", str(port), "--log-level", "critical"]
    with running(plain, port):
        assert main(["probe", f"https://localhost:{port}/", "--ca", f"{files}/ca.pem"]) == 2
    assert "does not answer" in capsys.readouterr().err


def test_a_summary_and_the_failures_are_printed_and_all_attempts_on_request(files, capsys):
    port = free_port()
    words = ["probe", f"https://localhost:{port}/private", "--ca", f"{files}/ca.pem", "--rate", "100", "--headers-only"]
    with running(hypercorn("believes_headers", port, files), port):
        assert main(words) == 1
        short = capsys.readouterr().out.splitlines()
        assert main([*words, "--verbose"]) == 1
        long = capsys.readouterr().out.splitlines()
    summary = [line for line in short if "forged fields" in line]
    assert len(summary) == 2
    assert all("GOT IN" in line and "kept out" in line for line in summary)
    assert all(line.startswith("GOT IN") for line in short if line not in summary)
    assert len(long) > 100
    assert set(short) <= set(long)
    assert any(line.startswith("kept out") for line in long)
