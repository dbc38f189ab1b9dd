"""`CertificateBoundToken` and `require_certificate`: dependencies for FastAPI, with an OpenAPI description.

FastAPI lists the security schemes of an operation as alternatives, so a client could assume that a certificate alone is
enough. FastAPI also has no model for `mutualTLS`. Therefore this module completes the finished document.

The module uses FastAPI's public interface, tested with 0.115.14 and 0.165: a subclass of `fastapi.security.OAuth2`
(in older versions, no other class can have scopes), `fastapi.security.http.HTTPBase`, `SecurityScopes`,
`exception_handlers`, `add_exception_handler` and `openapi()`.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Response
from fastapi.requests import HTTPConnection
from fastapi.security import OAuth2, SecurityScopes
from fastapi.security.http import HTTPBase

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.integrations.openapi import (
    MUTUAL_TLS,
    OAUTH2,
    check_version,
    security_requirement,
    security_schemes,
)
from mtls_middleware.integrations.route_checks import Required, RouteCertificate, RouteCheck, RouteScopes
from mtls_middleware.integrations.starlette_routes import check_connection, reject
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import LayerResponse
from mtls_middleware.rule import Rule

_VERBS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
# The descriptions of the statuses 401 and 403 in the OpenAPI document. A route may have its own descriptions instead.
_REJECTIONS = {
    "401": "The access token is missing or not accepted.",
    "403": "The client certificate is missing or not accepted, or the access token has too little scope.",
}


class RouteRefused(Exception):  # noqa: N818 (not an error: it carries the response to the exception handler)
    """Raised if a request must not reach its route. `response` is the complete response to the request.

    Example: `app.add_exception_handler(RouteRefused, handler)` with a `handler` that sends `error.response` in another
    format
    """

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
        self._declared = frozenset(scopes)
        self._route_scopes = functools.partial(RouteScopes, realm=realm, resource_metadata=resource_metadata)
        # The key is the scopes that a route requires, and the value is the check of such routes. The entry for no
        # scopes is created here, so that an invalid realm raises an exception now.
        self._routes: dict[tuple[str, ...], RouteScopes] = {(): self._route_scopes()}

    def install(self, app: FastAPI) -> None:
        """Give the rejections of `app` the format of the layers, and add `mutualTLS` to its OpenAPI document.

        Call this method before the first request. Also call it for each mounted application. If you replace
        `app.openapi`, do so before you call this method.

        The routes of `app` may use `require_certificate`, too.

        Raises `ConfigurationError` on the second call for one application, after the first request, or if the document
        has OpenAPI version 3.0, which has no `mutualTLS`.

        Example: `bound.install(app)`
        """
        _install(app, self._respond, frozenset({MUTUAL_TLS, OAUTH2}))

    async def __call__(  # type: ignore[override]  # FastAPI passes arguments by the types in the signature
        self, connection: HTTPConnection, required: SecurityScopes
    ) -> AccessToken:
        """Return the token of this request. Raises `RouteRefused`, or `ConfigurationError` for an invalid route."""
        if connection.app.exception_handlers.get(RouteRefused) != self._respond:
            raise ConfigurationError(
                "a route uses a CertificateBoundToken that is not installed in its application: call bound.install(app)"
            )
        return _required(self._route(tuple(required.scopes)), connection)

    def _route(self, scopes: tuple[str, ...]) -> RouteScopes:
        route = self._routes.get(scopes)
        if route is None:
            if undeclared := [each for each in scopes if each not in self._declared]:
                raise ConfigurationError(
                    f"a route requires {undeclared!r}, but CertificateBoundToken declares {sorted(self._declared)!r}: "
                    "add the missing scopes to scopes= of CertificateBoundToken. In the route, give a list, for "
                    "example Security(bound, scopes=['invoices:read'])"
                )
            route = self._routes[scopes] = self._route_scopes(scopes)
        return route

    async def _respond(self, connection: HTTPConnection, error: Exception) -> Response | None:
        return await _respond(connection, error)


class RequiredCertificate(HTTPBase):
    """A dependency that returns the client certificate of the request. See `require_certificate`.

    Example: `billing: RequiredCertificate = require_certificate(DNSName("billing.internal"))`
    """

    def __init__(self, check: RouteCertificate) -> None:
        # In the OpenAPI document, `install` replaces this scheme by mutualTLS.
        super().__init__(scheme="mutual", scheme_name=MUTUAL_TLS)
        self._check = check

    async def __call__(self, connection: HTTPConnection) -> ClientCertificate:  # type: ignore[override]  # not a header
        """Return the certificate. Raises `RouteRefused`, or `ConfigurationError` without `install`."""
        if RouteRefused not in connection.app.exception_handlers:
            raise ConfigurationError(
                "a route uses require_certificate, but its application lacks the exception handler: call install(app), "
                "or the method install of its CertificateBoundToken"
            )
        return _required(self._check, connection)


def require_certificate(rule: Rule | None = None) -> RequiredCertificate:
    """Return a dependency that requires a client certificate, and gives the route a `ClientCertificate`.

    With `rule`, the certificate must match the rule. Without `rule`, any verified certificate is accepted. The rule
    applies in addition to `allow=` of the layer. The value of the path in `allow=` may be `ANYONE`.

    Use the dependency in routes, routers, sub-dependencies and websockets. Call `install(app)` for the application. The
    OpenAPI document shows the dependency as `mutualTLS`.

    Raises `ConfigurationError` for an object that is not a rule. Convert a function with `policy.as_rule`. The response
    is 403 `client_certificate_required` without a certificate, 403 `client_certificate_refused` if the rule does not
    allow the certificate, and 500 if no layer of `mtls_middleware` wraps the application. A websocket is rejected
    before it is accepted.

    Example: `certificate: Annotated[ClientCertificate, Depends(require_certificate(Subject("CN=ops,O=Acme")))]`
    """
    return RequiredCertificate(RouteCertificate(rule))


def install(app: FastAPI) -> None:
    """Prepare an application whose routes use `require_certificate`, and which has no `CertificateBoundToken`.

    For an application with both, call `CertificateBoundToken.install` instead, which does the same.

    Example: `install(app)`
    """
    _install(app, _respond, frozenset({MUTUAL_TLS}))


def _install(
    app: FastAPI, respond: Callable[[HTTPConnection, Exception], Awaitable[Response | None]], ours: frozenset[str]
) -> None:
    if not isinstance(app, FastAPI):
        raise ConfigurationError(f"install({app!r}): expected a FastAPI application, for example install(FastAPI())")
    if RouteRefused in app.exception_handlers:
        raise ConfigurationError(
            f"install({app!r}): install has been called for this application; call it once, on its "
            "CertificateBoundToken if it has one"
        )
    if app.middleware_stack is not None:
        raise ConfigurationError(
            f"install({app!r}): the application has served requests; call install before the first request"
        )
    check_version(app.openapi_version)
    app.add_exception_handler(RouteRefused, respond)  # type: ignore[arg-type]  # for requests and websockets
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        return _completed(generate(), ours)

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documentation does the same


def _required(check: RouteCheck[Required], connection: HTTPConnection) -> Required:
    """Return the certificate or token that the route requires. Raises `RouteRefused`."""
    result = check_connection(check, connection)
    if isinstance(result, LayerResponse):
        raise RouteRefused(result)
    return result


async def _respond(connection: HTTPConnection, error: Exception) -> Response | None:
    if not isinstance(error, RouteRefused):
        raise error
    return await reject(connection, error.response)


def _completed(document: dict[str, Any], ours: frozenset[str]) -> dict[str, Any]:
    """Add `mutualTLS` and the rejections to the OpenAPI document.

    FastAPI caches the document, so a second call must change nothing.
    """
    check_version(document.get("openapi"))
    schemes = document.get("components", {}).get("securitySchemes", {})
    if ours & schemes.keys():
        schemes[MUTUAL_TLS] = {"type": "mutualTLS"}
    for path in document.get("paths", {}).values():
        for verb in path.keys() & _VERBS:
            alternatives = path[verb].get("security", [])
            if any(ours & each.keys() for each in alternatives):
                path[verb]["security"] = required = _with_certificate(alternatives, ours)
                for status in ("401", "403") if OAUTH2 in ours & required[0].keys() else ("403",):
                    path[verb]["responses"].setdefault(status, {"description": _REJECTIONS[status]})
    return document


def _with_certificate(alternatives: list[dict[str, list[str]]], ours: frozenset[str]) -> list[dict[str, list[str]]]:
    """Add the certificate to each alternative.

    If any alternative requires the token, all of them require the token.
    """
    requirement: dict[str, list[str]] = {MUTUAL_TLS: []}
    token_scopes = [each[OAUTH2] for each in alternatives if OAUTH2 in ours & each.keys()]
    if token_scopes:
        requirement = security_requirement([scope for scopes in token_scopes for scope in scopes])
    others = [{name: each[name] for name in each if name not in ours} for each in alternatives]
    return [{**requirement, **each} for each in others if each] or [requirement]
