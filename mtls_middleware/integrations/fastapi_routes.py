"""`CertificateBoundToken`: the access token as a FastAPI dependency, with scopes per route and an OpenAPI description.

FastAPI lists the security schemes of an operation as alternatives, so a client could assume that a certificate alone is
enough. FastAPI also has no model for `mutualTLS`. Therefore FastAPI gets only the OAuth scheme, and this module adds
`mutualTLS` to the finished document.

The module uses FastAPI's public interface, tested with 0.115.14 and 0.165: a subclass of `fastapi.security.OAuth2`
(in older versions, no other class can have scopes), `SecurityScopes`, `exception_handlers`, `add_exception_handler`
and `openapi()`.
"""

import functools
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Response
from fastapi.requests import HTTPConnection
from fastapi.security import OAuth2, SecurityScopes

from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.openapi import (
    MUTUAL_TLS,
    OAUTH2,
    check_version,
    security_requirement,
    security_schemes,
)
from mtls_middleware.integrations.route_scopes import RouteScopes
from mtls_middleware.integrations.starlette_routes import reject
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import LayerResponse

_VERBS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


class RouteRefused(Exception):  # noqa: N818 (not an error: it carries the response to the exception handler)
    """Raised if a request must not reach its route. `response` is the complete response to the request."""

    def __init__(self, response: LayerResponse) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


class CertificateBoundToken(OAuth2):
    """A dependency that returns the accepted `AccessToken` of the request if it has the scopes of the route.

    Create one object for each application, and call its `install(app)`. Use the object in routes, routers,
    sub-dependencies and websockets.

    Arguments:
        token_url, scopes, authorization_url: the arguments of `security_schemes`. A route can require only scopes that
            are declared here.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1). Use the values of the layer.

    Raises `ConfigurationError` for an invalid argument. The response is 401 without a token, 403 `insufficient_scope`
    if a scope is missing, and 500 if no layer of `mtls_middleware` wraps the application. A websocket is rejected
    before it is accepted.

    Example: `token: Annotated[AccessToken, Security(bound, scopes=["invoices:read"])]`
    """

    def __init__(
        self,
        *,
        token_url: str,
        scopes: Mapping[str, str],
        authorization_url: str | None = None,
        realm: str | None = None,
        resource_metadata: str | None = None,
    ) -> None:
        schemes = security_schemes(token_url=token_url, scopes=scopes, authorization_url=authorization_url)
        super().__init__(flows=schemes[OAUTH2]["flows"], scheme_name=OAUTH2)
        self._mutual_tls = schemes[MUTUAL_TLS]
        self._declared = frozenset(scopes)
        self._route_scopes = functools.partial(RouteScopes, realm=realm, resource_metadata=resource_metadata)
        # The checks of the routes, by the scopes that the routes require. The first entry is created here, so that an
        # invalid realm raises an exception now.
        self._routes: dict[tuple[str, ...], RouteScopes] = {(): self._route_scopes()}

    def install(self, app: FastAPI) -> None:
        """Give the rejections of `app` the format of the layers, and add `mutualTLS` to its OpenAPI document.

        Call this method before the first request. Also call it for each mounted application. If you replace
        `app.openapi`, do so before you call this method.

        Raises `ConfigurationError` on the second call for one application, after the first request, or if the document
        has OpenAPI version 3.0, which has no `mutualTLS`.

        Example: `bound.install(app)`
        """
        if not isinstance(app, FastAPI):
            raise ConfigurationError(
                f"install({app!r}): expected a FastAPI application, for example install(FastAPI())"
            )
        if RouteRefused in app.exception_handlers:
            raise ConfigurationError(
                f"install({app!r}): the application already has a CertificateBoundToken; use that object"
            )
        if app.middleware_stack is not None:
            raise ConfigurationError(
                f"install({app!r}): the application has served requests; call install before the first request"
            )
        check_version(app.openapi_version)
        app.add_exception_handler(RouteRefused, self._respond)  # type: ignore[arg-type]  # for requests and websockets
        generate = app.openapi

        def openapi() -> dict[str, Any]:
            return self._with_mutual_tls(generate())

        app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documentation does the same

    async def __call__(  # type: ignore[override]  # FastAPI passes arguments by the types in the signature
        self, connection: HTTPConnection, required: SecurityScopes
    ) -> AccessToken:
        """Return the token of this request. Raises `RouteRefused`, or `ConfigurationError` for an invalid route."""
        if connection.app.exception_handlers.get(RouteRefused) != self._respond:
            raise ConfigurationError(
                "a route uses a CertificateBoundToken that is not installed in its application: call bound.install(app)"
            )
        route = self._route(tuple(required.scopes))
        method, path = connection.scope.get("method", "GET"), connection.scope["path"]
        result = route.check(connection.scope, method=method, path=path)
        if isinstance(result, LayerResponse):
            raise RouteRefused(result)
        return result

    def _route(self, scopes: tuple[str, ...]) -> RouteScopes:
        route = self._routes.get(scopes)
        if route is None:
            if undeclared := [each for each in scopes if each not in self._declared]:
                raise ConfigurationError(
                    f"a route requires {undeclared!r}, but CertificateBoundToken declares {sorted(self._declared)!r}: "
                    "declare each scope, and pass scopes as a list, for example "
                    "Security(bound, scopes=['invoices:read'])"
                )
            route = self._routes[scopes] = self._route_scopes(scopes)
        return route

    async def _respond(self, connection: HTTPConnection, error: Exception) -> Response | None:
        if not isinstance(error, RouteRefused):
            raise error
        return await reject(connection, error.response)

    def _with_mutual_tls(self, document: dict[str, Any]) -> dict[str, Any]:
        """Add `mutualTLS` to the document, unless an earlier call has done so. FastAPI caches the document."""
        check_version(document.get("openapi"))
        schemes = document.get("components", {}).get("securitySchemes", {})
        if OAUTH2 in schemes:
            schemes[MUTUAL_TLS] = dict(self._mutual_tls)
        for path in document.get("paths", {}).values():
            for verb in path.keys() & _VERBS:
                if "security" in path[verb]:
                    path[verb]["security"] = _with_certificate(path[verb]["security"])
        return document


def _with_certificate(alternatives: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    """Return the alternatives. Each one then requires both the certificate and the token."""
    token_scopes = [each[OAUTH2] for each in alternatives if OAUTH2 in each]
    if not token_scopes or any(MUTUAL_TLS in each for each in alternatives):
        return alternatives
    requirement = security_requirement([scope for scopes in token_scopes for scope in scopes])
    others = [each for each in alternatives if OAUTH2 not in each]
    return [{**requirement, **each} for each in others] or [requirement]
