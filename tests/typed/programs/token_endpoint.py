"""The token endpoint of an authorization server."""

import flask

from mtls_middleware import client_certificate, oauth_client
from mtls_middleware.sources import ServerTLS
from mtls_middleware.token_endpoint import ClientAuthenticator, RegisteredClient, confirmation
from mtls_middleware.validation import RevocationLists, TrustStore
from mtls_middleware.wsgi import ClientAuthenticationMiddleware, ClientCertificateMiddleware

billing = RegisteredClient(
    client_id="billing", token_endpoint_auth_method="tls_client_auth", tls_client_auth_san_dns="billing.internal"
)
store = TrustStore(["clients.pem"], revocation=RevocationLists(["clients.crl"]))
app = flask.Flask(__name__)


@app.post("/token")
def token() -> dict[str, object]:
    client = oauth_client(flask.request)
    certificate = client_certificate(flask.request)
    if client is None or certificate is None:
        flask.abort(401)
    return {"client_id": client.client_id, "cnf": confirmation(certificate)}


app.wsgi_app = ClientCertificateMiddleware(
    ClientAuthenticationMiddleware(
        app.wsgi_app, ClientAuthenticator({"billing": billing}, trust_store=store), paths=["/token"]
    ),
    ServerTLS(),
    required=False,
)
