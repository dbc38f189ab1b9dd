"""Tests of a user's application, with the fixtures of the pytest plugin."""

import flask

from mtls_middleware.sources import ServerTLS
from mtls_middleware.testing import CertificateAuthority, IssuedCertificate, TokenIssuer
from mtls_middleware.wsgi import protect


def test_billing_reads_invoices(mtls_client: IssuedCertificate, mtls_issuer: TokenIssuer) -> None:
    app = flask.Flask("shop")
    app.wsgi_app = protect(app.wsgi_app, source=ServerTLS(), tokens=mtls_issuer.access_tokens())
    token = mtls_issuer.token(certificate=mtls_client, scopes=["invoices:read"])
    headers = {"Authorization": f"Bearer {token}"}
    response = app.test_client().get("/", headers=headers, environ_overrides=mtls_client.as_environ())
    assert response.status_code == 404


def test_a_stranger_is_rejected(mtls_ca: CertificateAuthority) -> None:
    stranger = mtls_ca.issue("CN=stranger", dns=["stranger.example"])
    assert stranger.client_certificate().subject == "CN=stranger"
