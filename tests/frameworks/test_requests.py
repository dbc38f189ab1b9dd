"""Real frameworks and their test clients: what their requests give to the accessors, and refusals on the way out."""

import pytest

from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.frameworks.applications import FRAMEWORKS, Ask
from tests.frameworks.reports import Headers


@pytest.fixture(scope="module")
def tokens(mtls_issuer: TokenIssuer) -> JWTAccessTokens:
    return mtls_issuer.access_tokens()


@pytest.fixture(scope="module", params=FRAMEWORKS)
def ask(request: pytest.FixtureRequest, tokens: JWTAccessTokens) -> Ask:
    return FRAMEWORKS[request.param](tokens)


def test_view_reads_certificate_and_token(
    ask: Ask, proxied: Headers, bearer: Headers, mtls_client: IssuedCertificate
) -> None:
    status, headers, body = ask("/invoices", proxied | bearer)
    assert (status, body) == (200, {"thumbprint": mtls_client.thumbprint, "subject": "alice", "header": None})
    assert "x-ssl-client-cert" in headers["Vary"]


def test_exempt_view_reads_none(ask: Ask, mtls_client: IssuedCertificate) -> None:
    forged = dict(mtls_client.as_nginx())
    for headers in ({}, forged, forged | {"Authorization": "Bearer x"}):
        status, _, body = ask("/health", headers)
        assert (status, body) == (200, {"thumbprint": None, "subject": None, "header": None})


def test_refusals_come_through_as_they_are(ask: Ask, proxied: Headers, bearer: Headers) -> None:
    for headers, status, error, challenge in (
        ({}, 403, "client_certificate_required", None),
        (proxied | {"X-SSL-Client-Cert": "rubbish"}, 400, "invalid_client_certificate", None),
        (proxied | {"X-SSL-Client-Verify": "FAILED:self signed certificate"}, 403, "client_certificate_refused", None),
        (proxied, 401, None, 'Bearer realm="protected"'),
        (proxied | {"Authorization": bearer["Authorization"] + "x"}, 401, "invalid_token", None),
    ):
        got, received, body = ask("/invoices", headers)
        assert (got, body.get("error")) == (status, error)
        assert received["Content-Type"] == "application/json"
        assert received["Cache-Control"] == "no-store"
        if challenge is not None:
            assert received["WWW-Authenticate"] == challenge
