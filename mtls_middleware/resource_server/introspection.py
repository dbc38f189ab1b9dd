"""`IntrospectedAccessTokens`: validates access tokens by introspection (RFC 7662) with optional signatures (RFC 9701).

If the server is unreachable, the token is rejected.
"""

import json
import logging
import ssl
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal, NoReturn

from mtls_middleware import options
from mtls_middleware.certificate_files import CertificateFiles, Roots
from mtls_middleware.dependencies import report
from mtls_middleware.effects.address import check_address
from mtls_middleware.effects.exchange import MAX_WAITING, Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import Flow, ask
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable, require_extra
from mtls_middleware.json_values import json_object, memory_of
from mtls_middleware.resource_server.claim_names import claim_names
from mtls_middleware.resource_server.claims import (
    check_expiry,
    is_other_token_type,
    numeric_date,
    reject_token,
    timed_token,
)
from mtls_middleware.resource_server.introspection_cache import IntrospectionCache, IntrospectionKey, MemoryAnswers
from mtls_middleware.resource_server.introspection_connections import introspection_connections
from mtls_middleware.resource_server.introspection_credentials import (
    BearerToken,
    CredentialArguments,
    IntrospectionCredentials,
    Method,
    PrivateKey,
)
from mtls_middleware.resource_server.introspection_response import IntrospectionResponses, UnusableResponse
from mtls_middleware.resource_server.profiles import rules
from mtls_middleware.resource_server.shared_exchanges import SharedExchanges
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable, once, opts_in

logger: logging.Logger = logging.getLogger("mtls_middleware.introspection")

# Maximum number of bytes in the server's response.
_MAX_RESPONSE = 65_536
# Maximum number of bytes in a cached response. Real responses have a few hundred bytes.
_MAX_CACHED = 16_384
# Maximum number of seconds that a response is cached. During this time, a revoked token is still accepted (RFC 7662 4).
_MAX_CACHE_SECONDS = 300
# The value of the `Retry-After` field, in seconds.
_RETRY_AFTER = 5


class IntrospectedAccessTokens:
    """Validates access tokens at the introspection endpoint of an authorization server (RFC 7662; extra `http`).

    This resource server authenticates to the authorization server with one of `client_secret`, `private_key` and
    `bearer_token`. If none is given, it authenticates with `certificate`, or with the certificate in `ssl_context`.

    Arguments:
        endpoint: the https address of the introspection endpoint.
        client_id: this client's id at the authorization server.
        client_secret: the client's secret (RFC 6749 2.3.1).
        auth_method: `"client_secret_basic"` (default with a secret), `"client_secret_post"`, `"private_key_jwt"`,
            `"tls_client_auth"` or `"bearer"`.
        encode_secret: form-encode the id and the secret for HTTP Basic, as RFC 6749 2.3.1 requires. Some servers need
            `False`.
        private_key: signs client assertions (RFC 7523 2.2): PEM, or a key of `cryptography`.
        algorithm, key_id: `alg` and `kid` of the assertions. Default of `algorithm`: PS256 for an RSA key, or the
            algorithm of the curve.
        assertion_audience: `aud` of the assertions. Default: `issuer`, or `endpoint` if no issuer is given.
        bearer_token: an access token for the endpoint (RFC 7662 2.1), or a function that returns the current token.
            Under ASGI, the function may be async.
        ssl_context: verifies the server. For `tls_client_auth`, it must also contain the client certificate
            (`load_cert_chain`; RFC 8705 2). Default: the system's CAs.
        certificate, roots: instead of `ssl_context`, the client certificate, which is loaded again when its files are
            renewed, and a PEM file with the CAs of the server's certificate. Default of `roots`: the system's CAs.
        token_type_hint: the value of this parameter; `None` to omit it, because some servers reject it.
        issuer: the expected `iss`. A response without `iss` is accepted.
        audience: this resource's identifier, or several identifiers. `aud` must contain at least one of them. A
            response without `aud` is accepted.
        scope_claims, client_id_claims: as in `JWTAccessTokens`, for the members of the response.
        required_claims: members that every active response must have, for example `["aud", "exp"]`.
        profile: `"fapi2"`: only PS256, ES256 and EdDSA; unbound tokens are rejected, whatever `binding` is.
        leeway: tolerance for clocks that differ, in seconds, 0 to 60. Default: 10.
        cache: `MemoryAnswers()` or `RedisAnswers(...)`. Default: no cache; every request causes an introspection.
        remember_active, remember_inactive: seconds for which a response about an active or an inactive token is cached,
            0 to 300, but never after its `exp`. During this time, a revoked token is still accepted, and a token that
            becomes active is still rejected. Defaults: 30 and 5.
        signed_by: the server's keys (an https address, or a JWK Set as a dict). Responses must then be signed
            (RFC 9701), and `issuer` is required.
        timeout: maximum number of seconds for one exchange with the server, 0.05 to 60. Default: 5.
        max_waiting: maximum number of requests of this process that wait for the server, 1 to 100,000. Further requests
            get 503 at once. One client may use half of this number. Under WSGI, give fewer than the process has
            threads, so that a server that stalls leaves threads for other requests. Default: 2,000.
        proxy: the URL of an HTTP proxy for all requests to the server, for example `"http://egress.internal:3128"`. The
            variables `HTTPS_PROXY` and `HTTP_PROXY` of the environment are ignored.
        allow_http: accept `http://` for loopback addresses, for tests.

    Raises `ConfigurationError` if an argument is invalid.

    Example: `IntrospectedAccessTokens(endpoint="https://as.example/introspect", client_id="api", client_secret=secret)`
    """

    def __init__(
        self,
        *,
        endpoint: str,
        client_id: str,
        client_secret: str | None = None,
        auth_method: Method | None = None,
        encode_secret: bool = True,
        private_key: PrivateKey | None = None,
        algorithm: str | None = None,
        key_id: str | None = None,
        assertion_audience: str | None = None,
        bearer_token: BearerToken | None = None,
        ssl_context: ssl.SSLContext | None = None,
        certificate: CertificateFiles | None = None,
        roots: Roots = None,
        token_type_hint: str | None = "access_token",  # noqa: S107 (the name of a type)
        issuer: str | None = None,
        audience: str | Collection[str] | None = None,
        scope_claims: Collection[str] | None = None,
        client_id_claims: Collection[str] | None = None,
        required_claims: Collection[str] = (),
        profile: Literal["fapi2"] | None = None,
        leeway: float | None = None,
        cache: IntrospectionCache | None = None,
        remember_active: float = 30,
        remember_inactive: float = 5,
        signed_by: str | Mapping[str, Any] | None = None,
        timeout: float = 5,
        max_waiting: int = MAX_WAITING,
        proxy: str | None = None,
        allow_http: bool = False,
    ) -> None:
        require_extra("httpx2", "http", "IntrospectedAccessTokens")
        check_address("endpoint", endpoint, allow_http=allow_http)
        options.string("client_id", client_id, "api")
        strings = {"issuer": issuer, "assertion_audience": assertion_audience, "key_id": key_id}
        for name, value in {**strings, "token_type_hint": token_type_hint}.items():
            if value is not None:
                options.string(name, value, "https://as.example")
        options.strings("required_claims", required_claims, '"aud"')
        options.one_of("profile", profile, ("fapi2", None))
        if cache is not None and (isinstance(cache, type) or not (hasattr(cache, "get") and hasattr(cache, "put"))):
            raise ConfigurationError(f"cache={cache!r}: expected an IntrospectionCache, for example MemoryAnswers()")
        self._endpoint, self._client_id, self._issuer = endpoint, client_id, issuer
        self._names = claim_names(
            audience=audience, scope_claims=scope_claims, client_id_claims=client_id_claims, profile=profile
        )
        self._required = frozenset(required_claims) | ({"cnf"} if profile == "fapi2" else set())
        self._rules = rules(profile, algorithms=None, leeway=leeway, typ=None, required_claims=None)
        ssl_context, self._connections = introspection_connections(ssl_context, certificate, roots, max_waiting, proxy)
        given = client_id, client_secret, auth_method, encode_secret, private_key, algorithm, key_id, bearer_token
        for_server = assertion_audience or issuer or endpoint
        self._credentials = IntrospectionCredentials(
            CredentialArguments(*given), endpoint=endpoint, audience=for_server, tls=ssl_context
        )
        self._hint = [] if token_type_hint is None else [("token_type_hint", token_type_hint)]
        self._cache = cache
        self._active = options.seconds("remember_active", remember_active, 0, _MAX_CACHE_SECONDS, 5)
        self._inactive = options.seconds("remember_inactive", remember_inactive, 0, _MAX_CACHE_SECONDS, 5)
        self._timeout = options.seconds("timeout", timeout, 0.05, 60, 5)
        self._responses = IntrospectionResponses(
            signed_by,
            issuer=issuer,
            client_id=client_id,
            algorithms=self._rules.algorithms,
            leeway=self._rules.leeway,
            tls=ssl_context,
            proxy=proxy,
            allow_http=allow_http,
        )
        self._exchanges = SharedExchanges()

    @property
    def issuer(self) -> str | None:
        """The configured `iss` of the accepted tokens; `None` if no issuer is configured."""
        return self._issuer

    def is_bound_only(self, text: str) -> bool:  # noqa: ARG002 (the signature of `TrustedIssuers`)
        """Return whether an unbound token is rejected, even if the layer has `binding="when_present"`."""
        return "cnf" in self._required

    is_reusable = True

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """Validate the token string `text` at time `now` (seconds since the epoch). The binding is not checked here.

        Raises `Refused("invalid_token")`, or `Unavailable` if the server does not respond as expected.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """Like `validate`, but returns the token with the time for which the result may be reused.

        A result may be reused only if the response is in `MemoryAnswers`.
        """
        if self._cache is None:
            response = yield from self._introspect(text, now, None)
            return once(self._check_response(response, now).value)
        key = self._credentials.cache_key(text, self._endpoint, self._responses.content_type)
        record = yield from self._cache.get(key, now)
        cached = None if record is None else self._read_record(record, now)
        if record is None or cached is None:
            response = yield from self._introspect(text, now, key)
            return once(self._check_response(response, now).value)
        result = self._check_response(cached.value, now)
        cache = self._cache
        # Another process can remove the response from a shared cache.
        if not isinstance(cache, MemoryAnswers) or not opts_in(cache):
            return once(result.value)
        stored = cached._replace(checks=(partial(cache.has, key, record),))
        return result.within(stored)._replace(cost=memory_of(record))

    def check_later(self, token: AccessToken, now: float) -> None:
        """Check again a token that was accepted earlier. Raises `Refused` if it has expired at `now`.

        This method does not introspect the token again.
        """
        check_expiry(token, now, self._rules.leeway)

    def _check_response(self, response: Mapping[str, Any], now: float) -> Reusable[AccessToken]:
        """Check the members of the response (RFC 7662 2.2), and return the token. Raises `Refused("invalid_token")`."""
        if response.get("active") is not True:
            error = f" (error: {response['error']})" if "error" in response else ""
            reject_token(f"the introspection server reports that the token is not active{error}")
        token_type = response.get("token_type", "Bearer")
        if not isinstance(token_type, str) or token_type.lower() != "bearer":
            reject_token("token_type is not Bearer")
        if is_other_token_type(response):
            reject_token("the token is not an access token, but for example a refresh token")
        missing = sorted(self._required - response.keys())
        if missing:
            reject_token(f"missing claims: {', '.join(missing)}")
        if self._issuer is not None and response.get("iss", self._issuer) != self._issuer:
            reject_token(
                f"the token is from another issuer; expected iss {self._issuer!a}",
                found={"iss": response["iss"]},
                expected={"iss": self._issuer},
            )
        if self._names.audiences and "aud" in response:
            self._names.check(response)
        client_id, scopes = self._names.client_id_of(response), self._names.scopes_of(response)
        return timed_token(response, client_id=client_id, scopes=scopes).valid_at(now, self._rules.leeway)

    def _introspect(self, text: str, now: float, key: IntrospectionKey | None) -> Flow[dict[str, Any]]:
        """Return the members of the server's response. With a `key`, concurrent calls for a token share an exchange."""
        for is_last in (False, True):
            try:
                if key is not None:
                    return (yield from self._share(text, key, now))
                response = yield from ask((yield from self._fetch(text, now)))
                return (yield from self._read(response, now))
            except FetchFailed as failure:
                if failure.retry_after is not None:
                    self._unavailable(str(failure), failure.retry_after)
                if is_last or not failure.again:
                    self._fail(str(failure), "check that the server runs, and that ssl_context trusts its certificate")
        raise AssertionError("not reached")

    def _share(self, text: str, key: IntrospectionKey, now: float) -> Flow[dict[str, Any]]:
        """Make an exchange, or wait for the exchange of another call for the same token. Raises `FetchFailed`.

        The exchange is shared until one call has cached the response, so no response is older than a cached response
        may be. A call that is cancelled, or that may not wait for the server, leaves the exchange to the other calls.
        """
        shared = self._exchanges.join(key.key)
        if shared is None:
            shared = self._exchanges.begin(key.key, (yield from self._fetch(text, now)), now)
        ends = False
        try:
            response = yield from ask(shared.fetch)
            members = yield from self._read(response, now)
            if self._exchanges.claim(shared):
                ends = True
                yield from self._store(key, members, shared.now)
        except FetchFailed as failure:
            ends = failure.retry_after is None
            raise
        except Exception:
            ends = True
            raise
        else:
            return members
        finally:  # this also runs if this call is cancelled
            self._exchanges.leave(key.key, shared, ends=ends)

    def _fetch(self, text: str, now: float) -> Flow[Fetch]:
        """Return a new introspection request for the token `text`."""
        credentials = yield from self._credentials.for_request(now)
        connections = self._connections(now)
        return Fetch(
            self._endpoint,
            connections.tls,
            self._timeout,
            _MAX_RESPONSE,
            form=[("token", text), *self._hint, *credentials.form],
            late_form=credentials.late_form,
            headers={"Accept": self._responses.content_type, **credentials.headers},
            connections=connections,
        )

    def _read(self, response: Response, now: float) -> Flow[dict[str, Any]]:
        try:
            return (yield from self._responses.read(response, now))
        except UnusableResponse as unusable:
            self._fail(unusable.reason, unusable.advice)

    def _fail(self, reason: str, advice: str) -> NoReturn:
        logger.error("introspection at %s: %s; %s", self._endpoint, reason, advice)
        self._unavailable(reason, _RETRY_AFTER)

    def _unavailable(self, reason: str, retry_after: int) -> NoReturn:
        report("introspection_failed", f"introspection at {self._endpoint}: {reason}")
        raise Unavailable(f"introspection at {self._endpoint}: {reason}", retry_after=retry_after)

    def _store(self, key: IntrospectionKey, members: Mapping[str, Any], now: float) -> Flow[None]:
        """Cache a response with the time of its request, unless it is too large or has expired."""
        try:
            seconds = self._end_of_use(members, now) - now
            record = json.dumps({"obtained": now, "answer": members}).encode("ascii")
        except (Refused, RecursionError):
            return
        if self._cache is not None and seconds > 0 and len(record) <= _MAX_CACHED:
            yield from self._cache.put(key, record, seconds, now)

    def _read_record(self, record: bytes, now: float) -> Reusable[dict[str, Any]] | None:
        """Return the response in a cached record; `None` if the record is unreadable, too old, or from the future.

        The settings of this process apply, even if another machine with a longer `remember_active` wrote the record.
        """
        try:
            found = json_object(record)
            response: dict[str, Any] = found["answer"]
            obtained = float(found["obtained"])
            until = self._end_of_use(response, obtained)
        except (ValueError, KeyError, TypeError, OverflowError, Refused):
            # Another version of this library wrote the record.
            return None
        return Reusable(response, obtained, until) if obtained <= now < until else None

    def _end_of_use(self, response: Mapping[str, Any], obtained: float) -> float:
        """Return the time until which this process uses a response. Raises `Refused` if its `exp` is not valid."""
        until = obtained + (self._active if response["active"] else self._inactive)
        return min(until, numeric_date(response, "exp")) if "exp" in response else until
