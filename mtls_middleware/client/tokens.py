"""`TokenSource`: a flow that obtains a token for the current certificate, and caches it."""

import copy
import logging
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mtls_middleware.certificate_files import CertificateConnections, CertificateKeyPair, trust_context
from mtls_middleware.client.errors import TokenError
from mtls_middleware.client.server_metadata import Method, ServerMetadata, read_metadata
from mtls_middleware.client.token_response import BoundToken, read_token
from mtls_middleware.effects.exchange import Fetch, FetchFailed
from mtls_middleware.effects.flow import Flow, ask
from mtls_middleware.effects.remote_document import RemoteDocument
from mtls_middleware.errors import Unavailable
from mtls_middleware.forks import reset_after_fork
from mtls_middleware.well_known import append_well_known, insert_well_known

logger: logging.Logger = logging.getLogger("mtls_middleware.client")

Discovery = Literal["rfc8414", "openid"]

# Maximum number of bytes in the response of the token endpoint.
_MAX_RESPONSE = 65_536
# Maximum number of cached tokens. A request may still use the certificate that was current when the request began.
_MAX_TOKENS = 2
_HEADERS = {"Accept": "application/json"}


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What the client sends to the authorization server. For the meaning, see `CertificateBoundAuth`."""

    issuer: str
    client_id: str
    scopes: Sequence[str]
    resources: Sequence[str]
    method: Method
    discovery: Discovery
    token_hosts: Collection[str]
    leeway: float
    timeout: float

    def form(self) -> list[tuple[str, str]]:
        """Return the parameters of the token request (RFC 6749 4.4.2, RFC 8705 2, RFC 8707 2)."""
        scope = [("scope", " ".join(self.scopes))] if self.scopes else []
        resources = [("resource", each) for each in self.resources]
        return [("grant_type", "client_credentials"), ("client_id", self.client_id), *scope, *resources]


class _Cached(NamedTuple):
    token: BoundToken
    until: float


class _Request:
    """A token request. All callers with this certificate share it. The request continues if a caller is cancelled.

    Attributes:
        begun: seconds since the epoch.
        callers: the number of callers that wait.
        result: the token, or the failure (which is not raised); `None` while the request is in progress.
    """

    def __init__(self, pair: CertificateKeyPair, metadata: ServerMetadata, fetch: Fetch, begun: float) -> None:
        self.pair, self.fetch, self.begun = pair, fetch, begun
        self._metadata = metadata
        self.callers = 1
        self.result: BoundToken | TokenError | None = None

    def read(self) -> BoundToken | TokenError:
        """Return the result of the exchange, which has ended."""
        found = self.fetch.result()
        if isinstance(found, FetchFailed):
            return TokenError("unavailable", f"the token endpoint {self.fetch.url}: {found}")
        try:
            return read_token(found, self.pair.certificate, server_binds=self._metadata.binds_tokens)
        except TokenError as error:
            return copy.copy(error)  # return a copy without the traceback, which would keep the response in memory


class TokenSource:
    """Obtains tokens with the client credentials grant (RFC 6749 4.4).

    At most one token request for each certificate is in progress. A token is cached for its certificate until `leeway`
    seconds before it expires, or until half of its lifetime, whichever is later. A failure is not cached, but all
    callers that wait for the same request get the same exception. If a caller is cancelled, the request continues, and
    its token is cached.
    """

    def __init__(self, options: ClientOptions, connections: CertificateConnections) -> None:
        self._options, self._connections = options, connections
        well_known = {
            "rfc8414": lambda: insert_well_known(options.issuer, "oauth-authorization-server"),
            "openid": lambda: append_well_known(options.issuer, "openid-configuration"),
        }
        self._metadata: RemoteDocument[ServerMetadata] = RemoteDocument(
            well_known[options.discovery](),
            self._read_metadata,
            tls=trust_context(connections.roots),
            timeout=options.timeout,
            proxy=connections.proxy,
            what="CertificateBoundAuth",
        )
        self._lock = threading.Lock()  # the lock protects the following attributes, and is not held during I/O
        self._tokens: tuple[_Cached, ...] = ()
        self._requests: tuple[_Request, ...] = ()
        reset_after_fork(self)

    def cached(self, pair: CertificateKeyPair, now: float) -> BoundToken | None:
        """Return the cached token for the certificate of `pair`, or `None`. `now`: seconds since the epoch."""
        for token, until in self._tokens:
            if token.certificate == pair.certificate and until - token.lifetime <= now < until:
                return token
        return None

    def current(self, pair: CertificateKeyPair, now: float) -> Flow[BoundToken]:
        """Return a token for the certificate of `pair`, from the cache or the server. Raises `TokenError`."""
        token = self.cached(pair, now)
        if token is not None:
            return token
        try:
            metadata = yield from self._metadata.current(now)
        except Unavailable as unavailable:
            reason = f"{unavailable.evidence[0]}; the logger mtls_middleware.remote_documents has the reason"
            raise TokenError("unavailable", reason) from None
        request = self._request(pair, metadata, now)
        if isinstance(request, BoundToken):
            return request
        try:
            yield from ask(request.fetch)
        except FetchFailed as failure:
            self._stop_waiting(request, failure)
        finally:
            self._leave(request)
        result = self._finish(request)
        if isinstance(result, TokenError):
            raise copy.copy(result) from None  # each caller gets its own exception object
        return result

    def drop(self, token: BoundToken) -> None:
        """Remove `token` from the cache, because a resource server rejected it."""
        with self._lock:
            self._tokens = tuple(each for each in self._tokens if each.token is not token)

    def _read_metadata(self, body: bytes) -> ServerMetadata:
        options = self._options
        return read_metadata(body, options.issuer, options.method, options.token_hosts)

    def _request(self, pair: CertificateKeyPair, metadata: ServerMetadata, now: float) -> _Request | BoundToken:
        """Return the request in progress, or a new request, or the token of a request that has just ended."""
        connections = self._connections.of(pair)
        with self._lock:
            for request in self._requests:
                if request.pair == pair and request.fetch.url == metadata.token_endpoint:
                    request.callers += 1
                    return request
            token = self.cached(pair, now)
            if token is not None:
                return token
            fetch = Fetch(
                metadata.token_endpoint,
                connections.tls,
                self._options.timeout,
                _MAX_RESPONSE,
                form=self._options.form(),
                headers=_HEADERS,
                connections=connections,
            )
            request = _Request(pair, metadata, fetch, now)
            self._requests = (*self._requests, request)
        fetch.outcome.add_done_callback(lambda _: self._finish_without_callers(request))
        return request

    def after_fork(self) -> None:
        """Leave the requests in progress to the parent: a child process does not get their results."""
        self._lock = threading.Lock()
        self._requests = ()

    def _leave(self, request: _Request) -> None:
        """Stop counting a caller of the request. The caller may be cancelled."""
        with self._lock:
            request.callers -= 1
        if request.fetch.outcome.done():
            self._finish(request)

    def _finish_without_callers(self, request: _Request) -> None:
        """Finish a request whose callers are all cancelled.

        Callers finish their own requests, because a log handler may block.
        """
        if request.callers == 0:
            self._finish(request)

    def _stop_waiting(self, request: _Request, failure: FetchFailed) -> None:
        """Handle the failure of a caller to wait for a request. Raises `TokenError` unless the exchange has ended."""
        request.fetch.end_unstarted(failure)  # the exchange was not started, for example because the server stalls
        if request.fetch.outcome.done():
            return
        if failure.retry_after is None:  # the exchange is overdue, so the next caller starts a new exchange
            with self._lock:
                self._requests = tuple(each for each in self._requests if each is not request)
        raise TokenError("unavailable", f"the token endpoint {request.fetch.url}: {failure}")

    def _finish(self, request: _Request) -> BoundToken | TokenError:
        """Return the result of a request whose exchange has ended.

        The first caller caches the token, or logs the failure.
        """
        with self._lock:
            if request.result is not None:
                return request.result
            self._requests = tuple(each for each in self._requests if each is not request)
            request.result = result = request.read()
            if isinstance(result, BoundToken):
                until = request.begun + result.lifetime - min(self._options.leeway, result.lifetime / 2)
                others = [each for each in self._tokens if each.token.certificate != result.certificate]
                self._tokens = (*others[1 - _MAX_TOKENS :], _Cached(result, until))
        client_id, issuer = self._options.client_id, self._options.issuer
        if isinstance(result, TokenError):
            logger.error("no token for client %a at %s: %s", client_id, issuer, result)
        else:
            bound_to, lifetime = result.certificate.thumbprint, result.lifetime
            logger.info("new token for client %a from %s, bound to %s, for %d s", client_id, issuer, bound_to, lifetime)
        return result
