"""Each form of a test certificate is read back by the source that it is for, through both gateways."""

import asyncio
import json
import stat
import sys
from collections.abc import Mapping
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from mtls_middleware import ClientCertificate, Verification, asgi, client_certificate, wsgi
from mtls_middleware.sources import ClientCertHeader, Nginx, ServerTLS
from mtls_middleware.testing import TESTING_ENVIRON, CertificateAuthority, IssuedCertificate, self_signed
from tests import shared


@pytest.fixture(scope="module", params=["from the root", "from an intermediate", "self-signed"])
def client(request: pytest.FixtureRequest, mtls_ca: CertificateAuthority) -> IssuedCertificate:
    issue = {
        "from the root": mtls_ca.issue,
        "from an intermediate": mtls_ca.intermediate().intermediate("CN=second").issue,
        "self-signed": self_signed,
    }
    return issue[request.param]("CN=billing,O=Acme", dns=["billing.internal"])


def through_wsgi(source: Any, environ: Mapping[str, str] = {}, headers: Mapping[str, str] = {}) -> Any:
    request: dict[str, Any] = {"REMOTE_ADDR": "10.0.0.1", **TESTING_ENVIRON, **environ}
    request |= {"HTTP_" + name.upper().replace("-", "_"): value for name, value in headers.items()}
    setup_testing_defaults(request)
    seen = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(client_certificate(environ))
        start_response("200 OK", [])
        return []

    list(wsgi.ClientCertificateMiddleware(app, source)(request, lambda status, headers: None))
    return seen[0]


def through_asgi(source: Any, tls: Mapping[str, Any] | None = None, headers: Mapping[str, str] = {}) -> Any:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("10.0.0.1", 1234),
        "extensions": {"tls": tls} if tls is not None else {},
    }
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(client_certificate(scope))

    async def unused(*_: Any) -> None: ...

    asyncio.run(asgi.ClientCertificateMiddleware(app, source)(scope, unused, unused))
    return seen[0]


def assert_is(client: IssuedCertificate, seen: ClientCertificate, verification: Verification, *, chain: bool) -> None:
    assert seen.thumbprint == client.thumbprint
    assert seen.verification is verification
    assert seen.chain == (client.client_certificate().chain if chain else ())


@pytest.mark.parametrize(
    ("word", "verification"), [("SUCCESS", Verification.BY_SERVER), ("FAILED:expired", Verification.PRESENTED)]
)
def test_environ_is_read_by_server_tls(client: IssuedCertificate, word: str, verification: Verification) -> None:
    seen = through_wsgi(ServerTLS(), environ=client.as_environ(verify=word))
    assert_is(client, seen, verification, chain=True)


@pytest.mark.parametrize(
    ("error", "verification"), [(None, Verification.BY_SERVER), ("expired", Verification.PRESENTED)]
)
def test_tls_extension_is_read_by_server_tls(
    client: IssuedCertificate, error: str | None, verification: Verification
) -> None:
    seen = through_asgi(ServerTLS(), tls=client.as_tls_extension(error=error))
    assert_is(client, seen, verification, chain=True)


def test_tls_extension_has_every_key_of_the_specification_with_its_type(mtls_client: IssuedCertificate) -> None:
    assert mtls_client.as_tls_extension() == {
        "server_cert": None,
        "client_cert_chain": [mtls_client.pem],
        "client_cert_name": "CN=client,O=Tests",
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1301,
    }


@pytest.mark.parametrize("through", [through_wsgi, through_asgi])
def test_client_cert_fields_are_read_by_client_cert_header(client: IssuedCertificate, through: Any) -> None:
    source = ClientCertHeader(trusted_proxies=["10.0.0.1"], verified_by_proxy=True)
    assert_is(client, through(source, headers=client.as_client_cert()), Verification.BY_PROXY, chain=True)


@pytest.mark.parametrize("through", [through_wsgi, through_asgi])
@pytest.mark.parametrize(
    ("word", "verification"), [("SUCCESS", Verification.BY_PROXY), ("FAILED:self signed", Verification.PRESENTED)]
)
def test_nginx_fields_are_read_by_nginx(
    client: IssuedCertificate, through: Any, word: str, verification: Verification
) -> None:
    seen = through(Nginx(trusted_proxies=["10.0.0.1"]), headers=client.as_nginx(verify=word))
    assert_is(client, seen, verification, chain=False)


@pytest.mark.shared
def test_nginx_fields_are_written_as_nginx_writes_them() -> None:
    measured = {
        value
        for capture in shared.read_json("captures/proxies.json")
        if capture["program"] == "nginx"
        for _, value in capture["headers"] or ()
        if value.startswith("-----BEGIN%20")
    }
    assert measured
    some_key = self_signed().key
    for value in measured:
        nginx = Nginx(trusted_proxies=["10.0.0.1"], verify_header=False)
        seen = through_wsgi(nginx, headers={"X-SSL-Client-Cert": value})
        assert IssuedCertificate(seen.x509, some_key).as_nginx()["X-SSL-Client-Cert"] == value


def test_forms_are_json(client: IssuedCertificate) -> None:
    for form in (client.as_environ(), client.as_tls_extension(), client.as_client_cert(), client.as_nginx()):
        assert json.loads(json.dumps(form)) == form


def test_client_certificate_is_what_an_application_sees(client: IssuedCertificate) -> None:
    seen = client.client_certificate()
    assert (seen.der, seen.pem, seen.thumbprint) == (client.der, client.pem, client.thumbprint)
    assert (seen.subject, seen.dns_names) == ("CN=billing,O=Acme", ("billing.internal",))
    assert seen.verification is Verification.BY_SERVER
    assert client.client_certificate(Verification.PRESENTED).verification is Verification.PRESENTED


def test_write_gives_leaf_first_and_a_key_for_its_owner_alone(client: IssuedCertificate, tmp_path: Any) -> None:
    (tmp_path / "billing-key.pem").touch(mode=0o644)  # one that was there before
    certificate, key = client.write(tmp_path, name="billing")
    assert (certificate.name, key.name) == ("billing.pem", "billing-key.pem")
    assert load_pem_x509_certificates(certificate.read_bytes()) == [client.x509, *client.chain]
    assert load_pem_private_key(key.read_bytes(), None).public_key() == client.x509.public_key()
    if sys.platform != "win32":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_repr_names_the_certificate_and_never_the_key(mtls_client: IssuedCertificate) -> None:
    assert repr(mtls_client) == f"<IssuedCertificate 'CN=client,O=Tests' {mtls_client.thumbprint}>"
