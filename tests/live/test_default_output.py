"""What servers print about rejected requests: by default, and with the logging configurations of docs/operations.md."""

import contextlib
import http.client
import re
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtensionOID

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.live.servers import ROOT, free_port, running, tls_files

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
AUTHORITY, ELSEWHERE = CertificateAuthority(), CertificateAuthority("CN=Elsewhere")
CLIENT = AUTHORITY.issue("CN=billing,O=Acme")
APPLICATION = "tests.live.protected_application"
GUNICORN = ["-m", "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:PORT"]
# The servers as a tutorial starts them. None is given an option for its log.
SERVERS = {
    "gunicorn": [*GUNICORN, f"{APPLICATION}:wsgi_application"],
    "uvicorn": ["-m", "uvicorn", "--port", "PORT", "--no-proxy-headers", f"{APPLICATION}:asgi_application"],
    "hypercorn": ["-m", "hypercorn", "--bind", "127.0.0.1:PORT", f"{APPLICATION}:asgi_application"],
    "Django on gunicorn": [*GUNICORN, f"{APPLICATION}:django_application()"],
}
NGINX = 'Nginx(trusted_proxies=["10.0.0.0/8"], verify_header="X-SSL-Client-Verify")'
BEHIND_NGINX = 'Nginx(trusted_proxies=["127.0.0.1"], verify_header="X-SSL-Client-Verify")'


def printed(
    command: list[str],
    client: IssuedCertificate | None = CLIENT,
    *,
    requests: int = 1,
    expected: int = 403,
    tls: ssl.SSLContext | None = None,
    **environment: str,
) -> str:
    """What the server prints, from its start until it has answered."""
    port = free_port()
    command = [part.replace("PORT", str(port)) for part in command]
    with running(command, port, **environment) as log:
        for _ in range(requests):
            connection = (
                http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                if tls is None
                else http.client.HTTPSConnection("localhost", port, timeout=20, context=tls)
            )
            with contextlib.closing(connection):
                connection.request("GET", "/", headers=client.as_nginx() if client is not None and tls is None else {})
                assert connection.getresponse().status == expected
        return log()


@pytest.mark.parametrize("server", SERVERS)
def test_default_output_says_why_once_for_each_cause(server: str) -> None:
    said = printed(SERVERS[server], requests=5, SOURCE=NGINX)
    assert said.count("refused: ") == 1
    assert "the peer '127.0.0.1' is not in trusted_proxies=['10.0.0.0/8']" in said
    assert "what to change: if this peer is your proxy, add its address to trusted_proxies=" in said


# --- five questions of a new user, and where the default output has the answer


def test_why_403_behind_nginx_on_the_same_host() -> None:
    said = printed(SERVERS["gunicorn"], SOURCE=NGINX)
    assert "the peer '127.0.0.1' is not in trusted_proxies" in said


def test_why_no_certificate_under_uvicorn(tmp_path: Path) -> None:
    files = tls_files(AUTHORITY, tmp_path)
    options = ["--ssl-certfile", f"{files}/server.pem", "--ssl-keyfile", f"{files}/server-key.pem"]
    options += ["--ssl-ca-certs", f"{files}/ca.pem", "--ssl-cert-reqs", "1"]
    context = AUTHORITY.client_context(CLIENT)
    said = printed([*SERVERS["uvicorn"], *options], tls=context, SOURCE="ServerTLS()")
    assert "the server provides no ASGI TLS extension" in said
    option = re.search(r"--http (mtls_middleware\.servers\.uvicorn_tls:\w+)", said)
    assert option is not None
    # The advice is right: with that option, the request is accepted.
    accepted = printed(
        [*SERVERS["uvicorn"], *options, "--http", option[1]], tls=context, expected=200, SOURCE="ServerTLS()"
    )
    assert "refused" not in accepted


def test_why_a_name_does_not_match() -> None:
    options = "{'allow': Subject('O=Acme,CN=billing')}"
    said = printed(SERVERS["gunicorn"], expected=403, SOURCE=BEHIND_NGINX, OPTIONS=options)
    assert "Subject(name='O=Acme,CN=billing') has the attributes of the certificate in another order" in said
    right = "{'allow': Subject('CN=billing,O=Acme')}"
    assert "refused" not in printed(SERVERS["gunicorn"], expected=200, SOURCE=BEHIND_NGINX, OPTIONS=right)


def test_which_authority_is_missing(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(ELSEWHERE.pem)
    options = f"{{'trust_store': TrustStore([{str(tmp_path / 'ca.pem')!r}])}}"
    said = printed(SERVERS["uvicorn"], expected=403, SOURCE=BEHIND_NGINX, OPTIONS=options)
    key = AUTHORITY.certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER).value
    assert f"the CA with the key identifier {key.digest.hex(':')} is missing" in said
    assert "the trust store has: CN=Elsewhere" in said


def test_what_will_break_next_month() -> None:
    soon = AUTHORITY.issue("CN=soon,O=Acme", not_after=datetime.now(UTC) + timedelta(days=12, hours=1))
    said = printed(SERVERS["gunicorn"], soon, requests=3, expected=200, SOURCE=BEHIND_NGINX)
    assert said.count(f"the client certificate {soon.thumbprint} expires in 12 days; renew it") == 1


# --- the configurations of the page


def block(heading: str) -> str:
    section = re.search(rf"^### {heading}\n.*?```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert section is not None
    return section[1]


def _uvicorn(folder: Path) -> tuple[list[str], dict[str, str]]:
    (folder / "log.json").write_text(block("uvicorn"))
    return [*SERVERS["uvicorn"], "--log-config", str(folder / "log.json")], {}


def _gunicorn(folder: Path) -> tuple[list[str], dict[str, str]]:
    (folder / "gunicorn.conf.py").write_text(block("gunicorn"))
    return [*SERVERS["gunicorn"], "--config", str(folder / "gunicorn.conf.py")], {}


def _django(_: Path) -> tuple[list[str], dict[str, str]]:
    return SERVERS["Django on gunicorn"], {"LOGGING": block("Django").removeprefix("LOGGING = ")}


def _plain(folder: Path) -> tuple[list[str], dict[str, str]]:
    serve = f"""
from wsgiref.simple_server import make_server
from {APPLICATION} import wsgi_application
make_server("127.0.0.1", PORT, wsgi_application).serve_forever()
"""
    return ["-c", block("Plain Python") + serve], {}


CONFIGURATIONS: dict[str, Callable[[Path], tuple[list[str], dict[str, str]]]] = {
    "uvicorn": _uvicorn,
    "gunicorn": _gunicorn,
    "Django": _django,
    "plain Python": _plain,
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration_of_the_page_prints_every_decision(name: str, tmp_path: Path) -> None:
    command, environment = CONFIGURATIONS[name](tmp_path)
    secret = "'MtlsProxySecret', '0123456789abcdef'"
    source = f"Nginx(shared_secret=({secret}), certificate_header='MtlsClientCert', verify_header='MtlsClientVerify')"
    said = printed(command, requests=4, SOURCE=source, **environment)
    lines = [line for line in said.splitlines() if "refused: " in line]
    assert len(lines) == 4
    assert ["WARNING" in line for line in lines] == [True, False, False, False]
    assert ["INFO" in line.partition("refused: ")[0] for line in lines] == [False, True, True, True]


def test_the_page_shows_what_is_printed() -> None:
    said = printed(SERVERS["gunicorn"], None, SOURCE=NGINX.replace("10.0.0.0/8", "10.0.0.0/24"))
    shown = re.search(r"```text\n(refused: .*?)```", PAGE, re.DOTALL)
    assert shown is not None
    parts = " ".join(shown[1].replace("10.1.2.3", "127.0.0.1").split()).split(" ...")
    assert [part for part in parts if part.strip(" ;") not in said] == []
