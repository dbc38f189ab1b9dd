"""Helpers for tests of applications behind mutual TLS: a throwaway CA, client certificates and tokens bound to them.

The rest of the library never imports `mtls_middleware.testing`. Use the keys in tests only.

Example, without TLS:

    ca, issuer = CertificateAuthority(), TokenIssuer()
    client = ca.issue("CN=billing,O=Acme")
    app.wsgi_app = protect(app.wsgi_app, source=ServerTLS(), tokens=issuer.access_tokens())
    authorization = {"Authorization": "Bearer " + issuer.token(certificate=client, scopes=["invoices:read"])}
    assert app.test_client().get("/", headers=authorization, environ_overrides=client.as_environ()).status_code == 200

With a header source instead of `ServerTLS()`, pass `headers=client.as_nginx()` and
`environ_overrides={**TESTING_ENVIRON, "REMOTE_ADDR": "10.0.0.1"}`. A test client is not a WSGI server that the library
knows, so the library trusts `REMOTE_ADDR` only with `TESTING_ENVIRON`.

The pytest plugin `mtls_middleware.testing.plugin` provides the fixtures `mtls_ca`, `mtls_client`, `mtls_other_client`,
`mtls_issuer` and `mtls_environ`.
"""

from typing import TYPE_CHECKING

from mtls_middleware.lazy_exports import exports

if TYPE_CHECKING:
    from mtls_middleware.testing.authority import CertificateAuthority, self_signed
    from mtls_middleware.testing.environ import TESTING_ENVIRON
    from mtls_middleware.testing.issued_certificate import IssuedCertificate
    from mtls_middleware.testing.request_fields import RequestFields
    from mtls_middleware.testing.tokens import OMIT, TokenIssuer

__all__ = [
    "OMIT",
    "TESTING_ENVIRON",
    "CertificateAuthority",
    "IssuedCertificate",
    "RequestFields",
    "TokenIssuer",
    "self_signed",
]

if not TYPE_CHECKING:  # type checkers must not see `__getattr__`, or they would accept misspelt names
    __getattr__, __dir__ = exports(
        __name__,
        {
            "testing.authority": ["CertificateAuthority", "self_signed"],
            "testing.environ": ["TESTING_ENVIRON"],
            "testing.issued_certificate": ["IssuedCertificate"],
            "testing.request_fields": ["RequestFields"],
            "testing.tokens": ["OMIT", "TokenIssuer"],
        },
    )
