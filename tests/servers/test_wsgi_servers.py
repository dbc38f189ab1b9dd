"""Every WSGI server and adapter of docs/wsgi-servers.md: which names it folds, whose address it gives, what we do."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mtls_middleware.testing import CertificateAuthority, IssuedCertificate
from tests.live import wire
from tests.live.servers import free_port, running, tls_files
from tests.servers.clients import CA
from tests.servers.folding_apps import SECRET
from tests.servers.kinds import OLDEST, gunicorn
from tests.servers.wsgi_kinds import WSGI, WSGI_KINDS, WSGIKind

pytestmark = [pytest.mark.live, pytest.mark.case("005")]

GOOD, EVIL = (CertificateAuthority().issue(f"CN={name}") for name in ("good", "evil"))
PROXYS_SECRET = b"MtlsProxySecret: " + SECRET[1].encode()
# Each is one octet string before the colon. A server may reject the request, or give the field another name.
ODD = {
    "`Mtls_Client_Cert`": b"Mtls_Client_Cert",
    "`Mtls-Client-Cert`": b"Mtls-Client-Cert",
    "`MtlsClientCert `": b"MtlsClientCert ",
    "`MtlsClientCert\\t`": b"MtlsClientCert\t",
    "`MtlsClientCert\\0`": b"MtlsClientCert\x00",
    "`Mtls.Client.Cert`": b"Mtls.Client.Cert",
    "`Mtls Client Cert`": b"Mtls Client Cert",
    "`Mtl\\u017fClientCert` (UTF-8)": b"Mtl\xc5\xbfClientCert",
    "`MtlsCl\\u0131entCert` (UTF-8)": b"MtlsCl\xc4\xb1entCert",
    "`Mtl\\xdfClientCert`": b"Mtl\xdfClientCert",
}


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    kind: WSGIKind
    port: int

    def ask(self, path: str, *lines: bytes) -> wire.Answer:
        return wire.ask(("127.0.0.1", self.port), wire.request(path, *lines))[0]

    def fields(self, *lines: bytes) -> dict[str, str] | None:
        """What the application reads; `None` if the server rejects the request."""
        answer = self.ask("/raw", *lines)
        if answer.status != 200:
            return None
        found: dict[str, str] = answer.report["fields"]
        return found


@pytest.fixture(scope="module", params=WSGI_KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kind, port, folder = WSGI_KINDS[request.param], free_port(), tmp_path_factory.mktemp("server")
    folder.chmod(0o755)  # Apache's children are another user
    with running(kind.command(port, folder), port, program=kind.program, DJANGO_SETTINGS_MODULE=""):
        yield Server(kind, port)


def hyphens(certificate: IssuedCertificate, *, underscores: bool = False) -> list[bytes]:
    fields = certificate.as_nginx().items()
    return [f"{name.replace('-', '_') if underscores else name}: {value}".encode() for name, value in fields]


def plain(certificate: IssuedCertificate) -> list[bytes]:
    cert, verify = certificate.as_nginx().values()
    return [f"MtlsClientCert: {cert}".encode(), f"MtlsClientVerify: {verify}".encode()]


def test_a_name_with_an_underscore_arrives_as_the_page_says(server: Server) -> None:
    fields = server.fields(b"X_A: u")
    expected = {"folded": {"X_A": "u"}, "dropped": {}}[server.kind.alone]
    assert fields is not None
    assert {name: value for name, value in fields.items() if name == "X_A"} == expected


def test_the_field_that_the_page_names_wins(server: Server) -> None:
    for first, second in ((b"X-A: d", b"X_A: u"), (b"X_A: u", b"X-A: d")):
        values = {
            "hyphen": ["d"],
            "last": [second[-1:].decode()],
            "joined": [first[-1:].decode(), second[-1:].decode()],
        }
        fields = server.fields(first, second)
        assert fields is not None
        assert [part.strip() for part in fields["X_A"].split(",")] == values[server.kind.both]


def test_only_documented_names_arrive_as_a_name_without_hyphens(server: Server) -> None:
    arrived = [shown for shown, name in ODD.items() if "MTLSCLIENTCERT" in (server.fields(name + b": EVIL") or {})]
    assert tuple(arrived) == server.kind.odd


def test_the_address_comes_from_where_the_page_says(server: Server) -> None:
    report = server.ask("/raw", b"X-Forwarded-For: 10.0.0.7").report
    assert report["address"] == {"connection": "127.0.0.1", "header": "10.0.0.7"}[server.kind.address]


def test_a_source_with_hyphens_needs_a_server_that_keeps_names_distinct(server: Server) -> None:
    answer = server.ask("/hyphens", *hyphens(GOOD))
    if not server.kind.names_known:
        assert answer.refusal == (500, "server_error")
        assert server.ask("/hyphens", *hyphens(EVIL, underscores=True)).status == 500
        assert server.ask("/hyphens-secret", PROXYS_SECRET, *hyphens(GOOD)).status == 500
        return
    assert answer.thumbprint == (GOOD.thumbprint if server.kind.address_known else None)
    for forged in (hyphens(EVIL, underscores=True), [*hyphens(GOOD), *hyphens(EVIL, underscores=True)]):
        assert server.ask("/hyphens", *forged).thumbprint in (None, GOOD.thumbprint)
        assert server.ask("/hyphens-secret", PROXYS_SECRET, *forged).thumbprint in (None, GOOD.thumbprint)


def test_names_without_hyphens_and_a_secret_work_everywhere(server: Server) -> None:
    assert server.ask("/plain-secret", PROXYS_SECRET, *plain(GOOD)).thumbprint == GOOD.thumbprint
    assert server.ask("/plain-secret", *plain(EVIL)).thumbprint is None
    assert server.ask("/plain-secret", PROXYS_SECRET, *hyphens(EVIL, underscores=True)).thumbprint is None
    for twin in (b"Mtls_Client_Cert", b"Mtls-Client-Cert"):
        forged = twin + b": " + EVIL.as_nginx()["X-SSL-Client-Cert"].encode()
        assert server.ask("/plain-secret", PROXYS_SECRET, *plain(GOOD), forged).thumbprint == GOOD.thumbprint


def test_two_lines_of_one_name_are_rejected_or_the_proxys_own(server: Server) -> None:
    """cheroot keeps the last of two lines, so a proxy must replace or delete what the client sent."""
    answer = server.ask("/plain-secret", PROXYS_SECRET, *plain(EVIL), *plain(GOOD))
    assert answer.status == 400 or answer.thumbprint == GOOD.thumbprint


def test_the_operators_statement_lifts_the_rejection(server: Server) -> None:
    assert server.ask("/hyphens-stated", PROXYS_SECRET, *hyphens(GOOD)).thumbprint == GOOD.thumbprint
    assert server.ask("/hyphens-stated", *hyphens(GOOD)).thumbprint is None


def test_the_address_holds_only_where_it_is_known_to_be_the_connections(server: Server) -> None:
    answer = server.ask("/plain-address", *plain(GOOD))
    assert answer.thumbprint == (GOOD.thumbprint if server.kind.address_known else None)


def test_no_header_makes_a_client_a_trusted_peer(server: Server) -> None:
    for field in ("X-Forwarded-For: 10.0.0.7", "X-Forwarded-For: 10.0.0.7, 127.0.0.1", "X-Real-IP: 10.0.0.7"):
        answer = server.ask("/plain-elsewhere", field.encode(), *plain(EVIL))
        assert answer.certificate is None


@pytest.mark.parametrize("name", ["hypercorn", "Twisted", "Tornado", "a2wsgi.WSGIMiddleware on uvicorn"])
def test_the_log_names_the_adapter_and_what_to_do(name: str, tmp_path: Path) -> None:
    kind, port = WSGI_KINDS[name], free_port()
    with running(kind.command(port, tmp_path), port, program=kind.program) as log:
        assert wire.ask(("127.0.0.1", port), wire.request("/hyphens", *hyphens(GOOD)))[0].status == 500
        text = log()
    package = name.partition(".")[0].lower()
    assert f"The server or adapter '{package}', which sets no SERVER_SOFTWARE" in text
    wanted: list[Any] = ["gunicorn from 22.0", "MtlsClientCert", "proxy_deletes_underscores=True", "TESTING_ENVIRON"]
    assert [each for each in wanted if each not in text] == []


H2 = {"newest": True, "oldest": False}


@pytest.mark.parametrize("release", H2)
def test_gunicorn_keeps_names_apart_in_http_2_from_27_on(release: str, tmp_path: Path) -> None:
    """gunicorn 25.0 to 26.1 take X_SSL_Client_Cert for X-SSL-Client-Cert over HTTP/2, and drop it over HTTP/1.1."""
    files, port = tls_files(CA, tmp_path), free_port()
    command = gunicorn("gthread", WSGI, ["--http-protocols", "h2,h1"], port, files)
    program = [sys.executable] if release == "newest" else [str(OLDEST / "bin" / "python")]
    with running(command, port, program=program) as log:
        for http2, known in ((False, True), (True, H2[release])):
            context = CA.client_context(None)
            with httpx2.Client(verify=context, http2=http2, http1=not http2, trust_env=False) as client:
                url = f"https://localhost:{port}/hyphens"
                good = client.get(url, headers=GOOD.as_nginx())
                twins = {name.replace("-", "_"): value for name, value in EVIL.as_nginx().items()}
                evil = client.get(url, headers=twins)
            assert good.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
            if known:
                assert good.json()["certificate"]["thumbprint"] == GOOD.thumbprint
                assert evil.json()["certificate"] is None
            else:
                assert (good.status_code, evil.status_code) == (500, 500)
        assert ("known from 27.0.0 on for HTTP/2" in log()) is not H2[release]
