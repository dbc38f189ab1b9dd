"""`mtls-middleware doctor --server`: each trap is found where it is set, and nothing where it is not."""

import pytest

from mtls_middleware import asgi, wsgi
from mtls_middleware.sources import Envoy, HAProxy, Nginx, ServerTLS
from tests.cli.conftest import NGINX, NO_HYPHENS, SAFE, bare, bare_asgi

OURS = "mtls_middleware.servers.uvicorn_tls:"
SECRET = Nginx(shared_secret=SAFE["shared_secret"])
GUNICORN = "gunicorn x:app --limit-request-field_size 65536"


def protected(gateway: str, source):
    return {"wsgi": wsgi, "asgi": asgi}[gateway].ClientCertificateMiddleware(
        {"wsgi": bare, "asgi": bare_asgi}[gateway], source
    )


@pytest.mark.parametrize(
    ("gateway", "source", "server", "word"),
    [
        ("wsgi", NGINX, "cheroot x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "granian --interface wsgi x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "uvicorn --interface wsgi x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "uvicorn --interface=wsgi x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "hypercorn wsgi:x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "hypercorn x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "python -m mtls_middleware.servers.hypercorn_tls x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "twist web --wsgi x.app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "twistd -n web --wsgi x.app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "gunicorn -k tornado x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "gunicorn -ktornado x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "gunicorn -k my.own.Worker x:app", "may read X_SSL"),
        ("wsgi", NGINX, "uwsgi --http :80", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "python manage.py runserver 8000", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "gunicorn --protocol uwsgi x:app", "X_SSL_Client_Cert"),
        ("wsgi", NGINX, "uwsgi --http :80", "trusted_proxies= never matches"),
        ("wsgi", NO_HYPHENS, "hypercorn wsgi:x:app", "trusted_proxies= never matches"),
        ("wsgi", NO_HYPHENS, "uvicorn --interface wsgi x:app", "trusted_proxies= never matches"),
        ("wsgi", NO_HYPHENS, "gunicorn -k tornado x:app", "trusted_proxies= never matches"),
        ("wsgi", NO_HYPHENS, "thttpd x", "trusted_proxies= never matches"),
        ("wsgi", NGINX, "thttpd x", "may read X_SSL"),
        ("wsgi", NGINX, "thttpd x", "not a known server"),
        ("wsgi", NGINX, "gunicorn --forwarder-headers X_SSL_CLIENT_CERT x:app", "a forged one"),
        ("wsgi", NGINX, "gunicorn --forwarder-headers=SCRIPT_NAME,X-PROXY-SECRET x:app", "a forged one"),
        ("wsgi", NGINX, "gunicorn --header-map=dangerous x:app", "joins"),
        ("wsgi", NGINX, "gunicorn --header-map dangerous x:app", "joins"),
        ("wsgi", NGINX, "gunicorn --header-m dangerous x:app", "joins"),
        ("wsgi", NGINX, "sh -c 'exec gunicorn --header-map dangerous x:app'", "joins"),
        ("wsgi", NGINX, "cd /srv/uvicorn && gunicorn --header-map dangerous x:app", "joins"),
        ("wsgi", NGINX, "/usr/bin/gunicorn x:app", "431"),
        ("wsgi", NGINX, "uwsgi --http :80", "--buffer-size"),
        ("wsgi", NGINX, "waitress-serve --trusted-proxy=* x:app", "X-Forwarded-For"),
        ("wsgi", NGINX, "waitress-serve --trusted-proxy '*' x:app", "X-Forwarded-For"),
        ("wsgi", NGINX, "gunicorn --proxy-protocol auto x:app", "PROXY protocol"),
        ("wsgi", NGINX, "uvicorn x:app", "serves ASGI"),
        ("wsgi", ServerTLS(), "granian x:app", "granian cannot"),
        ("wsgi", ServerTLS(), "waitress-serve x:app", "no TLS"),
        ("wsgi", ServerTLS(), "gunicorn --ca-certs ca.pem x:app", "--cert-reqs 0"),
        ("asgi", ServerTLS(), "uvicorn x:app --ssl-cert-reqs 2", "does not hand over"),
        ("asgi", ServerTLS(), f"uvicorn x:app --http {OURS}H11", "--ssl-cert-reqs 0"),
        ("asgi", ServerTLS(), "hypercorn x:app", "does not hand over"),
        ("asgi", NGINX, "uvicorn x:app", "--proxy-headers is the default"),
        ("asgi", NGINX, "uvicorn x:app --no-proxy-headers --proxy-headers", "--proxy-headers is the default"),
        ("asgi", HAProxy(**SAFE), "uvicorn x:app --no-proxy-headers", "trailer"),
        ("asgi", NGINX, "uvicorn x:app --no-proxy-headers", "does not consume the body"),
        ("asgi", NGINX, "uvicorn --http=httptools x:app", "does not consume the body"),
        ("asgi", NGINX, "gunicorn -k uvicorn_worker.UvicornWorker x:app", "does not consume the body"),
        ("asgi", NGINX, "gunicorn --worker-class=uvicorn.workers.UvicornWorker x:app", "does not consume the body"),
        ("asgi", NGINX, "gunicorn -k=uvicorn.workers.UvicornH11Worker x:app", "X-Forwarded-For"),
        ("asgi", NGINX, "uvicorn x:app --http zttp --http2", "HTTP/2 in clear text"),
        ("asgi", NGINX, "hypercorn x:app", "HTTP/2 in clear text"),
        ("asgi", NGINX, "python -m hypercorn x:app", "HTTP/2 in clear text"),
        ("asgi", NGINX, "python -m mtls_middleware.servers.hypercorn_tls -k trio x:app", "HTTP/2 in clear text"),
        ("asgi", NGINX, "granian --interface asgi x:app", "HTTP/2 in clear text"),
        ("asgi", NGINX, "granian --interface asgi --http 2 x:app", "HTTP/2 in clear text"),
        ("asgi", NGINX, "gunicorn --http2-cleartext both --http-protocols h2,h1 x:app", "HTTP/2 in clear text"),
        ("asgi", NGINX, "daphne x:app", "what follows CONNECT"),
        ("asgi", NGINX, "daphne --proxy-headers x:app", "X-Forwarded-For"),
        ("asgi", Envoy(**SAFE), "daphne x:app", "16 kB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_each_trap_of_a_server_is_found(gateway, source, server, word, doctor):
    _, findings = doctor(protected(gateway, source), server)
    assert any(word in each["what"] and each["advice"] for each in findings), findings


@pytest.mark.parametrize(
    ("gateway", "source", "server"),
    [
        ("wsgi", NO_HYPHENS, "cheroot x:app"),
        ("wsgi", NGINX, f"{GUNICORN} --header-map drop"),
        ("wsgi", NGINX, f"{GUNICORN} --header-map dangerous --header-map refuse"),
        ("wsgi", NO_HYPHENS, f"{GUNICORN} --header-map dangerous"),
        ("wsgi", NGINX, f"{GUNICORN} -k gthread"),
        ("wsgi", NGINX, f"{GUNICORN} -k mtls_middleware.servers.gunicorn_asgi.Worker"),
        ("wsgi", NGINX, f"{GUNICORN} --forwarder-headers SCRIPT_NAME,REMOTE_USER"),
        ("wsgi", NGINX, "flask --app x run"),
        ("asgi", NGINX, f"{GUNICORN} -k mtls_middleware.servers.gunicorn_asgi.Worker --header-map dangerous"),
        ("asgi", NGINX, f"uvicorn x:app --forwarded-allow-ips '' --http {OURS}H11"),
        ("asgi", NGINX, f"uvicorn x:app --http={OURS}HTTP2 --no-proxy-headers"),
        ("asgi", HAProxy(**SAFE, verify_header="X-V"), f"uvicorn x:app --no-proxy-headers --http {OURS}HTTPTools"),
        ("asgi", SECRET, f"uvicorn x:app --http {OURS}H11"),
        ("asgi", NGINX, "python -m mtls_middleware.servers.hypercorn_tls x:app"),
        ("asgi", NGINX, "python -m mtls_middleware.servers.daphne_tls x:app"),
    ],
)
def test_a_trap_that_is_shut_is_not_found(gateway, source, server, doctor):
    assert doctor(protected(gateway, source), server) == (0, [])


@pytest.mark.parametrize("server", ["uvicorn x:app", "hypercorn x:app", "granian --interface asgi x:app"])
def test_the_advice_says_that_a_secret_is_no_cure(server, doctor):
    status, findings = doctor(protected("asgi", NGINX), server)
    assert status == 1
    (finding,) = [each for each in findings if "clear text" in each["what"] or "the body of" in each["what"]]
    assert server.split()[0] in finding["what"]
    assert "not a cure" in finding["advice"]


@pytest.mark.parametrize(
    "server", ["", "gunicorn", "gunicorn --", "gunicorn -", "gunicorn -k", "uvicorn --http", "= ="]
)
def test_odd_command_lines_end_without_an_exception(server, doctor):
    status, _ = doctor(protected("wsgi", NGINX), server)
    assert status in (0, 1)
