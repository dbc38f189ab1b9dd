"""For tests of applications behind mutual TLS: a throwaway CA, client certificates, tokens bound to them.

Must never be imported by the rest of the package. Keys made here live in memory and protect nothing.

Example, without any TLS:

    ca, issuer = CertificateAuthority(), TokenIssuer()
    client = ca.issue("CN=billing,O=Acme")
    app.wsgi_app = protect(app.wsgi_app, source=ServerTLS(), tokens=issuer.access_tokens())
    authorization = {"Authorization": "Bearer " + issuer.token(certificate=client, scopes=["invoices:read"])}
    assert app.test_client().get("/", headers=authorization, environ_overrides=client.as_environ()).status_code == 200

The pytest plugin `mtls_middleware.testing.plugin` gives `mtls_ca`, `mtls_client`, `mtls_other_client`, `mtls_issuer`.
"""

from mtls_middleware.testing.authority import CertificateAuthority, self_signed
from mtls_middleware.testing.issued import IssuedCertificate
from mtls_middleware.testing.tokens import OMIT, TokenIssuer

__all__ = ["OMIT", "CertificateAuthority", "IssuedCertificate", "TokenIssuer", "self_signed"]
