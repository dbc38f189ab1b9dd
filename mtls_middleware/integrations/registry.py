"""`ClientRegistry`: what an authorization server library has to ask about its clients' certificates.

Must never know: which library asks. Each one turns its own request into ours, asks here, and writes its own errors.
"""

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from mtls_middleware.accessors import client_certificate
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError, Refused
from mtls_middleware.records import Told, refused
from mtls_middleware.refusal import Challenge
from mtls_middleware.request import ATTACHED_KEY, Attached
from mtls_middleware.token_endpoint.authentication import ClientAuthenticator, ClientRequest
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.issuance import confirm_refresh_token, confirmation, token_confirmation
from mtls_middleware.token_endpoint.metadata import METHODS

_PUBLIC = "none"


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
        self._look_up = clients.get if isinstance(clients, Mapping) else clients
        if inspect.iscoroutinefunction(self._look_up):
            raise ConfigurationError(f"clients={clients!r} is async, and these libraries wait: give a function")

    def authenticate(self, request: ClientRequest) -> RegisteredClient | None:
        """The client, by its certificate; `None` for one that the library is to authenticate (RFC 8705 2).

        Raises `Refused`: `invalid_client` or `invalid_request`; `Unavailable`.

        Example: `registry.authenticate(ClientRequest(form=[("client_id", "billing")], certificate=certificate))`
        """
        with _recorded(request.certificate):
            return self._authenticator.authenticate(request, time.time())

    def demands_certificate(self, client_id: object) -> bool:
        """Whether no other method than its certificate may let this client in; `True` for a client nobody knows.

        What other methods let in is asked for once more by this: they read requests in ways of their own.

        Example: `registry.demands_certificate("billing")`
        """
        client = self._registered(client_id)
        return client is None or client.token_endpoint_auth_method in METHODS

    def confirmation(self, client_id: object, certificate: ClientCertificate | None) -> dict[str, str] | None:
        """The `cnf` of an access token for this client; `None` for a client that does not ask for bound tokens.

        Raises `Refused("invalid_request")` where one that does comes without certificate (RFC 8705 3.4).

        Example: `claims["cnf"] = registry.confirmation("billing", certificate)`
        """
        with _recorded(certificate):
            return token_confirmation(self._known(client_id), certificate)

    def refresh_confirmation(self, client_id: object, certificate: ClientCertificate | None) -> dict[str, str] | None:
        """The `cnf` to keep with a refresh token: for public clients alone (RFC 8705 4 and 7.1).

        Example: `stored.cnf = registry.refresh_confirmation("app", certificate)`
        """
        client = self._known(client_id)
        bound = client.token_endpoint_auth_method == _PUBLIC and client.tls_client_certificate_bound_access_tokens
        return confirmation(certificate) if bound and certificate is not None else None

    def confirm_refresh(
        self, client_id: object, cnf: Mapping[str, Any] | None, certificate: ClientCertificate | None
    ) -> None:
        """Check what `refresh_confirmation` gave against the certificate of this request (RFC 8705 4).

        A public client that asks for bound tokens has no unbound refresh tokens. Raises `Refused("invalid_grant")`.

        Example: `registry.confirm_refresh("app", stored.cnf, certificate)`
        """
        client = self._known(client_id)
        if client.token_endpoint_auth_method != _PUBLIC:
            return  # bound to the client, which has just authenticated, and not to one of its certificates
        if cnf is not None or client.tls_client_certificate_bound_access_tokens:
            with _recorded(certificate):
                confirm_refresh_token({} if cnf is None else cnf, certificate)

    def _known(self, client_id: object) -> RegisteredClient:
        client = self._registered(client_id)
        if client is None:
            _refuse("no such client")
        return client

    def _registered(self, client_id: object) -> RegisteredClient | None:
        client = self._look_up(client_id) if isinstance(client_id, str) and client_id else None
        return client if isinstance(client, RegisteredClient) and client.client_id == client_id else None


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
def _recorded(certificate: ClientCertificate | None) -> Iterator[None]:
    """One record in the log for each refusal, for the operator alone, as the layers write it."""
    try:
        yield
    except Refused as refusal:
        attached = Attached()
        attached.certificate = certificate
        refused(_Server(), refusal, Told(attached))
        raise


class _Server:
    """Who refused, for the record: the library writes its own answer."""

    name = "authorization server"
    challenge = Challenge(scheme="Basic", realm="clients")


def _refuse(*evidence: str) -> NoReturn:
    raise Refused("invalid_client", *evidence)
