"""`TokenIssuer`: signs access tokens for tests, like an authorization server.

It also signs invalid tokens, so that tests can check that an application rejects them.
"""

import base64
import json
import secrets
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from types import EllipsisType
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mtls_middleware.certificate import ClientCertificate
from mtls_middleware.errors import ConfigurationError
from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.testing.issued_certificate import IssuedCertificate, PrivateKey
from mtls_middleware.testing.template import aware, reject_string

# If the value of a claim or header is OMIT, the token does not contain this claim or header.
OMIT: Final[EllipsisType] = ...

_LIFETIME = timedelta(minutes=5)


def _rsa() -> PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


_NEW_KEY: dict[str, Callable[[], PrivateKey]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), _rsa),
}


class TokenIssuer:
    """Signs JWT access tokens (RFC 9068) with its own new keys.

    Arguments:
        issuer: the value of `iss` in the tokens.
        audience: the value of `aud` in the tokens.
        algorithm: an asymmetric JWS algorithm, for example `"ES256"`, `"PS256"` or `"EdDSA"`.

    Raises `ConfigurationError` for another algorithm.

    Example: `TokenIssuer().token(certificate=client, scopes=["invoices:read"])`
    """

    def __init__(
        self, issuer: str = "https://issuer.test", *, audience: str = "https://api.test", algorithm: str = "ES256"
    ) -> None:
        if algorithm not in _NEW_KEY:
            raise ConfigurationError(f"algorithm={algorithm!r}: expected one of {', '.join(_NEW_KEY)}")
        self.issuer = issuer
        self.audience = audience
        self.algorithm = algorithm
        self._jws = jwt.get_algorithm_by_name("EdDSA" if algorithm == "Ed25519" else algorithm)
        self._keys: dict[str, PrivateKey] = {}  # a mapping of kid to key; the last key signs
        self.rotate()

    @property
    def jwks(self) -> dict[str, Any]:
        """The current public keys as a JWK Set (RFC 7517 5): a new dictionary that JSON can encode."""
        return {
            "keys": [
                {
                    **self._jws.to_jwk(key.public_key(), as_dict=True),
                    "kid": key_id,
                    "alg": self.algorithm,
                    "use": "sig",
                }
                for key_id, key in self._keys.items()
            ]
        }

    def token(
        self,
        *,
        certificate: IssuedCertificate | ClientCertificate | None = None,
        scopes: Collection[str] = (),
        claims: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        lifetime: timedelta = _LIFETIME,
        now: datetime | None = None,
    ) -> str:
        """Return a signed token with every required claim of RFC 9068 2.2, without the prefix `Bearer`.

        Arguments:
            certificate: the certificate to which `cnf` with `x5t#S256` binds the token (RFC 8705 3.1). If `None`, the
                token has no `cnf`.
            scopes: the scopes in the claim `scope`. If empty, the token has no `scope`.
            claims, headers: replace or extend the default claims and JOSE headers. `OMIT` removes a claim or header.
            lifetime: the time from `now` to `exp`. With a negative value, the token has expired.
            now: the time in `iat`, an aware datetime. Default: the current time.

        Raises `ConfigurationError` if `scopes` is a string or `now` has no time zone, and `TypeError` for a value that
        JSON cannot encode.

        Example: `issuer.token(certificate=client, claims={"sub": "alice", "jti": OMIT}, headers={"typ": "JWT"})`
        """
        reject_string("scopes", scopes)
        issued_at = datetime.now(UTC) if now is None else aware("now", now)
        default_claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": "user",
            "client_id": "client",
            "iat": int(issued_at.timestamp()),
            "exp": int((issued_at + lifetime).timestamp()),
            "jti": secrets.token_urlsafe(16),
        }
        if scopes:
            default_claims["scope"] = " ".join(scopes)
        if certificate is not None:
            default_claims["cnf"] = {"x5t#S256": certificate.thumbprint}
        key_id, key = next(reversed(self._keys.items()))
        header = {"typ": "at+jwt", "alg": self.algorithm, "kid": key_id}
        # PyJWT's encode() is not used, because it rejects some of the invalid tokens that tests need.
        signed = f"{_encode(_override(header, headers))}.{_encode(_override(default_claims, claims))}"
        return f"{signed}.{_base64url(self._jws.sign(signed.encode('ascii'), key))}"

    def rotate(self) -> None:
        """Sign with a new key from now on. The old key stays in `jwks`, so its tokens stay valid."""
        self._keys[secrets.token_hex(8)] = _NEW_KEY[self.algorithm]()

    def retire(self) -> None:
        """Remove all keys except the current key from `jwks`.

        Tokens that were signed with older keys become invalid.
        """
        self._keys = dict([self._keys.popitem()])

    def access_tokens(self, **options: Any) -> JWTAccessTokens:
        """Return a validator for the tokens of this issuer, with the current keys.

        A later `rotate` does not change the keys of the validator.

        Arguments:
            options: keywords of `JWTAccessTokens`. They replace or extend `issuer`, `audience` and `jwks`.

        Raises `ConfigurationError` for an invalid option.

        Example: `protect(app, source=ServerTLS(), tokens=issuer.access_tokens(leeway=0))`
        """
        keys = {} if {"jwks_uri", "discovery"} & options.keys() else {"jwks": self.jwks}
        return JWTAccessTokens(**{"issuer": self.issuer, "audience": self.audience, **keys, **options})

    def __repr__(self) -> str:
        return f"<TokenIssuer {self.issuer!a} {self.algorithm}>"


def _override(default_claims: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in {**default_claims, **(overrides or {})}.items() if value is not OMIT}


def _encode(members: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(members, separators=(",", ":")).encode("utf-8"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
