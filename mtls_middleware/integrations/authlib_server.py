"""Extends Authlib's authorization server for Flask with the client authentication and bound tokens of RFC 8705.

`registry.py` makes the decisions. This module converts Authlib's calls to calls of the registry.

At every endpoint where clients authenticate, the client is identified before Authlib tries a method. Authlib itself
tries one method after the other, and its client mixin checks the method at the token endpoint only.

The module uses only the public interface of Authlib 1.9: `AuthorizationServer.authenticate_client`,
`register_client_auth_method` and `query_client`, `ClientMixin.check_endpoint_auth_method`, `OAuth2Request.auth_method`,
`client` and `refresh_token`, `RefreshTokenGrant.validate_token_request`, `JWTBearerTokenGenerator.get_extra_claims`,
`JWTIntrospectionEndpoint.create_introspection_payload`, and the errors of `authlib.oauth2.rfc6749` and
`authlib.oauth2.rfc7591`.
docs/integrations.md has a complete server.
"""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import flask
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidClientError, InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import RefreshTokenGrant
from authlib.oauth2.rfc7591 import InvalidClientMetadataError
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator, JWTIntrospectionEndpoint

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.integrations.registry import ClientRegistry, connection_certificate, log_rejection
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import BASIC, POST, PUBLIC, STANDARD_METHODS, ClientRequest
from mtls_middleware.token_endpoint.metadata import METHODS

# Authlib has no type hints, so its objects are `Any`.


class CertificateAuthorizationServer(AuthorizationServer):
    """Extends Authlib's `AuthorizationServer`: clients can authenticate by certificate at every endpoint.

    Arguments:
        app, query_client, save_token: the arguments of Authlib's class.
        registry: the registered clients.

    Each grant lists its accepted methods in `TOKEN_ENDPOINT_AUTH_METHODS`, and each endpoint in `CLIENT_AUTH_METHODS`.
    Add `"tls_client_auth"` and `"self_signed_tls_client_auth"` to these lists. Raises `ConfigurationError` if
    `registry` is not a `ClientRegistry`.

    Example: `CertificateAuthorizationServer(app, query_client, save_token, registry=registry)`
    """

    def __init__(
        self, app: Any = None, query_client: Any = None, save_token: Any = None, *, registry: ClientRegistry
    ) -> None:
        self.registry: ClientRegistry = _check_registry(registry)
        self._verifiable_methods = {BASIC, POST, PUBLIC, *METHODS}
        super().__init__(app, query_client, save_token)

    def register_client_auth_method(self, method: str, func: Any) -> None:
        """Register a method, as in Authlib. `method`: the name in client metadata, for example `"private_key_jwt"`."""
        super().register_client_auth_method(method, func)
        self._verifiable_methods.add(method)

    def authenticate_client(self, request: Any, methods: Collection[str], endpoint: str = "token") -> Any:
        """Authenticate the client by its registered method, and return Authlib's client. Raises Authlib's errors."""
        with _authlib_errors(methods):
            client_request = _client_request()
            registered = self.registry.identify(client_request)
            method, client = registered.token_endpoint_auth_method, self.query_client(registered.client_id)
            reason = self._disagreement(client, registered, endpoint)
            if reason is not None:
                self.registry.reject(client_request.certificate, reason)
            if method not in methods:
                with log_rejection(client_request.certificate):
                    raise Refused("invalid_client", f"this endpoint accepts {sorted(methods)}, not {method}")
            if method not in METHODS:
                client = self._verify_with_authlib(request, registered, endpoint, client_request.certificate)
        request.auth_method = method
        return client

    def check_registration(self, client: Any, registered: RegisteredClient) -> None:
        """Check that a client of Authlib agrees with its registration. Call this method before you save the client.

        Raises `ConfigurationError` if `check_endpoint_auth_method` denies the registered method or admits another
        method at the token endpoint, if the two have different values of `client_id`, or if no code can verify the
        registered method.

        Example: `server.check_registration(client, RegisteredClient.from_metadata(metadata))`
        """
        reason = self._disagreement(client, registered, "token")
        if reason is not None:
            raise ConfigurationError(reason)

    def verify_registration(self, metadata: Mapping[str, Any]) -> RegisteredClient:
        """Check registration metadata (RFC 7591) and the certificate of this request. Return the client to register.

        The certificate must be the one that the metadata registers. Call this method in your
        `ClientRegistrationEndpoint`, before you save the client. `metadata`: with or without `client_id`.

        Raises Authlib's `InvalidClientMetadataError`, or an error with status 503 if required data cannot be fetched.

        Example: `client = server.verify_registration(metadata)`
        """
        certificate = connection_certificate(flask.request)
        try:
            client = RegisteredClient.from_metadata({"client_id": "new", **metadata})
            self.registry.verify_registration(client, certificate)
        except Unavailable as refusal:
            raise _UnavailableError(refusal.retry_after) from None
        except Refused:
            raise InvalidClientMetadataError("the connection does not present the registered certificate") from None
        except ConfigurationError as error:
            raise InvalidClientMetadataError(str(error)) from None
        return client

    def _verify_with_authlib(
        self, request: Any, registered: RegisteredClient, endpoint: str, certificate: ClientCertificate | None
    ) -> Any:
        """Let Authlib verify the credentials of the registered method, and return Authlib's client."""
        method = registered.token_endpoint_auth_method
        with log_rejection(certificate):
            try:
                client = super().authenticate_client(request, [method], endpoint)
            except InvalidClientError:
                raise Refused("invalid_client", f"Authlib rejected the credentials of {method}") from None
            if client.get_client_id() != registered.client_id:
                raise Refused("invalid_client", f"Authlib authenticated another client by {method}")
        return client

    def _disagreement(self, client: Any, registered: RegisteredClient, endpoint: str) -> str | None:
        """Return how Authlib's client and its registration disagree, and what to change; `None` if they agree."""
        method = registered.token_endpoint_auth_method
        subject = f"client {registered.client_id!r}: token_endpoint_auth_method is {method!r}"
        if not client:
            return f"{subject}, but query_client does not find the client: both must read the same store"
        if client.get_client_id() != registered.client_id:
            return f"{subject}, but query_client returned another client: it must compare client_id exactly"
        if method not in self._verifiable_methods:
            return (
                f"{subject}, which Authlib cannot verify yet: call "
                f"server.register_client_auth_method({method!r}, ...), or register another method for the client"
            )
        if not client.check_endpoint_auth_method(method, endpoint):
            return (
                f"{subject}, but the client's check_endpoint_auth_method denies this method at {endpoint!r}: "
                "admit the method there"
            )
        others = sorted({*STANDARD_METHODS, *self._verifiable_methods} - {method})
        admitted = [other for other in others if client.check_endpoint_auth_method(other, "token")]
        if admitted:
            return (
                f"{subject}, but the client's check_endpoint_auth_method admits {', '.join(admitted)} at 'token': "
                "admit only the registered method there"
            )
        return None


class CertificateBoundTokenGenerator(JWTBearerTokenGenerator):
    """Adds `cnf` to Authlib's RFC 9068 tokens for clients that registered for bound tokens (RFC 8705 3.1, 3.4).

    If such a client sends no certificate, the request is rejected with `invalid_request`. A request for a token at the
    authorization endpoint is also rejected, because the certificate there is the browser's (RFC 8705 6.4).

    Arguments:
        issuer, options: the arguments of Authlib's class.
        registry: the registered clients.

    A subclass must implement `get_jwks`. Raises `ConfigurationError` if `registry` is not a `ClientRegistry`.

    Example: `server.register_token_generator("default", Tokens(issuer="https://as.example", registry=registry))`
    """

    def __init__(self, issuer: str, *, registry: ClientRegistry, **options: Any) -> None:
        self.registry: ClientRegistry = _check_registry(registry)
        super().__init__(issuer, **options)

    def get_extra_claims(self, client: Any, grant_type: str, user: Any, scope: str) -> dict[str, Any]:
        """Return the claims in addition to those of RFC 9068. A subclass may add claims to the result."""
        claims: dict[str, Any] = super().get_extra_claims(client, grant_type, user, scope)
        certificate = None if grant_type == "implicit" else connection_certificate(flask.request)
        with _authlib_errors():
            cnf = self.registry.confirmation(client.get_client_id(), certificate)
        return claims if cnf is None else {**claims, "cnf": cnf}


class CertificateBoundRefreshTokenGrant(RefreshTokenGrant):
    """Extends Authlib's `RefreshTokenGrant`: checks the certificate to which a refresh token is bound (RFC 8705 4).

    Only refresh tokens of public clients are bound. A subclass must implement `get_confirmation`, and the methods that
    Authlib requires. When you save a token, also store the result of
    `registry.refresh_confirmation(client_id, client_certificate(flask.request))`.

    Example: `server.register_grant(RefreshToken)`, where `RefreshToken` is your subclass
    """

    def validate_token_request(self) -> None:
        """Validate the request as Authlib does, then check the certificate.

        Raises Authlib's errors, for example `InvalidGrantError` if the certificate is missing or does not match.
        """
        super().validate_token_request()
        cnf = self.get_confirmation(self.request.refresh_token)
        with _authlib_errors():
            client_id = self.request.client.get_client_id()
            self.server.registry.confirm_refresh(client_id, cnf, connection_certificate(flask.request))

    def get_confirmation(self, token: Any) -> Mapping[str, Any] | None:
        """Return the `cnf` that was stored with this token; `None` if no `cnf` was stored.

        `token`: the result of `authenticate_refresh_token`.
        """
        raise NotImplementedError


class CertificateIntrospectionEndpoint(JWTIntrospectionEndpoint):
    """Adds the `cnf` of the token to the responses of Authlib's introspection of RFC 9068 tokens (RFC 8705 3.2).

    Example: `server.register_endpoint(Introspection)`, where `Introspection` is your subclass
    """

    def create_introspection_payload(self, token: Any) -> dict[str, Any]:
        """Return the introspection response (RFC 7662 2.2), with `cnf` if the token is active and bound."""
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
    """Convert `Refused` to Authlib's errors.

    For `invalid_client`, the status is 401 if the endpoint accepts Basic or the request has `Authorization`. If not,
    the status is 400.
    """
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


def _check_registry(registry: object) -> ClientRegistry:
    if not isinstance(registry, ClientRegistry):
        raise ConfigurationError(
            f"registry={registry!r}: expected a ClientRegistry, for example ClientRegistry(clients)"
        )
    return registry
