"""`mtls-middleware probe` at real proxies: careless ones are found, and nothing gets in at careful ones."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtls_middleware.cli.main import main
from mtls_middleware.cli.proxy_options import ProxyOptions
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, programs
from tests.proxies.client import over_http1, over_http2
from tests.proxies.conftest import context, options_for, server_command
from tests.proxies.matrix import Setup

pytestmark = pytest.mark.live

PROBED = "tests.proxies.probe_targets"
SETUPS = [
    Setup("nginx", "idiomatic", "optional", "gunicorn"),
    Setup("haproxy", "rfc9440", "optional", "HTTPTools"),
    Setup("envoy", "idiomatic", "optional", "H11"),
    Setup("caddy", "idiomatic", "optional", "httptools"),
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

# Both forward whatever the client asks to upgrade to. The certificate fields are cleaned, as most guides have it.
CARELESS_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend mtls
    bind 127.0.0.1:{port} ssl crt {files}/server.pem alpn h2,http/1.1 ca-file {files}/ca.pem verify optional
    http-request del-header X-SSL-Client-Cert
    http-request del-header X-SSL-Client-Verify
    default_backend application
backend application
    server application 127.0.0.1:{upstream}
"""
CADDY = """
{{
    admin off
    auto_https off
}}
https://:{port} {{
    bind 127.0.0.1
    tls {files}/server.pem {files}/server.pem.key
    handle {{
        {careful}
        reverse_proxy 127.0.0.1:{upstream} {{
            header_up -X-SSL-Client-Cert
            header_up -X-SSL-Client-Verify
            {removed}
        }}
    }}
}}
"""
# CONNECT is answered by Caddy itself, and no upgrade goes through.
CAREFUL = {
    "careful": "@connect method CONNECT\n        respond @connect 405",
    "removed": "header_up -Upgrade",
}
NOTHING = {"careful": "", "removed": ""}
NGINX_SOURCE = 'Nginx(trusted_proxies=["127.0.0.1"])'
UVICORN = ["-m", "uvicorn", f"{PROBED}:asgi_application", "--port", "{upstream}", "--no-proxy-headers"]
SERVERS = {
    "hypercorn": ["-m", "hypercorn", f"{PROBED}:asgi_application", "--bind", "127.0.0.1:{upstream}"],
    "httptools": [*UVICORN, "--http", "httptools"],
    "h11": [*UVICORN, "--http", "h11"],
    "waitress": ["-m", "waitress", "--listen=127.0.0.1:{upstream}", f"{PROBED}:wsgi_application"],
    "daphne": ["-m", "daphne", "-b", "127.0.0.1", "-p", "{upstream}", f"{PROBED}:asgi_application"],
}

Outcomes = list[dict[str, object]]
Probe = Callable[..., tuple[int, Outcomes]]


@pytest.fixture
def probe(server_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Probe:
    """Runs the command at a port as the victim's impostor; gives its exit status and what it found."""
    (tmp_path / "server-ca.pem").write_text(matrix.servers().pem)
    for kind in ("victim", "RSA"):
        matrix.certificate(kind).write(tmp_path, name=kind)

    def run(port: int, *options: str, own: bool) -> tuple[int, Outcomes]:
        arguments = ["probe", f"https://localhost:{port}/private", "--json", "--rate", "100"]
        arguments += ["--ca", str(tmp_path / "server-ca.pem"), "--victim", str(tmp_path / "victim.pem")]
        if own:
            arguments += ["--certificate", str(tmp_path / "RSA.pem"), "--key", str(tmp_path / "RSA-key.pem")]
        status = main([*arguments, *options])
        return status, json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def configured(made: ProxyOptions, folder: Path) -> list[str]:
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
    made = options_for(setup, port, upstream, server_files)
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
    assert not [each for each in outcomes if each["answer"] == "the server does not support the protocol"]


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


def behind(  # noqa: PLR0917 (a proxy, a server and where they are)
    proxy: str, words: dict[str, str], server: str, files: Path, folder: Path, probe: Probe
) -> tuple[int, Outcomes]:
    """Starts a server behind a proxy that is configured by hand, and probes the proxy."""
    upstream, port = free_port(), free_port()
    text = CARELESS_HAPROXY if proxy == "haproxy" else CADDY
    name = {"haproxy": "haproxy.cfg", "caddy": "Caddyfile"}[proxy]
    (folder / name).write_text(text.format(port=port, upstream=upstream, files=files, **words))
    arguments = {"haproxy": ["-db", "-q", "-f", name], "caddy": ["run", "--config", name, "--adapter", "caddyfile"]}
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    served = [sys.executable, *(part.replace("{upstream}", str(upstream)) for part in SERVERS[server])]
    with (
        programs.started(served, upstream, ROOT, SOURCE=NGINX_SOURCE),
        programs.started([programs.program(proxy), *arguments[proxy]], port, folder, **home),
    ):
        return probe(port, "--timeout", "2", own=False)


def test_clear_text_http2_behind_a_careless_haproxy_is_found(server_files, tmp_path, probe):
    status, outcomes = behind("haproxy", {}, "hypercorn", server_files, tmp_path, probe)
    version = subprocess.run([programs.program("haproxy"), "-v"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)", version)
    if found is not None and int(found[1]) >= 3:  # it forwards no upgrade but the one to websocket
        assert (status, [each for each in outcomes if each["got_in"]]) == (0, [])
        return
    assert status == 1
    upgraded = {each["form"]: str(each["answer"]) for each in outcomes if each["got_in"]}
    assert {"as in RFC 7540", "without HTTP2-Settings", "spelt 'H2C'", "two lines, h2c last"} <= upgraded.keys()
    # And the victim's certificate is accepted there: HAProxy cleans nothing on the upgraded connection.
    assert "then 200 to nginx" in upgraded["as in RFC 7540"]


@pytest.mark.parametrize(
    ("server", "header"),
    [
        ("httptools", "Upgrade, body"),
        ("waitress", "CONNECT"),
        ("daphne", "CONNECT"),
        ("h11", "CONNECT"),
        ("hypercorn", "Upgrade: h2c"),
    ],
)
def test_what_caddy_forwards_to_a_server_is_found(server, header, server_files, tmp_path, probe):
    status, outcomes = behind("caddy", NOTHING, server, server_files, tmp_path, probe)
    entered = [each for each in outcomes if each["got_in"]]
    assert status == 1
    assert header in {each["header"] for each in entered}, entered


@pytest.mark.parametrize("server", ["httptools", "waitress", "hypercorn"])
def test_nothing_is_found_at_a_careful_caddy(server, server_files, tmp_path, probe):
    for turn in range(3):  # on a busy machine, a connection may end before its attack is complete: not tried
        (folder := tmp_path / str(turn)).mkdir()
        status, outcomes = behind("caddy", CAREFUL, server, server_files, folder, probe)
        assert [each for each in outcomes if each["got_in"]] == []
        if status == 0:
            return
    raise AssertionError([each for each in outcomes if not each["tried"]])
