"""Authenticates OAuth clients by certificate (RFC 8705 section 2), for each endpoint where clients authenticate.

A client must use the method that it registered. The request cannot select another method. The certificate is compared
with the registration of one client only: the client that the request names.
"""

import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, NoReturn

from mtls_middleware import options
from mtls_middleware.cache import Cache, caches_of
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.exchange import default_context
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Call, Flow, ask
from mtls_middleware.effects.remote_document import RemoteDocument
from mtls_middleware.errors import NO_CERTIFICATE, ConfigurationError, Refused, Unavailable
from mtls_middleware.line_limit import LineLimit
from mtls_middleware.reusable import decide
from mtls_middleware.rule import near_miss
from mtls_middleware.token_endpoint.clients import RegisteredClient, RegistrationError
from mtls_middleware.token_endpoint.credentials import (
    OTHER_SCHEME,
    PKI,
    SELF_SIGNED,
    ClientRequest,
    Credentials,
    credentials_of,
)
from mtls_middleware.token_endpoint.registered_certificates import Match, RegisteredCertificates
from mtls_middleware.validation.chain_validator import ChainValidator
from mtls_middleware.validity import CLOCK_SKEW, check_clock_skew, with_clock_skew

logger: logging.Logger = logging.getLogger("mtls_middleware.token_endpoint")

LookUp = Callable[[str], "RegisteredClient | Awaitable[RegisteredClient | None] | None"]

# Maximum number of cached JWK Sets, one for each jwks_uri. Each JWK Set needs a few kilobytes.
_CACHED_SETS = 1024


class ClientAuthenticator:
    """Authenticates OAuth clients by certificate: `tls_client_auth` and `self_signed_tls_client_auth`.

    Arguments:
        clients: a mapping from `client_id` to `RegisteredClient`, or a function that takes a `client_id` and returns
            the `RegisteredClient`, or `None` for an unknown client. Under ASGI, the function may be `async`. Include
            the clients that use other authentication methods. The response is 401 if the function raises
            `RegistrationError`, 503 if it raises `Unavailable`, and 500 after any other exception.
        trust_store: validates the chain for `tls_client_auth`, even if a proxy has already validated the chain. A
            client's own `trust_store` takes precedence.
        match: the part of a presented certificate that must equal that of a registered certificate: `"certificate"`,
            the whole certificate (RFC 8705), or `"public_key"`, only the public key (early drafts of RFC 8705), so that
            a client can renew its certificate.
        ssl_context: verifies the servers from which a `jwks_uri` is fetched. Default: the CAs of the system.
        proxy: the URL of an HTTP proxy for these servers. This process looks up their names, and the proxy gets the
            address. The variables `HTTPS_PROXY` and `HTTP_PROXY` are ignored.
        allow_private: also fetch a `jwks_uri` from private and loopback addresses. Clients choose these addresses, so
            they could make this server send requests into your network.
        allow_http: allow `http://` for loopback addresses. For tests only.
        clock_skew: tolerance in seconds for the validity periods that a trust store checks. Give the same value to
            `ClientCertificateMiddleware`.

    Clients choose the addresses of their JWK Sets, so the cost is limited: 262,144 bytes and 200 keys for each set, 50
    concurrent exchanges (10 for the names of one zone, such as `example.com`), and 32 threads for name look-ups (8 for
    one zone). A client with names in many zones can still delay other clients whose JWK Set is not cached.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `ClientAuthenticator({"billing": billing}.get)`
    """

    def __init__(
        self,
        clients: LookUp | Mapping[str, RegisteredClient],
        *,
        trust_store: ChainValidator | None = None,
        match: Match = "certificate",
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        allow_private: bool = False,
        allow_http: bool = False,
        clock_skew: float = CLOCK_SKEW,
    ) -> None:
        look_up = clients.get if isinstance(clients, Mapping) else clients
        if not callable(look_up):
            raise ConfigurationError(
                f"clients={clients!r}: expected a function or a mapping from client_id to RegisteredClient"
            )
        options.one_of("match", match, ("certificate", "public_key"))
        if trust_store is not None:
            options.object_with_method("trust_store", trust_store, "validate", "TrustStore(['clients-ca.pem'])")
        self._look_up: LookUp = look_up
        self._clock_skew = check_clock_skew("clock_skew", clock_skew)
        self._trust_store = with_clock_skew(trust_store, self._clock_skew)
        self._match: Match = match
        self._tls, self._proxy = ssl_context, options.proxy_url("proxy", proxy)
        self._allow_private = options.boolean("allow_private", allow_private)
        self._allow_http = options.boolean("allow_http", allow_http)
        self._key_sets: Cache[str, RemoteDocument[RegisteredCertificates]] = Cache(_CACHED_SETS)
        self._blocking, self._awaiting = BlockingDriver(), AwaitingDriver()

    @property
    def caches(self) -> tuple[Cache[Any, Any], ...]:
        """The caches of the trust store, which share the memory of a stack of layers."""
        return caches_of(self._trust_store)

    def authenticate(self, request: ClientRequest, now: float) -> RegisteredClient | None:
        """Return the client if its certificate authenticates it, or `None` if the application must authenticate it.

        The result is `None` for a client that registered another method, and for a request that names no client and has
        an `Authorization` header that is not Basic. `now`: seconds since the epoch. This method blocks.

        Raises `Refused("invalid_client")` if the client is unknown, if its certificate does not match, or if the
        credentials do not belong to the method that the client registered. Raises `Refused("invalid_request")` if the
        request uses several methods, and `Unavailable` if a JWK Set or a revocation list cannot be fetched.

        Example: `authenticator.authenticate(ClientRequest(form.items(multi=True), certificate), time.time())`
        """
        return self._blocking.run(self.decide(request, now))

    async def authenticate_async(self, request: ClientRequest, now: float) -> RegisteredClient | None:
        """Like `authenticate`, but awaits during I/O instead of blocking. Use this method under ASGI."""
        return await self._awaiting.run(self.decide(request, now))

    def identify(self, request: ClientRequest, now: float) -> RegisteredClient:
        """Return the client that the request names. Only clients with a certificate method are already authenticated.

        The caller must authenticate any other client by the client's `token_endpoint_auth_method`, and by no other
        method. Raises the same exceptions as `authenticate`, and `Refused("invalid_client")` if the request names no
        client.

        Example: `client = authenticator.identify(request, time.time())`
        """
        return self._blocking.run(self._identify(credentials_of(request), request.certificate, now))

    def verify_registration(self, client: RegisteredClient, certificate: ClientCertificate | None, now: float) -> None:
        """Check that the certificate of this connection is the one that the client registers (RFC 7591, RFC 8705 2).

        Call this method at a registration endpoint before you store the client. So a client cannot register a name or
        a key that it does not have. A client whose method uses no certificate has nothing to prove. `now`: seconds
        since the epoch. This method blocks.

        Raises `Refused("invalid_client")` if the certificate is missing or would not authenticate the client, and
        `Unavailable` if a JWK Set or a revocation list cannot be fetched.

        Example: `authenticator.verify_registration(client, client_certificate(request), time.time())`
        """
        self._blocking.run(self._check_certificate(client, certificate, now))

    async def verify_registration_async(
        self, client: RegisteredClient, certificate: ClientCertificate | None, now: float
    ) -> None:
        """Like `verify_registration`, but awaits during I/O instead of blocking. Use this method under ASGI."""
        await self._awaiting.run(self._check_certificate(client, certificate, now))

    def decide(self, request: ClientRequest, now: float) -> Flow[RegisteredClient | None]:
        """Return the flow that `authenticate` and `authenticate_async` run."""
        credentials = credentials_of(request)
        if credentials.client_id is None and credentials.found == OTHER_SCHEME:
            return None  # the application authenticates the request, for example by a bearer token (RFC 7662 2.1)
        client = yield from self._identify(credentials, request.certificate, now)
        return client if client.token_endpoint_auth_method in (PKI, SELF_SIGNED) else None

    def _identify(
        self, credentials: Credentials, certificate: ClientCertificate | None, now: float
    ) -> Flow[RegisteredClient]:
        try:
            client = yield from self._client(credentials.client_id)
            yield from self._check_credentials(client, credentials, certificate, now)
        except Unavailable:
            raise
        except Refused as refusal:
            raise refusal.changed(*refusal.evidence, found={"client_id": credentials.client_id}) from None
        return client

    def _check_credentials(
        self, client: RegisteredClient, credentials: Credentials, certificate: ClientCertificate | None, now: float
    ) -> Flow[None]:
        """Check that the credentials belong to the registered method.

        If the method needs a certificate, also check the certificate.
        """
        method = client.token_endpoint_auth_method
        if not credentials.permit(method):
            used = f"registered method {method}, found {credentials.found}"
            if method in (PKI, SELF_SIGNED):
                raise Refused(
                    "invalid_request", f"{used}: the request uses a second authentication method (RFC 6749 2.3)"
                )
            _refuse(used)
        yield from self._check_certificate(client, certificate, now)

    def _check_certificate(
        self, client: RegisteredClient, certificate: ClientCertificate | None, now: float
    ) -> Flow[None]:
        """Check that the certificate authenticates the client, if the client registered a method with a certificate."""
        method = client.token_endpoint_auth_method
        if method not in (PKI, SELF_SIGNED):
            return
        if certificate is None:
            _refuse(NO_CERTIFICATE)
        if method == PKI:
            yield from self._check_identity(client, certificate, now)
        else:
            yield from self._check_registered(client, certificate, now)

    def _client(self, client_id: str | None) -> Flow[RegisteredClient]:
        """Look up the registration of `client_id`.

        Raises `Refused("invalid_client")` if the client is not registered.
        """
        if client_id is None:
            _refuse("no client_id")
        if not (client_id.isascii() and client_id.isprintable()):
            _refuse("no such client: the client_id is not printable ASCII (RFC 6749 A.1)")
        try:
            client = yield from ask(Call(self._look_up, (client_id,)))
        except RegistrationError as error:
            _log_limited("a registration cannot be used: %s", error)
            _refuse("the registration of this client cannot be used: see the log")
        if client is None:
            _refuse("no such client")
        if not isinstance(client, RegisteredClient) or client.client_id != client_id:
            # The function may return a client with a different id, for example if a database ignores case. That
            # client may have more rights.
            _log_limited("clients returned an object that is not the RegisteredClient with the requested client_id")
            _refuse("the client look-up returned another client")
        return client

    def _check_identity(self, client: RegisteredClient, certificate: ClientCertificate, now: float) -> Flow[None]:
        """Check for the PKI method (RFC 8705 2.1) that the certificate has a verified chain and the registered name.

        Raises `Refused("invalid_client")`, or `Unavailable`.
        """
        own = client.trust_store
        store = self._trust_store if own is None else with_clock_skew(own, self._clock_skew)
        if store is not None:
            try:
                validated = yield from decide(store, certificate, now)
                certificate = validated.value
            except Unavailable:
                raise
            except Refused as refusal:
                _refuse(f"{certificate.thumbprint} is not valid", *refusal.evidence)
        if not certificate.verified:
            _refuse(
                f"{certificate.thumbprint} is presented but not verified; tls_client_auth requires a verified chain",
                *certificate.unreadable_parts,
            )
        if client.identity is None or not client.identity.holds(certificate):
            advice = None if client.identity is None else near_miss(client.identity, certificate)
            evidence = f"{certificate.thumbprint} does not match {client.identity!r}", *certificate.unreadable_parts
            raise Refused("invalid_client", *evidence, advice=advice)

    def _check_registered(self, client: RegisteredClient, certificate: ClientCertificate, now: float) -> Flow[None]:
        """Check for the self-signed method (RFC 8705 2.2) that the certificate is registered for the client.

        The chain is not checked. Raises `Refused("invalid_client")`, or `Unavailable`.
        """
        if client.certificates is not None:
            if client.certificates.contains(certificate, self._match):
                return
        elif client.jwks_uri is not None:
            document = self._key_set(client.jwks_uri)
            registered = yield from document.current(now)
            if registered.contains(certificate, self._match):
                return
            # The client may have registered a new certificate, so fetch the JWK Set again.
            registered = yield from document.refreshed(now)
            if registered.contains(certificate, self._match):
                return
        _refuse(f"{certificate.thumbprint} is not registered for the client")

    def _key_set(self, uri: str) -> RemoteDocument[RegisteredCertificates]:
        document = self._key_sets.get(uri)
        if document is None:
            try:
                check_address("jwks_uri", uri, allow_http=self._allow_http)
            except ConfigurationError as error:
                _log_limited("a JWK Set cannot be fetched: %s", error)
                _refuse("the client's jwks_uri is not an address that may be fetched (see the log)")
            # All clients share one context, because each context needs memory for every CA of the system.
            self._tls = self._tls or default_context()
            parse = partial(RegisteredCertificates.parse_text, uri)
            document = RemoteDocument(uri, parse, tls=self._tls, allow_private=self._allow_private, proxy=self._proxy)
            self._key_sets.put(uri, document)
        return document


_lines = LineLimit()


def _log_limited(message: str, *arguments: object) -> None:
    _lines.log(logger, logging.ERROR, time.time(), message, *arguments)


def _refuse(*evidence: str) -> NoReturn:
    raise Refused("invalid_client", *evidence)
