"""`TokenIssuer`: an authorization server reduced to its signing keys, for access tokens in tests.

Must never know: whether a token is acceptable. It signs whatever it is told to, so that tests can be wrong on purpose.
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
from mtls_middleware.testing.issued import IssuedCertificate, PrivateKey
from mtls_middleware.testing.template import aware, refuse_text

# As the value of a claim or header: leave it out.
OMIT: Final[EllipsisType] = ...

_LIFETIME = timedelta(minutes=5)


def _rsa() -> PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


_NEW_KEY: dict[str, Callable[[], PrivateKey]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), _rsa),
}


class TokenIssuer:
    """Signs JWT access tokens (RFC 9068) with keys that it makes itself.

    Arguments:
        issuer: `iss` of its tokens.
        audience: `aud` of its tokens.
        algorithm: the JWS algorithm, an asymmetric one such as `"ES256"`, `"PS256"` or `"EdDSA"`.

    Raises `ConfigurationError` for another algorithm.

    Example: `TokenIssuer().token(certificate=client, scopes=["invoices:read"])`
    """

    def __init__(
        self, issuer: str = "https://issuer.test", *, audience: str = "https://api.test", algorithm: str = "ES256"
    ) -> None:
        if algorithm not in _NEW_KEY:
            raise ConfigurationError(f"algorithm={algorithm!r}: one of {', '.join(_NEW_KEY)}")
        self.issuer = issuer
        self.audience = audience
        self.algorithm = algorithm
        self._jws = jwt.get_algorithm_by_name(algorithm)
        self._keys: dict[str, PrivateKey] = {}  # by kid; the last one signs
        self.rotate()

    @property
    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK Set (RFC 7517 5), as of now: a dict of its own, ready for JSON."""
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
        """A signed token with every claim of RFC 9068 2.2, as it stands behind `Bearer`.

        Arguments:
            certificate: binds the token to it by `cnf`, `x5t#S256` (RFC 8705 3.1).
            scopes: become `scope`; without any there is none.
            claims, headers: put over the claims and JOSE headers made here, whatever they are; `OMIT` takes one away.
            lifetime: from `now` to `exp`; a negative one gives a token that has expired.
            now: aware; `iat`. Default: the present.

        Raises `ConfigurationError` for a text as `scopes` and a `now` without time zone, `TypeError` for a value that
        JSON cannot hold.

        Example: `issuer.token(certificate=client, claims={"sub": "alice", "jti": OMIT}, headers={"typ": "JWT"})`
        """
        refuse_text("scopes", scopes)
        issued_at = datetime.now(UTC) if now is None else aware("now", now)
        usual: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": "user",
            "client_id": "client",
            "iat": int(issued_at.timestamp()),
            "exp": int((issued_at + lifetime).timestamp()),
            "jti": secrets.token_urlsafe(16),
        }
        if scopes:
            usual["scope"] = " ".join(scopes)
        if certificate is not None:
            usual["cnf"] = {"x5t#S256": certificate.thumbprint}
        key_id, key = next(reversed(self._keys.items()))
        header = {"typ": "at+jwt", "alg": self.algorithm, "kid": key_id}
        # Put together here: PyJWT's encode() refuses some of the wrong tokens that a test needs.
        signed = f"{_part(_overridden(header, headers))}.{_part(_overridden(usual, claims))}"
        return f"{signed}.{_base64url(self._jws.sign(signed.encode('ascii'), key))}"

    def rotate(self) -> None:
        """Sign with a new key from now on. The old one stays published, and its tokens good."""
        self._keys[secrets.token_hex(8)] = _NEW_KEY[self.algorithm]()

    def retire(self) -> None:
        """Publish the current key alone: what older ones signed is no longer good."""
        self._keys = dict([self._keys.popitem()])

    def access_tokens(self, **options: Any) -> JWTAccessTokens:
        """The validator for these tokens, with the keys as they are now: a later `rotate` is not seen by it.

        Arguments:
            options: keywords of `JWTAccessTokens`, in place of `issuer`, `audience` and `jwks` or beside them.

        Raises `ConfigurationError`.

        Example: `protect(app, source=ServerTLS(), tokens=issuer.access_tokens(leeway=0))`
        """
        keys = {} if {"jwks_uri", "discovery"} & options.keys() else {"jwks": self.jwks}
        return JWTAccessTokens(**{"issuer": self.issuer, "audience": self.audience, **keys, **options})

    def __repr__(self) -> str:
        return f"<TokenIssuer {self.issuer!a} {self.algorithm}>"


def _overridden(usual: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in {**usual, **(given or {})}.items() if value is not OMIT}


def _part(members: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(members, separators=(",", ":")).encode("utf-8"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
