"""`RouteScopes`: what one route demands of the access token that the layers attached to its request.

Must never know: which framework asks. Each one gives what the gateway gave it, and writes the answer its own way.
"""

from collections.abc import Collection, Mapping
from typing import Any

from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.attached import ATTACHED_KEY, Attached
from mtls_middleware.layers.decisions import RequestFacts, refused
from mtls_middleware.layers.paths import collection
from mtls_middleware.resource_server import scopes
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import Challenge, LayerResponse


class RouteScopes:
    """The scopes that one route needs, on top of those that its layer demands of every request.

    Arguments:
        scopes: all of them are needed; without any, a token of whatever scope.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1), as the layer has them.

    Raises `ConfigurationError`.

    Example: `RouteScopes(["invoices:read"]).judge(environ, method="GET", path="/invoices")`
    """

    name = "route"

    def __init__(
        self, scopes: Collection[str] = (), *, realm: str | None = None, resource_metadata: str | None = None
    ) -> None:
        self._scopes = collection("scopes", scopes, '"invoices:read"')
        self.challenge: Challenge = Challenge(
            realm=Challenge().realm if realm is None else realm,
            scopes=tuple(sorted(self._scopes)),
            resource_metadata=resource_metadata,
        )

    def judge(self, carrier: Mapping[str, Any], *, method: str, path: str) -> AccessToken | LayerResponse:
        """The token of this request, or the answer that refuses it: the layer's own, recorded in the log as it does.

        Arguments:
            carrier: the environ, or the scope.
            method, path: for the record in the log alone.

        401 where no token was accepted for the request, 403 where it has too little scope, and 500 where no layer of
        ours saw the request at all.
        """
        found = carrier.get(ATTACHED_KEY)
        attached = found if isinstance(found, Attached) else None
        try:
            return self._accepted(attached)
        except Exception as error:  # noqa: BLE001 (fail closed: whatever went wrong, the route is not reached)
            return refused(self, error, RequestFacts(attached, method, path))

    def _accepted(self, attached: Attached | None) -> AccessToken:
        if attached is None:
            raise ConfigurationError(
                "a route demands an access token, and no layer of mtls_middleware is around the application: wrap the "
                "whole of it, for example protect(app, source=Nginx(...), tokens=...)"
            )
        token = attached.token
        if not isinstance(token, AccessToken):
            raise Refused(
                "missing_token",
                "no token was accepted for this request: its path is exempt, or no CertificateBoundTokenMiddleware ran",
            )
        scopes.demand(token, self._scopes)
        return token


def decorating(
    scopes: tuple[str, ...], example: str, *, realm: str | None, resource_metadata: str | None
) -> RouteScopes:
    """What a decorator of these scopes demands. Raises `ConfigurationError`, with `example` of how it is written.

    Example: `decorating(("invoices:read",), '@require_scopes("invoices:read")', realm=None, resource_metadata=None)`
    """
    if not all(isinstance(each, str) for each in scopes):
        raise ConfigurationError(f"require_scopes of {scopes!r}: texts, in parentheses, for example {example}")
    return RouteScopes(scopes, realm=realm, resource_metadata=resource_metadata)


def check_view(view: object, example: str) -> None:
    """Raises `ConfigurationError`, with `example`, for what a decorator cannot stand around: a class, or no function.

    Example: `check_view(invoices, '@require_scopes("invoices:read") above the view')`
    """
    if not callable(view) or isinstance(view, type):
        raise ConfigurationError(f"require_scopes around {view!r}: a function, for example {example}")
