"""Is this request from that OAuth client? RFC 8705 section 2, for each endpoint where clients authenticate.

Pure, apart from what it asks for as a flow. A client is held to the method that it registered, never to one that the
request suggests, and its certificate is checked against the one client that the request names.
"""

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Call, Flow, ask
from mtls_middleware.effects.remote_document import RemoteDocument, check_address
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.reusable import decide
from mtls_middleware.token_endpoint.clients import RegisteredClient
from mtls_middleware.token_endpoint.credentials import (
    OTHER_SCHEME,
    PKI,
    SELF_SIGNED,
    ClientRequest,
    Credentials,
    credentials_of,
)
from mtls_middleware.token_endpoint.registered import Match, RegisteredCertificates
from mtls_middleware.validity import CLOCK_SKEW, check_clock_skew, with_clock_skew

logger: logging.Logger = logging.getLogger("mtls_middleware.token_endpoint")

LookUp = Callable[[str], "RegisteredClient | Awaitable[RegisteredClient | None] | None"]

# Clients with a jwks_uri whose certificates are remembered: some kilobytes each.
_REMEMBERED = 1024


class ClientAuthenticator:
    """Authenticates OAuth clients by certificate: `tls_client_auth` and `self_signed_tls_client_auth`.

    Arguments:
        clients: `client_id` to `RegisteredClient` or `None`: a function, an `async def` (under ASGI), or a mapping. It
            must know the clients of other methods too: an unknown client is refused.
        trust_store: validates chains for `tls_client_auth`, also where a proxy already has. A client's own comes first.
        match: `"certificate"` (RFC 8705), or `"public_key"` for clients that renew certificates as the drafts let them.
        ssl_context: how servers behind a `jwks_uri` are verified, where the system's CAs do not do.
        allow_private: fetch a `jwks_uri` from private and loopback addresses too. Clients choose these addresses.
        allow_http: admit `http://` to loopback addresses, for tests.
        clock_skew: tolerance of a trust store, as in `ClientCertificateMiddleware`: give both the same value.

    Clients choose the addresses of their JWK Sets, so the cost is bounded: 262,144 octets and 200 keys for a set, 50
    exchanges at once (10 with the names of one zone, such as `example.com`), and 32 threads for look-ups of names that
    do not respond (8 for one zone). A client with names in many zones can still delay clients whose set is not cached.

    Raises `ConfigurationError`.

    Example: `ClientAuthenticator({"billing": billing}.get)`
    """

    def __init__(
        self,
        clients: LookUp | Mapping[str, RegisteredClient],
        *,
        trust_store: Any = None,
        match: Match = "certificate",
        ssl_context: ssl.SSLContext | None = None,
        allow_private: bool = False,
        allow_http: bool = False,
        clock_skew: float = CLOCK_SKEW,
    ) -> None:
        look_up = clients.get if isinstance(clients, Mapping) else clients
        if not callable(look_up):
            raise ConfigurationError(f"clients={clients!r}: a function or a mapping from client_id to RegisteredClient")
        if match not in ("certificate", "public_key"):
            raise ConfigurationError(f"match={match!r}: 'certificate' or 'public_key'")
        if trust_store is not None and not callable(getattr(trust_store, "validate", None)):
            raise ConfigurationError(f"trust_store={trust_store!r} is no trust store")
        self._look_up: LookUp = look_up
        self._clock_skew = check_clock_skew("clock_skew", clock_skew)
        self._trust_store = with_clock_skew(trust_store, self._clock_skew)
        self._match: Match = match
        self._tls = ssl_context
        self._allow_private, self._allow_http = allow_private, allow_http
        self._fetched: Cache[str, RemoteDocument[RegisteredCertificates]] = Cache(_REMEMBERED)
        self._blocking, self._awaiting = BlockingDriver(), AwaitingDriver()

    def authenticate(self, request: ClientRequest, now: float) -> RegisteredClient | None:
        """The client, authenticated by its certificate; `None` for one that is the application's to authenticate.

        Raises `Refused("invalid_client")` for credentials of another method than the registered one: the application
        sees only requests with credentials of the registered method. Raises `Refused("invalid_request")` for several
        methods in one request, and `Unavailable`. Blocks. `now`: seconds since the epoch.

        Example: `authenticator.authenticate(ClientRequest(form.items(multi=True), certificate), time.time())`
        """
        return self._blocking.run(self.decide(request, now))

    async def authenticate_async(self, request: ClientRequest, now: float) -> RegisteredClient | None:
        """`authenticate` for an event loop."""
        return await self._awaiting.run(self.decide(request, now))

    def identify(self, request: ClientRequest, now: float) -> RegisteredClient:
        """The client that the request names. It is authenticated only if it registered a certificate.

        For every other client, the caller checks the credentials by `token_endpoint_auth_method`, and by no other
        method. Raises what `authenticate` raises, and `Refused("invalid_client")` if the request names no client.

        Example: `client = authenticator.identify(request, time.time())`
        """
        return self._blocking.run(self._decide(credentials_of(request), request.certificate, now))

    def decide(self, request: ClientRequest, now: float) -> Flow[RegisteredClient | None]:
        """The decision itself, as a flow."""
        credentials = credentials_of(request)
        if credentials.client_id is None and credentials.found == OTHER_SCHEME:
            return None  # a bearer token, for example at an introspection endpoint (RFC 7662 2.1)
        client = yield from self._decide(credentials, request.certificate, now)
        return client if client.token_endpoint_auth_method in (PKI, SELF_SIGNED) else None

    def _decide(
        self, credentials: Credentials, certificate: ClientCertificate | None, now: float
    ) -> Flow[RegisteredClient]:
        client = yield from self._named(credentials.client_id)
        method = client.token_endpoint_auth_method
        if not credentials.permit(method):
            used = f"registered method {method}, found {credentials.found}"
            if method in (PKI, SELF_SIGNED):
                raise Refused("invalid_request", f"{used}: a second authentication method (RFC 6749 2.3)")
            _refuse(used)
        if method not in (PKI, SELF_SIGNED):
            return client
        if certificate is None:
            _refuse("no client certificate")
        if method == PKI:
            yield from self._check_identity(client, certificate, now)
        else:
            yield from self._check_registered(client, certificate, now)
        return client

    def _named(self, client_id: str | None) -> Flow[RegisteredClient]:
        """The registration of this very `client_id`."""
        if client_id is None:
            _refuse("no client_id")
        if not (client_id.isascii() and client_id.isprintable()):
            _refuse("no such client: its client_id is not printable ASCII (RFC 6749 A.1)")
        client = yield from ask(Call(self._look_up, (client_id,)))
        if client is None:
            _refuse("no such client")
        if not isinstance(client, RegisteredClient) or client.client_id != client_id:
            # Say, a database that compares without case: another client's rights would be at stake.
            logger.error("clients gave something else than the RegisteredClient of that very client_id")
            _refuse("the look-up gave another client")
        return client

    def _check_identity(self, client: RegisteredClient, certificate: ClientCertificate, now: float) -> Flow[None]:
        """The PKI method (RFC 8705 2.1): a chain that somebody vouches for, and the one expected name."""
        own = client.trust_store
        store = self._trust_store if own is None else with_clock_skew(own, self._clock_skew)
        if store is not None:
            try:
                validated = yield from decide(store, certificate, now)
                certificate = validated.value
            except Unavailable:
                raise
            except Refused as refusal:
                _refuse(f"{certificate.thumbprint} does not validate", *refusal.evidence)
        if not certificate.verified:
            _refuse(f"{certificate.thumbprint} is merely presented, and tls_client_auth needs a verified chain")
        if client.identity is None or not client.identity.holds(certificate):
            _refuse(f"{certificate.thumbprint} is not {client.identity!r}")

    def _check_registered(self, client: RegisteredClient, certificate: ClientCertificate, now: float) -> Flow[None]:
        """The self-signed method (RFC 8705 2.2): one of the registered certificates, its chain does not matter."""
        if client.certificates is not None:
            if client.certificates.hold(certificate, self._match):
                return
        elif client.jwks_uri is not None:
            fetched = self._fetched_from(client.jwks_uri)
            registered = yield from fetched.current(now)
            if registered.hold(certificate, self._match):
                return
            registered = yield from fetched.refreshed(now)  # the client may have a new certificate
            if registered.hold(certificate, self._match):
                return
        _refuse(f"{certificate.thumbprint} is not registered for the client")

    def _fetched_from(self, uri: str) -> RemoteDocument[RegisteredCertificates]:
        fetched = self._fetched.get(uri)
        if fetched is None:
            try:
                check_address("jwks_uri", uri, allow_http=self._allow_http)
            except ConfigurationError as error:
                logger.error("%s", error)
                _refuse("its jwks_uri is not one that we fetch from")
            self._tls = self._tls or ssl.create_default_context()  # one for all clients: it holds each CA of the system
            fetched = RemoteDocument(
                uri, RegisteredCertificates.parse_text, tls=self._tls, allow_private=self._allow_private
            )
            self._fetched.put(uri, fetched)
        return fetched


def _refuse(*evidence: str) -> NoReturn:
    raise Refused("invalid_client", *evidence)
