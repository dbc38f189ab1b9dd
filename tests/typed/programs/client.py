"""The client side: a service that calls another service with certificate-bound tokens."""

import ssl

import httpx2

from mtls_middleware.client import (
    AsyncCertificateTransport,
    CertificateBoundAuth,
    CertificateFiles,
    CertificateTransport,
    CredentialsNotSent,
    TokenError,
    TokenNotBound,
    ssl_context,
)
from mtls_middleware.resource_server import IntrospectedAccessTokens

certificate = CertificateFiles("billing.pem", "billing.key", password=None)
auth = CertificateBoundAuth(
    issuer="https://as.example",
    client_id="billing",
    certificate=certificate,
    scopes=["invoices:read"],
    resource=["https://api.example"],
    method="self_signed_tls_client_auth",
    discovery="openid",
    token_hosts={"mtls-as.example"},
    origins=["https://api.example"],
    roots="ca.pem",
)
context: ssl.SSLContext = ssl_context(certificate.current(), "ca.pem")
tokens = IntrospectedAccessTokens(
    endpoint="https://as.example/introspect", client_id="api", certificate=certificate, roots="ca.pem"
)


def invoices() -> int:
    transport = CertificateTransport(certificate, roots="ca.pem", proxy="http://proxy.internal:3128", http2=True)
    with httpx2.Client(transport=transport, auth=auth) as client:
        try:
            return client.get("https://api.example/invoices").status_code
        except TokenNotBound:
            return 0
        except TokenError as error:
            return len(error.oauth_error or error.code)
        except CredentialsNotSent:
            return int(certificate.current().not_valid_after.timestamp())


async def invoices_async() -> int:
    transport = AsyncCertificateTransport(certificate, limits=httpx2.Limits(max_connections=10))
    async with httpx2.AsyncClient(transport=transport, auth=auth) as client:
        return (await client.get("https://api.example/invoices")).status_code
