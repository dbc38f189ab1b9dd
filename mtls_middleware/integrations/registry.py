"""`ClientRegistry`: decides about the registrations and certificates of OAuth clients for an authorization server.

This module imports no framework. An integration converts its request to a `ClientRequest`, and a `Refused` to an error
of its framework.
"""

import contextlib
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from mtls_middleware.accessors import client_certificate
from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.layers.attached import ATTACHED_KEY, Attached
from mtls_middleware.layers.decisions import RequestFacts, reject
from mtls_middleware.responses import Challenge
from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import PUBLIC, ClientRequest
from mtls_middleware.token_endpoint.issuance import confirm_refresh_token, confirmation, token_confirmation

logger: logging.Logger = logging.getLogger("mtls_middleware.integrations")

# The maximum number of reasons that are remembered, to log each reason only once. Each reason contains the id
# of a registered client, so an attacker cannot create new reasons.
_MAX_LOGGED_REASONS = 1024


class ClientRegistry:
    """The OAuth clients of one authorization server, and every decision about their certificates.

    Arguments:
        clients: a mapping from `client_id` to `RegisteredClient`, or a synchronous function that returns the
            `RegisteredClient` or `None`. Include clients that do not use a certificate, because a client that is not
            found is rejected.
        options: the keyword arguments of `ClientAuthenticator`, for example `trust_store`.

    Raises `ConfigurationError` for an invalid argument.

    Example: `ClientRegistry(registered, trust_store=TrustStore(["clients-ca.pem"]))`
    """

    def __init__(
        self, clients: Mapping[str, RegisteredClient] | Callable[[str], RegisteredClient | None], **options: Any
    ) -> None:
        self._authenticator = ClientAuthenticator(clients, **options)
        self._logged_reasons: Cache[str, bool] = Cache(_MAX_LOGGED_REASONS)
        self._clients = clients.get if isinstance(clients, Mapping) else clients
        if inspect.iscoroutinefunction(self._clients):
            raise ConfigurationError(
                f"clients={clients!r} is an async function; expected a synchronous function or a mapping, for example "
                "clients={'billing': RegisteredClient(...)}"
            )

    def authenticate(self, request: ClientRequest) -> RegisteredClient | None:
        """Authenticate a client by its certificate (RFC 8705 2).

        Returns `None` if the registered method uses no certificate; the library of the authorization server must then
        authenticate the client. Raises `Refused` with `invalid_client` or `invalid_request`, or `Unavailable` if
        required data cannot be fetched.

        Example: `registry.authenticate(ClientRequest(form=[("client_id", "billing")], certificate=certificate))`
        """
        with log_rejection(request.certificate):
            return self._authenticator.authenticate(request, time.time())

    def identify(self, request: ClientRequest) -> RegisteredClient:
        """Return the client that the request names. The client is authenticated only if its method uses a certificate.

        Checks that the credentials in the request belong to the registered method. If this method uses no certificate,
        the library of the authorization server must verify the credentials, and must accept no other method. Raises the
        same exceptions as `authenticate`.

        Example: `method = registry.identify(request).token_endpoint_auth_method`
        """
        with log_rejection(request.certificate):
            return self._authenticator.identify(request, time.time())

    def verify_registration(self, client: RegisteredClient, certificate: ClientCertificate | None) -> None:
        """Check that the certificate of this connection is the one that the client registers (RFC 7591, RFC 8705 2).

        Call this method at a registration endpoint before you store the client. Raises the same exceptions as
        `ClientAuthenticator.verify_registration`.

        Example: `registry.verify_registration(RegisteredClient.from_metadata(metadata), certificate)`
        """
        with log_rejection(certificate):
            self._authenticator.verify_registration(client, certificate, time.time())

    def look_up(self, client_id: object) -> RegisteredClient | None:
        """Return the registration of a client, without authentication; `None` if the client is not registered.

        Example: `registry.look_up("billing")`
        """
        client = self._clients(client_id) if isinstance(client_id, str) and client_id else None
        return client if isinstance(client, RegisteredClient) and client.client_id == client_id else None

    def reject(self, certificate: ClientCertificate | None, reason: str) -> NoReturn:
        """Raise `Refused("invalid_client")` because of a registration that the operator must correct.

        Each reason is logged once as an error. The log record of each rejected request also contains the reason.

        Example: `registry.reject(certificate, "client 'app': Authlib has no method 'private_key_jwt'; register ...")`
        """
        if self._logged_reasons.get(reason) is None:
            self._logged_reasons.put(reason, True)
            logger.error("%s", reason)
        with log_rejection(certificate):
            raise Refused("invalid_client", reason)

    def confirmation(self, client_id: object, certificate: ClientCertificate | None) -> dict[str, str] | None:
        """Return the `cnf` of an access token for this client; `None` if the client did not register for bound tokens.

        Raises `Refused("invalid_request")` if the client registered for bound tokens, but presented no certificate (RFC
        8705 3.4).

        Example: `claims["cnf"] = registry.confirmation("billing", certificate)`
        """
        with log_rejection(certificate):
            return token_confirmation(self._registered_client(client_id), certificate)

    def refresh_confirmation(self, client_id: object, certificate: ClientCertificate | None) -> dict[str, str] | None:
        """Return the `cnf` to store with a refresh token (RFC 8705 4 and 7.1).

        Returns `None` unless the client is public, registered for bound tokens and presented a certificate.

        Example: `stored.cnf = registry.refresh_confirmation("app", certificate)`
        """
        client = self._registered_client(client_id)
        bound = client.token_endpoint_auth_method == PUBLIC and client.tls_client_certificate_bound_access_tokens
        return confirmation(certificate) if bound and certificate is not None else None

    def confirm_refresh(
        self, client_id: object, cnf: Mapping[str, Any] | None, certificate: ClientCertificate | None
    ) -> None:
        """Check the stored `cnf` of a refresh token against the certificate of this request (RFC 8705 4).

        `cnf`: the result of `refresh_confirmation` when the token was issued. For a public client that registered for
        bound tokens, `None` is rejected. Raises `Refused("invalid_grant")` if the certificate does not match.

        Example: `registry.confirm_refresh("app", stored.cnf, certificate)`
        """
        client = self._registered_client(client_id)
        if client.token_endpoint_auth_method != PUBLIC:
            # The tokens of other clients are not bound to a certificate, but to the client, which has just
            # authenticated.
            return
        if cnf is not None or client.tls_client_certificate_bound_access_tokens:
            with log_rejection(certificate):
                confirm_refresh_token({} if cnf is None else cnf, certificate)

    def _registered_client(self, client_id: object) -> RegisteredClient:
        client = self.look_up(client_id)
        if client is None:
            raise Refused("invalid_client", "the client is not registered")
        return client


def connection_certificate(request: Any) -> ClientCertificate | None:
    """Return the certificate of this request; `None` if the client presented no certificate.

    `request`: a framework's request, a WSGI environ or an ASGI scope. Raises `ConfigurationError` if the request did
    not pass through a `ClientCertificateMiddleware`.
    """
    certificate = client_certificate(request)
    carriers = (getattr(request, name, None) for name in ("scope", "environ"))
    carrier = next((each for each in carriers if isinstance(each, Mapping)), request)
    attached = carrier.get(ATTACHED_KEY)
    if not (isinstance(attached, Attached) and attached.has_certificate_layer):
        raise ConfigurationError(
            "the authorization server has no ClientCertificateMiddleware: wrap the whole application, for example "
            "ClientCertificateMiddleware(app, Nginx(trusted_proxies=[...], shared_secret=(...)))"
        )
    return certificate


@contextlib.contextmanager
def log_rejection(certificate: ClientCertificate | None) -> Iterator[None]:
    """Write one log record for a `Refused` that is raised inside the `with` block, in the format of the layers."""
    try:
        yield
    except Refused as refusal:
        attached = Attached()
        attached.certificate = certificate
        reject(_AuthorizationServer(), refusal, RequestFacts(attached))
        raise


class _AuthorizationServer:
    """The layer that log records of `log_rejection` name.

    The challenge is not used, because the library of the authorization server writes its own response.
    """

    name = "authorization server"
    challenge = Challenge(schemes=("Basic",), realm="clients")
