"""`RouteScopes`: checks that the access token of a request has the scopes that one route requires.

This module imports no framework. An integration passes the environ or scope, and converts a `LayerResponse` to a
response of its framework.
"""

from collections.abc import Collection, Mapping
from typing import Any

from mtls_middleware import options
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.attached import ATTACHED_KEY, Attached
from mtls_middleware.layers.decisions import RequestFacts, reject
from mtls_middleware.resource_server import scopes
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import Challenge, LayerResponse


class RouteScopes:
    """The scopes that one route requires, in addition to the scopes that its layer requires for every request.

    Arguments:
        scopes: the scopes that the token must have. If empty, every accepted token is sufficient.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1). Use the values of the layer.

    Raises `ConfigurationError` for an invalid argument.

    Example: `RouteScopes(["invoices:read"]).check(environ, method="GET", path="/invoices")`
    """

    name = "route"

    def __init__(
        self, scopes: Collection[str] = (), *, realm: str | None = None, resource_metadata: str | None = None
    ) -> None:
        self._scopes = options.strings("scopes", scopes, '"invoices:read"')
        self.challenge: Challenge = Challenge(
            realm=Challenge().realm if realm is None else realm,
            scopes=tuple(sorted(self._scopes)),
            resource_metadata=resource_metadata,
        )

    def check(self, carrier: Mapping[str, Any], *, method: str, path: str) -> AccessToken | LayerResponse:
        """Return the token of this request, or the response that rejects the request. A rejection is logged.

        The response and the log record have the same format as those of the layer for tokens.

        Arguments:
            carrier: the WSGI environ or the ASGI scope.
            method, path: used in the log record only.

        The status is 401 if no token was accepted for the request, 403 if the token lacks a scope, and 500 if the
        request did not pass through a layer of `mtls_middleware`.
        """
        found = carrier.get(ATTACHED_KEY)
        attached = found if isinstance(found, Attached) else None
        try:
            return self._token(attached)
        except Exception as error:  # noqa: BLE001 (fail closed: after any error, the route does not run)
            return reject(self, error, RequestFacts(attached, method, path))

    def _token(self, attached: Attached | None) -> AccessToken:
        if attached is None:
            raise ConfigurationError(
                "a route requires an access token, but no layer of mtls_middleware wraps the application: wrap the "
                "whole application, for example protect(app, source=Nginx(...), tokens=...)"
            )
        token = attached.token
        if not isinstance(token, AccessToken):
            raise Refused(
                "missing_token",
                "no token was accepted for this request: its path is exempt, or no CertificateBoundTokenMiddleware ran",
            )
        scopes.require_scopes(token, self._scopes)
        return token


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


def check_view(view: object, example: str) -> None:
    """Raise `ConfigurationError`, with `example` in the message, unless `view` is a function and not a class.

    Example: `check_view(invoices, '@require_scopes("invoices:read") above the view')`
    """
    if not callable(view) or isinstance(view, type):
        raise ConfigurationError(f"require_scopes cannot decorate {view!r}: expected a function, for example {example}")
