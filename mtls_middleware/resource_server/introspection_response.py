"""`IntrospectionResponses`: reads the responses of an introspection endpoint (RFC 7662 2.2, RFC 9701 5)."""

import ssl
from collections.abc import Mapping
from typing import Any, NoReturn

from mtls_middleware.effects.exchange import Response
from mtls_middleware.effects.flow import Flow
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.json_values import excerpt, json_object
from mtls_middleware.jwks import FetchedKeys, StaticKeys
from mtls_middleware.resource_server.claims import has_audience, numeric_date, reject_token
from mtls_middleware.resource_server.jws import Keys, verify_jwt

_JSON, _SIGNED = "application/json", "application/token-introspection+jwt"
# Maximum age of a signed response in seconds. A signed response does not name its token, so an old response may be
# about another token (RFC 9701 8.1).
_MAX_AGE = 60
# The errors that are about the token, and not about this client or its request. Some servers send one of them with
# status 400 for each token that they cannot introspect, for example for each JWT.
_ABOUT_TOKEN = frozenset({"invalid_token", "unsupported_token_type"})

# Advice for the operator, by the status of the server's response.
_ADVICE = {
    401: "the server rejects this client's credentials: check client_id, and client_secret, private_key, bearer_token "
    "or the certificate in ssl_context; some servers require encode_secret=False, or another auth_method=",
    403: "the server does not allow this client to introspect tokens: change this at the server",
    404: "the server has no introspection endpoint at this address: check endpoint=",
    405: "the endpoint does not accept POST: check endpoint=",
}


class UnusableResponse(Exception):  # noqa: N818 (not an error: the caller logs it)
    """Raised with the reason why a response cannot be used, and with advice for the operator."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason, advice)
        self.reason: str = reason
        self.advice: str = advice


class IntrospectionResponses:
    """Reads responses. If `signed_by` is given, they must be signed by one of these keys.

    Arguments:
        signed_by: the server's keys: an https address, a JWK Set, or `None`.
        issuer: the `iss` of signed responses.
        client_id: the `aud` of signed responses.
        leeway: tolerance for clocks that differ, in seconds.

    Raises `ConfigurationError` if an argument is invalid.
    """

    def __init__(
        self,
        signed_by: str | Mapping[str, Any] | None,
        *,
        issuer: str | None,
        client_id: str,
        algorithms: frozenset[str],
        leeway: float,
        tls: ssl.SSLContext | None,
        proxy: str | None,
        allow_http: bool,
    ) -> None:
        self._issuer, self._client_id, self._algorithms, self._leeway = issuer, client_id, algorithms, leeway
        self._keys: Keys | None = None
        if signed_by is None:
            return
        if issuer is None:
            raise ConfigurationError(
                "signed_by= needs issuer=, because the iss of a signed response must equal issuer= (RFC 9701 5)"
            )
        if isinstance(signed_by, str):
            self._keys = FetchedKeys(signed_by, allow_http=allow_http, tls=tls, proxy=proxy)
        else:
            self._keys = StaticKeys(signed_by)

    @property
    def content_type(self) -> str:
        """The media type of the responses, for the field `Accept`."""
        return _JSON if self._keys is None else _SIGNED

    def read(self, response: Response, now: float) -> Flow[dict[str, Any]]:
        """Return the members of a response about an active token, and `{"active": False}` for any other token.

        If the server responded with an error about the token, the returned mapping also contains the code of the error
        as `error`. Raises `UnusableResponse`, or `Unavailable` if the keys cannot be fetched.
        """
        if response.status != 200:
            return _error(response)
        if response.content_type != self.content_type:
            self._reject_type(response.content_type)
        try:
            if self._keys is None:
                members = json_object(response.body)
            else:
                members = yield from self._read_signed(response.body, self._keys, now)
        except Unavailable:
            raise
        except (ValueError, Refused) as error:
            reason = error.evidence[0] if isinstance(error, Refused) else str(error)
            advice = "check that endpoint= is an introspection endpoint, and check issuer= and signed_by="
            raise UnusableResponse(reason, advice) from None
        if "error" in members and "active" not in members:
            raise UnusableResponse(f"status 200 with the error {excerpt(members['error'])}", "check endpoint=")
        return members if members.get("active") is True else {"active": False}

    def _reject_type(self, found: str) -> NoReturn:
        if found == "text/html":
            raise UnusableResponse(
                f"the response is an HTML page; expected {self.content_type}",
                "check endpoint=; a proxy or the server may show a login page to this client",
            )
        raise UnusableResponse(
            f"the response is not {self.content_type}", "give signed_by= if and only if the server signs responses"
        )

    def _read_signed(self, body: bytes, keys: Keys, now: float) -> Flow[dict[str, Any]]:
        """Verify a signed response, and return its member `token_introspection` (RFC 9701 5). Raises `Refused`."""
        current = yield from keys.current(now)
        jwt = yield from verify_jwt(
            body.decode("ascii").strip(),
            source=keys,
            keys=current,
            algorithms=self._algorithms,
            typ=frozenset({"token-introspection+jwt"}),
            now=now,
        )
        if jwt.claims.get("iss") != self._issuer:
            reject_token(f"the signed response is from another issuer; expected iss {self._issuer!a}")
        if not has_audience(jwt.claims, [self._client_id]):
            reject_token(f"the signed response is for another client; expected {self._client_id!a} in aud")
        if "iat" not in jwt.claims or not -self._leeway <= now - numeric_date(jwt.claims, "iat") < _MAX_AGE:
            reject_token(f"iat of the signed response is missing, in the future, or older than {_MAX_AGE} s")
        members = jwt.claims.get("token_introspection")
        if not isinstance(members, dict):
            reject_token("token_introspection of the signed response is missing or is not a JSON object")
        return members


def _error(response: Response) -> dict[str, Any]:
    """Return the members for an error about the token. Raises `UnusableResponse` for any other error."""
    status, error = response.status, _oauth_error(response)
    if status == 400 and error in _ABOUT_TOKEN:
        return {"active": False, "error": error}
    with_error = "" if error is None else f" with the error {excerpt(error)}"
    raise UnusableResponse(f"status {status}{with_error}; expected 200", _advice(status))


def _oauth_error(response: Response) -> str | None:
    """Return the member `error` of an error response (RFC 6749 5.2), or `None`."""
    if response.content_type != _JSON:
        return None
    try:
        error = json_object(response.body).get("error")
    except ValueError:
        return None
    return error if isinstance(error, str) else None


def _advice(status: int) -> str:
    if status in _ADVICE:
        return _ADVICE[status]
    if 300 <= status < 400:
        return "redirects are not followed: set endpoint= to the address in the Location field"
    return "the server has an error" if status >= 500 else "check endpoint="
