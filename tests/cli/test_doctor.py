"""`mtls-middleware doctor`: what the wiring itself shows."""

import importlib
import warnings

import a2wsgi
import flask
import pytest
import uvicorn.middleware.wsgi
from asgiref.wsgi import WsgiToAsgi
from fastapi import FastAPI
from hypercorn.middleware import AsyncioWSGIMiddleware, DispatcherMiddleware
from starlette.applications import Starlette
from starlette.routing import Mount
from twisted.internet import reactor
from twisted.python.threadpool import ThreadPool
from twisted.web.wsgi import WSGIResource

from mtls_middleware import asgi, wsgi
from mtls_middleware.cli.main import main
from mtls_middleware.sources import Caddy, Envoy, Nginx, ServerTLS
from mtls_middleware.testing import TokenIssuer
from tests.cli.conftest import NETWORKS, NGINX, SAFE, bare, bare_asgi

with warnings.catch_warnings(action="ignore"):  # Starlette says that its adapter is deprecated
    STARLETTE = importlib.import_module("starlette.middleware.wsgi").WSGIMiddleware

TOKENS = TokenIssuer().access_tokens()
ENVOY = Envoy(**SAFE)


def test_a_sound_wiring_has_no_findings(doctor):
    assert doctor(wsgi.protect(bare, source=NGINX), "gunicorn x:app --limit-request-field_size 65536") == (0, [])
    ours = "mtls_middleware.servers.uvicorn_tls:"
    served = f"python -m uvicorn x:app --http {ours}H11 --ws {ours}WebSockets --ssl-cert-reqs 1 --no-proxy-headers"
    assert doctor(asgi.protect(bare_asgi, source=ServerTLS()), served) == (0, [])
    assert doctor(asgi.protect(bare_asgi, source=NGINX), served) == (0, [])


def test_no_layer_at_all_is_an_error(doctor):
    status, (finding,) = doctor(flask.Flask("x"))
    assert status == 1
    assert "no layer" in finding["what"]


def test_an_address_alone_is_a_warning_that_says_why(doctor):
    status, (finding,) = doctor(wsgi.protect(bare, source=Nginx(**NETWORKS)))
    assert (status, finding["severity"]) == (0, "warning")
    assert "smuggles a request onto the proxy's connection, or tunnels through the proxy" in finding["what"]
    assert "shared_secret=" in finding["advice"]
    assert "proxy-config" in finding["advice"]
    assert "not a cure" in finding["advice"]


def test_a_secret_alone_causes_no_warning_about_an_address(doctor):
    assert doctor(wsgi.protect(bare, source=Nginx(shared_secret=SAFE["shared_secret"]))) == (0, [])


def test_a_source_that_relies_on_caddy_is_a_warning_about_http3(doctor):
    names = {"certificate_header": "MtlsClientCert", "shared_secret": SAFE["shared_secret"]}
    status, (finding,) = doctor(wsgi.protect(bare, source=Caddy(verified_by_proxy=True, **names)))
    assert (status, finding["severity"]) == (0, "warning")
    assert "HTTP/3" in finding["what"]
    assert "protocols h1 h2" in finding["advice"]
    _, (finding,) = doctor(wsgi.protect(bare, source=Caddy(**names), required=False))
    assert "PRESENTED" in finding["what"]  # nothing relies on Caddy, so there is no warning


def flask_app() -> flask.Flask:
    app = flask.Flask("x")
    app.wsgi_app = wsgi.protect(app.wsgi_app, source=ENVOY, tokens=TOKENS)
    return app


def starlette_app() -> Starlette:
    app = Starlette()
    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=TOKENS)
    app.add_middleware(asgi.ClientCertificateMiddleware, source=ENVOY)
    return app


def mounting_app() -> FastAPI:
    app = FastAPI()
    app.mount("/inner", asgi.ClientCertificateMiddleware(bare_asgi, ENVOY))
    return app


@pytest.mark.parametrize("make", [flask_app, starlette_app, mounting_app])
def test_layers_are_found_inside_of_frameworks(make, doctor):
    status, (finding,) = doctor(make())
    assert status == 0
    assert "PRESENTED" in finding["what"]


@pytest.mark.parametrize(
    "app",
    [
        wsgi.CertificateBoundTokenMiddleware(wsgi.ClientCertificateMiddleware(bare, NGINX), TOKENS),
        asgi.CertificateBoundTokenMiddleware(asgi.ClientCertificateMiddleware(bare_asgi, NGINX), TOKENS),
    ],
    ids=["wsgi", "asgi"],
)
def test_layers_in_the_wrong_order_are_an_error(app, doctor):
    status, (finding,) = doctor(app)
    assert status == 1
    assert "outside of ClientCertificateMiddleware" in finding["what"]


def test_a_layer_of_the_other_gateway_is_an_error(doctor):
    for module, right, wrong in ((wsgi, bare, bare_asgi), (asgi, bare_asgi, bare)):
        app = module.ClientCertificateMiddleware(right, NGINX)
        app._app = wrong
        status, findings = doctor(app)
        assert status == 1
        assert any("wraps an application that uses" in each["what"] for each in findings)


PROTECTED = wsgi.protect(bare, source=NGINX)
ADAPTED = {
    "asgiref": WsgiToAsgi(PROTECTED),
    "starlette": STARLETTE(PROTECTED),
    "uvicorn": uvicorn.middleware.wsgi.WSGIMiddleware(PROTECTED),
    "hypercorn": AsyncioWSGIMiddleware(PROTECTED),
    "twisted": WSGIResource(reactor, ThreadPool(), PROTECTED),
    "starlette, mounted": Starlette(routes=[Mount("/", app=STARLETTE(PROTECTED))]),
    "hypercorn, dispatched": DispatcherMiddleware({"/a": AsyncioWSGIMiddleware(PROTECTED)}),
    "subclass": type("Own", (WsgiToAsgi,), {})(PROTECTED),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_an_adapter_around_a_wsgi_layer_is_named(name, doctor):
    status, findings = doctor(ADAPTED[name], "uvicorn x:app --http h11 --no-proxy-headers")
    assert status == 1
    error, address = [each for each in findings if each["severity"] == "error"]
    assert "X_SSL_Client_Cert" in error["what"]
    assert any(
        package in error["what"] for package in ("asgiref", "starlette", "a2wsgi", "uvicorn", "hypercorn", "twisted")
    )
    assert "MtlsClientCert" in error["advice"]
    assert "peer's address" in address["what"]
    assert "shared_secret= without trusted_proxies=" in address["advice"]


def test_attributes_that_raise_are_passed_over(doctor):
    class Raises:
        def __getattr__(self, name: str) -> object:
            raise RuntimeError("outside of a request")

    status, (finding,) = doctor(Raises())
    assert (status, "no layer" in finding["what"]) == (1, True)
    status, (finding,) = doctor(flask.current_app)
    assert (status, "no layer" in finding["what"]) == (1, True)


def test_an_application_that_contains_itself_ends(doctor):
    class Loop:
        def __call__(self) -> None: ...

    app = Loop()
    app.app = app.routes = app
    app.mounts = {"/": app}
    assert doctor(app)[0] == 1


def test_names_without_hyphens_are_safe_under_an_adapter(doctor):
    source = Nginx(shared_secret=("MtlsProxySecret", "s" * 16), certificate_header="MtlsClientCert", verify_header="V")
    assert doctor(WsgiToAsgi(wsgi.protect(bare, source=source))) == (0, [])


def test_a2wsgi_is_known_in_both_directions(doctor):
    status, _ = doctor(a2wsgi.WSGIMiddleware(PROTECTED))
    assert status == 1
    reverse = a2wsgi.ASGIMiddleware(asgi.protect(bare_asgi, source=NGINX))
    assert doctor(reverse, "gunicorn x:app --limit-request-field_size 65536") == (0, [])
    status, findings = doctor(reverse, "cheroot x:app")
    assert status == 1
    assert any("X_SSL_Client_Cert" in each["what"] for each in findings)


@pytest.mark.parametrize("name", ["nowhere.to.be.found:app", "json:nothing", "json", ":app"])
def test_a_failed_import_is_reported(name, capsys):
    assert main(["doctor", name]) == 2
    assert "expected MODULE:APP" in capsys.readouterr().err


def test_an_open_quote_in_the_command_is_reported(capsys):
    assert main(["doctor", "json:loads", "--server", "gunicorn 'x:app"]) == 2
    assert "expected a command line" in capsys.readouterr().err
