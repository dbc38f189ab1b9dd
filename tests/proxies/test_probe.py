"""`mtls-middleware probe` at real proxies: nothing gets past what `proxy-config` prints; a careless one is found."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mtls_middleware.cli.main import main
from mtls_middleware.cli.wanted import Wanted
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.client import over_http1, over_http2
from tests.proxies.conftest import context, server_command, wanted
from tests.proxies.matrix import Setup

pytestmark = pytest.mark.live

PROBED = "tests.proxies.probed"
SETUPS = [
    Setup("nginx", "idiomatic", "optional", "gunicorn"),
    Setup("haproxy", "rfc9440", "optional", "HTTPTools"),
    Setup("envoy", "idiomatic", "optional", "H11"),
]

# A location with a proxy_set_header of its own inherits none of those above it.
CARELESS = """
server {{
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {files}/server.pem;
    ssl_certificate_key {files}/server.pem.key;
    ssl_client_certificate {files}/ca.pem;
    ssl_verify_client optional;
    proxy_set_header X-SSL-Client-Cert $ssl_client_escaped_cert;
    proxy_set_header X-SSL-Client-Verify $ssl_client_verify;
    location / {{
        proxy_set_header Host $host;
        proxy_pass http://127.0.0.1:{upstream};
    }}
}}
"""

Outcomes = list[dict[str, object]]
Probe = Callable[..., tuple[int, Outcomes]]


@pytest.fixture
def probe(server_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Probe:
    """Runs the command at a port as the victim's impostor; gives its exit status and what it found."""
    (tmp_path / "server-ca.pem").write_text(matrix.servers().pem)
    for kind in ("victim", "RSA"):
        matrix.certificate(kind).write(tmp_path, name=kind)

    def run(port: int, *, own: bool) -> tuple[int, Outcomes]:
        arguments = ["probe", f"https://localhost:{port}/private", "--json", "--rate", "100"]
        arguments += ["--ca", str(tmp_path / "server-ca.pem"), "--victim", str(tmp_path / "victim.pem")]
        if own:
            arguments += ["--certificate", str(tmp_path / "RSA.pem"), "--key", str(tmp_path / "RSA-key.pem")]
        status = main(arguments)
        return status, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def configured(made: Wanted, folder: Path) -> list[str]:
    """The command that starts the proxy with the printed configuration."""
    programs.write(made, folder)
    if made.proxy == "envoy":  # it leaves whoever sends malformed HTTP/2 waiting for a second, forty times
        file, key = folder / "envoy.yaml", "forward_client_cert_details:"
        text = file.read_text()
        assert text.count(f"          {key}") == 1
        file.write_text(text.replace(key, f"delayed_close_timeout: 0s\n          {key}"))
    return programs.command(made, folder)


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_nothing_gets_in_with_or_without_a_certificate_of_ones_own(setup: Setup, server_files, tmp_path, probe):
    upstream, port = free_port(), free_port()
    made = wanted(setup, port, upstream, server_files)
    command = server_command(setup.server, upstream, PROBED)
    with (
        programs.started(command, upstream, ROOT, SOURCE=made.source(), **programs.environment(made)),
        programs.started(configured(made, tmp_path), port, tmp_path, **programs.environment(made)),
    ):
        for ask in (over_http1, over_http2):  # the one for whom it is gets in: there is something to get past
            assert ask(port, context("victim"), "/private", []).status == 200
            assert ask(port, context("RSA"), "/private", []).status == 403
        status, outcomes = probe(port, own=True)
    assert (status, [each for each in outcomes if each["got_in"]]) == (0, [])
    tried = {(each["protocol"], each["certificate"]) for each in outcomes}
    assert tried == {(protocol, own) for protocol in ("HTTP/1.1", "HTTP/2") for own in (True, False)}
    assert not [each for each in outcomes if each["answer"] == "not spoken there"]


def test_what_gets_past_a_careless_proxy_and_a_careless_parser_is_found(server_files, tmp_path, probe):
    upstream, port = free_port(), free_port()
    (tmp_path / "mtls.conf").write_text(CARELESS.format(port=port, upstream=upstream, files=server_files))
    (tmp_path / "nginx.conf").write_text(programs.NGINX.format(njs=""))
    nginx = [programs.program("nginx"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
    command = [re.sub("wsgi_application$", "careless", part) for part in server_command("gunicorn", upstream, PROBED)]
    unused = 'Nginx(trusted_proxies=["127.0.0.1"])'
    with programs.started(command, upstream, ROOT, SOURCE=unused), programs.started(nginx, port, tmp_path):
        status, outcomes = probe(port, own=False)
    assert status == 1
    entered = {(each["protocol"], each["form"]) for each in outcomes if each["got_in"] and each["header"] == "nginx"}
    assert entered == {
        *(("HTTP/1.1", form) for form in ("exact name", "lower case", "upper case", "named by Connection")),
        ("HTTP/2", "exact name"),
    }
    assert {each["header"] for each in outcomes if each["got_in"]} == {"nginx", "Apache"}
