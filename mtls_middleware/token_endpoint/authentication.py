"""Is this request from that OAuth client? RFC 8705 section 2, for each endpoint where clients authenticate.

Must never know: the gateway, or what the endpoint does. The certificate is checked against the one client that the
request names (row B3), by the method which that client registered, never by one that the request suggests (row B5).
"""

import base64
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote_plus

from mtls_middleware.cache import Cache
from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.effects import AwaitingDriver, BlockingDriver, Call, Flow, ask, settled
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.fetched import Fetched, check_address
from mtls_middleware.token_endpoint.clients import PKI, SELF_SIGNED, RegisteredClient
from mtls_middleware.token_endpoint.registered import Match, RegisteredCertificates

logger = logging.getLogger("mtls_middleware.token_endpoint")

LookUp = Callable[[str], "RegisteredClient | Awaitable[RegisteredClient | None] | None"]

# Parameters that carry another method's credentials (RFC 6749 2.3.1, RFC 7521 4.2).
_OTHER_METHODS = ("client_secret", "client_assertion", "client_assertion_type")
# Clients with a jwks_uri whose certificates are remembered: some kilobytes each.
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """What client authentication looks at.

    Attributes:
        form: names and values of the body, in order, repeated ones too.
        query: the same of the address; `client_id` has no place there.
        authorization: values of the `Authorization` header.
        certificate: the client certificate, `None` where there is none.

    Raises `ConfigurationError` for a text where several are meant.

    Example: `ClientRequest(request.form.items(multi=True), client_certificate(request), authorization=fields)`
    """

    form: Iterable[tuple[str, str]]
    certificate: ClientCertificate | None
    query: Iterable[tuple[str, str]] = ()
    authorization: Iterable[str] = ()

    def __post_init__(self) -> None:
        for name in ("form", "query", "authorization"):
            given = getattr(self, name)
            if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
                raise ConfigurationError(
                    f"{name}: a list, for example form.items(multi=True); not one value, no mapping"
                )
            object.__setattr__(self, name, tuple(given))  # an iterator would be empty at the second look


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
    ) -> None:
        look_up = clients.get if isinstance(clients, Mapping) else clients
        if not callable(look_up):
            raise ConfigurationError(f"clients={clients!r}: a function or a mapping from client_id to RegisteredClient")
        if match not in ("certificate", "public_key"):
            raise ConfigurationError(f"match={match!r}: 'certificate' or 'public_key'")
        if trust_store is not None and not callable(getattr(trust_store, "validate", None)):
            raise ConfigurationError(f"trust_store={trust_store!r} is no trust store")
        self._look_up: LookUp = look_up
        self._trust_store = trust_store
        self._match: Match = match
        self._tls = ssl_context
        self._allow_private, self._allow_http = allow_private, allow_http
        self._fetched: Cache[str, Fetched[RegisteredCertificates]] = Cache(_REMEMBERED)
        self._blocking, self._awaiting = BlockingDriver(), AwaitingDriver()

    def authenticate(self, request: ClientRequest, now: float) -> RegisteredClient | None:
        """The client, authenticated by its certificate; `None` for one that is the application's to authenticate.

        `now`: seconds since the epoch. Blocks. Raises `Refused`: `invalid_client` or `invalid_request`; `Unavailable`.

        Example: `authenticator.authenticate(ClientRequest(form.items(multi=True), certificate), time.time())`
        """
        return self._blocking.run(self.decide(request, now))

    async def authenticate_async(self, request: ClientRequest, now: float) -> RegisteredClient | None:
        """`authenticate` for an event loop."""
        return await self._awaiting.run(self.decide(request, now))

    def decide(self, request: ClientRequest, now: float) -> Flow[RegisteredClient | None]:
        """The decision itself, as a flow."""
        client_id, others = _client_id(request)
        if client_id is None:
            return None
        client = yield from ask(Call(self._look_up, (client_id,)))
        if client is None:
            _refuse("no such client")
        if not isinstance(client, RegisteredClient) or client.client_id != client_id:
            # Say, a database that compares without case: another client's rights would be at stake.
            logger.error("clients gave something else than the RegisteredClient of that very client_id")
            _refuse("the look-up gave another client")
        if client.token_endpoint_auth_method not in (PKI, SELF_SIGNED):
            return None
        if others:
            raise Refused("invalid_request", "a certificate and a second authentication method (RFC 6749 2.3)")
        if request.certificate is None:
            _refuse("no client certificate")
        if client.token_endpoint_auth_method == PKI:
            yield from self._check_identity(client, request.certificate, now)
        else:
            yield from self._check_registered(client, request.certificate, now)
        return client

    def _check_identity(self, client: RegisteredClient, certificate: ClientCertificate, now: float) -> Flow[None]:
        """The PKI method (RFC 8705 2.1): a chain that somebody vouches for, and the one expected name."""
        store = self._trust_store if client.trust_store is None else client.trust_store
        if store is not None:
            try:
                certificate = yield from settled(store.validate(certificate, now))
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

    def _fetched_from(self, uri: str) -> Fetched[RegisteredCertificates]:
        fetched = self._fetched.get(uri)
        if fetched is None:
            try:
                check_address("jwks_uri", uri, allow_http=self._allow_http)
            except ConfigurationError as error:
                logger.error("%s", error)
                _refuse("its jwks_uri is not one that we fetch from")
            self._tls = self._tls or ssl.create_default_context()  # one for all clients: it holds each CA of the system
            fetched = Fetched(uri, RegisteredCertificates.parse_text, tls=self._tls, allow_private=self._allow_private)
            self._fetched.put(uri, fetched)
        return fetched


def _client_id(request: ClientRequest) -> tuple[str | None, bool]:
    """Who the request says it is from, `None` where only another method's credentials do; and whether there are any.

    Raises `Refused` where it says so twice, or not at all (row B2, case 137).
    """
    named = [value for name, value in request.form if name == "client_id"]
    if len(named) > 1 or any(name == "client_id" for name, _ in request.query):
        raise Refused("invalid_request", "client_id more than once, or outside of the body")
    authorization = tuple(request.authorization)
    if len(authorization) > 1:
        raise Refused("invalid_request", "more than one Authorization header")
    others = bool(authorization) or any(name in _OTHER_METHODS for name, _ in request.form)
    basic = _basic_user(authorization[0]) if authorization else None
    if named and basic is not None and basic != named[0]:
        raise Refused("invalid_request", "client_id and the user of Authorization differ")
    client_id = named[0] if named else basic
    if not client_id and not others:
        _refuse("no client_id")
    return client_id or None, others


def _basic_user(authorization: str) -> str | None:
    """The client_id of HTTP Basic (RFC 6749 2.3.1), so that no client comes past the method which it registered."""
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:  # strictly: two field lines that a server joined by a comma are not one
        plain = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
        return unquote_plus(plain.partition(":")[0], errors="strict")
    except ValueError:
        raise Refused("invalid_request", "Authorization: Basic that cannot be read") from None


def _refuse(*evidence: str) -> NoReturn:
    raise Refused("invalid_client", *evidence)
