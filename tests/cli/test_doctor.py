"""`mtls-middleware doctor`: each trap is found where it is set, and a sound wiring has nothing to be told."""

import json
import sys
import types
from typing import Any

import flask
import pytest
from starlette.applications import Starlette

from mtls_middleware import asgi, wsgi
from mtls_middleware.cli.main import main
from mtls_middleware.sources import Envoy, HAProxy, Nginx, ServerTLS
from mtls_middleware.testing import TokenIssuer

NETWORKS = {"trusted_proxies": ["10.0.0.0/8"]}
NGINX = Nginx(**NETWORKS)
TOKENS = TokenIssuer().access_tokens()


def bare(*_: Any) -> list[bytes]:
    return []


async def bare_asgi(*_: Any) -> None: ...


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def doctor(app: object, server: str | None = None) -> tuple[int, list[dict[str, str]]]:
        module = types.ModuleType("examined")
        module.app = app  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "examined", module)
        monkeypatch.setattr(sys, "path", list(sys.path))
        status = main(["doctor", "examined:app", "--json", *([] if server is None else ["--server", server])])
        return status, json.loads(capsys.readouterr().out)

    return doctor


def test_a_sound_wiring_has_nothing_to_be_told(doctor):
    assert doctor(wsgi.protect(bare, source=NGINX), "gunicorn x:app --limit-request-field_size 65536") == (0, [])
    ours = "mtls_middleware.servers.uvicorn_tls:"
    served = f"python -m uvicorn x:app --http {ours}H11 --ws {ours}WebSockets --ssl-cert-reqs 1 --no-proxy-headers"
    assert doctor(asgi.protect(bare_asgi, source=ServerTLS()), served) == (0, [])


def test_no_layer_at_all_is_an_error(doctor):
    status, (finding,) = doctor(flask.Flask("x"))
    assert status == 1
    assert "no layer" in finding["what"]


def flask_app() -> flask.Flask:
    app = flask.Flask("x")
    app.wsgi_app = wsgi.protect(app.wsgi_app, source=Envoy(**NETWORKS), tokens=TOKENS)
    return app


def starlette_app() -> Starlette:
    app = Starlette()
    app.add_middleware(asgi.CertificateBoundTokenMiddleware, tokens=TOKENS)
    app.add_middleware(asgi.ClientCertificateMiddleware, source=Envoy(**NETWORKS))
    return app


@pytest.mark.parametrize("make", [flask_app, starlette_app])
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


@pytest.mark.parametrize(
    ("source", "server", "word"),
    [
        (NGINX, "cheroot x:app", "X_SSL_Client_Cert"),
        (NGINX, "granian --interface wsgi x:app", "X_SSL_Client_Cert"),
        (ServerTLS(), "granian x:app", "granian cannot"),
        (ServerTLS(), "waitress-serve x:app", "no TLS"),
        (NGINX, "waitress-serve --trusted-proxy=* x:app", "X-Forwarded-For"),
        (NGINX, "uwsgi --http :80", "--buffer-size"),
        (NGINX, "uwsgi --http :80", "X_SSL_Client_Cert"),
        (NGINX, "python manage.py runserver 8000", "X_SSL_Client_Cert"),
        (NGINX, "gunicorn --forwarder-headers X_SSL_CLIENT_CERT x:app", "forged ones"),
        (NGINX, "gunicorn --header-map=dangerous x:app", "joins"),
        (NGINX, "/usr/bin/gunicorn x:app", "431"),
        (ServerTLS(), "gunicorn --ca-certs ca.pem x:app", "--cert-reqs 0"),
        (NGINX, "uvicorn x:app", "--proxy-headers is the default"),
        (ServerTLS(), "uvicorn x:app --ssl-cert-reqs 2", "does not hand over"),
        (ServerTLS(), "uvicorn x:app --http mtls_middleware.servers.uvicorn_tls:H11", "--ssl-cert-reqs 0"),
        (HAProxy(**NETWORKS), "uvicorn x:app --no-proxy-headers", "trailer"),
        (Envoy(**NETWORKS), "daphne x:app", "16 kB"),
        (NGINX, "thttpd x", "no server that we know"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_trap_of_a_server_is_found(source, server, word, doctor):
    _, findings = doctor(wsgi.ClientCertificateMiddleware(bare, source), server)
    assert any(word in each["what"] and each["advice"] for each in findings), findings


@pytest.mark.parametrize(
    ("source", "server"),
    [
        (Nginx(shared_secret=("X-Secret", "s" * 16)), "cheroot x:app"),
        (NGINX, "granian --interface asgi x:app"),
        (NGINX, "uvicorn x:app --forwarded-allow-ips '' --http h11"),
        (HAProxy(**NETWORKS), "uvicorn x:app --no-proxy-headers --http mtls_middleware.servers.uvicorn_tls:HTTPTools"),
    ],
)
def test_a_trap_that_is_shut_is_not_found(source, server, doctor):
    assert doctor(wsgi.ClientCertificateMiddleware(bare, source), server) == (0, [])


@pytest.mark.parametrize("name", ["nowhere.to.be.found:app", "json:nothing", "json", ":app"])
def test_what_cannot_be_imported_is_said(name, capsys):
    assert main(["doctor", name]) == 2
    assert "expected MODULE:APP" in capsys.readouterr().err
