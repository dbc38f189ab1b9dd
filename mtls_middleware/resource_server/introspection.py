"""Opaque access tokens: the authorization server is asked what they are (RFC 7662), and may sign its word (RFC 9701).

Must never know: the certificate of the request. A server that cannot be asked is never a token that is good.
"""

import base64
import json
import logging
import math
import ssl
import threading
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, Literal, NoReturn
from urllib.parse import quote_plus

from mtls_middleware.effects.exchange import Connections, Fetch, FetchFailed, Response
from mtls_middleware.effects.flow import Flow, ask
from mtls_middleware.effects.remote_document import check_address
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable, require_extra
from mtls_middleware.json_values import json_object
from mtls_middleware.jwks import FetchedKeys, StaticKeys
from mtls_middleware.resource_server.claims import (
    check_text,
    check_texts,
    names_audience,
    numeric_date,
    of_another_kind,
    refuse,
    timed_token,
    unexpired,
)
from mtls_middleware.resource_server.introspection_cache import IntrospectionCache, IntrospectionKey, MemoryAnswers
from mtls_middleware.resource_server.jws import Keys, verified
from mtls_middleware.resource_server.profiles import rules
from mtls_middleware.resource_server.token import AccessToken
from mtls_middleware.reusable import Reusable, once

logger: logging.Logger = logging.getLogger("mtls_middleware.introspection")

_LIMIT = 65_536  # octets of an answer
_MOST_REMEMBERED = 16_384  # octets of an answer that is kept: real ones have a few hundred
_MOST_SECONDS = 300  # that an answer may be kept: meanwhile nobody can revoke the token (RFC 7662 4)
_RETRY_AFTER = 5
_JSON, _SIGNED = "application/json", "application/token-introspection+jwt"
# A signed answer does not say which token it is about: one of a minute ago may be about another (RFC 9701 8.1).
_FRESH = 60

# What an operator changes, by what the server said.
_ADVICE = {
    401: "it does not accept our authentication: check client_id and client_secret, or the certificate in ssl_context",
    403: "it does not let this client introspect tokens: permit it there",
    404: "there is no introspection endpoint: check endpoint=",
    405: "it takes no POST: check endpoint=",
}


class IntrospectedAccessTokens:
    """Asks the authorization server about each access token (RFC 7662; extra `http`).

    We authenticate in exactly one way: by `client_secret`, or by the client certificate in `ssl_context`.

    Arguments:
        endpoint: the https address of the introspection endpoint.
        client_id: our own, as the server knows us.
        client_secret: sent by HTTP Basic (RFC 6749 2.3.1).
        ssl_context: how the server is verified, and without `client_secret` the certificate that we present
            (`load_cert_chain`; RFC 8705 2). Default: the system's CAs.
        issuer: the exact `iss`, where the answer has one.
        audience: this resource's identifier, which `aud` must contain, where the answer has one.
        required_claims: members without which no answer is accepted, such as `("aud", "exp")`.
        profile: `"fapi2"`: PS256, ES256 and EdDSA alone, and unbound tokens are refused, whatever `binding` says.
        leeway: seconds that clocks may differ, 0 to 60; default 10.
        cache: `MemoryAnswers()` or `RedisAnswers(...)`. Default: the server is asked on every request.
        remember_active, remember_inactive: seconds that an answer is kept, never past its `exp`: so long a revoked
            token stays good, and a new one that was asked for too early stays bad.
        signed_by: the server's keys (an https address, or a JWK Set as a dict): answers must be signed (RFC 9701), and
            `issuer` given.
        timeout: seconds for one exchange.
        allow_http: admit `http://` to loopback addresses, for tests.

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
        check_text("client_id", client_id, "api")
        for name, value in (("issuer", issuer), ("audience", audience)):
            if value is not None:
                check_text(name, value, "https://as.example")
        check_texts("required_claims", required_claims, "aud")
        if profile not in (None, "fapi2"):
            raise ConfigurationError(f"profile={profile!r}: 'fapi2', or none")
        if cache is not None and (isinstance(cache, type) or not (hasattr(cache, "get") and hasattr(cache, "put"))):
            raise ConfigurationError(f"cache={cache!r}: for example MemoryAnswers()")
        self._endpoint, self._client_id, self._issuer, self._audience = endpoint, client_id, issuer, audience
        self._required = frozenset(required_claims) | ({"cnf"} if profile == "fapi2" else set())
        self._rules = rules(profile, algorithms=None, leeway=leeway, typ=None, required_claims=None)
        self._form, self._headers = _authentication(endpoint, client_id, client_secret, ssl_context)
        self._secret = client_secret
        self._cache = cache
        self._active = _seconds("remember_active", remember_active, 0, _MOST_SECONDS)
        self._inactive = _seconds("remember_inactive", remember_inactive, 0, _MOST_SECONDS)
        self._timeout = _seconds("timeout", timeout, 0.05, 60)
        self._keys = self._signing_keys(signed_by, ssl_context, allow_http=allow_http)
        self._headers["Accept"] = _JSON if self._keys is None else _SIGNED
        self._connections = Connections(ssl_context or ssl.create_default_context())
        self._lock = threading.Lock()  # around what follows; never held while anybody waits
        self._under_way: dict[str, Fetch] = {}

    @property
    def issuer(self) -> str | None:
        """The one `iss` whose tokens are accepted, where it is known."""
        return self._issuer

    def is_bound_only(self, text: str) -> bool:  # noqa: ARG002 (as TrustedIssuers has it)
        """Whether this token is accepted only if it is bound to a certificate, whatever the layer says."""
        return "cnf" in self._required

    def _signing_keys(
        self, signed_by: str | Mapping[str, Any] | None, tls: ssl.SSLContext | None, *, allow_http: bool
    ) -> Keys | None:
        if signed_by is None:
            return None
        if self._issuer is None:
            raise ConfigurationError("signed_by= needs issuer=: a signed answer is checked against it (RFC 9701 5)")
        if isinstance(signed_by, str):
            return FetchedKeys(signed_by, allow_http=allow_http, tls=tls)
        return StaticKeys(signed_by)

    is_reusable = True

    def validate(self, text: str, now: float) -> Flow[AccessToken]:
        """The token behind `text` at time `now` (seconds since the epoch), not yet compared with the certificate.

        Raises `Refused("invalid_token")`, or `Unavailable` if the server cannot be asked.
        """
        return (yield from self.decide(text, now)).value

    def decide(self, text: str, now: float) -> Flow[Reusable[AccessToken]]:
        """The same, with the time for which the result holds: for as long as `MemoryAnswers` caches the response."""
        if self._cache is None:
            return once(self._judged((yield from self._asked(text, now, None)), now).value)
        question = IntrospectionKey.about(text, endpoint=self._endpoint, client_id=self._client_id, secret=self._secret)
        record = yield from self._cache.get(question, now)
        cached = None if record is None else self._cached(record, now)
        if record is None or cached is None:
            return once(self._judged((yield from self._asked(text, now, question)), now).value)
        judged = self._judged(cached.value, now)
        cache = self._cache
        if type(cache) is not MemoryAnswers:  # another process, or an operator, can remove the response
            return once(judged.value)
        return judged._replace(
            begins=max(judged.begins, cached.begins),
            ends=min(judged.ends, cached.ends),
            checks=(partial(cache.has, question, record),),
        )

    def check_later(self, token: AccessToken, now: float) -> None:
        """Raises `Refused` if a token that was accepted earlier has expired at `now`. The server is not asked again."""
        unexpired(token, now, self._rules.leeway)

    def _judged(self, answer: Mapping[str, Any], now: float) -> Reusable[AccessToken]:
        """Checks every member of the response that is present (RFC 7662 2.2)."""
        if answer.get("active") is not True:
            refuse("the introspection server says that it is not active")
        token_type = answer.get("token_type", "Bearer")
        if not isinstance(token_type, str) or token_type.lower() != "bearer":
            refuse("its token_type is not Bearer")
        if of_another_kind(answer):
            refuse("another kind of token")
        missing = sorted(self._required - answer.keys())
        if missing:
            refuse(f"without {', '.join(missing)}")
        if self._issuer is not None and answer.get("iss", self._issuer) != self._issuer:
            refuse("another issuer")
        if self._audience is not None and "aud" in answer and not names_audience(answer, self._audience):
            refuse("another audience")
        return timed_token(answer).at(now, self._rules.leeway)

    def _asked(self, text: str, now: float, question: IntrospectionKey | None) -> Flow[dict[str, Any]]:
        """The server's answer. Where answers are remembered, all that ask one `question` at once share one exchange,
        until the first of them has put it down: nobody there minds an answer that is some milliseconds old.
        """
        key = None if question is None else question.key
        for last in (False, True):
            fetch, first = self._fetch(text, key)
            try:
                response = yield from ask(fetch)
            except FetchFailed as failure:
                self._done(key, fetch)
                if last or not failure.again:
                    self._fail(str(failure), "is it up, and is its certificate one that ssl_context trusts?")
            else:
                answer = yield from self._read(response, now)
                if first and question is not None:
                    yield from self._remember(question, answer, now)
                return answer
            finally:
                if first:
                    self._done(key, fetch)
        raise AssertionError("not reached")

    def _fetch(self, text: str, key: str | None) -> tuple[Fetch, bool]:
        form = [("token", text), ("token_type_hint", "access_token"), *self._form]
        fetch = Fetch(
            self._endpoint,
            self._connections.tls,
            self._timeout,
            _LIMIT,
            form=form,
            headers=self._headers,
            connections=self._connections,
        )
        if key is None:
            return fetch, True
        with self._lock:
            shared = self._under_way.setdefault(key, fetch)
        return shared, shared is fetch

    def _done(self, key: str | None, fetch: Fetch) -> None:
        with self._lock:
            if key is not None and self._under_way.get(key) is fetch:
                del self._under_way[key]

    def _read(self, response: Response, now: float) -> Flow[dict[str, Any]]:
        if response.status != 200:
            usual = (
                "redirects are not followed: give endpoint= the address it leads to"
                if 300 <= response.status < 400
                else "it has trouble of its own"
                if response.status >= 500
                else "check endpoint="
            )
            self._fail(f"status {response.status}", _ADVICE.get(response.status, usual))
        expected = _JSON if self._keys is None else _SIGNED
        if response.content_type != expected:
            self._fail(f"an answer that is not {expected}", "signed_by= is for signed answers, and for no others")
        try:
            answer = (
                json_object(response.body)
                if self._keys is None
                else (yield from self._opened(response.body, self._keys, now))
            )
        except Unavailable:
            raise
        except (ValueError, Refused) as error:
            reason = error.evidence[0] if isinstance(error, Refused) else str(error)
            self._fail(reason, "is that an introspection endpoint, and are issuer= and signed_by= its own?")
        return answer if answer.get("active") is True else {"active": False}

    def _opened(self, body: bytes, keys: Keys, now: float) -> Flow[dict[str, Any]]:
        """What a signed answer says (RFC 9701 5). Its other top-level members are nothing to us."""
        current = yield from keys.current(now)
        signed = yield from verified(
            body.decode("ascii").strip(),
            source=keys,
            keys=current,
            algorithms=self._rules.algorithms,
            typ=frozenset({"token-introspection+jwt"}),
            now=now,
        )
        claims = signed.claims
        if claims.get("iss") != self._issuer:
            refuse("a signed answer of another issuer")
        if not names_audience(claims, self._client_id):
            refuse("a signed answer for another client")
        if "iat" not in claims or not -self._rules.leeway <= now - numeric_date(claims, "iat") < _FRESH:
            refuse("a signed answer of another time")
        answer = claims.get("token_introspection")
        if not isinstance(answer, dict):
            refuse("a signed answer without token_introspection")
        return answer

    def _fail(self, reason: str, advice: str) -> NoReturn:
        logger.error("introspection at %s: %s; %s", self._endpoint, reason, advice)
        raise Unavailable(f"introspection at {self._endpoint}: {reason}", retry_after=_RETRY_AFTER)

    def _remember(self, question: IntrospectionKey, answer: Mapping[str, Any], now: float) -> Flow[None]:
        seconds = self._active if answer["active"] else self._inactive
        try:
            if "exp" in answer:
                seconds = min(seconds, numeric_date(answer, "exp") - now)
            record = json.dumps({"until": now + seconds, "answer": answer}).encode("ascii")
        except (Refused, RecursionError):
            return
        if self._cache is not None and seconds > 0 and len(record) <= _MOST_REMEMBERED:
            yield from self._cache.put(question, record, seconds, now)

    def _cached(self, record: bytes, now: float) -> Reusable[dict[str, Any]] | None:
        """The response in a cached record, if it is still valid by this process's own settings.

        A clock that was set back, or another machine's longer times, do not prolong it.
        """
        try:
            found = json_object(record)
            response: dict[str, Any] = found["answer"]
            longest = self._active if response["active"] else self._inactive
            until = float(found["until"])
        except (ValueError, KeyError, TypeError):  # written by another version of this library
            return None
        return Reusable(response, until - longest, until) if until - longest <= now < until else None


def _authentication(
    endpoint: str, client_id: str, secret: str | None, tls: ssl.SSLContext | None
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """What says who we are: members of the form, and header fields."""
    if tls is not None:
        if not isinstance(tls, ssl.SSLContext):
            raise ConfigurationError(f"ssl_context={tls!r}: for example ssl.create_default_context(cafile='as-ca.pem')")
        if tls.verify_mode != ssl.CERT_REQUIRED or not tls.check_hostname:
            raise ConfigurationError("ssl_context does not verify the server and its name (RFC 7662 4)")
    if secret is not None:
        if not isinstance(secret, str) or not secret:
            raise ConfigurationError("client_secret is empty, or no text: give the secret, or leave it out")
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}".encode("ascii")
        return [], {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}
    if tls is None or not endpoint.lower().startswith("https:"):
        raise ConfigurationError(
            "nothing says who we are: give client_secret=, or ssl_context= with our certificate "
            "(context.load_cert_chain('api.pem', 'api.key')) and an https endpoint (RFC 7662 2.1)"
        )
    return [("client_id", client_id)], {}


def _seconds(name: str, value: float, least: float, most: float) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        raise ConfigurationError(f"{name}={value!r}: seconds, from {least} to {most}")
    return float(value)
