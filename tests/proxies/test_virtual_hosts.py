"""The generated host beside others, in every order: only a client that its own CA verified reaches the application."""

import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest

from mtls_middleware.cli.proxies import PROXIES
from mtls_middleware.cli.proxy_options import SECRET_VARIABLE
from mtls_middleware.testing import CertificateAuthority
from tests.live.servers import ROOT, free_port
from tests.proxies import matrix, neighbours, programs
from tests.proxies.conftest import options_for, server_command
from tests.proxies.matrix import Setup

HOSTS = [
    (proxy, order)
    for proxy in PROXIES
    for order in (neighbours.ORDERS if proxy not in neighbours.ONE_ORDER else neighbours.ORDERS[-1:])
]
pytestmark = [
    pytest.mark.live,
    pytest.mark.case("063", "064", "065"),
    pytest.mark.parametrize(
        "host", HOSTS, indirect=True, ids=lambda each: f"{each[0]}: {', '.join(name[0] for name in each[1])}"
    ),
]
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
OTHER_HOST, NO_HANDSHAKE = "the other host answers", "no handshake"


@dataclass(frozen=True)
class Host:
    proxy: str
    port: int


@dataclass(frozen=True)
class Client:
    """What a client says: the name in the handshake, the name in Host, and the certificate that it has."""

    sni: str | None
    host: str
    certificate: str


@cache
def other_authority() -> CertificateAuthority:
    return CertificateAuthority("CN=Test CA of a.test")


@cache
def context(certificate: str, version: ssl.TLSVersion) -> ssl.SSLContext:
    made = other_authority().issue("CN=of a.test") if certificate == "a.test" else matrix.certificate(certificate)
    context = matrix.servers().client_context(made)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    return context


@pytest.fixture(scope="module")
def application() -> Iterator[int]:
    port = free_port()
    sources = {setup(proxy).key: options_for(setup(proxy), 1, 1, Path()).source() for proxy in PROXIES}
    environment = {"SOURCES": json.dumps(sources), SECRET_VARIABLE: matrix.SECRET}
    with programs.started(server_command("H11", port), port, ROOT, **environment):
        yield port


def setup(proxy: str) -> Setup:
    return Setup(proxy, "idiomatic", "optional", "H11")


@pytest.fixture(scope="module")
def host(
    request: pytest.FixtureRequest, application: int, server_files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    proxy, order = request.param
    port, folder = free_port(), tmp_path_factory.mktemp(proxy)
    (server_files / "other-ca.pem").write_text(other_authority().pem)
    ours = replace(options_for(setup(proxy), port, application, server_files), server_names=(neighbours.OURS,))
    with programs.proxy(ours, folder, add=lambda: neighbours.add(proxy, folder, server_files, port, order)):
        host = Host(proxy, port)
        until_it_answers(host)
        yield host


def until_it_answers(host: Host) -> None:
    for _ in range(300):
        if outcome(host, GOOD[0]) == "RSA":
            return
    raise AssertionError("the application is not reached")


GOOD = [Client("b.test", spelling, "RSA") for spelling in ("b.test", "B.Test", "b.test:443")]
_NAMES = ("a.test", "c.test", "x.test", "x.test:443", "b.test.evil", "x.test,b.test", "127.0.0.1")
_CERTIFICATES = ("a.test", "RSA", "none")
BAD = {
    "the name of another host in the handshake": [
        *(Client(sni, "b.test", certificate) for sni in ("a.test", "c.test") for certificate in _CERTIFICATES),
        Client("a.test", "b.test:443", "a.test"),
        Client("a.test", "B.TEST.", "a.test"),
    ],
    "an unknown name in the handshake": [Client("x.test", "b.test", certificate) for certificate in _CERTIFICATES],
    "no name in the handshake": [Client(None, "b.test", certificate) for certificate in _CERTIFICATES],
    "another name in `Host`": [Client("b.test", name, "RSA") for name in _NAMES],
    "an empty `Host`": [Client("b.test", "", "RSA")],
    "both names, a certificate of another CA": [Client("b.test", "b.test", "a.test")],
}


def outcome(host: Host, client: Client, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> str:
    """The certificate that the application saw, the proxy's status, or one of the two texts above."""
    try:
        with connected(host, client, version) as connection:
            return answered(host, connection, client)
    except (OSError, http.client.HTTPException):
        return NO_HANDSHAKE


def connected(
    host: Host, client: Client, version: ssl.TLSVersion, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", host.port), timeout=20)
    try:
        return context(client.certificate, version).wrap_socket(plain, server_hostname=client.sni, session=session)
    except BaseException:
        plain.close()
        raise


def answered(host: Host, connection: ssl.SSLSocket, client: Client) -> str:
    path = f"/{setup(host.proxy).key}/"
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode())
    response = http.client.HTTPResponse(connection)
    response.begin()
    body = response.read()
    if response.status == 410 or body in (b"a.test", b"c.test"):
        return OTHER_HOST
    if response.status != 200:
        return str(response.status)
    report = json.loads(body)["certificate"]
    assert report is None or report["verification"] == "BY_PROXY"
    names = {matrix.certificate("RSA").thumbprint: "RSA", None: "none"}
    return names.get(report and report["thumbprint"], "the certificate of another CA")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_client_of_the_own_ca_reaches_the_application(host: Host, version):
    assert {client: outcome(host, client, version) for client in GOOD} == dict.fromkeys(GOOD, "RSA")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_client_that_comes_again_with_its_session_is_served(host: Host, version):
    client = GOOD[0]
    with connected(host, client, version) as connection:
        answered(host, connection, client)
        session = connection.session
    with connected(host, client, version, session) as connection:
        again, resumed = answered(host, connection, client), bool(connection.session_reused)
    # The other hosts have sessions. HAProxy's are for all hosts of a crt-list. nginx resumes, from 1.29.2 on, what the
    # first host on the address resumes. The client has to come with a full handshake.
    assert again == ("421" if resumed else "RSA")
    assert resumed == (host.proxy == "haproxy") or host.proxy == "nginx"


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("kind", BAD)
def test_a_client_whose_names_differ_does_not_reach_the_application(host: Host, version, kind):
    found = {outcome(host, client, version) for client in BAD[kind]}
    assert found <= matrix.VIRTUAL_HOSTS[kind][host.proxy]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("first", [("a.test", "a.test"), ("c.test", "RSA"), ("c.test", "none"), (None, "a.test")])
def test_a_session_of_another_host_gives_no_access(host: Host, version, first: tuple[str | None, str]):
    sni, certificate = first
    client = Client(sni, sni or "a.test", certificate)
    session = None
    with contextlib.suppress(OSError, http.client.HTTPException), connected(host, client, version) as connection:
        answered(host, connection, client)
        session = connection.session
    if session is None:
        return  # the proxy gave no session: nothing can be resumed
    for name in ("b.test", sni):
        found, resumed = NO_HANDSHAKE, False
        again = Client(name, "b.test", certificate)
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            connected(host, again, version, session) as second,
        ):
            resumed = bool(second.session_reused)
            found = answered(host, second, again)
        # A full handshake at b.test verifies the client again: RSA is a client of its CA, and none may come without.
        full = name == "b.test" and not resumed and certificate != "a.test"
        assert found == certificate if full and found in ("RSA", "none") else found in matrix.NOT_SERVED


def test_early_data_does_not_reach_the_application(host: Host, tmp_path: Path):
    session, early = tmp_path / "session", tmp_path / "early"
    request = f"GET /{setup(host.proxy).key}/ HTTP/1.1\r\nHost: b.test\r\n"
    early.write_text(f"{request}\r\n")
    last = f"{request}Connection: close\r\n\r\n"
    for first in ("a.test", "c.test", "b.test"):
        s_client(host.port, first, last, "-sess_out", str(session))
        if session.exists():
            said = s_client(host.port, "b.test", last, "-sess_in", str(session), "-early_data", str(early))
            statuses = re.findall("^HTTP/1.1 ([0-9]+)", said, re.MULTILINE)
            assert statuses[:-1] == (["425"] if "Early data was accepted" in said else [])


def s_client(port: int, name: str, text: str, *options: str) -> str:
    """What openssl and the server say, until the server closes the connection."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name, "-tls1_3", "-ign_eof"]
    result = subprocess.run([*command, *options], input=text.encode(), capture_output=True, timeout=20, check=False)
    return (result.stdout + result.stderr).decode(errors="replace")
