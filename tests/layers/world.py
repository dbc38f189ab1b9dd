"""Who takes part in a request through the layers, and the layers around the application."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NoReturn

from mtls_middleware.policy import Subject
from mtls_middleware.sources import Nginx, ServerTLS
from mtls_middleware.testing import IssuedCertificate, TokenIssuer
from tests.gateways import Request, Wrap

TRUSTED = ["10.0.0.0/8"]
SECRET = ("X-Proxy-Secret", "correct horse battery staple")
CLIENT, SOMEBODY = Subject("CN=client,O=Tests"), Subject("CN=somebody")


@dataclass(frozen=True)
class World:
    """Who takes part: two clients of one CA, and the issuer of tokens."""

    client: IssuedCertificate
    other: IssuedCertificate
    issuer: TokenIssuer

    def bearer(self, **options: Any) -> tuple[str, str]:
        return "Authorization", "Bearer " + self.issuer.token(**options)

    def tokens(self, **options: Any) -> Wrap:
        """`protect` with tokens, over what the server negotiated."""
        chosen = {"source": ServerTLS(), "tokens": self.issuer.access_tokens(), **options}
        return lambda gateway, app: gateway.protect(app, **chosen)

    def binding(self, **options: Any) -> Wrap:
        """Both layers by hand, with options of the token layer."""

        def wrap(gateway: Any, app: Any) -> Any:
            inner = gateway.CertificateBoundTokenMiddleware(app, self.issuer.access_tokens(), **options)
            return gateway.ClientCertificateMiddleware(inner, ServerTLS())

        return wrap


def certificates(source: Any = None, **options: Any) -> Wrap:
    """The certificate layer; without `source`, behind an nginx."""
    chosen = Nginx(trusted_proxies=TRUSTED) if source is None else source
    return lambda gateway, app: gateway.ClientCertificateMiddleware(app, chosen, **options)


def nested(*options: dict[str, Any]) -> Wrap:
    """Certificate layers, the outermost first."""

    def wrap(gateway: Any, app: Any) -> Any:
        for each in reversed(options):
            app = certificates(**each)(gateway, app)
        return app

    return wrap


class Failing:
    """A trust store, or a validator of tokens, that raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def validate(self, _what: object, _now: float) -> Generator[Any, Any, NoReturn]:
        raise self._error
        yield  # a flow


def carrying(world: World, *headers: tuple[str, str], **options: Any) -> Request:
    """From the client with its certificate."""
    return Request(tls=world.client, headers=headers, **options)


def nginx(certificate: IssuedCertificate, verify: str | None = "SUCCESS") -> list[tuple[str, str]]:
    """The header fields of nginx; `verify=None`: without its word."""
    certificate_field, verify_field = certificate.as_nginx(verify=verify or "").items()
    return [certificate_field] if verify is None else [certificate_field, verify_field]


def behind_nginx(certificate: IssuedCertificate, verify: str = "SUCCESS", **options: Any) -> Request:
    return Request(headers=nginx(certificate, verify), **options)
