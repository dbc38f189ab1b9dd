"""`RouteScopes` and `RouteCertificate`: check the access token or the client certificate that one route requires.

This module imports no framework. An integration passes the environ or scope, and converts a `LayerResponse` to a
response of its framework.
"""

from collections.abc import Collection, Mapping
from typing import Any, Generic, TypeVar

from mtls_middleware import options
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import NO_CERTIFICATE, ConfigurationError, Refused
from mtls_middleware.layers.absence import with_absence
from mtls_middleware.layers.allowance import require_allowed
from mtls_middleware.layers.attached import ATTACHED_KEY, Attached
from mtls_middleware.layers.decisions import RequestFacts, reject
from mtls_middleware.resource_server import scopes
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import Challenge, LayerResponse
from mtls_middleware.rule import Rule, as_rule

Required = TypeVar("Required", AccessToken, ClientCertificate)


class RouteCheck(Generic[Required]):
    """A check of one route, in addition to the checks of the layers.

    Attributes:
        name: the name of the deciding layer in the log record.
        decorator: the name of the decorator or dependency, for messages.
        layers: an example of the layers that the check needs, for messages.
        challenge: the challenge of a rejection.
    """

    name = "route"
    decorator: str
    layers = "protect(app, source=Nginx(...))"
    challenge: Challenge = Challenge()

    def check(self, carrier: Mapping[str, Any], *, method: str, path: str) -> Required | LayerResponse:
        """Return the token or certificate that the route requires, or the response that rejects the request.

        A rejection is logged.

        The response and the log record have the same format as those of the layers.

        Arguments:
            carrier: the WSGI environ or the ASGI scope.
            method, path: used in the log record only.

        The status is 500 if the request did not pass through the layers of `mtls_middleware`.
        """
        found = carrier.get(ATTACHED_KEY)
        attached = found if isinstance(found, Attached) else None
        try:
            if attached is None:
                raise ConfigurationError(
                    f"{self.decorator} found no layer of mtls_middleware around the application: wrap the whole "
                    f"application, for example {self.layers}"
                )
            return self._required(attached)
        except Exception as error:  # noqa: BLE001 (fail closed: after any error, the route does not run)
            return reject(self, error, RequestFacts(attached, method, path))

    def _required(self, attached: Attached) -> Required:
        """Return the token or certificate that the layers attached.

        Raises `Refused` if it does not meet the requirements.
        """
        raise NotImplementedError


class RouteScopes(RouteCheck[AccessToken]):
    """The scopes that one route requires, in addition to the scopes that its layer requires for every request.

    Arguments:
        scopes: the scopes that the token must have. If empty, every accepted token is sufficient.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1). Use the values of the layer.

    Raises `ConfigurationError` for an invalid argument. `check` responds with 401 if no token was accepted for the
    request, and with 403 if the token lacks a scope.

    Example: `RouteScopes(["invoices:read"]).check(environ, method="GET", path="/invoices")`
    """

    decorator = "require_scopes"
    layers = "protect(app, source=Nginx(...), tokens=...)"

    def __init__(
        self, scopes: Collection[str] = (), *, realm: str | None = None, resource_metadata: str | None = None
    ) -> None:
        self._scopes = options.strings("scopes", scopes, '"invoices:read"')
        self.challenge: Challenge = Challenge(
            realm=Challenge().realm if realm is None else realm,
            scopes=tuple(sorted(self._scopes)),
            resource_metadata=resource_metadata,
        )

    def _required(self, attached: Attached) -> AccessToken:
        token = attached.token
        if not isinstance(token, AccessToken):
            raise Refused(
                "missing_token",
                "no token was accepted for this request: its path is exempt, or no CertificateBoundTokenMiddleware ran",
            )
        scopes.require_scopes(token, self._scopes)
        return token


class RouteCertificate(RouteCheck[ClientCertificate]):
    """The client certificate that one route requires, in addition to the rules of its layer.

    Arguments:
        rule: the rule that the certificate must match. With `None`, every verified certificate is sufficient.

    Raises `ConfigurationError` for an object that is not a rule. `check` responds with 403
    `client_certificate_required` without a certificate, and with 403 `client_certificate_refused` if the certificate is
    not allowed.

    Example: `RouteCertificate(Subject("CN=ops,O=Acme")).check(environ, method="GET", path="/admin")`
    """

    decorator = "require_certificate"

    def __init__(self, rule: Rule | None = None) -> None:
        if callable(rule) and not isinstance(rule, (type, Rule)):
            # If the decorator is written without parentheses, its argument is the view, which is a function, too.
            raise ConfigurationError(
                f"require_certificate got {rule!r}: expected a rule of mtls_middleware.policy in parentheses, for "
                'example require_certificate(Subject("CN=ops,O=Acme")) or require_certificate(as_rule(function))'
            )
        self._rule = None if rule is None else as_rule(rule)

    def _required(self, attached: Attached) -> ClientCertificate:
        certificate = attached.certificate
        if certificate is None:
            if attached.presented is not None:
                raise Refused(
                    "client_certificate_refused",
                    f"{attached.presented.thumbprint} is not accepted, and the path is exempt",
                    advice="remove the path from exempt=, so that the layer logs why it rejects the certificate",
                )
            raise with_absence(Refused("client_certificate_required", NO_CERTIFICATE), attached)
        require_allowed(self._rule, certificate)
        return certificate


def decorator_scopes(
    scopes: tuple[str, ...], example: str, *, realm: str | None, resource_metadata: str | None
) -> RouteScopes:
    """Return the `RouteScopes` for the arguments of `require_scopes`.

    Raises `ConfigurationError`, with `example` in the message, if an argument is not a string. This also detects the
    decorator without parentheses, because its argument is then the view.

    Example:
        `decorator_scopes(("invoices:read",), '@require_scopes("invoices:read")', realm=None, resource_metadata=None)`
    """
    if not all(isinstance(each, str) for each in scopes):
        raise ConfigurationError(
            f"require_scopes got {scopes!r}: expected strings in parentheses, for example {example}"
        )
    return RouteScopes(scopes, realm=realm, resource_metadata=resource_metadata)


def check_view(check: RouteCheck[Any], view: object, example: str) -> None:
    """Raise `ConfigurationError`, with `example` in the message, unless `view` is a function and not a class.

    Example: `check_view(RouteScopes(), invoices, '@require_scopes("invoices:read") above the view')`
    """
    if not callable(view) or isinstance(view, type):
        raise ConfigurationError(
            f"{check.decorator} cannot decorate {view!r}: expected a function, for example {example}"
        )
