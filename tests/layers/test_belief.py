"""Who is believed, and what is one statement. DESIGN 1.3, and "Traps"."""

from typing import Any

import pytest

from mtls_middleware import Verification
from mtls_middleware.policy import Presented, Subject
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import PROXY, Request, both_gateways, send
from tests.layers.world import TRUSTED, certificates, nginx


@both_gateways
@pytest.mark.parametrize("peer", [PROXY, "::ffff:10.0.0.5"])
def test_trusted_peer_gives_the_certificate(gateway: str, peer: str, mtls_client: IssuedCertificate) -> None:
    seen = send(gateway, certificates(), Request(peer=peer, headers=nginx(mtls_client))).application
    assert seen.certificate == mtls_client.client_certificate()
    assert seen.certificate.verification is Verification.BY_PROXY


@both_gateways
@pytest.mark.parametrize(
    "peer", ["", "localhost", "<local>", None, "unix", "testclient", "010.0.0.5", "10.0.0.5%eth0", "fe80::1%1", "10.1"]
)
@pytest.mark.case("017")
def test_peer_without_an_address_is_not_trusted(gateway: str, peer: str | None, mtls_client: IssuedCertificate) -> None:
    request = Request(peer=peer, headers=nginx(mtls_client))
    for trusted in (TRUSTED, [*TRUSTED, "unix"]):
        assert send(gateway, certificates(Nginx(trusted_proxies=trusted), required=True), request).status == 403


CLIENTS: list[tuple[Any, Any, bool]] = [
    (None, ("/run/app.sock", None), True),
    (None, ["/run/app.sock", None], True),
    (("", 0), ("/run/app.sock", None), True),
    (None, None, False),
    (None, ("127.0.0.1", 8000), False),
    (("", 0), ("127.0.0.1", 8000), False),
    (("", "0"), None, False),
    (None, ("", None), False),
    (None, ("/run/app.sock", 8000), False),
    (("127.0.0.1", 5), ("/run/app.sock", None), False),
]


@pytest.mark.parametrize(("client", "server", "trusted"), CLIENTS)
@pytest.mark.case("017")
def test_asgi_unix_peer_is_the_servers_own_word(
    client: Any, server: Any, trusted: bool, mtls_client: IssuedCertificate
) -> None:
    request = Request(headers=nginx(mtls_client), extra={"client": client, "server": server})
    by_unix = certificates(Nginx(trusted_proxies=["unix"]), required=True)
    assert send("asgi", by_unix, request).status == (200 if trusted else 403)
    assert send("asgi", certificates(required=True), request).status == 403  # networks alone never mean unix


@both_gateways
@pytest.mark.parametrize("second", ["same", "other", "empty", "rubbish"])
@pytest.mark.case("009", "010", "011", "028")
def test_two_values_are_rejected(
    gateway: str, second: str, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    (name, good), (verify, word) = nginx(mtls_client)
    more = {"same": good, "other": nginx(mtls_other_client)[0][1], "empty": "", "rubbish": "EVIL"}[second]
    for fields in (
        [(name, good), (name, more), (verify, word)],
        [(name, more), (name, good), (verify, word)],
        [(name, good), (verify, word), (verify, {"same": word}.get(second, "FAILED:x"))],
        [(name, good), (verify, "FAILED:x"), (verify, word)],
    ):
        result = send(gateway, certificates(), Request(headers=fields))
        assert (result.status, result.seen) == (400, None)


@pytest.mark.case("007")
def test_asgi_ignores_a_header_name_with_underscores(mtls_client: IssuedCertificate) -> None:
    evil = [(name.replace("-", "_"), value) for name, value in nginx(mtls_client)]
    assert send("asgi", certificates(), Request(headers=evil)).application.certificate is None
    assert send("asgi", certificates(required=True), Request(headers=evil)).status == 403


@pytest.mark.case("007")
def test_underscores_beside_the_real_header_change_nothing_in_asgi(
    mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    evil = [(name.replace("-", "_"), value) for name, value in nginx(mtls_other_client)]
    for headers in (nginx(mtls_client) + evil, evil + nginx(mtls_client)):
        seen = send("asgi", certificates(), Request(headers=headers)).application
        assert seen.certificate == mtls_client.client_certificate()
        assert not seen.headers


@pytest.mark.parametrize("software", ["Cheroot/11.1.2", "Granian", "WSGIServer/0.2 CPython/3.11.9"])
@pytest.mark.case("005")
def test_wsgi_server_that_hides_forgeries_is_refused_for_headers(
    software: str, mtls_client: IssuedCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    request = Request(headers=nginx(mtls_client), extra={"SERVER_SOFTWARE": software})
    result = send("wsgi", certificates(exempt=["/"]), request)
    assert (result.status, result.seen) == (500, None)
    assert f"The server {software!r} folds header names" in caplog.text
    assert "proxy_deletes_underscores=True" in caplog.text
    assert send("wsgi", certificates(ServerTLS()), request).application.certificate is None


@pytest.mark.parametrize(
    "environ",
    [
        {"SERVER_SOFTWARE": "gunicorn/27.0.1"},
        {"SERVER_SOFTWARE": "gevent/26.9 Python/3.11"},
        {"SERVER_SOFTWARE": "Werkzeug/3.1.9"},
        {"SERVER_SOFTWARE": "waitress", "waitress.client_disconnected": lambda: False},
    ],
)
@pytest.mark.case("005")
def test_wsgi_server_that_drops_underscores_is_fine(environ: dict[str, Any], mtls_client: IssuedCertificate) -> None:
    request = Request(headers=nginx(mtls_client), extra=environ)
    assert send("wsgi", certificates(), request).application.certificate is not None


@both_gateways
@pytest.mark.parametrize(
    ("word", "status"),
    [
        (None, 400),
        ("NONE", 400),
        ("", 400),
        ("success", 400),
        ("SUCCESS ", 400),
        ("FAILED:self signed certificate", 403),
        ("SUCCESS", 200),
    ],
)
@pytest.mark.case("024", "025", "026")
def test_certificate_and_verification_header_must_agree(
    gateway: str, word: str | None, status: int, mtls_client: IssuedCertificate
) -> None:
    assert send(gateway, certificates(required=True), Request(headers=nginx(mtls_client, word))).status == status


@both_gateways
@pytest.mark.case("026")
def test_success_without_certificate_is_malformed(gateway: str) -> None:
    for fields in ([], [("X-SSL-Client-Cert", "")]):
        request = Request(headers=[*fields, ("X-SSL-Client-Verify", "SUCCESS")])
        assert send(gateway, certificates(), request).status == 400
        none = Request(headers=[*fields, ("X-SSL-Client-Verify", "NONE")])
        assert send(gateway, certificates(), none).application.certificate is None


@both_gateways
@pytest.mark.case("025")
@pytest.mark.parametrize("allow", [Subject("CN=client,O=Tests"), ~Subject("CN=x"), lambda certificate: True])
def test_failed_verification_is_presented_and_satisfies_no_identity(
    gateway: str, allow: Any, mtls_client: IssuedCertificate
) -> None:
    request = Request(headers=nginx(mtls_client, "FAILED:self signed certificate"))
    seen = send(gateway, certificates(), request).application
    assert seen.certificate is not None
    assert seen.certificate.verification is Verification.PRESENTED
    assert send(gateway, certificates(allow=allow), request).status == 403
    assert send(gateway, certificates(allow=Presented(lambda certificate: True)), request).status == 200
