"""An issuer whose own document says where its keys are: a real server on loopback, and validators that ask it."""

from typing import Any

from mtls_middleware.resource_server import JWTAccessTokens
from mtls_middleware.testing import TokenIssuer
from mtls_middleware.testing.tokens import OMIT
from tests.jwks.key_sources import NO_TLS
from tests.key_server import KeyServer

# Of the issuer https://host/tenant.
PATHS = {
    "rfc8414": "/.well-known/oauth-authorization-server/tenant",
    "openid": "/tenant/.well-known/openid-configuration",
}


class ServedDocument:
    """`site.tokens()` finds keys by `site.discovery`; `site.publish(jwks_uri=...)` changes what the document says."""

    def __init__(self, server: KeyServer, discovery: str) -> None:
        self.server, self.discovery, self.path = server, discovery, PATHS[discovery]
        self.issuer = TokenIssuer(f"{server.host}/tenant")
        self.publish()

    def publish(self, **members: Any) -> None:
        usual = {"issuer": self.issuer.issuer, "jwks_uri": self.server.url, **members}
        self.server.documents[self.path] = {name: value for name, value in usual.items() if value is not OMIT}
        self.server.jwks = self.issuer.jwks

    def tokens(self, **options: Any) -> JWTAccessTokens:
        usual = {"discovery": self.discovery, "allow_http": True, "ssl_context": NO_TLS}
        return self.issuer.access_tokens(**{**usual, **options})

    @property
    def counts(self) -> tuple[int, int]:
        """How often the document was asked for, and the keys at the usual address."""
        return self.server.asked.count(self.path), self.server.asked.count("/jwks")
