"""`IssuedCertificate.for_source`: what it gives for a source is what that source reads, in each test client."""

import asyncio
import json

import flask
import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import mtls_middleware.sources
from mtls_middleware import ConfigurationError, Verification, asgi, client_certificate, wsgi
from mtls_middleware.policy import Subject
from mtls_middleware.sources import (
    Apache,
    AWSAPIGateway,
    AWSLoadBalancer,
    AzureApplicationGateway,
    AzureAppService,
    Caddy,
    CitrixNetScaler,
    ClientCertHeader,
    Cloudflare,
    CloudFoundry,
    Envoy,
    GoogleCloudLoadBalancer,
    HAProxy,
    HeaderSource,
    Nginx,
    ServerTLS,
    Source,
    Traefik,
)
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate

TRUSTED = {"trusted_proxies": ["10.0.0.0/8"], "shared_secret": ("MtlsProxySecret", "s" * 16)}
SOURCES = {
    "Apache": Apache(**TRUSTED),
    "AWSLoadBalancer, verify": AWSLoadBalancer(mode="verify", **TRUSTED),
    "AWSLoadBalancer, passthrough": AWSLoadBalancer(mode="passthrough", **TRUSTED),
    "AWSAPIGateway": AWSAPIGateway(),
    "AzureApplicationGateway": AzureApplicationGateway(**TRUSTED),
    "CitrixNetScaler": CitrixNetScaler(**TRUSTED, verified_by_proxy=True),
    "CloudFoundry": CloudFoundry(**TRUSTED, verified_by_proxy=True),
    "CloudFoundry behind HAProxy": CloudFoundry(**TRUSTED, verify_header="X-SSL-Client-Verify"),
    "AzureAppService": AzureAppService(**TRUSTED),
    "Caddy": Caddy(**TRUSTED, verified_by_proxy=True),
    "ClientCertHeader": ClientCertHeader(**TRUSTED, verified_by_proxy=True),
    "Cloudflare": Cloudflare(**TRUSTED),
    "Envoy, XFCC": Envoy(**TRUSTED, verified_by_proxy=True),
    "Envoy, XFCC with hops": Envoy(**TRUSTED, hops=2),
    "Envoy, own field": Envoy(**TRUSTED, certificate_header="MtlsClientCert", verify_header="MtlsClientVerify"),
    "GoogleCloudLoadBalancer": GoogleCloudLoadBalancer(**TRUSTED),
    "HAProxy": HAProxy(**TRUSTED),
    "HAProxy, chain": HAProxy(**TRUSTED, chain_header="X-SSL-Client-Chain"),
    "Nginx": Nginx(**TRUSTED),
    "Nginx, own names": Nginx(**TRUSTED, certificate_header="MtlsClientCert", verify_header="MtlsClientVerify"),
    "Nginx, secret alone": Nginx(shared_secret=TRUSTED["shared_secret"]),
    "Nginx, address alone": Nginx(trusted_proxies=["2001:db8::7"]),
    "Nginx, unix socket": Nginx(trusted_proxies=["unix"]),
    "ServerTLS": ServerTLS(),
    "Traefik": Traefik(**TRUSTED, verified_by_proxy=True),
}
CLIENT = CertificateAuthority().intermediate().issue("CN=billing,O=Acme", uris=["spiffe://acme.internal/billing"])
OTHER_CA = CertificateAuthority("CN=Proxies")

all_sources = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def flask_app(source) -> flask.Flask:
    app = flask.Flask("x")
    app.add_url_rule("/", view_func=lambda: shown(client_certificate(flask.request.environ)))
    app.wsgi_app = wsgi.ClientCertificateMiddleware(app.wsgi_app, source)
    return app


def starlette_app(source):
    async def view(request):
        return PlainTextResponse(shown(client_certificate(request.scope)))

    return asgi.ClientCertificateMiddleware(Starlette(routes=[Route("/", view)]), source)


def shown(certificate) -> str:
    return json.dumps(None if certificate is None else [certificate.thumbprint, certificate.verification.name])


def expected(source) -> list[str]:
    if isinstance(source, ServerTLS):
        return [CLIENT.thumbprint, "BY_SERVER"]
    return [CLIENT.thumbprint, "BY_PROXY" if source.can_verify else "PRESENTED"]


def test_every_source_of_the_library_is_in_the_table():
    exported = (getattr(mtls_middleware.sources, name) for name in mtls_middleware.sources.__all__)
    classes = {each for each in exported if isinstance(each, type) and hasattr(each, "find")}
    assert classes - {Source, HeaderSource} == {type(source) for source in SOURCES.values()}


@all_sources
def test_flask_client(source):
    answer = flask_app(source).test_client().get("/", environ_overrides=CLIENT.for_source(source).environ)
    assert json.loads(answer.text) == expected(source)


@all_sources
def test_starlette_client(source):
    answer = TestClient(CLIENT.for_source(source).asgi(starlette_app(source))).get("/")
    assert answer.json() == expected(source)


@all_sources
def test_httpx2_client_of_a_wsgi_application(source):
    transport = httpx2.WSGITransport(app=CLIENT.for_source(source).wsgi(flask_app(source)))
    with httpx2.Client(transport=transport, base_url="http://testserver") as client:
        assert client.get("/").json() == expected(source)


@all_sources
def test_httpx2_client_of_an_asgi_application(source):
    async def get():
        transport = httpx2.ASGITransport(app=CLIENT.for_source(source).asgi(starlette_app(source)))
        async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return (await client.get("/")).json()

    assert asyncio.run(get()) == expected(source)


@pytest.mark.parametrize("name", ["ClientCertHeader", "Envoy, XFCC", "HAProxy, chain", "Traefik", "ServerTLS"])
def test_the_chain_reaches_the_application(name):
    async def view(request):
        return PlainTextResponse(str(len(client_certificate(request.scope).chain)))

    app = asgi.ClientCertificateMiddleware(Starlette(routes=[Route("/", view)]), SOURCES[name])
    assert TestClient(CLIENT.for_source(SOURCES[name]).asgi(app)).get("/").text == "1"


@pytest.mark.parametrize("name", ["Nginx", "Apache", "HAProxy", "Cloudflare", "GoogleCloudLoadBalancer"])
def test_an_unverified_certificate_is_only_presented(name):
    fields = CLIENT.for_source(SOURCES[name], verified=False)
    answer = flask_app(SOURCES[name]).test_client().get("/", environ_overrides=fields.environ)
    assert json.loads(answer.text) == [CLIENT.thumbprint, Verification.PRESENTED.name]


def test_the_fields_are_a_mapping_of_header_names():
    fields = CLIENT.for_source(SOURCES["Nginx"])
    assert dict(fields) == {**dict(fields), "mtlsproxysecret": "s" * 16}
    assert {name.lower() for name in CLIENT.as_nginx()} == set(fields) - {"mtlsproxysecret"}
    assert fields.peer == "10.0.0.1"


def test_a_field_of_the_request_itself_is_replaced():
    fields = CLIENT.for_source(SOURCES["Nginx"])
    client = TestClient(fields.asgi(starlette_app(SOURCES["Nginx"])), headers=OTHER_CA.issue().as_nginx())
    assert client.get("/").json() == [CLIENT.thumbprint, "BY_PROXY"]


def test_a_proxy_with_a_certificate_of_its_own():
    source = Nginx(proxy_certificate=Subject("CN=proxy"))
    proxy = OTHER_CA.issue("CN=proxy")
    with pytest.raises(ConfigurationError, match="proxy="):
        CLIENT.for_source(source)
    fields = CLIENT.for_source(source, proxy=proxy)
    assert TestClient(fields.asgi(starlette_app(source))).get("/").json() == [CLIENT.thumbprint, "BY_PROXY"]
    answer = flask_app(source).test_client().get("/", environ_overrides=fields.environ)
    assert json.loads(answer.text) == [CLIENT.thumbprint, "BY_PROXY"]


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (object(), {}),
        (Nginx, {}),
        (SOURCES["Caddy"], {"verified": False}),
        (SOURCES["AzureAppService"], {"verified": False}),
        (ServerTLS(), {"verified": False}),
        (ServerTLS(), {"proxy": CLIENT}),
    ],
)
def test_what_a_source_cannot_express_is_an_error(source, options):
    with pytest.raises(ConfigurationError):
        CLIENT.for_source(source, **options)


def test_a_source_of_ones_own_is_an_error_that_names_it():
    class Own(Nginx):
        dialect = Nginx.dialect.__class__("own", "X-Own", lambda text: (b"",))

    with pytest.raises(ConfigurationError, match="not a source of mtls_middleware"):
        CLIENT.for_source(Own(**TRUSTED))


def test_a_certificate_is_read_from_the_files_it_was_written_to(tmp_path):
    CLIENT.write(tmp_path, name="billing")
    found = IssuedCertificate.read(tmp_path, name="billing")
    assert (found.thumbprint, found.chain, found.key_pem) == (CLIENT.thumbprint, CLIENT.chain, CLIENT.key_pem)


def test_no_repr_shows_the_secret():
    fields = CLIENT.for_source(SOURCES["Nginx"])
    assert "s" * 16 not in repr(CLIENT) + repr(fields)
    assert "mtlsproxysecret" in repr(fields)


def test_an_encrypted_key_is_a_value_error(tmp_path):
    CLIENT.write(tmp_path)
    password = BestAvailableEncryption(b"x")
    (tmp_path / "client-key.pem").write_bytes(CLIENT.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, password))
    with pytest.raises(ValueError, match="encrypted"):
        IssuedCertificate.read(tmp_path)
