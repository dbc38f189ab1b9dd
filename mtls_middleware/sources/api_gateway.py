"""`AWSAPIGateway`: reads the client certificate from the AWS Lambda event of Amazon API Gateway.

This module follows the documentation of AWS. It was not tested with the service.
"""

from collections.abc import Mapping
from typing import Any

from mtls_middleware import options
from mtls_middleware.certificate import ClientCertificate, Verification
from mtls_middleware.errors import MalformedCertificate, Refused
from mtls_middleware.request import RequestView, TLSFacts
from mtls_middleware.sources import leaf_and_chain
from mtls_middleware.sources.encoding import MAX_FIELD, pem_ders
from mtls_middleware.sources.source import Absence

# The environ keys in which adapters pass the event: apig-wsgi, serverless-wsgi and aws-wsgi. Under ASGI, mangum passes
# it as `scope["aws.event"]`. No header field of a client becomes such a key.
EVENT_KEYS = ("apig_wsgi.full_event", "serverless.event", "awsgi.event")

# Labels and suffixes of host names that AWS assigns: default endpoints of APIs, and URLs of Lambda functions.
_AWS_LABELS = frozenset({"execute-api", "lambda-url"})
_AWS_SUFFIXES = (".amazonaws.com", ".amazonaws.com.cn", ".aws")


class AWSAPIGateway:
    """Reads the client certificate from the Lambda event of Amazon API Gateway (REST API and HTTP API).

    API Gateway verifies client certificates only for a custom domain name with mutual TLS. The
    `verification` of these certificates is `BY_PROXY`.

    The default endpoint (`https://ID.execute-api.REGION.amazonaws.com`) and the URL of the Lambda function require no
    certificate. This source rejects requests through either of them with 403. Disable the default endpoint and the URL
    of the function.

    The event comes from mangum (ASGI), or from apig-wsgi, serverless-wsgi or aws-wsgi (WSGI). Header fields are not
    read. A principal that may invoke the Lambda function directly can put any certificate into the event.

    Keywords:
        allow_default_endpoint: accept requests through the default endpoint, without a certificate.

    Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/rest-api-mutual-tls.html

    Example: `ClientCertificateMiddleware(app, AWSAPIGateway(), required=True)`
    """

    can_verify = True
    drop_headers: frozenset[str] = frozenset()
    vary: str | None = None

    def __init__(self, *, allow_default_endpoint: bool = False) -> None:
        options.boolean("allow_default_endpoint", allow_default_endpoint)
        self._allow_default_endpoint = allow_default_endpoint

    def find(self, view: RequestView) -> ClientCertificate | None:
        """Return the client certificate in the event, or `None` if the client presented no certificate.

        Raises `Refused("client_certificate_refused")` unless the request came through a custom domain name, and
        `MalformedCertificate` if the event differs from the documentation of AWS.
        """
        event = api_gateway_event(view.tls)
        if event is None:
            return None
        context = _member(event, "requestContext")
        if context is None:
            raise MalformedCertificate("the Lambda event has no requestContext, so it is not from API Gateway")
        if _bypasses_mutual_tls(context):
            if self._allow_default_endpoint:
                return None
            raise Refused(
                "client_certificate_refused",
                "the request came through a default host name of AWS, and API Gateway verifies client certificates "
                "only under a custom domain name",
                advice="disable the default execute-api endpoint of the API and the URL of the Lambda function, or "
                "give AWSAPIGateway(allow_default_endpoint=True)",
            )
        pems = [pem for pem in map(_pem, _clients(context)) if pem is not None]
        if not pems:
            return None
        if any(pem != pems[0] for pem in pems):
            raise MalformedCertificate("the Lambda event has two different client certificates")
        leaf, *chain = pem_ders(pems[0])
        return leaf_and_chain.load(leaf, chain, Verification.BY_PROXY, view.now)

    def absence(self, view: RequestView) -> Absence:
        """Return why `find` returns no certificate for this request."""
        if api_gateway_event(view.tls) is None:
            return Absence(
                "the request has no Lambda event",
                "run the application with mangum, apig-wsgi, serverless-wsgi or aws-wsgi in AWS Lambda; elsewhere, use "
                "the source for the proxy instead of AWSAPIGateway()",
            )
        return Absence(
            "the Lambda event has no client certificate",
            "enable mutual TLS (a truststore) for the custom domain name in API Gateway",
        )

    def __repr__(self) -> str:
        return f"AWSAPIGateway(allow_default_endpoint={self._allow_default_endpoint})"


def api_gateway_event(facts: TLSFacts) -> Mapping[str, Any] | None:
    """Return the Lambda event, or `None` if the request has no event.

    Raises `MalformedCertificate` if it is not a mapping.
    """
    environ = facts.environ or {}
    events = [facts.lambda_event, *map(environ.get, EVENT_KEYS)]
    found = next((each for each in events if each is not None), None)
    if found is not None and not isinstance(found, Mapping):
        raise MalformedCertificate(f"the Lambda event is a {type(found).__name__}; expected a mapping")
    return found


def _bypasses_mutual_tls(context: Mapping[str, Any]) -> bool:
    """Return whether the request came through the default endpoint, a function URL, or an unknown host name."""
    host = context.get("domainName")
    if not isinstance(host, str) or not host:
        return True
    host = host.lower().partition(":")[0].rstrip(".")
    labels = host.split(".")
    # The first label of the host name of a default endpoint is the identifier of the API.
    is_default = context.get("apiId") is not None and labels[0] == str(context["apiId"]).lower()
    return is_default or not _AWS_LABELS.isdisjoint(labels) or host.endswith(_AWS_SUFFIXES)


def _clients(context: Mapping[str, Any]) -> list[Mapping[str, Any] | None]:
    """Return the values of `clientCert` in both formats of the event: 1.0 (REST and HTTP API) and 2.0 (HTTP API)."""
    parents = (_member(context, "identity"), _member(context, "authentication"))
    return [None if parent is None else _member(parent, "clientCert") for parent in parents]


def _member(parent: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    value = parent.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise MalformedCertificate(f"{name} in the Lambda event is a {type(value).__name__}; expected a mapping")
    return value


def _pem(client: Mapping[str, Any] | None) -> str | None:
    if not client:
        return None
    pem = client.get("clientCertPem")
    if not isinstance(pem, str) or len(pem) > MAX_FIELD:
        raise MalformedCertificate(f"clientCertPem is not a PEM string of at most {MAX_FIELD} characters")
    return pem
