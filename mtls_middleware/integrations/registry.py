"""`ClientRegistry`: every decision about an OAuth client's registration and certificate, for an authorization server.

It knows no framework. An integration turns its request into a `ClientRequest`, and a rejection into its own error.
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
from mtls_middleware.layers.decisions import RequestFacts, refused
from mtls_middleware.responses import Challenge
from mtls_middleware.token_endpoint.authentication import ClientAuthenticator
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import PUBLIC, ClientRequest
from mtls_middleware.token_endpoint.issuance import confirm_refresh_token, confirmation, token_confirmation

logger: logging.Logger = logging.getLogger("mtls_middleware.integrations")

# Reasons that were logged. A reason names a registered client, so an attacker cannot add any.
_REPORTED = 1024


class ClientRegistry:
    """The OAuth clients of one authorization server, and every decision about their certificates.

    Arguments:
        clients: `client_id` to `RegisteredClient` or `None`, a mapping or a function that blocks. It must know every
            client, those of other methods too: nobody else is let in.
        options: what `ClientAuthenticator` takes by keyword, above all `trust_store`.

    Raises `ConfigurationError`.

    Example: `ClientRegistry(registered, trust_store=TrustStore(["clients-ca.pem"]))`
    """

    def __init__(
        self, clients: Mapping[str, RegisteredClient] | Callable[[str], RegisteredClient | None], **options: Any
    ) -> None:
        self._authenticator = ClientAuthenticator(clients, **options)
        self._reported: Cache[str, bool] = Cache(_REPORTED)
        self._clients = clients.get if isinstance(clients, Mapping) else clients
        if inspect.iscoroutinefunction(self._clients):
            raise ConfigurationError(f"clients={clients!r} is async, and these libraries wait: give a function")

    def authenticate(self, request: ClientRequest) -> RegisteredClient | None:
        """The client, by its certificate; `None` for one that the library is to authenticate (RFC 8705 2).

        Raises `Refused`: `invalid_client` or `invalid_request`; `Unavailable`.

        Example: `registry.authenticate(ClientRequest(form=[("client_id", "billing")], certificate=certificate))`
        """
        with recorded(request.certificate):
            return self._authenticator.authenticate(request, time.time())

    def identify(self, request: ClientRequest) -> RegisteredClient:
        """The client that the request names; authenticated if it registered a certificate.

        The credentials of the request belong to the registered method. For a client that did not register a
        certificate, the library verifies them by that method alone. Raises what `authenticate` raises.

        Example: `method = registry.identify(request).token_endpoint_auth_method`
        """
        with recorded(request.certificate):
            return self._authenticator.identify(request, time.time())

    def look_up(self, client_id: object) -> RegisteredClient | None:
        """The registration of this client, `None` if there is none. It authenticates nothing.

        Example: `registry.look_up("billing")`
        """
        client = self._clients(client_id) if isinstance(client_id, str) and client_id else None
        return client if isinstance(client, RegisteredClient) and client.client_id == client_id else None

    def reject(self, certificate: ClientCertificate | None, reason: str) -> NoReturn:
        """Raise `Refused("invalid_client")` for a registration that the operator must correct.

        The log has each reason once as an error, and in the record of each request.

        Example: `registry.reject(certificate, "client 'app': Authlib has no method 'private_key_jwt'; register ...")`
        """
        if self._reported.get(reason) is None:
            self._reported.put(reason, True)
            logger.error("%s", reason)
        with recorded(certificate):
            _refuse(reason)

    def confirmation(self, client_id: object, certificate: ClientCertificate | None) -> dict[str, str] | None:
        """The `cnf` of an access token for this client; `None` for a client that does not ask for bound tokens.

        Raises `Refused("invalid_request")` where one that does comes without certificate (RFC 8705 3.4).

        Example: `claims["cnf"] = registry.confirmation("billing", certificate)`
        """
        with recorded(certificate):
            return token_confirmation(self._known(client_id), certificate)

    def refresh_confirmation(self, client_id: object, certificate: ClientCertificate | None) -> dict[str, str] | None:
        """The `cnf` to keep with a refresh token: for public clients alone (RFC 8705 4 and 7.1).

        Example: `stored.cnf = registry.refresh_confirmation("app", certificate)`
        """
        client = self._known(client_id)
        bound = client.token_endpoint_auth_method == PUBLIC and client.tls_client_certificate_bound_access_tokens
        return confirmation(certificate) if bound and certificate is not None else None

    def confirm_refresh(
        self, client_id: object, cnf: Mapping[str, Any] | None, certificate: ClientCertificate | None
    ) -> None:
        """Check what `refresh_confirmation` gave against the certificate of this request (RFC 8705 4).

        A public client that asks for bound tokens has no unbound refresh tokens. Raises `Refused("invalid_grant")`.

        Example: `registry.confirm_refresh("app", stored.cnf, certificate)`
        """
        client = self._known(client_id)
        if client.token_endpoint_auth_method != PUBLIC:
            return  # bound to the client, which has just authenticated, and not to one of its certificates
        if cnf is not None or client.tls_client_certificate_bound_access_tokens:
            with recorded(certificate):
                confirm_refresh_token({} if cnf is None else cnf, certificate)

    def _known(self, client_id: object) -> RegisteredClient:
        client = self.look_up(client_id)
        if client is None:
            _refuse("no such client")
        return client


def connection_certificate(request: Any) -> ClientCertificate | None:
    """The certificate of this request. Raises `ConfigurationError` where no layer of ours could have attached one.

    `request`: of a framework, or its environ or scope.
    """
    certificate = client_certificate(request)
    carriers = (getattr(request, name, None) for name in ("scope", "environ"))
    carrier = next((each for each in carriers if isinstance(each, Mapping)), request)
    attached = carrier.get(ATTACHED_KEY)
    if not (isinstance(attached, Attached) and attached.has_certificate_layer):
        raise ConfigurationError(
            "no ClientCertificateMiddleware around the authorization server: wrap the whole application, for example "
            "ClientCertificateMiddleware(app, Nginx(trusted_proxies=[...], shared_secret=(...)))"
        )
    return certificate


@contextlib.contextmanager
def recorded(certificate: ClientCertificate | None) -> Iterator[None]:
    """One record in the log for each refusal, for the operator alone, as the layers write it."""
    try:
        yield
    except Refused as refusal:
        attached = Attached()
        attached.certificate = certificate
        refused(_Server(), refusal, RequestFacts(attached))
        raise


class _Server:
    """Who refused, for the record: the library writes its own answer."""

    name = "authorization server"
    challenge = Challenge(scheme="Basic", realm="clients")


def _refuse(*evidence: str) -> NoReturn:
    raise Refused("invalid_client", *evidence)
