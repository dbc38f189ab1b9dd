"""Authlib's authorization server for Flask, with the clients and tokens of RFC 8705.

`registry.py` decides. This module turns Authlib's calls into its calls.

The client is identified before Authlib tries a method, at every endpoint where clients authenticate. Authlib itself
tries one method after the other, and its client mixin checks the method at the token endpoint only.

Rests on Authlib's public interface as it is in 1.9: `AuthorizationServer.authenticate_client`,
`register_client_auth_method` and `query_client`, `ClientMixin.check_endpoint_auth_method`, `OAuth2Request.auth_method`,
`client` and `refresh_token`, `RefreshTokenGrant.validate_token_request`, `JWTBearerTokenGenerator.get_extra_claims`,
`JWTIntrospectionEndpoint.create_introspection_payload`, and the errors of `authlib.oauth2.rfc6749`; on nothing private.
docs/integrations.md has a whole server.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import flask
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidClientError, InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator, JWTIntrospectionEndpoint

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.integrations.registry import ClientRegistry, connection_certificate, recorded
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import BASIC, POST, PUBLIC, STANDARD_METHODS, ClientRequest
from mtls_middleware.token_endpoint.metadata import METHODS

# Authlib's objects are `Any`: it has no type hints.


class CertificateAuthorizationServer(AuthorizationServer):
    """Authlib's `AuthorizationServer`, whose clients may authenticate by certificate at every endpoint.

    Arguments:
        app, query_client, save_token: Authlib's own.
        registry: who the clients are.

    Each grant names the methods it takes in `TOKEN_ENDPOINT_AUTH_METHODS`, each endpoint in `CLIENT_AUTH_METHODS`:
    `"tls_client_auth"` and `"self_signed_tls_client_auth"` as any other. Raises `ConfigurationError`.

    Example: `CertificateAuthorizationServer(app, query_client, save_token, registry=registry)`
    """

    def __init__(
        self, app: Any = None, query_client: Any = None, save_token: Any = None, *, registry: ClientRegistry
    ) -> None:
        self.registry: ClientRegistry = _registry(registry)
        self._verified = {BASIC, POST, PUBLIC, *METHODS}
        super().__init__(app, query_client, save_token)

    def register_client_auth_method(self, method: str, func: Any) -> None:
        """Authlib's own. `method` is the name that clients register, for example `"private_key_jwt"`."""
        super().register_client_auth_method(method, func)
        self._verified.add(method)

    def authenticate_client(self, request: Any, methods: Collection[str], endpoint: str = "token") -> Any:
        """Authlib's client object, authenticated by the method that it registered. Raises Authlib's errors."""
        with _authlib_errors(methods):
            asked = _client_request()
            registered = self.registry.identify(asked)
            method, client = registered.token_endpoint_auth_method, self.query_client(registered.client_id)
            reason = self._disagreement(client, registered, endpoint)
            if reason is not None:
                self.registry.reject(asked.certificate, reason)
            if method not in methods:
                with recorded(asked.certificate):
                    raise Refused("invalid_client", f"{method} is not among {sorted(methods)} of this endpoint")
            if method not in METHODS:
                client = self._by_authlib(request, registered, endpoint, asked.certificate)
        request.auth_method = method
        return client

    def check_registration(self, client: Any, registered: RegisteredClient) -> None:
        """Check that a client of Authlib agrees with its registration metadata. Call it before you save the client.

        Raises `ConfigurationError` if `check_endpoint_auth_method` denies the registered method or admits another one
        at the token endpoint, or if nothing can verify the registered method.

        Example: `server.check_registration(client, RegisteredClient.from_metadata(metadata))`
        """
        reason = self._disagreement(client, registered, "token")
        if reason is not None:
            raise ConfigurationError(reason)

    def _by_authlib(
        self, request: Any, registered: RegisteredClient, endpoint: str, certificate: ClientCertificate | None
    ) -> Any:
        """The client, after Authlib verified the credentials of its registered method."""
        method = registered.token_endpoint_auth_method
        with recorded(certificate):
            try:
                client = super().authenticate_client(request, [method], endpoint)
            except InvalidClientError:
                raise Refused("invalid_client", f"Authlib did not accept the credentials of {method}") from None
            if client.get_client_id() != registered.client_id:
                raise Refused("invalid_client", f"Authlib authenticated another client by {method}")
        return client

    def _disagreement(self, client: Any, registered: RegisteredClient, endpoint: str) -> str | None:
        """What disagrees between Authlib's client and its registration, and what to change."""
        method = registered.token_endpoint_auth_method
        subject = f"client {registered.client_id!r}: token_endpoint_auth_method is {method!r}"
        if not client:
            return f"{subject}, and query_client does not find the client: both must read the same store"
        if client.get_client_id() != registered.client_id:
            return f"{subject}, and query_client gave another client: it must compare client_id character by character"
        if method not in self._verified:
            return (
                f"{subject}, which Authlib cannot verify yet: call "
                f"server.register_client_auth_method({method!r}, ...), or register another method for the client"
            )
        if not client.check_endpoint_auth_method(method, endpoint):
            return f"{subject}, and the client's check_endpoint_auth_method denies it at {endpoint!r}: admit it there"
        others = sorted({*STANDARD_METHODS, *self._verified} - {method})
        admitted = [other for other in others if client.check_endpoint_auth_method(other, "token")]
        if admitted:
            return (
                f"{subject}, and the client's check_endpoint_auth_method admits {', '.join(admitted)} at 'token': "
                "compare the method with the registered one there"
            )
        return None


class CertificateBoundTokenGenerator(JWTBearerTokenGenerator):
    """Authlib's RFC 9068 tokens, with `cnf` for clients that ask for bound tokens (RFC 8705 3.1, 3.4).

    Arguments:
        issuer, options: Authlib's own.
        registry: who the clients are. Refused by `invalid_request`: one that asks for bound tokens and comes without
            certificate, and tokens from the authorization endpoint, where the certificate is the browser's (6.4).

    A subclass gives `get_jwks`. Raises `ConfigurationError`.

    Example: `server.register_token_generator("default", Tokens(issuer="https://as.example", registry=registry))`
    """

    def __init__(self, issuer: str, *, registry: ClientRegistry, **options: Any) -> None:
        self.registry: ClientRegistry = _registry(registry)
        super().__init__(issuer, **options)

    def get_extra_claims(self, client: Any, grant_type: str, user: Any, scope: str) -> dict[str, Any]:
        """Claims beside those of RFC 9068; a subclass that has its own adds them to these."""
        claims: dict[str, Any] = super().get_extra_claims(client, grant_type, user, scope)
        certificate = None if grant_type == "implicit" else connection_certificate(flask.request)
        with _authlib_errors():
            cnf = self.registry.confirmation(client.get_client_id(), certificate)
        return claims if cnf is None else {**claims, "cnf": cnf}


class CertificateBoundRefreshTokenGrant(RefreshTokenGrant):
    """Authlib's `RefreshTokenGrant`, where a public client's refresh token needs its certificate (RFC 8705 4).

    A subclass gives `get_confirmation`, beside what Authlib asks for. Keep what
    `registry.refresh_confirmation(client_id, client_certificate(flask.request))` gives when the token is saved.
    """

    def validate_token_request(self) -> None:
        """Raises Authlib's errors, `InvalidGrantError` for another certificate or none."""
        super().validate_token_request()
        cnf = self.get_confirmation(self.request.refresh_token)
        with _authlib_errors():
            client_id = self.request.client.get_client_id()
            self.server.registry.confirm_refresh(client_id, cnf, connection_certificate(flask.request))

    def get_confirmation(self, token: Any) -> Mapping[str, Any] | None:
        """The `cnf` kept with this token, `None` where none was. `token`: what `authenticate_refresh_token` gave."""
        raise NotImplementedError


class CertificateIntrospectionEndpoint(JWTIntrospectionEndpoint):
    """Authlib's introspection of RFC 9068 tokens, with their `cnf` in the answer (RFC 8705 3.2)."""

    def create_introspection_payload(self, token: Any) -> dict[str, Any]:
        """The answer of RFC 7662 2.2."""
        payload: dict[str, Any] = super().create_introspection_payload(token)
        if payload["active"] and "cnf" in token:
            payload["cnf"] = token["cnf"]
        return payload


class _UnavailableError(OAuth2Error):
    error = "temporarily_unavailable"
    status_code = 503

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self._retry_after = retry_after

    def get_headers(self) -> list[tuple[str, str]]:
        return [*super().get_headers(), ("Retry-After", str(self._retry_after))]


def _client_request() -> ClientRequest:
    request = flask.request
    return ClientRequest(
        form=list(request.form.items(multi=True)),
        query=list(request.args.items(multi=True)),
        authorization=request.headers.getlist("Authorization"),
        certificate=connection_certificate(request),
    )


@contextlib.contextmanager
def _authlib_errors(methods: Collection[str] = ()) -> Iterator[None]:
    """Our refusals as Authlib writes them: `invalid_client` is 401 where Basic is offered, or was tried, else 400."""
    try:
        yield
    except Unavailable as refusal:
        raise _UnavailableError(refusal.retry_after) from None
    except Refused as refusal:
        if refusal.code == "invalid_request":
            raise InvalidRequestError from None
        if refusal.code == "invalid_grant":
            raise InvalidGrantError from None
        basic = "client_secret_basic" in methods or "Authorization" in flask.request.headers
        raise InvalidClientError(status_code=401 if basic else 400) from None


def _registry(given: object) -> ClientRegistry:
    if not isinstance(given, ClientRegistry):
        raise ConfigurationError(f"registry={given!r}: for example ClientRegistry(clients)")
    return given
