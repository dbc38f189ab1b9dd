"""`IntrospectionCredentials`: authenticates this resource server at an introspection endpoint (RFC 7662 2.1)."""

import base64
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from urllib.parse import quote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mtls_middleware import options
from mtls_middleware.effects.flow import Call, Flow, ask
from mtls_middleware.errors import ConfigurationError, Refused, Unavailable
from mtls_middleware.jwks import UnusableKey, algorithms_of
from mtls_middleware.resource_server.introspection_cache import IntrospectionKey

logger: logging.Logger = logging.getLogger("mtls_middleware.introspection")

Method = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth", "bearer"]
PrivateKey = str | bytes | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
BearerToken = str | Callable[[], str | Awaitable[str]]

# Seconds until a client assertion expires. It is created for one request.
_ASSERTION_LIFETIME = 60
# The default algorithm for an RSA key, which FAPI 2.0 permits (5.4.1). A key of another type has only one algorithm.
_DEFAULT_FOR_RSA = "PS256"
# The second name of EdDSA (RFC 9864), which PyJWT does not know.
_UNSUPPORTED = frozenset({"Ed25519"})
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 2.2


@dataclass(frozen=True, slots=True, repr=False)
class CredentialArguments:
    """The arguments of a validator about its own authentication.

    The class has no repr, because the arguments contain secrets.
    """

    client_id: str
    client_secret: str | None = None
    auth_method: Method | None = None
    encode_secret: bool = True
    private_key: PrivateKey | None = None
    algorithm: str | None = None
    key_id: str | None = None
    bearer_token: BearerToken | None = None


Form = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, repr=False)
class RequestCredentials:
    """The form parameters and header fields that authenticate one request.

    The class has no repr, because they are secret.

    `late_form`: a function that creates further parameters when the exchange starts.
    """

    form: Form
    headers: dict[str, str]
    late_form: Callable[[], Form] | None = None


class IntrospectionCredentials:
    """The credentials of this resource server. `audience`: the `aud` of client assertions.

    Raises `ConfigurationError` if an argument is invalid.
    """

    def __init__(self, given: CredentialArguments, *, endpoint: str, audience: str, tls: ssl.SSLContext | None) -> None:
        _check_tls(tls)
        self._given, self._audience = given, audience
        self.method: Method = _method(given)
        options.boolean("encode_secret", given.encode_secret)
        if self.method == "tls_client_auth" and (tls is None or not endpoint.lower().startswith("https:")):
            raise ConfigurationError(
                "no credentials for the introspection endpoint (RFC 7662 2.1): give client_secret=, private_key= or "
                "bearer_token=, or an https endpoint and certificate=CertificateFiles('api.pem', 'api.key')"
            )
        # The string that identifies this resource server in the keys of cached responses, in addition to `client_id`. A
        # fixed bearer token identifies the server by itself. If a function returns the token, the token is not known
        # here, so the cached responses are not shared with other servers.
        self._secret: str | None = given.client_secret
        if self.method == "bearer":
            self._secret = given.bearer_token if isinstance(given.bearer_token, str) else secrets.token_hex(32)
        if self.method == "private_key_jwt":
            self._key = _private_key(given.private_key)
            self._algorithm = _algorithm(self._key, given.algorithm)

    def cache_key(self, token: str, endpoint: str, content_type: str) -> IntrospectionKey:
        """Return the key of a cached response. Another resource server may get another response for the same token."""
        return IntrospectionKey.for_token(
            token,
            endpoint=endpoint,
            client_id=self._given.client_id,
            secret=self._secret,
            kind=f"{self.method} {content_type}",
        )

    def for_request(self, now: float) -> Flow[RequestCredentials]:
        """Return the credentials of one request. Raises `Unavailable` if the function `bearer_token` fails."""
        given = self._given
        match self.method:
            case "client_secret_basic":
                return RequestCredentials([], {"Authorization": _basic(given)})
            case "client_secret_post":
                return RequestCredentials(
                    [("client_id", given.client_id), ("client_secret", str(given.client_secret))], {}
                )
            case "private_key_jwt":
                # The assertion is signed when the exchange starts, because requests that the circuit breaker rejects,
                # or that share an exchange, need no signature.
                return RequestCredentials([("client_id", given.client_id)], {}, partial(self._assertion_form, now))
            case "bearer":
                token = yield from _bearer(given.bearer_token)
                return RequestCredentials([], {"Authorization": f"Bearer {token}"})
            case _:
                return RequestCredentials([("client_id", given.client_id)], {})

    def _assertion_form(self, now: float) -> Form:
        return [("client_assertion_type", _JWT_BEARER), ("client_assertion", self._assertion(now))]

    def _assertion(self, now: float) -> str:
        """Return a new client assertion (RFC 7523 3)."""
        claims = {
            "iss": self._given.client_id,
            "sub": self._given.client_id,
            "aud": self._audience,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now),
            "exp": int(now) + _ASSERTION_LIFETIME,
        }
        headers = None if self._given.key_id is None else {"kid": self._given.key_id}
        return jwt.encode(claims, self._key, algorithm=self._algorithm, headers=headers)


def _check_tls(tls: object) -> None:
    if tls is None:
        return
    if not isinstance(tls, ssl.SSLContext):
        raise ConfigurationError(
            f"ssl_context={tls!r}: expected an ssl.SSLContext, for example "
            "ssl.create_default_context(cafile='as-ca.pem')"
        )
    if tls.verify_mode != ssl.CERT_REQUIRED or not tls.check_hostname:
        raise ConfigurationError("ssl_context must verify the server's certificate and name (RFC 7662 4)")


# A mapping of method to the argument that the method needs.
_NEEDS: dict[Method, str] = {
    "client_secret_basic": "client_secret",
    "client_secret_post": "client_secret",
    "private_key_jwt": "private_key",
    "bearer": "bearer_token",
    "tls_client_auth": "ssl_context",
}


def _method(given: CredentialArguments) -> Method:
    """Return the method that fits the credentials. Raises `ConfigurationError` if they do not fit one method."""
    carried = [name for name in ("client_secret", "private_key", "bearer_token") if getattr(given, name) is not None]
    if len(carried) > 1:
        raise ConfigurationError(f"{' and '.join(carried)} are given: expected only one of them")
    name = carried[0] if carried else "ssl_context"
    default = next(method for method, needed in _NEEDS.items() if needed == name)
    method = options.one_of("auth_method", default if given.auth_method is None else given.auth_method, tuple(_NEEDS))
    if _NEEDS[method] != name:
        raise ConfigurationError(f"auth_method={method!r}: expected {_NEEDS[method]}= and no other credentials")
    secret, token = given.client_secret, given.bearer_token
    if secret is not None and (not isinstance(secret, str) or not secret):
        raise ConfigurationError("client_secret is empty or not a string; expected the secret, or None")
    if token is not None and not callable(token) and not _is_token(token):
        raise ConfigurationError("bearer_token is not a token; expected a string, or a function that returns one")
    return method


def _is_token(token: object) -> bool:
    return isinstance(token, str) and bool(token) and token.isascii() and token.isprintable() and " " not in token


def _basic(given: CredentialArguments) -> str:
    """Return the credentials of HTTP Basic. RFC 6749 2.3.1 requires form encoding, which some servers do not decode."""
    pair = given.client_id, str(given.client_secret)
    text = ":".join(map(quote_plus, pair) if given.encode_secret else pair)
    return f"Basic {base64.b64encode(text.encode('utf-8')).decode('ascii')}"


def _bearer(given: Any) -> Flow[str]:
    if not callable(given):
        return str(given)
    try:
        token = yield from ask(Call(given, ()))
    except (Refused, ConfigurationError):
        raise
    except Exception as failure:
        logger.error("the function bearer_token= failed: %s", type(failure).__name__)
        raise Unavailable("the function bearer_token= failed", retry_after=1) from failure
    if not _is_token(token):
        raise ConfigurationError("the function bearer_token= returned no token; expected a string")
    return str(token)


def _private_key(given: Any) -> Any:
    try:
        data = given.encode("ascii") if isinstance(given, str) else given
        key = load_pem_private_key(data, None) if isinstance(data, bytes) else data
    except (ValueError, TypeError) as error:  # TypeError: the key is encrypted
        raise ConfigurationError("private_key cannot be read; expected PEM without a password, or a key") from error
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        raise ConfigurationError(f"private_key is a {type(key).__name__}; expected an RSA, EC or Ed25519 key")
    return key


def _algorithm(key: Any, given: str | None) -> str:
    """Return the signature algorithm for the key. Raises `ConfigurationError` if the key or `given` cannot be used."""
    try:
        possible = algorithms_of(key.public_key()) - _UNSUPPORTED
    except UnusableKey as error:
        raise ConfigurationError(f"private_key is {error}; expected an RSA key of 2048 bits or more") from None
    if not possible:
        raise ConfigurationError(f"private_key is on {key.curve.name}; expected a key on P-256, P-384 or P-521")
    if given is None:
        return _DEFAULT_FOR_RSA if _DEFAULT_FOR_RSA in possible else min(possible)
    return options.one_of("algorithm for this private_key", given, tuple(sorted(possible)))
