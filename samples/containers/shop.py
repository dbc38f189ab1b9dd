"""The application in the container, behind nginx in the container beside it."""

import os

from flask import Flask, request

from mtls_middleware import client_certificate
from mtls_middleware.policy import DNSName
from mtls_middleware.sources import Nginx
from mtls_middleware.wsgi import protect

app = Flask(__name__)


@app.get("/")
def index() -> str:
    """Respond to a client with the certificate of the rule."""
    certificate = client_certificate(request)
    return f"Hello {certificate.subject}\n" if certificate else ""


@app.get("/health")
def health() -> str:
    """Respond to probes, which have no certificate."""
    return "up\n"


source = Nginx(
    trusted_proxies=["127.0.0.1"],
    shared_secret=("MtlsProxySecret", os.environ["MTLS_PROXY_SECRET"].split(",")),
    certificate_header="MtlsClientCert",
    verify_header="MtlsClientVerify",
)
allow = DNSName("billing.internal")
app.wsgi_app = protect(app.wsgi_app, source=source, allow=allow, exempt=["/health"])
