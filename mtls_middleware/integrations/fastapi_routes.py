"""`CertificateBoundToken`: the access token as a FastAPI dependency, with scopes per route, and as OpenAPI shows it.

Must never know: how a token is judged, which is `route_scopes.py`'s to say, or how an answer is written.

FastAPI lists the security schemes of an operation as alternatives, each in an object of its own, which would let a
client believe that a certificate alone is enough; and it has no model of `mutualTLS`. So it is shown the OAuth scheme
alone, and what it made of that is completed in the document.

Rests on FastAPI's public interface, tried with 0.115.14 and 0.165: a subclass of `fastapi.security.OAuth2` (to older
versions nothing else has scopes), `SecurityScopes`, `exception_handlers`, `add_exception_handler`, and `openapi()`.
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
from mtls_middleware.integrations.starlette_routes import refuse
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.responses import LayerResponse

_VERBS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


class RouteRefused(Exception):  # noqa: N818 (no error: an answer on its way)
    """A request that must not reach its route. `answer` is the whole response."""

    def __init__(self, answer: LayerResponse) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer


class CertificateBoundToken(OAuth2):
    """A dependency: the `AccessToken` that the layers accepted for the request, if it has the scopes of the route.

    Arguments:
        token_url, scopes, authorization_url: of the authorization server, as `security_schemes` takes them. A route
            demands scopes that are declared here, and no others.
        realm, resource_metadata: parameters of the challenge (RFC 6750 3, RFC 9728 5.1), as the layer has them.

    One of them serves an application, after `install(app)`. It stands in routes, routers, sub-dependencies and
    websockets. Raises `ConfigurationError`. Answers: 401 without token, 403 `insufficient_scope`, 500 without our
    layers; a websocket is refused before accept.

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
        self._demand = functools.partial(RouteScopes, realm=realm, resource_metadata=resource_metadata)
        # By scopes: as many as routes say. The first is there at once, so that a bad realm is refused here.
        self._routes: dict[tuple[str, ...], RouteScopes] = {(): self._demand()}

    def install(self, app: FastAPI) -> None:
        """Answer refusals of `app` as the layers do, and complete its OpenAPI document.

        An application that is mounted into another has its own. Where you replace `app.openapi`, do it before.

        Raises `ConfigurationError`: twice on one application, after its first request, or OpenAPI 3.0, which has no
        `mutualTLS`.

        Example: `bound.install(app)`
        """
        if not isinstance(app, FastAPI):
            raise ConfigurationError(f"install({app!r}): the application itself, for example install(FastAPI())")
        if RouteRefused in app.exception_handlers:
            raise ConfigurationError(f"install({app!r}): it has one already, and one serves the whole application")
        if app.middleware_stack is not None:
            raise ConfigurationError(f"install({app!r}): it has served requests: install before, beside its making")
        check_version(app.openapi_version)
        app.add_exception_handler(RouteRefused, self._respond)  # type: ignore[arg-type]  # one for both kinds
        generate = app.openapi

        def openapi() -> dict[str, Any]:
            return self._completed(generate())

        app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it

    async def __call__(  # type: ignore[override]  # FastAPI reads the signature, and gives what it names
        self, connection: HTTPConnection, demanded: SecurityScopes
    ) -> AccessToken:
        """The token of this request. Raises `RouteRefused`; `ConfigurationError` for a mistake in the wiring."""
        if connection.app.exception_handlers.get(RouteRefused) != self._respond:
            raise ConfigurationError("a route has a CertificateBoundToken that is not installed: bound.install(app)")
        route = self._route(tuple(demanded.scopes))
        method, path = connection.scope.get("method", "GET"), connection.scope["path"]
        found = route.judge(connection.scope, method=method, path=path)
        if isinstance(found, LayerResponse):
            raise RouteRefused(found)
        return found

    def _route(self, scopes: tuple[str, ...]) -> RouteScopes:
        route = self._routes.get(scopes)
        if route is None:
            if undeclared := [each for each in scopes if each not in self._declared]:
                raise ConfigurationError(
                    f"a route demands {undeclared!r}, and CertificateBoundToken declares {sorted(self._declared)!r}: "
                    "declare each one there, and give lists, for example Security(bound, scopes=['invoices:read'])"
                )
            route = self._routes[scopes] = self._demand(scopes)
        return route

    async def _respond(self, connection: HTTPConnection, refused: Exception) -> Response | None:
        if not isinstance(refused, RouteRefused):
            raise refused
        return await refuse(connection, refused.answer)

    def _completed(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document with `mutualTLS`. FastAPI keeps what it made, so it may have been completed before."""
        check_version(document.get("openapi"))
        schemes = document.get("components", {}).get("securitySchemes", {})
        if OAUTH2 in schemes:
            schemes[MUTUAL_TLS] = dict(self._mutual_tls)
        for path in document.get("paths", {}).values():
            for verb in path.keys() & _VERBS:
                if "security" in path[verb]:
                    path[verb]["security"] = _joined(path[verb]["security"])
        return document


def _joined(listed: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    """The list with a certificate and the token in each object: whichever other scheme serves, both are needed."""
    ours = [each[OAUTH2] for each in listed if OAUTH2 in each]
    if not ours or any(MUTUAL_TLS in each for each in listed):
        return listed
    needed = security_requirement([scope for scopes in ours for scope in scopes])
    others = [each for each in listed if OAUTH2 not in each]
    return [{**needed, **each} for each in others] or [needed]
