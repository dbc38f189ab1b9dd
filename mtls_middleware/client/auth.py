"""`CertificateBoundAuth`: authentication of httpx2 with tokens that are bound to the client's certificate."""

import re
import time
from collections.abc import AsyncGenerator, Collection, Generator, Sequence
from typing import Any
from urllib.parse import urlsplit

from mtls_middleware import options
from mtls_middleware.certificate_files import CertificateConnections, CertificateFiles, Roots, check_certificate_files
from mtls_middleware.client.server_metadata import Method
from mtls_middleware.client.token_response import BoundToken
from mtls_middleware.client.tokens import ClientOptions, Discovery, TokenSource
from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.flow import AwaitingDriver, BlockingDriver, Flow
from mtls_middleware.errors import ConfigurationError, require_extra

require_extra("httpx2", "http", "CertificateBoundAuth")

import httpx2  # noqa: E402 (the check before it names the extra)

from mtls_middleware.client.credentials import EXTENSION, Credentials, request_credentials  # noqa: E402 (as above)
from mtls_middleware.client.origins import Origins  # noqa: E402 (as above)

# Matches a challenge that says that the token has expired or is revoked (RFC 6750 3.1).
_INVALID_TOKEN = re.compile(r'\berror\s*=\s*"?invalid_token\b', re.IGNORECASE)


class CertificateBoundAuth(httpx2.Auth):
    """Sends requests with an access token that is bound to the client's certificate (RFC 8705 3; extra `http`).

    The client authenticates to the token endpoint with its certificate (RFC 8705 2), and uses the grant type client
    credentials. The token is sent only over connections that present the same certificate. Therefore the client needs
    `CertificateTransport` or `AsyncCertificateTransport`. After the certificate files are renewed, a new token is
    obtained before the next request is sent.

    One object serves any number of threads and tasks, sync and async (asyncio). At most one token request for a
    certificate is in progress. If a resource server responds with 401 `invalid_token`, the request is sent once more
    with a new token, unless its body is a stream.

    Arguments:
        issuer: the https address of the authorization server. Its metadata is rejected unless its `issuer` is exactly
            this string.
        client_id: this client's id at the authorization server.
        certificate: the certificate and key. Give the same object to the transport.
        scopes: the scopes to request.
        resource: the identifier of the resource server, or several (RFC 8707).
        method: the registered authentication method of the client. The metadata must list it, if it lists methods.
        discovery: the metadata document to fetch: `"rfc8414"` or `"openid"` (OpenID Connect Discovery).
        token_hosts: the host of the token endpoint must be the issuer's host, a subdomain of it, or one of these. The
            token endpoint is the one in `mtls_endpoint_aliases`, if there is one (RFC 8705 5).
        origins: the origins to which tokens are sent, for example `["https://api.example"]`. A request to another
            origin raises `CredentialsNotSent`. Default: `None`, tokens are sent to every https URL that is requested.
        roots: a PEM file with the CAs of the authorization server's certificate. Default: the system's CAs.
        proxy: the URL of an HTTP proxy for requests to the authorization server. TLS ends at the server.
        leeway: number of seconds before its end from which a token is no longer used, 0 to 300. Default: 30. A token
            is always used for half of its lifetime.
        timeout: maximum number of seconds for one exchange with the authorization server, 0.05 to 60. Default: 5.

    Raises `ConfigurationError`. A request raises `TokenError` if it cannot obtain a token, and `CredentialsNotSent` if
    it is a redirect, or its URL is not https or not of `origins`.

    Example: `CertificateBoundAuth(issuer="https://as.example", client_id="billing", certificate=files)`
    """

    def __init__(
        self,
        *,
        issuer: str,
        client_id: str,
        certificate: CertificateFiles,
        scopes: Sequence[str] = (),
        resource: str | Sequence[str] | None = None,
        method: Method = "tls_client_auth",
        discovery: Discovery = "rfc8414",
        token_hosts: Collection[str] = (),
        origins: Collection[str] | None = None,
        roots: Roots = None,
        proxy: str | None = None,
        leeway: float = 30,
        timeout: float = 5,
    ) -> None:
        check_address("issuer", issuer, allow_http=False, example="https://as.example")
        if "?" in issuer:
            raise ConfigurationError(f"issuer={issuer!r}: expected an address without query (RFC 8414 2)")
        self._certificate = check_certificate_files(certificate)
        self._origins = Origins(origins)
        chosen = ClientOptions(
            issuer=issuer,
            client_id=options.string("client_id", client_id, "billing"),
            scopes=_scopes(scopes),
            resources=_resources(resource),
            method=options.one_of("method", method, ("tls_client_auth", "self_signed_tls_client_auth")),
            discovery=options.one_of("discovery", discovery, ("rfc8414", "openid")),
            token_hosts=_hosts(token_hosts),
            leeway=options.seconds("leeway", leeway, 0, 300, 30),
            timeout=options.seconds("timeout", timeout, 0.05, 60, 5),
        )
        connections = CertificateConnections(certificate, roots, proxy=options.proxy_url("proxy", proxy))
        self._tokens = TokenSource(chosen, connections)
        self._blocking, self._awaiting = BlockingDriver(), AwaitingDriver()

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """Send `request` with a token. Called by `httpx2.Client`."""
        steps = self._steps(request)
        step = next(steps)
        try:
            while True:
                step = steps.send((yield step) if isinstance(step, httpx2.Request) else self._blocking.run(step))
        except StopIteration:
            return
        finally:
            steps.close()

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send `request` with a token. Called by `httpx2.AsyncClient`."""
        steps = self._steps(request)
        step = next(steps)
        try:
            while True:
                step = steps.send((yield step) if isinstance(step, httpx2.Request) else await self._awaiting.run(step))
        except StopIteration:
            return
        finally:
            steps.close()

    def _steps(self, request: httpx2.Request) -> Generator[httpx2.Request | Flow[BoundToken], Any, None]:
        """Yield flows that return a token, and requests. This is the one flow for sync and async."""
        self._origins.check(request.url)
        in_use = request_credentials(request)
        can_repeat = isinstance(request.stream, httpx2.ByteStream)
        for is_last in (False, True):
            now = time.time()
            pair = self._certificate.current(now)
            token: BoundToken = self._tokens.cached(pair, now) or (yield self._tokens.current(pair, now))
            credentials = Credentials(pair, token.text, request.url)
            in_use.add(credentials)
            try:
                response: httpx2.Response = yield request
            finally:
                in_use.remove(credentials)
            if EXTENSION not in response.extensions:
                raise ConfigurationError(
                    "CertificateBoundAuth needs a client with Client(transport=CertificateTransport(certificate)) or "
                    "AsyncClient(transport=AsyncCertificateTransport(certificate)); the token was not sent"
                )
            # A server that rejects each token must not cause two token requests for each request, so the second token
            # stays in the cache.
            if is_last or not _rejects_token(response):
                return
            self._tokens.drop(token)
            if not can_repeat:
                return


def _rejects_token(response: httpx2.Response) -> bool:
    return response.status_code == 401 and bool(_INVALID_TOKEN.search(response.headers.get("WWW-Authenticate", "")))


def _hosts(given: Collection[str]) -> frozenset[str]:
    hosts = options.strings("token_hosts", given, '"mtls.as.example"')
    for each in hosts:
        if not each or "/" in each or each.rpartition(":")[2].isdigit():
            raise ConfigurationError(f"token_hosts={given!r}: expected hosts without scheme and port")
    return frozenset(each.lower() for each in hosts)


def _scopes(given: Sequence[str]) -> list[str]:
    scopes = options.string_list("scopes", given, '"invoices:read"')
    for each in scopes:
        if not options.is_scope(each):
            raise ConfigurationError(f"scopes={given!r}: expected one scope in each string (RFC 6749 3.3)")
    return scopes


def _resources(given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        return []
    resources = [given] if isinstance(given, str) else options.string_list("resource", given, '"https://api.example"')
    for each in resources:
        if not urlsplit(each).scheme or "#" in each:
            raise ConfigurationError(
                f"resource={each!r}: expected an absolute URI without fragment (RFC 8707 2), for example "
                "'https://api.example'"
            )
    return resources
