"""The Lambda event of Amazon API Gateway, in the forms of its documentation, as each adapter passes it."""

from typing import Any

import pytest

from mtls_middleware import ConfigurationError, Verification
from mtls_middleware.reusable import opts_in
from mtls_middleware.sources import AWSAPIGateway
from mtls_middleware.testing import IssuedCertificate
from tests.gateways import Outcome
from tests.sources.requests import through_asgi, through_wsgi

HOST = "api.example.com"
DEFAULT_ENDPOINTS = (
    "a1b2c3.execute-api.eu-west-1.amazonaws.com",
    "A1B2C3.execute-api.eu-west-1.amazonaws.com.",
    "a1b2c3.execute-api.cn-north-1.amazonaws.com.cn",
    "a1b2c3.execute-api.eu-west-1.api.aws",
    "a1b2c3.execute-api.eusc-de-east-1.amazonaws.eu",
    "other.execute-api.eu-west-1.amazonaws.com:443",
    "abc.lambda-url.eu-west-1.on.aws",
    "a1b2c3.unknown.example",
    "",
    None,
    5,
)


def client_cert(pem: str) -> dict[str, Any]:
    return {
        "clientCertPem": pem,
        "subjectDN": "CN=admin",
        "issuerDN": "CN=admin",
        "serialNumber": "1",
        "validity": {"notBefore": "May 28 12:30:02 2019 GMT", "notAfter": "Aug  5 09:36:04 2021 GMT"},
    }


def rest(pem: str | None, host: Any = HOST) -> dict[str, Any]:
    """The format 1.0, of REST APIs and HTTP APIs."""
    identity = {"sourceIp": "192.0.2.1", "clientCert": None if pem is None else client_cert(pem)}
    return {"httpMethod": "GET", "requestContext": {"apiId": "a1b2c3", "domainName": host, "identity": identity}}


def http(pem: str | None, host: Any = HOST) -> dict[str, Any]:
    """The format 2.0, of HTTP APIs."""
    authentication = None if pem is None else {"clientCert": client_cert(pem)}
    context = {"apiId": "a1b2c3", "domainName": host, "authentication": authentication}
    return {"version": "2.0", "requestContext": context}


def mangum(event: Any, source: Any, **layer: Any) -> Outcome:
    return through_asgi(source, scope={"aws.event": event, "aws.context": object()}, **layer)


def by_environ(key: str) -> Any:
    return lambda event, source, **layer: through_wsgi(source, environ={key: event}, **layer)


ADAPTERS = {
    "mangum": mangum,
    "apig-wsgi": by_environ("apig_wsgi.full_event"),
    "serverless-wsgi": by_environ("serverless.event"),
    "aws-wsgi": by_environ("awsgi.event"),
}
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
every_format = pytest.mark.parametrize("form", [rest, http])


@every_adapter
@every_format
def test_the_certificate_of_the_event_is_verified_by_the_proxy(
    adapter: Any, form: Any, mtls_client: IssuedCertificate
) -> None:
    for pem in (mtls_client.pem, mtls_client.pem.strip()):
        outcome = adapter(form(pem), AWSAPIGateway(), required=True)
        assert (outcome.status, outcome.thumbprint) == (200, mtls_client.thumbprint)
        assert outcome.certificate.verification is Verification.BY_PROXY
        assert outcome.certificate.subject != "CN=admin"


@every_adapter
@every_format
@pytest.mark.parametrize("host", DEFAULT_ENDPOINTS)
def test_the_default_endpoint_is_rejected(adapter: Any, form: Any, host: Any, mtls_client: IssuedCertificate) -> None:
    for pem in (None, mtls_client.pem):
        refused = adapter(form(pem, host), AWSAPIGateway())
        assert (refused.status, refused.error, refused.reached) == (403, "client_certificate_refused", False)
        allowed = adapter(form(pem, host), AWSAPIGateway(allow_default_endpoint=True))
        assert (allowed.status, allowed.certificate) == (200, None)
        assert adapter(form(pem, host), AWSAPIGateway(allow_default_endpoint=True), required=True).status == 403


@every_adapter
@every_format
def test_an_event_without_a_certificate_attaches_none(adapter: Any, form: Any) -> None:
    assert adapter(form(None), AWSAPIGateway()).certificate is None
    refused = adapter(form(None), AWSAPIGateway(), required=True)
    assert (refused.status, refused.error) == (403, "client_certificate_required")


@every_adapter
def test_a_malformed_event_is_rejected(
    adapter: Any, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    two = http(mtls_client.pem)
    two["requestContext"]["identity"] = {"clientCert": client_cert(mtls_other_client.pem)}
    context = {"domainName": HOST}
    for event in (
        "event", 5, [], {}, {"requestContext": []}, {"requestContext": {**context, "identity": "x"}}, two,
        {"requestContext": {**context, "identity": {"clientCert": "x"}}},
        {"requestContext": {**context, "identity": {"clientCert": {"subjectDN": "CN=admin"}}}},
        rest(""), rest("x"), rest(mtls_client.key_pem), rest(5), rest("A" * 100_000),
    ):  # fmt: skip
        assert adapter(event, AWSAPIGateway()).status == 400


def test_requests_outside_of_lambda_have_no_certificate(mtls_client: IssuedCertificate) -> None:
    """Fields of a client become no event."""
    headers = [("aws.event", "x"), ("apig-wsgi.full-event", mtls_client.pem), ("X-Amzn-Request-Context", "{}")]
    for gateway in (through_wsgi, through_asgi):
        assert gateway(AWSAPIGateway(), headers).certificate is None
        assert gateway(AWSAPIGateway(), headers, required=True).status == 403


def test_the_log_says_how_to_reject_the_default_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    mangum(http(None, DEFAULT_ENDPOINTS[0]), AWSAPIGateway())
    assert "host name of AWS" in caplog.text


def test_the_option_is_a_boolean() -> None:
    with pytest.raises(ConfigurationError, match="allow_default_endpoint="):
        AWSAPIGateway(allow_default_endpoint="yes")  # type: ignore[arg-type]  # a wrong argument


@every_adapter
def test_no_decision_about_an_event_is_cached(
    adapter: Any, mtls_client: IssuedCertificate, mtls_other_client: IssuedCertificate
) -> None:
    """Lambda gives the next request to the same process."""
    assert not opts_in(AWSAPIGateway())
    source = AWSAPIGateway()
    event = http(mtls_client.pem)
    for _ in range(3):
        assert adapter(event, source).thumbprint == mtls_client.thumbprint
    event["requestContext"]["authentication"]["clientCert"] = client_cert(mtls_other_client.pem)
    assert adapter(event, source).thumbprint == mtls_other_client.thumbprint
    event["requestContext"]["domainName"] = DEFAULT_ENDPOINTS[0]
    assert adapter(event, source).status == 403
