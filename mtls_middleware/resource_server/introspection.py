"""`IntrospectedAccessTokens`: validates access tokens by introspection (RFC 7662) with optional signatures (RFC 9701).

If the server is unreachable, the token is rejected.
"""

import json
import logging
import ssl
import threading
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal, NoReturn

from mtls_middleware import options
from mtls_middleware.certificate_files import CertificateFiles, Roots
from mtls_middleware.dependencies import report
from mtls_middleware.effects.exchange import Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import Flow, ask
from mtls_middleware.effects.remote_document import check_address
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable, require_extra
from mtls_middleware.json_values import json_object, memory_of
from mtls_middleware.jwks import FetchedKeys, StaticKeys
from mtls_middleware.resource_server.claim_names import ClaimNames
from mtls_middleware.resource_server.claims import (
    check_expiry,
    has_audience,
    is_other_token_type,
    numeric_date,
    reject_token,
    timed_token,
)
from mtls_middleware.resource_server.introspection_advice import advice_for_status
from mtls_middleware.resource_server.introspection_cache import IntrospectionCache, IntrospectionKey, MemoryAnswers
from mtls_middleware.resource_server.introspection_connections import introspection_connections
from mtls_middleware.resource_server.introspection_credentials import introspection_credentials
from mtls_middleware.resource_server.jws import Keys, verify_jwt
from mtls_middleware.resource_server.profiles import rules
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
_JSON, _SIGNED = "application/json", "application/token-introspection+jwt"
# Maximum age of a signed response in seconds. A signed response does not name its token, so an old response may be
# about another token (RFC 9701 8.1).
_MAX_AGE = 60

_NAMES = ClaimNames(frozenset())


class IntrospectedAccessTokens:
    """Validates access tokens at the introspection endpoint of an authorization server (RFC 7662; extra `http`).

    The client authenticates to the server with `client_secret`. If there is no secret, the client authenticates with
    `certificate`, or with the certificate in `ssl_context`.

    Arguments:
        endpoint: the https address of the introspection endpoint.
        client_id: this client's id at the authorization server.
        client_secret: the secret for HTTP Basic authentication (RFC 6749 2.3.1).
        ssl_context: verifies the server. Without `client_secret`, it must also contain the client certificate
            (`load_cert_chain`; RFC 8705 2). Default: the system's CAs.
        certificate: the client certificate (RFC 8705 2), which is loaded again when its files are renewed.
        roots: with `certificate`, a PEM file with the CAs of the server's certificate. Default: the system's CAs.
        issuer: the expected `iss`. A response without `iss` is accepted.
        audience: this resource's identifier, which `aud` must contain. A response without `aud` is accepted.
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
        allow_http: accept `http://` for loopback addresses, for tests.

    Raises `ConfigurationError`.

    Example: `IntrospectedAccessTokens(endpoint="https://as.example/introspect", client_id="api", client_secret=secret)`
    """

    def __init__(
        self,
        *,
        endpoint: str,
        client_id: str,
        client_secret: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        certificate: CertificateFiles | None = None,
        roots: Roots = None,
        issuer: str | None = None,
        audience: str | None = None,
        required_claims: Collection[str] = (),
        profile: Literal["fapi2"] | None = None,
        leeway: float | None = None,
        cache: IntrospectionCache | None = None,
        remember_active: float = 30,
        remember_inactive: float = 5,
        signed_by: str | Mapping[str, Any] | None = None,
        timeout: float = 5,
        allow_http: bool = False,
    ) -> None:
        require_extra("httpx2", "http", "IntrospectedAccessTokens")
        check_address("endpoint", endpoint, allow_http=allow_http)
        options.string("client_id", client_id, "api")
        for name, value in (("issuer", issuer), ("audience", audience)):
            if value is not None:
                options.string(name, value, "https://as.example")
        options.strings("required_claims", required_claims, '"aud"')
        if profile not in (None, "fapi2"):
            raise ConfigurationError(f"profile={profile!r}: expected 'fapi2' or None")
        if cache is not None and (isinstance(cache, type) or not (hasattr(cache, "get") and hasattr(cache, "put"))):
            raise ConfigurationError(f"cache={cache!r}: expected an IntrospectionCache, for example MemoryAnswers()")
        self._endpoint, self._client_id, self._issuer, self._audience = endpoint, client_id, issuer, audience
        self._required = frozenset(required_claims) | ({"cnf"} if profile == "fapi2" else set())
        self._rules = rules(profile, algorithms=None, leeway=leeway, typ=None, required_claims=None)
        ssl_context, self._connections = introspection_connections(ssl_context, certificate, roots)
        self._form, self._headers = introspection_credentials(endpoint, client_id, client_secret, ssl_context)
        self._secret = client_secret
        self._cache = cache
        self._active = options.seconds("remember_active", remember_active, 0, _MAX_CACHE_SECONDS, 5)
        self._inactive = options.seconds("remember_inactive", remember_inactive, 0, _MAX_CACHE_SECONDS, 5)
        self._timeout = options.seconds("timeout", timeout, 0.05, 60, 5)
        self._keys = self._signing_keys(signed_by, ssl_context, allow_http=allow_http)
        self._headers["Accept"] = _JSON if self._keys is None else _SIGNED
        self._lock = threading.Lock()  # protects `_running`; it is not held during I/O
        self._running: dict[str, Fetch] = {}

    @property
    def issuer(self) -> str | None:
        """The configured `iss` of the accepted tokens; `None` if no issuer is configured."""
        return self._issuer

    def is_bound_only(self, text: str) -> bool:  # noqa: ARG002 (the signature of `TrustedIssuers`)
        """Return whether an unbound token is rejected, even if the layer has `binding="when_present"`."""
        return "cnf" in self._required

    def _signing_keys(
        self, signed_by: str | Mapping[str, Any] | None, tls: ssl.SSLContext | None, *, allow_http: bool
    ) -> Keys | None:
        if signed_by is None:
            return None
        if self._issuer is None:
            raise ConfigurationError(
                "signed_by= needs issuer=, because the iss of a signed response must equal issuer= (RFC 9701 5)"
            )
        if isinstance(signed_by, str):
            return FetchedKeys(signed_by, allow_http=allow_http, tls=tls)
        return StaticKeys(signed_by)

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
        key = IntrospectionKey.for_token(text, endpoint=self._endpoint, client_id=self._client_id, secret=self._secret)
        record = yield from self._cache.get(key, now)
        cached = None if record is None else self._read_record(record, now)
        if record is None or cached is None:
            response = yield from self._introspect(text, now, key)
            return once(self._check_response(response, now).value)
        result = self._check_response(cached.value, now)
        cache = self._cache
        if not isinstance(cache, MemoryAnswers) or not opts_in(cache):  # another process can remove the response
            return once(result.value)
        begins, ends = max(result.begins, cached.begins), min(result.ends, cached.ends)
        checks = (partial(cache.has, key, record),)
        return result._replace(begins=begins, ends=ends, checks=checks, cost=memory_of(record))

    def check_later(self, token: AccessToken, now: float) -> None:
        """Check again a token that was accepted earlier. Raises `Refused` if it has expired at `now`.

        This method does not introspect the token again.
        """
        check_expiry(token, now, self._rules.leeway)

    def _check_response(self, response: Mapping[str, Any], now: float) -> Reusable[AccessToken]:
        """Check the members of the response (RFC 7662 2.2), and return the token. Raises `Refused("invalid_token")`."""
        if response.get("active") is not True:
            reject_token("the introspection server reports that the token is not active")
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
        if self._audience is not None and "aud" in response and not has_audience(response, [self._audience]):
            reject_token(
                f"the token is for another audience; expected {self._audience!a} in aud",
                found={"aud": response["aud"]},
                expected={"aud": self._audience},
            )
        client_id, scopes = _NAMES.client_id_of(response), _NAMES.scopes_of(response)
        return timed_token(response, client_id=client_id, scopes=scopes).valid_at(now, self._rules.leeway)

    def _introspect(self, text: str, now: float, key: IntrospectionKey | None) -> Flow[dict[str, Any]]:
        """Return the members of the server's response.

        With a `key`, concurrent calls for the same token share one exchange, until the first call has cached the
        response. This is safe, because a shared response is not older than a cached response may be.
        """
        for last in (False, True):
            fetch, first = self._fetch(text, key, now)
            try:
                response = yield from ask(fetch)
            except FetchFailed as failure:
                self._end_sharing(key, fetch)
                if last or not failure.again:
                    self._fail(str(failure), "check that the server runs, and that ssl_context trusts its certificate")
            else:
                members = yield from self._read(response, now)
                if first and key is not None:
                    yield from self._store(key, members, now)
                return members
            finally:
                if first:
                    self._end_sharing(key, fetch)
        raise AssertionError("not reached")

    def _fetch(self, text: str, key: IntrospectionKey | None, now: float) -> tuple[Fetch, bool]:
        """Return the request to the server, and whether this call created it. With a `key`, calls share a request."""
        form = [("token", text), ("token_type_hint", "access_token"), *self._form]
        connections = self._connections(now)
        fetch = Fetch(
            self._endpoint,
            connections.tls,
            self._timeout,
            _MAX_RESPONSE,
            form=form,
            headers=self._headers,
            connections=connections,
        )
        if key is None:
            return fetch, True
        with self._lock:
            shared = self._running.setdefault(key.key, fetch)
        return shared, shared is fetch

    def _end_sharing(self, key: IntrospectionKey | None, fetch: Fetch) -> None:
        with self._lock:
            if key is not None and self._running.get(key.key) is fetch:
                del self._running[key.key]

    def _read(self, response: Response, now: float) -> Flow[dict[str, Any]]:
        if response.status != 200:
            self._fail(f"status {response.status}; expected 200", advice_for_status(response.status))
        expected = _JSON if self._keys is None else _SIGNED
        if response.content_type != expected:
            self._fail(f"the response is not {expected}", "give signed_by= if and only if the server signs responses")
        try:
            if self._keys is None:
                members = json_object(response.body)
            else:
                members = yield from self._read_signed(response.body, self._keys, now)
        except Unavailable:
            raise
        except (ValueError, Refused) as error:
            reason = error.evidence[0] if isinstance(error, Refused) else str(error)
            self._fail(reason, "check that endpoint= is an introspection endpoint, and check issuer= and signed_by=")
        return members if members.get("active") is True else {"active": False}

    def _read_signed(self, body: bytes, keys: Keys, now: float) -> Flow[dict[str, Any]]:
        """Verify a signed response, and return its member `token_introspection` (RFC 9701 5). Raises `Refused`."""
        current = yield from keys.current(now)
        jwt = yield from verify_jwt(
            body.decode("ascii").strip(),
            source=keys,
            keys=current,
            algorithms=self._rules.algorithms,
            typ=frozenset({"token-introspection+jwt"}),
            now=now,
        )
        if jwt.claims.get("iss") != self._issuer:
            reject_token(f"the signed response is from another issuer; expected iss {self._issuer!a}")
        if not has_audience(jwt.claims, [self._client_id]):
            reject_token(f"the signed response is for another client; expected {self._client_id!a} in aud")
        if "iat" not in jwt.claims or not -self._rules.leeway <= now - numeric_date(jwt.claims, "iat") < _MAX_AGE:
            reject_token(f"iat of the signed response is missing, in the future, or older than {_MAX_AGE} s")
        members = jwt.claims.get("token_introspection")
        if not isinstance(members, dict):
            reject_token("token_introspection of the signed response is missing or is not a JSON object")
        return members

    def _fail(self, reason: str, advice: str) -> NoReturn:
        logger.error("introspection at %s: %s; %s", self._endpoint, reason, advice)
        report("introspection_failed", f"introspection at {self._endpoint}: {reason}")
        raise Unavailable(f"introspection at {self._endpoint}: {reason}", retry_after=_RETRY_AFTER)

    def _store(self, key: IntrospectionKey, members: Mapping[str, Any], now: float) -> Flow[None]:
        """Cache the members of a response, unless they are too large or have expired."""
        seconds = self._active if members["active"] else self._inactive
        try:
            if "exp" in members:
                seconds = min(seconds, numeric_date(members, "exp") - now)
            record = json.dumps({"until": now + seconds, "answer": members}).encode("ascii")
        except (Refused, RecursionError):
            return
        if self._cache is not None and seconds > 0 and len(record) <= _MAX_CACHED:
            yield from self._cache.put(key, record, seconds, now)

    def _read_record(self, record: bytes, now: float) -> Reusable[dict[str, Any]] | None:
        """Return the response in a cached record; `None` if the record is unreadable or too old.

        The settings of this process apply, even if another machine with a longer `remember_active` wrote the record. If
        the clock is set back, the record does not stay valid for longer.
        """
        try:
            found = json_object(record)
            response: dict[str, Any] = found["answer"]
            longest = self._active if response["active"] else self._inactive
            until = float(found["until"])
        except (ValueError, KeyError, TypeError):  # another version of this library wrote the record
            return None
        return Reusable(response, until - longest, until) if until - longest <= now < until else None
